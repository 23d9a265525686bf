"""Checks of a released model against what it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.core import features
from tests.support.runs import Run


def ids_of_test_split(data_root: Path) -> list[str]:
    lines = (data_root / "annotations" / "test.txt").read_text().splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def confusion_of(run: Run, ids: list[str]) -> NDArray[Any]:
    """Counts pixels from the served masks and the masks on disk, in NumPy."""
    serve = tf.saved_model.load(str(run.released())).signatures["serving_default"]
    total = np.zeros((3, 3))
    for id_ in ids:
        photo = next((run.data_root / "images").glob(f"{id_}.*")).read_bytes()
        mask = serve(image_bytes=tf.constant([photo]))["mask"][0].numpy()
        trimap = np.asarray(
            PIL.Image.open(run.data_root / "annotations" / "trimaps" / f"{id_}.png")
        )
        side = mask.shape[0]
        truth = tf.image.resize(trimap[..., None], [side, side], method="nearest").numpy()[..., 0]
        np.add.at(total, (truth.astype(int) - 1, mask), 1)
    return total


def iou(confusion: NDArray[Any], class_id: int) -> float:
    hits = confusion[class_id, class_id]
    iou: float = hits / (confusion[class_id].sum() + confusion[:, class_id].sum() - hits)
    return iou


def check_metrics(run: Run) -> None:
    ids = ids_of_test_split(run.data_root)
    confusion = confusion_of(run, ids)
    overall = run.outcome["metrics"]["overall"]
    ious = [iou(confusion, c) for c in range(3)]
    assert overall["examples"] == len(ids)
    assert overall["pixel_accuracy"] == pytest.approx(
        np.trace(confusion) / confusion.sum(), abs=1e-6
    )
    assert overall["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-6)
    assert list(overall["iou"].values()) == pytest.approx(ious, abs=1e-6)
    low, high = overall["mean_iou_interval"]
    assert low < overall["mean_iou"] < high
    assert all(0 <= overall[name] <= 1 for name in ("boundary_iou", "calibration_error"))


def check_evaluation(run: Run) -> None:
    """The path from raw examples and the one from photo files give the same pixels."""
    signatures = tf.saved_model.load(str(run.released())).signatures
    examples = next((run.output_root / "artifacts" / "ExampleGen" / "examples").iterdir())
    files = [str(path) for path in (examples / "Split-test").iterdir()]
    count = 0
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP"):
        example = tf.train.Example.FromString(record.numpy())
        photo = example.features.feature[features.IMAGE].bytes_list.value[0]
        served = signatures["serving_default"](image_bytes=tf.constant([photo]))["mask"].numpy()
        judged = signatures["segment_examples"](examples=record[None])
        assert (served == judged["mask"].numpy()).all()
        confusion = np.zeros((3, 3))
        np.add.at(confusion, (judged["truth"].numpy().ravel(), served.ravel()), 1)
        counted = signatures["evaluate"](examples=record[None])["confusion"].numpy()
        assert (counted.reshape(3, 3) == confusion).all()
        count += 1
    assert count == run.outcome["data"]["splits"]["test"]

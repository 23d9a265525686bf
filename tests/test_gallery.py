"""The photos of the report, and the confusion matrix beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.report import gallery
from pipeline.report.html_page import GalleryItem
from tests.support.runs import Run


def examples_of(run: Run) -> str:
    (examples,) = (run.output_root / "artifacts" / "ExampleGen" / "examples").iterdir()
    return str(examples)


def test_the_gallery_shows_worst_middle_and_best_photos(small_run: Run) -> None:
    model, examples = str(small_run.released()), examples_of(small_run)
    every = gallery.build(model, examples)
    assert len(every) == small_run.outcome["data"]["splits"]["test"] > 6
    scores = [item.mean_iou for item in every]
    assert scores == sorted(scores)
    assert all(item.champion is None for item in every)
    few = gallery.build(model, examples, model, count=6)
    assert [item.group for item in few] == ["worst"] * 2 + ["middle"] * 2 + ["best"] * 2
    ids = [item.id for item in every]
    places = [ids.index(item.id) for item in few]
    assert places[:2] == [0, 1]
    assert places[-2:] == [len(ids) - 2, len(ids) - 1]
    for item in few:
        assert item.champion is not None
        np.testing.assert_array_equal(item.champion, item.prediction)
        assert item.champion_mean_iou == item.mean_iou


def test_groups_never_share_a_photo() -> None:
    for count in range(1, 30):
        ranked = [b"%02d" % i for i in range(count)]
        groups = gallery._pick(ranked, 24)
        assert len(groups) == min(count, 24)
        assert list(groups.values()) == sorted(groups.values(), key="worst middle best".index)


def test_no_test_photos_no_gallery(tmp_path: Path) -> None:
    found: list[GalleryItem] = gallery.build("no model", str(tmp_path))
    assert found == []


def test_confusion_matrix_is_that_of_the_metrics(small_run: Run) -> None:
    confusion = small_run.outcome["confusion"]
    matrix = np.array([list(row.values()) for row in confusion.values()])
    assert list(confusion) == ["pet", "background", "border"]
    assert matrix.sum() == 64 * 64 * small_run.outcome["data"]["splits"]["test"]
    overall = small_run.outcome["metrics"]["overall"]
    assert np.trace(matrix) / matrix.sum() == pytest.approx(overall["pixel_accuracy"])
    found = matrix[0, 0] / (matrix[0].sum() + matrix[:, 0].sum() - matrix[0, 0])
    assert found == pytest.approx(overall["iou"]["pet"])
    assert "predicted border" in (small_run.output_root / "report.html").read_text()

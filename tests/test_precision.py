"""Training in half precision: it works on a CPU too, and nothing of it is in what is released."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline import models, settings
from pipeline.models import _layers
from pipeline.training import trainer
from tests.support.runs import Run

HALF = {tf.bfloat16.as_datatype_enum, tf.float16.as_datatype_enum}


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_and_the_export_is_float32(
    precision: str, small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "build", build)
    chosen = settings.load(overrides=[f"train.precision={precision}", "train.epochs=1"])
    transformed = newest(small_run, "transformed_examples")
    arguments = FnArgs(
        train_files=[str(transformed / "Split-train" / "*")],
        eval_files=[str(transformed / "Split-eval" / "*")],
        transform_graph_path=str(newest(small_run, "transform_graph")),
        serving_model_dir=str(tmp_path / "model"),
        model_run_dir=str(tmp_path / "run"),
        custom_config={
            "model": chosen.model.model_dump(),
            "train": chosen.train.model_dump(),
            "image_size": 64,
            "working_dir": str(tmp_path),
        },
    )
    trainer.run_fn(arguments)
    assert json.loads((tmp_path / "run" / trainer.FACTS).read_text())["precision"] == precision
    exported = tf.saved_model.load(str(tmp_path / "model"))
    weights = [variable.numpy() for variable in exported.signatures["serving_default"].variables]
    assert len(weights) == 20
    assert {weight.dtype for weight in weights} == {np.dtype("float32")}
    assert all(np.isfinite(weight).all() for weight in weights)
    assert not HALF & set(types_in(tmp_path / "model"))


def build(name: str, size: int, *_: object, **__: object) -> keras.Model:
    """Of the layers that all models are made of, but few."""
    photo = keras.Input([size, size, 3])
    x = _layers.norm(keras.layers.Conv2D(8, 3, strides=2, padding="same")(photo))
    return keras.Model(photo, _layers.classify(_layers.residual(x, 8)))


def newest(run: Run, key: str) -> Path:
    return max((run.output_root / "artifacts" / "Transform" / key).iterdir())


def types_in(saved_model: Path) -> Iterator[int]:
    """The types that the operations of a SavedModel work on."""
    content = (saved_model / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    for node in nodes:
        yield from (attribute.type for attribute in node.attr.values())

"""TFX's InfraValidator upon small artifacts, for the tests that let a stand-in answer it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.utils import proto_utils

from components import infra_validator
from pipeline import settings
from pipeline.artifacts import infra_blessing
from pipeline.release import infra_validation
from pipeline.saved_model import contract, export
from tests.support.serving import stand_in as serving_stand_in

IMAGE = "tensorflow/serving:2.20.0"
ON_DOCKER = "release.infra_validation=docker"
ON_KUBERNETES = "release.infra_validation=kubernetes"


class Runner:
    """In place of TFX's runner for Docker: the stand-in, in this process."""

    def __init__(self, model_path: str, serving_binary: Any, serving_spec: Any) -> None:
        self._model = Path(model_path)  # .../<name>/<version>
        self._server: Any = None
        self._port = 0

    def Start(self) -> None:
        folder = self._model.parent
        self._server, self._port = serving_stand_in.serve(folder.parent, folder.name)

    def WaitUntilRunning(self, deadline: float) -> None:
        pass

    def GetEndpoint(self) -> str:
        return f"localhost:{self._port}"

    def GetLogs(self) -> str | None:
        return None

    def Stop(self) -> None:
        if self._server:
            self._server.stop(None)


class Counter(tf.Module):
    """Answers requests for counts with a Keras layer, whose weights a server restores, or not."""

    def __init__(self, sound: bool) -> None:
        super().__init__()
        layer = keras.layers.Dense(9)
        layer.build([None, 1])
        self.tracked = [each.value for each in layer.weights] if sound else layer
        self._layer: Callable[[tf.Tensor], tf.Tensor] = lambda x: layer(x)

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        lengths = tf.cast(tf.strings.length(examples), tf.float32)
        return {contract.CONFUSION: self._layer(lengths[:, None])}


class Bench:
    """Artifacts of a model and of examples, and TFX's executor upon them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model = standard_artifacts.Model()
        self._model.uri = str(folder / "model")
        examples = standard_artifacts.Examples()
        examples.uri = str(folder / "examples")
        examples.split_names = artifact_utils.encode_split_names(["eval"])
        examples.set_string_custom_property(
            "payload_format",
            example_gen_pb2.PayloadFormat.Name(example_gen_pb2.FORMAT_TF_EXAMPLE),
        )
        self._examples = examples
        split = folder / "examples" / "Split-eval"
        split.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(split / "data.gz"), "GZIP") as writer:
            writer.write(tf.train.Example().SerializeToString())

    def export(self, sound: bool = True) -> Path:
        module = Counter(sound)
        spec = tf.TensorSpec([None], tf.string, contract.EXAMPLES)
        path = self._folder / "model" / "Format-Serving"
        function = tf.function(module.evaluate, [spec], autograph=False)
        tf.saved_model.save(module, str(path), signatures={contract.EVALUATE: function})
        return path

    def verdict(self, blessed: bool = True, where: str = ON_DOCKER) -> tuple[bool, str]:
        """Whether the model is blessed, and what is noted about it."""
        judged, blessing = standard_artifacts.ModelBlessing(), standard_artifacts.InfraBlessing()
        judged.set_int_custom_property("blessed", int(blessed))
        blessing.uri = str(self._folder / "blessing")
        release = settings.load(overrides=[where]).release
        specs = {
            standard_component_specs.SERVING_SPEC_KEY: infra_validation.serving_spec(release),
            standard_component_specs.VALIDATION_SPEC_KEY: infra_validation.validation_spec(),
            standard_component_specs.REQUEST_SPEC_KEY: infra_validation.request_spec(),
        }
        context = BaseBeamExecutor.Context(tmp_dir=str(self._folder / "tmp"), unique_id="1")
        infra_validator.Executor(context).Do(
            {"model": [self._model], "examples": [self._examples], "model_blessing": [judged]},
            {"blessing": [blessing]},
            {key: proto_utils.proto_to_json(spec) for key, spec in specs.items()},
        )
        return (
            blessing.get_int_custom_property(infra_blessing.BLESSED) == 1,
            blessing.get_string_custom_property(infra_blessing.REASON),
        )


def track_the_keras_model(patch: pytest.MonkeyPatch) -> None:
    """Makes exports that no server can run, and lets the Trainer overlook it."""
    original: Callable[..., None] = export.SegmentationModule.__init__

    def track(self: Any, model: Any, *rest: Any) -> None:
        original(self, model, *rest)
        self.weights = model

    patch.setattr(export.SegmentationModule, "__init__", track)
    patch.setattr(contract, "unservable", lambda path: None)

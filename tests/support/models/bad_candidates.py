"""Ten candidates that must not replace a good champion, made from a run, and their judgement.

Each goes the way of the pipeline: the Trainer's check of its export, Evaluator, the release.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from google.protobuf import text_format
from numpy.typing import NDArray
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline import models
from pipeline.core import errors, features
from pipeline.data import preprocessing
from pipeline.evaluation import gate
from pipeline.release import operations
from pipeline.report import html_page, outcome
from pipeline.saved_model import contract, export, smoke_test
from pipeline.settings import Gate

_SLICED = 'feature { name: "breed" type: BYTES } feature { name: "species" type: BYTES }'


@dataclass(frozen=True)
class Bench:
    """What the candidates are made of and judged by."""

    model: keras.Model  # the champion as Keras has it
    champion: str  # and as a SavedModel
    name: str  # of its architecture
    width: float  # of its layers, as a factor
    size: int  # of its masks, pixels
    transform: tft.TFTransformOutput
    examples: str  # ExampleGen's output
    gate: Gate

    def files(self, split: str) -> list[str]:
        """The files of a split's raw examples."""
        paths: list[str] = tf.io.gfile.glob(os.path.join(self.examples, f"Split-{split}", "*"))
        return paths

    def save(self, model: keras.Model, path: str) -> None:
        """Exports a model as the Trainer does."""
        export.save(model, self.transform, self.size, path)


def judge(
    examples: str, models: Sequence[str], bounds: Gate
) -> tuple[bool, dict[str, Any], list[dict[str, Any]]]:
    """Judges a candidate as Evaluator does.

    Args:
      examples: pattern of the files of raw examples.
      models: SavedModels: the candidate, and the champion if there is one.
      bounds: the gate's settings.

    Returns:
      The verdict, the metrics by slice, and the rows of the gate.
    """
    config = tfma.utils.update_eval_config_with_defaults(
        gate.eval_config(bounds), has_baseline=len(models) == 2, rubber_stamp=True
    )
    shared = [
        tfma.default_eval_shared_model(path, model_name=spec.name, eval_config=config)
        for spec, path in zip(config.model_specs, models, strict=True)
    ]
    with tempfile.TemporaryDirectory() as result:
        tfma.run_model_analysis(
            eval_shared_model=shared if len(shared) == 2 else shared[0],
            eval_config=config,
            data_location=examples,
            output_path=result,
            schema=text_format.Parse(_SLICED, schema_pb2.Schema()),
        )
        return (
            tfma.load_validation_result(result).validation_ok,
            gate.read_metrics(result),
            gate.read_gate(result, bounds),
        )


def verdict(bench: Bench, candidate: str) -> str:
    """What becomes of a candidate that meets the bench's champion, as the report says it."""
    end: dict[str, Any] = {"status": outcome.FAILED}
    with tempfile.TemporaryDirectory() as folder:
        in_service = operations.release(bench.champion, folder)
        champion = {"champion": {"version": in_service}, "in_service": in_service}
        try:
            contract.check(candidate, bench.size)
            examples = os.path.join(bench.examples, f"Split-{features.TEST}", "*")
            blessed, _, rows = judge(examples, [candidate, bench.champion], bench.gate)
            end = {"status": outcome.NOT_BLESSED, "gate": rows}
            if blessed:
                version = operations.release(candidate, folder)
                end = {"status": outcome.PUSHED, "pushed_version": version}
                end["new_version"] = version != in_service
        except contract.ContractError as error:
            end["error"] = f"Trainer failed: {errors.first_line(error)}."
        except smoke_test.BrokenModelError as error:
            end |= {
                "status": outcome.FAILED,
                "error": f"Pusher failed: {errors.first_line(error)}.",
            }
        found = html_page.verdict(outcome.Outcome.model_validate({**end, **champion}))
        words = [found["title"].rstrip("."), *found["reasons"][:4]]
        return ("; ".join(words) + f". {found['note']}").replace(str(in_service), "V")


def background_only(bench: Bench, path: str) -> None:
    """Says background of each pixel."""
    photo = keras.Input([bench.size, bench.size, 3])
    layer = keras.layers.Conv2D(features.NUM_CLASSES, 1, activation="softmax")
    model = keras.Model(photo, layer(photo))
    layer.set_weights([np.zeros([1, 1, 3, 3]), np.array([0.0, 20.0, 0.0])])
    bench.save(model, path)


def shuffled_classes(bench: Bench, path: str) -> None:
    """The champion's answers, each under the name of another class."""
    answer = keras.ops.take(bench.model.output, keras.ops.array([2, 0, 1]), axis=-1)
    bench.save(keras.Model(bench.model.input, answer), path)


def not_a_number(bench: Bench, path: str) -> None:
    """Answers with NaN."""
    bench.save(keras.Model(bench.model.input, bench.model.output * float("nan")), path)


def worse_on_one_breed(bench: Bench, path: str) -> None:
    """The champion, which takes the breed with the most test photos for background."""
    breeds = Counter(
        tf.train.Example.FromString(record).features.feature[features.BREED].bytes_list.value[0]
        for record in _records(bench, features.TEST)
    )
    breed = breeds.most_common(1)[0][0]
    with tempfile.TemporaryDirectory() as folder:
        background_only(bench, folder)
        module = tf.Module()
        module.good, module.bad = tf.saved_model.load(bench.champion), tf.saved_model.load(folder)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=contract.EXAMPLES)])
        def evaluate(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            spec = {features.BREED: tf.io.FixedLenFeature([], tf.string)}
            spoilt = tf.io.parse_example(examples, spec)[features.BREED] == breed
            good, bad = (
                each.signatures[contract.EVALUATE](examples=examples)
                for each in (module.good, module.bad)
            )
            return {name: tf.where(spoilt[:, None], bad[name], good[name]) for name in good}

        signatures = {
            contract.EVALUATE: evaluate,
            contract.SERVE: module.good.signatures[contract.SERVE],
        }
        tf.saved_model.save(module, path, signatures=signatures)


def other_image_size(bench: Bench, path: str) -> None:
    """The champion with masks of half the side."""
    module = tf.Module()
    module.model = tf.saved_model.load(bench.champion)
    size = bench.size // 2

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=contract.IMAGE_BYTES)])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = module.model.signatures[contract.SERVE](image_bytes=image_bytes)
        probabilities = tf.image.resize(answer[contract.PROBABILITIES], [size, size])
        mask = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {contract.MASK: mask, contract.PROBABILITIES: probabilities}

    evaluate = module.model.signatures[contract.EVALUATE]
    signatures = {contract.SERVE: serve, contract.EVALUATE: evaluate}
    tf.saved_model.save(module, path, signatures=signatures)


def other_signature(bench: Bench, path: str) -> None:
    """The champion, which can only serve."""
    model = tf.saved_model.load(bench.champion)
    serve = model.signatures[contract.SERVE]
    tf.saved_model.save(model, path, signatures={contract.SERVE: serve})


def truncated_export(bench: Bench, path: str) -> None:
    """The champion with half of its weights file."""
    identical(bench, path)
    (data,) = Path(path, "variables").glob("*.data*")
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)


def untrained(bench: Bench, path: str) -> None:
    """The champion's architecture with the weights it began with."""
    bench.save(models.build(bench.name, bench.size, width=bench.width), path)


def overfit(bench: Bench, path: str) -> None:
    """Knows its training photos by heart; gives any other the mask of the one it resembles most."""
    bench.save(by_heart(bench, features.TRAIN), path)


def identical(bench: Bench, path: str) -> None:
    """The champion once more."""
    shutil.copytree(bench.champion, path)


CANDIDATES: tuple[Callable[[Bench, str], None], ...] = (
    background_only,
    shuffled_classes,
    not_a_number,
    worse_on_one_breed,
    other_image_size,
    other_signature,
    truncated_export,
    untrained,
    overfit,
    identical,
)


class _ByHeart(keras.layers.Layer):
    """Answers each photo with the mask of the nearest known one."""

    def __init__(self, photos: NDArray[Any], masks: NDArray[Any]) -> None:
        super().__init__()
        self._masks = masks
        self._known = self._shrink(preprocessing.rescale(tf.constant(photos))).numpy()

    def call(self, photos: tf.Tensor) -> tf.Tensor:
        far = tf.reduce_sum((self._shrink(photos)[:, None] - self._known) ** 2, axis=-1)
        nearest = tf.gather(tf.constant(self._masks), tf.argmin(far, axis=-1))
        return tf.one_hot(nearest, features.NUM_CLASSES)

    @staticmethod
    def _shrink(photos: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.image.resize(photos, [16, 16], "area"), [-1, 16 * 16 * 3])


def by_heart(bench: Bench, split: str) -> keras.Model:
    """A model that makes no mistake on the photos of a split."""
    segment = tf.saved_model.load(bench.champion).signatures[contract.SEGMENT]
    found = [segment(examples=tf.constant([record])) for record in _records(bench, split)]
    photos, masks = (np.concatenate([each[key] for each in found]) for key in ("image", "truth"))
    photo = keras.Input([bench.size, bench.size, 3])
    return keras.Model(photo, _ByHeart(photos, masks)(photo))


def _records(bench: Bench, split: str) -> Iterable[bytes]:
    records: Iterable[bytes] = tf.data.TFRecordDataset(
        bench.files(split), compression_type="GZIP"
    ).as_numpy_iterator()
    return records

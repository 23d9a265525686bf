"""Evaluator's judgement of models that only pretend: they count what a table says."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline import evaluation, features
from pipeline.settings import Gate

Table = Mapping[str, float]
_SCHEMA = 'feature { name: "breed" type: BYTES } feature { name: "species" type: BYTES }'
_PIXELS = 300.0  # of each class in each photo


def judge(
    counts: Mapping[str, int],
    candidate: Table,
    champion: Table | None = None,
    gate: Gate | None = None,
) -> tuple[bool, dict[str, Any], list[dict[str, Any]]]:
    """Judges a candidate as Evaluator does.

    Args:
      counts: of photos by breed; those that begin with a capital are cats.
      candidate: share of the pixels of each breed that it gets right, NaN for a broken output.
      champion: the same, if there is one.
      gate: its settings, if not the default ones.

    Returns:
      The verdict, the metrics by slice, and the rows of the gate.
    """
    gate = gate or Gate()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_examples(root / "examples", counts)
        models = [_save_model(root / "candidate", candidate)]
        if champion is not None:
            models.append(_save_model(root / "champion", champion))
        config = tfma.utils.update_eval_config_with_defaults(
            evaluation.eval_config(gate), has_baseline=len(models) == 2, rubber_stamp=True
        )
        shared = [
            tfma.default_eval_shared_model(path, model_name=spec.name, eval_config=config)
            for spec, path in zip(config.model_specs, models, strict=True)
        ]
        tfma.run_model_analysis(
            eval_shared_model=shared if len(shared) == 2 else shared[0],
            eval_config=config,
            data_location=str(root / "examples"),
            output_path=str(root / "result"),
            schema=text_format.Parse(_SCHEMA, schema_pb2.Schema()),
        )
        result = str(root / "result")
        return (
            tfma.load_validation_result(result).validation_ok,
            evaluation.read_metrics(result),
            evaluation.read_gate(result, gate),
        )


def _write_examples(path: Path, counts: Mapping[str, int]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for breed, count in counts.items():
            example = tf.train.Example()
            values = {features.BREED: breed, features.SPECIES_KEY: _species(breed)}
            for name, value in values.items():
                example.features.feature[name].bytes_list.value.append(value.encode())
            for _ in range(count):
                writer.write(example.SerializeToString())


def _species(breed: str) -> str:
    return "cat" if breed[0].isupper() else "dog"


def _save_model(path: Path, table: Table) -> str:
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(list(table), list(map(float, table.values()))), -1.0
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {features.BREED: tf.io.FixedLenFeature([], tf.string)}
        right = module.table.lookup(tf.io.parse_example(examples, spec)[features.BREED])[:, None]
        hits, misses = right * _PIXELS, (1 - right) / 2 * _PIXELS
        row = tf.concat([hits, misses, misses, misses], axis=1)
        pixels = tf.concat([3 * _PIXELS + 0 * right] + [0 * right] * 9, axis=1)
        sure = 0.05 * pixels  # all pixels in the lowest bin, of confidence 0.05
        return {
            "confusion": tf.concat([row, row, hits], axis=1),
            "boundary": tf.concat([hits, hits, hits, 0 * row[:, :3] + _PIXELS], axis=1),
            "calibration": tf.concat([pixels, sure, right * pixels], axis=1),
        }

    module.evaluate = evaluate
    tf.saved_model.save(module, str(path), signatures={"evaluate": evaluate})
    return str(path)

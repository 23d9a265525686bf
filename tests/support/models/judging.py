"""Evaluator's judgement of models that only pretend: they count what a table says."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.core import features
from pipeline.settings import Gate
from tests.support.models import bad_candidates

Table = Mapping[str, float]
COUNTED = ("confusion", "boundary", "calibration")
_PIXELS = 300.0  # of each class in each photo


def judge(
    counts: Mapping[str, int],
    candidate: Table,
    champion: Table | None = None,
    gate: Gate | None = None,
    champion_counts: Sequence[str] = COUNTED,
    border: bool = True,
) -> tuple[bool, dict[str, Any], list[dict[str, Any]]]:
    """Judges a candidate as Evaluator does.

    Args:
      counts: of photos by breed; those that begin with a capital are cats.
      candidate: share of the pixels of each breed that it gets right, NaN for a broken output.
      champion: the same, if there is one.
      gate: its settings, if not the default ones.
      champion_counts: what the champion counts, if not all.
      border: whether that class occurs.

    Returns:
      The verdict, the metrics by slice, and the rows of the gate.
    """
    gate = gate or Gate()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_examples(root / "examples", counts)
        models = [_save_model(root / "candidate", candidate, border=border)]
        if champion is not None:
            models.append(_save_model(root / "champion", champion, champion_counts))
        return bad_candidates.judge(str(root / "examples"), models, gate)


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


def _save_model(
    path: Path, table: Table, counted: Sequence[str] = COUNTED, border: bool = True
) -> str:
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(list(table), list(map(float, table.values()))), -1.0
    )

    occurs = tf.constant([1.0] * 9 if border else [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {features.BREED: tf.io.FixedLenFeature([], tf.string)}
        right = module.table.lookup(tf.io.parse_example(examples, spec)[features.BREED])[:, None]
        hits, misses = right * _PIXELS, (1 - right) / 2 * _PIXELS
        row = tf.concat([hits, misses, misses, misses], axis=1)
        pixels = tf.concat([3 * _PIXELS + 0 * right] + [0 * right] * 9, axis=1)
        sure = 0.05 * pixels  # all pixels in the lowest bin, of confidence 0.05
        counts = {
            "confusion": tf.concat([row, row, hits], axis=1) * occurs,
            "boundary": tf.concat([hits, hits, hits, 0 * row[:, :3] + _PIXELS], axis=1),
            "calibration": tf.concat([pixels, sure, right * pixels], axis=1),
        }
        return {name: counts[name] for name in counted}

    module.evaluate = evaluate
    tf.saved_model.save(module, str(path), signatures={"evaluate": evaluate})
    return str(path)

"""Reads ExampleGen's output: raw examples with encoded photos and masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline.core import features

Id = TypeVar("Id", str, bytes)


def records(examples_uri: str, split: str) -> Iterator[bytes]:
    """Yield the serialised examples of a split."""
    files = sorted(fileio.glob(os.path.join(examples_uri, f"Split-{split}", "*")))
    yield from tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()


def id_of(record: bytes) -> bytes:
    """Return the id of a serialised example."""
    example = tf.train.Example.FromString(record)
    id_: bytes = example.features.feature[features.ID].bytes_list.value[0]
    return id_


def spread_ids(examples_uri: str, split: str, count: int) -> list[bytes]:
    """Return at most `count` ids of a split, evenly spread over the sorted ids."""
    return spread(sorted(map(id_of, records(examples_uri, split))), count)


def spread(ids: Sequence[Id], count: int) -> list[Id]:
    """Return at most `count` of the ids, evenly spread, in the same order."""
    count = min(count, len(ids))
    return [ids[i * len(ids) // count] for i in range(count)]

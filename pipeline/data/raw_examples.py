"""Reads ExampleGen's output: raw examples, photo and mask as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline.core import features

Id = TypeVar("Id", str, bytes)


def records(examples_uri: str, split: str) -> Iterator[bytes]:
    """The serialized examples of a split, one at a time."""
    files = sorted(fileio.glob(os.path.join(examples_uri, f"Split-{split}", "*")))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()


def id_of(record: bytes) -> bytes:
    """The id of a serialized example."""
    example = tf.train.Example.FromString(record)
    return example.features.feature[features.ID].bytes_list.value[0]


def spread_ids(examples_uri: str, split: str, count: int) -> list[bytes]:
    """At most `count` ids of a split, evenly spread over all, sorted."""
    return spread(sorted(map(id_of, records(examples_uri, split))), count)


def spread(ids: Sequence[Id], count: int) -> list[Id]:
    """At most `count` of some ids, evenly spread, in their order."""
    count = min(count, len(ids))
    return [ids[i * len(ids) // count] for i in range(count)]

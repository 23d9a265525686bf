"""Beam's TFRecord reader and writer: a faster checksum, and a count of the records read.

For apache-beam 2.59 (compatible stack) and 2.77 (current).

* Beam 2.59 computes checksums with the slow `crcmod`; newer versions use google-crc32c.
* The direct runner reports no progress, so the function that reads a record counts it for
  `core.progress`. This works in the current process only.
"""

from __future__ import annotations

import gzip
from typing import BinaryIO

import google_crc32c
from apache_beam.io import tfrecordio

from pipeline.compat import Part
from pipeline.core import progress

PARTS = (
    Part("apache_beam.io.tfrecordio", "_default_crc32c_fn", ("value",)),
    Part("apache_beam.io.tfrecordio", "_TFRecordUtil.read_record", ("file_handle",)),
    Part(
        "apache_beam.io.tfrecordio",
        "_TFRecordUtil.write_record",
        ("file_handle", "value"),
    ),
)


class _CountingUtil(tfrecordio._TFRecordUtil):
    @classmethod
    def read_record(cls, file_handle: BinaryIO) -> bytes | None:
        record: bytes | None = super().read_record(file_handle)
        if record is not None:
            progress.count(progress.READ)
        return record


def install() -> None:
    """Patch both in this process."""
    tfrecordio._default_crc32c_fn.fn = google_crc32c.value
    tfrecordio._TFRecordUtil = _CountingUtil


def write_record(file: BinaryIO | gzip.GzipFile, value: bytes) -> None:
    """Write one record to an open file."""
    tfrecordio._TFRecordUtil.write_record(file, value)

"""Beam's reader and writer of TFRecords: a faster checksum, and a count of what was read.

For apache-beam 2.59 (compatible stack) and 2.77 (current).

* Beam 2.59 computes checksums with `crcmod` where it finds no other library, and never looks for
  google-crc32c, which newer ones take.
* The direct runner tells nobody how far it is. So the function that reads one record after the
  other counts them for `core.progress`, in this process alone.
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
        record = super().read_record(file_handle)
        if record is not None:
            progress.count(progress.READ)
        return record


def install() -> None:
    """Changes both in this process."""
    tfrecordio._default_crc32c_fn.fn = google_crc32c.value
    tfrecordio._TFRecordUtil = _CountingUtil


def write_record(file: BinaryIO | gzip.GzipFile, value: bytes) -> None:
    """Writes one record to an open file."""
    tfrecordio._TFRecordUtil.write_record(file, value)

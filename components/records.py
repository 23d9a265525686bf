"""Gzipped TFRecords without compression, for records that hardly shrink.

Beam's own sink compresses, at a level that cannot be chosen and that costs Transform half of its
time (docs/reference/data_figures.md). Any reader of gzipped TFRecords reads these.
"""

from __future__ import annotations

import gzip
from typing import BinaryIO

import apache_beam as beam
from apache_beam.io import filebasedsink
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline.compat import beam_tfrecord
from pipeline.core import progress

_Handle = tuple[BinaryIO, gzip.GzipFile]


class _Sink(filebasedsink.FileBasedSink):
    def open(self, temp_path: str) -> _Handle:
        file = FileSystems.create(temp_path, compression_type=CompressionTypes.UNCOMPRESSED)
        return file, gzip.GzipFile("", "wb", 0, file, mtime=0)

    def write_encoded_record(self, file_handle: _Handle, value: bytes) -> None:
        beam_tfrecord.write_record(file_handle[1], value)
        progress.count(progress.WRITTEN)

    def close(self, file_handle: _Handle | None) -> None:
        if file_handle is not None:
            file, gzipped = file_handle
            gzipped.close()
            file.close()


def write(prefix: str) -> beam.io.Write:
    """Writes a collection of bytes, a record each, into files ``prefix-*.gz``.

    Args:
      prefix: path on any file system of Beam's.
    """
    return beam.io.Write(
        _Sink(
            prefix,
            beam.coders.BytesCoder(),
            file_name_suffix=".gz",
            compression_type=CompressionTypes.UNCOMPRESSED,  # the sink itself makes it gzip
        )
    )

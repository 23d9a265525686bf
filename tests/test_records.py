"""The files of examples: not compressed a second time, and the same bytes each time."""

from __future__ import annotations

import gzip
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf

from components import records
from tests.support.runs import Run


@pytest.mark.parametrize("output", ["ExampleGen/examples", "Transform/transformed_examples"])
def test_examples_are_not_compressed_a_second_time(small_run: Run, output: str) -> None:
    files = list((small_run.output_root / "artifacts" / output).rglob("*.gz"))
    assert files
    for file in files:
        assert len(gzip.decompress(file.read_bytes())) <= file.stat().st_size


def test_written_records_are_readable_and_reproducible(
    tmp_path: Path,
) -> None:
    written = [b"", b"one", bytes(300_000)]
    contents = []
    for folder in ("a", "b"):
        with beam.Pipeline(
            runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner"
        ) as pipeline:
            elements = pipeline | beam.Create([written]) | beam.FlatMap(list)
            _ = elements | records.write(str(tmp_path / folder / "examples"))
        (file,) = tmp_path.glob(f"{folder}/*.gz")
        read = tf.data.TFRecordDataset(str(file), compression_type="GZIP")
        assert list(read.as_numpy_iterator()) == written
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]

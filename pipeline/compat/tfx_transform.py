"""TFX's Transform executor: the size of its batches, and how its examples are written.

For tfx 1.16 (compatible stack) and 1.21 (current). Its executor makes a processor of a class that
no setting names; that class has a method for each of the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import apache_beam as beam
import pyarrow as pa
from tfx.components.transform import executor

from pipeline.compat import Part

PARTS = (
    Part("tfx.components.transform.executor", "TransformProcessor._EncodeAndWrite"),
    Part(
        "tfx.components.transform.executor",
        "TransformProcessor._GetDesiredBatchSize",
        ("self", "data_format", "schema"),
    ),
    Part(
        "tfx.components.transform.executor",
        "TransformProcessor._RecordBatchToExamplesFn",
        ("schema",),
    ),
)


@contextlib.contextmanager
def processing(batch_size: int, write: Callable[[str], beam.PTransform]) -> Iterator[None]:
    """Has executors of Transform work so while the context lasts.

    Args:
      batch_size: examples a batch.
      write: from a path to what writes a collection of serialized examples there.
    """

    @beam.ptransform_fn
    @beam.typehints.with_input_types(tuple[pa.RecordBatch, dict[str, pa.Array]])
    def encode_and_write(
        batches: beam.PCollection, schema: Any, file_format: str, output_path: str
    ) -> beam.pvalue.PDone:
        del file_format  # TFRecord; TFX's other one, Parquet, is not asked for
        return (
            batches
            | "EncodeAndSerialize"
            >> beam.ParDo(executor.TransformProcessor._RecordBatchToExamplesFn(schema))
            | "ExtractExamples" >> beam.Values()
            | "Write" >> write(output_path)
        )

    class Processor(executor.TransformProcessor):
        _EncodeAndWrite = staticmethod(encode_and_write)

        def _GetDesiredBatchSize(self, *_: Any) -> int:
            return batch_size

    with mock.patch.object(executor, "TransformProcessor", Processor):
        yield

"""TFX's Transform executor: the batch size, and how examples are written.

For tfx 1.16 (compatible stack) and 1.21 (current). Both are methods of the executor's processor,
whose class cannot be configured.
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
    """Change Transform executors inside the context.

    Args:
      batch_size: examples per batch.
      write: returns a transform that writes serialised examples to a path.
    """

    @beam.ptransform_fn
    @beam.typehints.with_input_types(tuple[pa.RecordBatch, dict[str, pa.Array]])
    def encode_and_write(
        batches: beam.PCollection, schema: Any, file_format: str, output_path: str
    ) -> beam.pvalue.PDone:
        del file_format  # always TFRecord; the pipeline never uses Parquet
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

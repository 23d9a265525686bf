"""Transform in small batches, whose examples are written by `components.records`."""

from __future__ import annotations

from typing import Any
from unittest import mock

import apache_beam as beam
import pyarrow as pa
from tfx import types
from tfx.components.transform import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs

from components import example_gen, records
from pipeline import features, progress

# Photos. Beam's batches hold what is processed in a second, which takes the more memory the quicker
# the machine is. Not bytes, as in StatisticsGen: a photo of any size is packed into as many.
_BATCH = 32


@beam.ptransform_fn
@beam.typehints.with_input_types(tuple[pa.RecordBatch, dict[str, pa.Array]])
def _encode_and_write(
    batches: beam.PCollection, schema: Any, file_format: str, output_path: str
) -> beam.pvalue.PDone:
    del file_format  # TFRecord; TFX's other one, Parquet, is not asked for
    return (
        batches
        | "EncodeAndSerialize"
        >> beam.ParDo(executor.TransformProcessor._RecordBatchToExamplesFn(schema))
        | "ExtractExamples" >> beam.Values()
        | "Write" >> records.write(output_path)
    )


class _Processor(executor.TransformProcessor):
    _EncodeAndWrite = staticmethod(_encode_and_write)

    def _GetDesiredBatchSize(self, *_: Any) -> int:
        return _BATCH


class Executor(executor.Executor):
    """TFX's own with another processor: it has no settings for these two."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        (examples,) = input_dict[standard_component_specs.EXAMPLES_KEY]
        example_gen.expect_photos(examples.uri, [features.TRAIN, features.EVAL], progress.WRITTEN)
        with mock.patch.object(executor, "TransformProcessor", _Processor):
            super().Do(input_dict, output_dict, exec_properties)


class PhotoTransform(component.Transform):
    """TFX's Transform with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

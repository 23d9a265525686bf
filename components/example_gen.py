"""ExampleGen for the Oxford-IIIT Pet layout, through which photos and masks enter the pipeline.

A FileBasedExampleGen whose driver fingerprints the files, so that a run on unchanged data is a
cache hit and a run on a new span is not. Beam's collections hold paths until an item is read, since
the direct runner keeps everything it shuffles in memory.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from google.protobuf import struct_pb2
from tfx import types
from tfx.components.example_gen import component, driver, utils, write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from components import records
from pipeline.artifacts import ingestion
from pipeline.core import features, progress
from pipeline.data import coverage, items, layout, spans, validation
from pipeline.settings import Data


class _ReadItem(beam.DoFn):
    """Turns an item into a serialised tf.train.Example, or into a row of the quarantine."""

    def __init__(self, settings: Data):
        self._settings = settings

    def process(self, item: items.Item) -> Iterator[beam.pvalue.TaggedOutput]:
        progress.count()
        try:
            checked = validation.check_item(item, self._settings)
        except items.UnusableItemError as fault:
            row = items.faulty(item.id, str(fault), fault.found)
            yield beam.pvalue.TaggedOutput(ingestion.QUARANTINE, row)
            return
        for note in checked.notes:
            yield beam.pvalue.TaggedOutput(ingestion.NOTES, note)
        for counted in coverage.of_item(item, checked.class_shares):
            yield beam.pvalue.TaggedOutput(ingestion.CLASSES, counted)
        example = make_example(item, checked)
        yield beam.pvalue.TaggedOutput(item.split, example.SerializeToString(deterministic=True))


def make_example(item: items.Item, checked: validation.Checked) -> tf.train.Example:
    """Make the example of a usable item, with photo and mask as they are on disk."""
    feature = {
        features.IMAGE: _bytes(checked.image_file),
        features.MASK: _bytes(checked.mask_file),
        features.ID: _bytes(item.id.encode()),
        features.BREED: _bytes(item.breed.encode()),
        features.SPECIES_KEY: _bytes(item.species.encode()),
        features.HEIGHT: _int64(checked.height),
        features.WIDTH: _int64(checked.width),
        features.FILE_SIZE: _int64(len(checked.image_file)),
    }
    shares = {features.share_key(name): share for name, share in checked.class_shares.items()}
    for name, value in (shares | checked.appearance).items():
        feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=feature))


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the train, eval and test splits, the quarantine and the notes."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = _settings(exec_properties)
        scan = layout.scan(Path(exec_properties[standard_component_specs.INPUT_BASE_KEY]), settings)
        artifacts = output_dict[standard_component_specs.EXAMPLES_KEY]
        artifact = artifact_utils.get_single_instance(artifacts)
        artifact.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(
            artifact, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP)
        )
        progress.expect(len(scan.items))
        listed = Counter(item.split for item in scan.items)
        with fileio.open(os.path.join(artifact.uri, ingestion.SCAN), "w") as file:
            summary = {"unlisted": scan.unlisted, "spans": scan.spans, "hints": scan.hints}
            json.dump({**summary, ingestion.LISTED: dict(listed)}, file)
        tags = (ingestion.QUARANTINE, ingestion.NOTES, ingestion.CLASSES, *features.SPLITS)
        with self._make_beam_pipeline() as pipeline:
            outputs = (
                pipeline
                | "Items" >> beam.Create(scan.items)
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(_ReadItem(settings)).with_outputs(*tags)
            )
            for split in features.SPLITS:
                folder = artifact_utils.get_split_uri(artifacts, split)
                write = records.write(os.path.join(folder, "data_tfrecord"))
                _ = outputs[split] | f"Write[{split}]" >> write
            for name, scanned in (
                (ingestion.QUARANTINE, scan.quarantined),
                (ingestion.NOTES, scan.notes),
            ):
                rows = (
                    outputs[name],
                    pipeline | f"Scanned[{name}]" >> beam.Create(scanned),
                ) | f"All[{name}]" >> beam.Flatten()
                _write_rows(rows, artifact.uri, name)
            classes = (
                outputs[ingestion.CLASSES]
                | "Count classes" >> beam.CombinePerKey(coverage.add)
                | "Rows of classes" >> beam.MapTuple(coverage.row)
            )
            _write_rows(classes, artifact.uri, ingestion.CLASSES)


def _write_rows(rows: beam.PCollection, folder: str, name: str) -> None:
    _ = (
        rows
        | f"ToJson[{name}]" >> beam.Map(json.dumps)
        | f"Write[{name}]" >> beam.io.WriteToText(os.path.join(folder, name))
    )


class Driver(driver.FileBasedDriver):
    """Finds the spans and fingerprints their files.

    TFX's driver supports only one kind of span name, does not notice files that were renamed or
    that changed within a second, and fails on broken symbolic links.
    """

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], *rest: Any
    ) -> dict[str, Any]:
        root = Path(exec_properties[standard_component_specs.INPUT_BASE_KEY])
        count = _settings(exec_properties).spans
        newest = spans.newest(root, count)
        exec_properties[utils.FINGERPRINT_PROPERTY_NAME] = layout.fingerprint(root, count)
        exec_properties[utils.SPAN_PROPERTY_NAME] = newest[0].number if newest else 0
        exec_properties[utils.VERSION_PROPERTY_NAME] = None
        return exec_properties


class PetExampleGen(component.FileBasedExampleGen):
    """Ingests a data folder; the output `examples` has the train, eval and test splits."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, data_root: str, settings: Data, code: str):
        """Create the component.

        Args:
          data_root: the data folder.
          settings: which of its items are used, and for which split.
          code: fingerprint of the code that ingests, part of the cache key.
        """
        # These affect the schema and DataGate, but not the examples.
        unused = {"max_quarantined", "breeds", "drift", "drift_bound"}
        config = settings.model_dump(mode="json", exclude=unused)
        super().__init__(input_base=data_root, custom_config=_pack(**config, code=code))


def _pack(**values: float | str) -> example_gen_pb2.CustomConfig:
    struct = struct_pb2.Struct()
    struct.update(values)
    config = example_gen_pb2.CustomConfig()
    config.custom_config.Pack(struct)
    return config


def _settings(exec_properties: dict[str, Any]) -> Data:
    config, struct = example_gen_pb2.CustomConfig(), struct_pb2.Struct()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY], config)
    config.custom_config.Unpack(struct)
    return Data.model_validate({name: struct[name] for name in struct if name != "code"})

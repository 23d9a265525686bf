"""ExampleGen for the Oxford-IIIT Pet layout: photos and masks enter the pipeline here.

Built on FileBasedExampleGen: its driver fingerprints the input files, so that a run on unchanged
data is a cache hit. Beam carries paths until an item is read, since its direct runner keeps in
memory what it shuffles.
"""

from __future__ import annotations

import json
import os
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

from pipeline import dataset, features, preprocessing

_FAULTY = "faulty"
_QUARANTINE = "quarantine"
_UNLISTED = "unlisted.json"


class _ReadItem(beam.DoFn):
    """Turns an Item into a serialized tf.train.Example of its split, or into a faulty row."""

    def process(self, item: dataset.Item) -> Iterator[beam.pvalue.TaggedOutput]:
        try:
            example = make_example(item)
        except dataset.FaultyItem as fault:
            yield beam.pvalue.TaggedOutput(_FAULTY, {"id": item.id, "reason": str(fault)})
            return
        yield beam.pvalue.TaggedOutput(item.split, example.SerializeToString(deterministic=True))


def make_example(item: dataset.Item) -> tf.train.Example:
    """Reads and checks one item; photo and mask go into the example as the bytes they are on disk.

    Raises:
      dataset.FaultyItem: with the reason.
    """
    image_file = _read(item.image, "photo")
    mask_file = _read(item.mask, "mask")
    try:
        photo = preprocessing.decode_image(tf.constant(image_file)).numpy()
    except tf.errors.InvalidArgumentError:
        raise dataset.FaultyItem("the photo cannot be decoded") from None
    facts = dataset.check_pair(photo, mask_file)
    feature = {
        features.IMAGE: _bytes(image_file),
        features.MASK: _bytes(mask_file),
        features.ID: _bytes(item.id.encode()),
        features.BREED: _bytes(item.breed.encode()),
        features.SPECIES_KEY: _bytes(item.species.encode()),
        features.HEIGHT: _int64(facts.height),
        features.WIDTH: _int64(facts.width),
        features.FILE_SIZE: _int64(len(image_file)),
    }
    for name, share in facts.class_shares.items():
        feature[features.share_key(name)] = tf.train.Feature(
            float_list=tf.train.FloatList(value=[share])
        )
    return tf.train.Example(features=tf.train.Features(feature=feature))


def _read(path: str, what: str) -> bytes:
    try:
        with fileio.open(path, "rb") as file:
            contents = file.read()
    except (OSError, tf.errors.OpError):
        raise dataset.FaultyItem(f"the {what} cannot be read") from None
    if not contents:
        raise dataset.FaultyItem(f"the {what} is empty")
    return contents


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the splits train, eval and test; items that cannot be used are listed beside them."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        config = _unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        scan = dataset.scan(
            Path(exec_properties[standard_component_specs.INPUT_BASE_KEY]),
            eval_share=config["eval_share"],
            test_share=config["test_share"],
        )
        artifacts = output_dict[standard_component_specs.EXAMPLES_KEY]
        artifact = artifact_utils.get_single_instance(artifacts)
        artifact.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(
            artifact, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP)
        )
        with fileio.open(os.path.join(artifact.uri, _UNLISTED), "w") as file:
            json.dump(scan.unlisted, file)
        with self._make_beam_pipeline() as pipeline:
            outputs = (
                pipeline
                | "Items" >> beam.Create(scan.items)
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(_ReadItem()).with_outputs(_FAULTY, *features.SPLITS)
            )
            for split in features.SPLITS:
                folder = artifact_utils.get_split_uri(artifacts, split)
                _ = outputs[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(
                    os.path.join(folder, "data_tfrecord"), file_name_suffix=".gz"
                )
            faulty_on_sight = pipeline | "FaultyOnSight" >> beam.Create(scan.quarantined)
            _ = (
                (outputs[_FAULTY], faulty_on_sight)
                | "AllFaulty" >> beam.Flatten()
                | "ToJson" >> beam.Map(json.dumps)
                | "WriteFaulty" >> beam.io.WriteToText(os.path.join(artifact.uri, _QUARANTINE))
            )


class Driver(driver.FileBasedDriver):
    """TFX's driver with a fingerprint that also tells names apart, and times within a second."""

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], *rest: Any
    ) -> dict[str, Any]:
        resolved = super().resolve_exec_properties(exec_properties, *rest)
        root = Path(resolved[standard_component_specs.INPUT_BASE_KEY])
        resolved[utils.FINGERPRINT_PROPERTY_NAME] = dataset.fingerprint(root)
        return resolved


class PetExampleGen(component.FileBasedExampleGen):
    """Ingests a data folder; output `examples` has the splits train, eval and test."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, data_root: str, eval_share: float, test_share: float, code: str):
        """Creates the component.

        Args:
          data_root: the data folder.
          eval_share: see `dataset.scan`.
          test_share: see `dataset.scan`.
          code: fingerprint of the code that ingests; a new one makes the component run again.
        """
        super().__init__(
            input_base=data_root,
            # TFX wants a pattern; the driver above looks at every file that counts.
            input_config=example_gen_pb2.Input(
                splits=[example_gen_pb2.Input.Split(name="photos", pattern=f"{dataset.IMAGES}/*")]
            ),
            custom_config=_pack(eval_share=eval_share, test_share=test_share, code=code),
        )


def _pack(**values: float | str) -> example_gen_pb2.CustomConfig:
    struct = struct_pb2.Struct()
    struct.update(values)
    config = example_gen_pb2.CustomConfig()
    config.custom_config.Pack(struct)
    return config


def _unpack(text: str) -> dict[str, Any]:
    config, struct = example_gen_pb2.CustomConfig(), struct_pb2.Struct()
    proto_utils.json_to_proto(text, config)
    config.custom_config.Unpack(struct)
    return dict(struct)


def read_quarantine(examples_uri: str) -> list[dict[str, str]]:
    """The items set aside at ingestion, ``{"id", "reason"}`` each, sorted by id."""
    rows: list[dict[str, str]] = []
    for path in fileio.glob(os.path.join(examples_uri, f"{_QUARANTINE}-*")):
        with fileio.open(path, "r") as file:
            rows += [json.loads(line) for line in file.read().splitlines()]
    return sorted(rows, key=lambda row: (row["id"], row["reason"]))


def read_unlisted(examples_uri: str) -> list[str]:
    """Ids in the folder that neither official list names; they are left out."""
    with fileio.open(os.path.join(examples_uri, _UNLISTED), "r") as file:
        return json.load(file)

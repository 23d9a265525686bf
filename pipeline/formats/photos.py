"""Load examples from the data of a release, for calibration and comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline.core import features, images
from pipeline.core.errors import UserError
from pipeline.data import layout, preprocessing, raw_examples, validation
from pipeline.data.items import UnusableItemError
from pipeline.formats import network
from pipeline.settings.schema import Data


@dataclass(frozen=True)
class Example:
    """The files of a photo and its mask."""

    id: str
    photo: bytes
    mask: bytes
    exif: str = "as_stored"  # the release's settings data.exif and data.exif_masks
    exif_masks: str = "upright"

    def pixels(self) -> images.Pixels:
        """Decodes the photo, uint8 [height, width, 3]."""
        photo = preprocessing.decode_upright(tf.constant(self.photo), self.exif)
        pixels: images.Pixels = photo.numpy()
        return pixels

    def truth(self, size: int) -> images.Pixels:
        """Decodes the ground truth at the model's size: class ids, uint8 [size, size]."""
        mask, photo = tf.constant(self.mask), tf.constant(self.photo)
        resized = preprocessing.mask_at_size(mask, photo, size, self.exif, self.exif_masks)
        ids: images.Pixels = resized.numpy()
        return ids


# From a split and a maximum number to examples of the split, spread evenly over the sorted ids.
Source = Callable[[str, int], list[Example]]


def source(release: network.Release, data_root: Path | None = None) -> Source:
    """Finds the data of a release.

    Args:
      release: the released version.
      data_root: a data folder to use instead of the recorded one.

    Raises:
      UserError: if the recorded data no longer exists.
    """
    record = release.record
    settings = data_settings(record)
    recorded, uri = record.get("data_root", ""), record.get("examples_uri", "")
    if data_root is None and uri and fileio.exists(uri):
        return lambda split, count: of_artifact(uri, split, count, settings)
    folder = data_root or Path(recorded)
    if data_root is None and not (recorded and folder.is_dir()):
        raise UserError(
            f"The data of version {record['version']} is no longer in"
            f" {recorded or 'the folder of its run'}. Specify a data folder with --data-root."
        )
    return lambda split, count: _of_folder(folder, settings, split, count)


def data_settings(record: Mapping[str, Any]) -> Data:
    """The settings of the section ``data`` in a release record."""
    section = "data."
    values = {k: v for k, v in record["settings"].items() if k.startswith(section)}
    return Data.model_validate({k.removeprefix(section): v for k, v in values.items()})


def of_artifact(uri: str, split: str, count: int, settings: Data) -> list[Example]:
    """Reads at most ``count`` examples of a split from ExampleGen's output."""
    ids = set(raw_examples.spread_ids(uri, split, count))
    records = raw_examples.records(uri, split)
    examples = [_parse(each, settings) for each in records if raw_examples.id_of(each) in ids]
    return sorted(examples, key=lambda each: each.id)


def _of_folder(root: Path, settings: Data, split: str, count: int) -> list[Example]:
    items = {item.id: item for item in layout.scan(root, settings).items if item.split == split}
    examples = []
    for id_ in raw_examples.spread(sorted(items), count):
        with contextlib.suppress(UnusableItemError):
            item = validation.check_item(items[id_], settings)
            examples.append(_example(id_, item.image_file, item.mask_file, settings))
    return examples


def _parse(record: bytes, settings: Data) -> Example:
    values = tf.train.Example.FromString(record).features.feature
    id_, photo, mask = (
        values[name].bytes_list.value[0] for name in (features.ID, features.IMAGE, features.MASK)
    )
    return _example(id_.decode(), photo, mask, settings)


def _example(id_: str, photo: bytes, mask: bytes, settings: Data) -> Example:
    return Example(id_, photo, mask, settings.exif, settings.exif_masks)

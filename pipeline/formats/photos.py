"""Examples of the data that a release learned from and was judged by."""

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
from pipeline.data.items import FaultyItem
from pipeline.formats import network
from pipeline.settings import Data


@dataclass(frozen=True)
class Example:
    """A photo and its mask, as files."""

    id: str
    photo: bytes
    mask: bytes
    exif: str = "as_stored"  # the settings of these names, of the release
    exif_masks: str = "upright"

    def pixels(self) -> images.Pixels:
        """The photo, uint8 [h, w, 3]."""
        return preprocessing.decode_upright(tf.constant(self.photo), self.exif).numpy()

    def truth(self, size: int) -> images.Pixels:
        """The true class ids at the model's size, uint8 [size, size]."""
        mask, photo = tf.constant(self.mask), tf.constant(self.photo)
        return preprocessing.mask_at_size(mask, photo, size, self.exif, self.exif_masks).numpy()


# From a split and the most examples that are wanted to examples, spread evenly over the ids.
Source = Callable[[str, int], list[Example]]


def source(release: network.Release, data_root: Path | None = None) -> Source:
    """Finds the data of a release.

    Args:
      release: of which version.
      data_root: a data folder to take instead of the one that is on record.

    Raises:
      UserError: if it is nowhere.
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
            f" {recorded or 'the folder of its run'}; give a data folder with --data-root."
        )
    return lambda split, count: _of_folder(folder, settings, split, count)


def data_settings(record: Mapping[str, Any]) -> Data:
    """The settings of the section ``data`` that a release was made with."""
    section = "data."
    found = {k: v for k, v in record["settings"].items() if k.startswith(section)}
    return Data.model_validate({k.removeprefix(section): v for k, v in found.items()})


def of_artifact(uri: str, split: str, count: int, settings: Data) -> list[Example]:
    """Reads examples from ExampleGen's output."""
    chosen = set(raw_examples.spread_ids(uri, split, count))
    records = raw_examples.records(uri, split)
    found = [_parse(each, settings) for each in records if raw_examples.id_of(each) in chosen]
    return sorted(found, key=lambda each: each.id)


def _of_folder(root: Path, settings: Data, split: str, count: int) -> list[Example]:
    items = {item.id: item for item in layout.scan(root, settings).items if item.split == split}
    found = []
    for id_ in raw_examples.spread(sorted(items), count):
        with contextlib.suppress(FaultyItem):
            item = validation.check_item(items[id_], settings)
            found.append(_example(id_, item.image_file, item.mask_file, settings))
    return found


def _parse(record: bytes, settings: Data) -> Example:
    found = tf.train.Example.FromString(record).features.feature
    id_, photo, mask = (
        found[name].bytes_list.value[0] for name in (features.ID, features.IMAGE, features.MASK)
    )
    return _example(id_.decode(), photo, mask, settings)


def _example(id_: str, photo: bytes, mask: bytes, settings: Data) -> Example:
    return Example(id_, photo, mask, settings.exif, settings.exif_masks)

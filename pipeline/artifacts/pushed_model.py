"""The PushedModel artifact: names of its properties, and of fields in the release record."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfx import types

# Custom properties of the PushedModel artifact; the first three are TFX's.
PUSHED, VERSION, DESTINATION = "pushed", "pushed_version", "pushed_destination"
MODEL_ID = "model_id"
STATISTICS_ID = "statistics_id"  # of the training data
WITHDRAWN = "withdrawn"  # 1 if a rollback took it out of service
MADE = "made"  # 1 if the version is new, 0 if it was in service with the same model before
REFUSED = "refused"  # why a blessed model was not released
REPLACED = "replaced"  # the version that was in service before, if any
FAULT = "fault"  # what was wrong with the replaced version, if anything: a clause
FOR_NOW = "refused_for_now"  # 1 if the refusal depends on the versions in the serving folder
# Fields of the release record.
DATA_ROOT, CLASSES = "data_root", "classes"
STATISTICS_URI, EXAMPLES_URI = "statistics_uri", "examples_uri"


def destination(release: types.Artifact) -> str:
    """The folder of the version."""
    folder: str = release.get_string_custom_property(DESTINATION)
    return folder


def place(release: types.Artifact) -> tuple[str, int]:
    """The serving folder and the number of a released version."""
    folder, version = os.path.split(destination(release))
    return folder, int(version)

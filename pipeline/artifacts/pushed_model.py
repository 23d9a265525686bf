"""The PushedModel artifact: the names of what the Pusher notes on it, and in the release record."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfx import types

# Custom properties of the PushedModel artifact; the first three are TFX's.
PUSHED, VERSION, DESTINATION = "pushed", "pushed_version", "pushed_destination"
MODEL_ID = "model_id"
STATISTICS_ID = "statistics_id"  # of the examples that the model learned from
WITHDRAWN = "withdrawn"  # 1 if a rollback took it out of service
MADE = "made"  # 1 if the version was made for it, not in service with the same model before
REFUSED = "refused"  # why a blessed model was not released
REPLACED = "replaced"  # the version that was in service until then, if one was
FAULT = "fault"  # what was wrong with that, if anything was: a clause
FOR_NOW = "refused_for_now"  # 1 if that depends on what the serving folder held then
# In the release record.
DATA_ROOT, CLASSES = "data_root", "classes"
STATISTICS_URI, EXAMPLES_URI = "statistics_uri", "examples_uri"


def destination(release: types.Artifact) -> str:
    """The folder of the version."""
    return release.get_string_custom_property(DESTINATION)


def place(release: types.Artifact) -> tuple[str, int]:
    """Serving folder and number of a released version."""
    folder, version = os.path.split(destination(release))
    return folder, int(version)

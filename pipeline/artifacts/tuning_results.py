"""What the Tuner leaves: the best values of settings, and its trials."""

from __future__ import annotations

import json
from typing import Any

from tfx.types.artifact import Artifact
from tfx.utils import io_utils


def read_best(hyperparameters: Artifact) -> dict[str, float]:
    """The best values that were found, by the dotted keys of their settings."""
    return _read(hyperparameters)["values"]


def read_trials(results: Artifact) -> list[dict[str, Any]]:
    """The trials in their order: ``trial`` (from 1), ``score``, and what settings each had."""
    rows = sorted(_read(results), key=lambda row: row["trial_id"])
    return [{"trial": int(row.pop("trial_id")) + 1, **row} for row in rows]


def _read(artifact: Artifact) -> Any:
    return json.loads(io_utils.read_string_file(io_utils.get_only_uri_in_dir(artifact.uri)))

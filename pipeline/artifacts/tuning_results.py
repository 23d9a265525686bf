"""Read the outputs of the Tuner: the best settings, and the trials."""

from __future__ import annotations

import json
from typing import Any

from tfx.types.artifact import Artifact
from tfx.utils import io_utils


def read_best(hyperparameters: Artifact) -> dict[str, float]:
    """Reads the best values, by the dotted keys of their settings."""
    values: dict[str, float] = _read(hyperparameters)["values"]
    return values


def read_trials(results: Artifact) -> list[dict[str, Any]]:
    """Reads the trials in order: ``trial`` (from 1), ``score`` and the settings of each."""
    rows = sorted(_read(results), key=lambda row: row["trial_id"])
    return [{"trial": int(row.pop("trial_id")) + 1, **row} for row in rows]


def _read(artifact: Artifact) -> Any:
    return json.loads(io_utils.read_string_file(io_utils.get_only_uri_in_dir(artifact.uri)))

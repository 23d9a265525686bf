"""The outcome of a run: the content of ``latest_run.json``, shared by all reports.

Its JSON schema is ``docs/latest_run.schema.json``. `FORMAT` increases when a field changes its
meaning or is removed, but not when fields are added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic

from pipeline.core import files

FORMAT = 1
PUSHED, NOT_BLESSED, FAILED = "pushed", "not_blessed", "failed"
Figure = float | None  # NaN and infinity are written as null

UNFINISHED = "The run has not finished: it is still running, or it was killed."


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")  # fields of later versions

    @pydantic.model_serializer(mode="wrap")
    def _omit_unset_nulls(
        self, serialize: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return {k: v for k, v in values.items() if v is not None or k in self.model_fields_set}


class Threshold(_Part):
    """A threshold of the gate, and the candidate's result."""

    metric: str
    slice: str = pydantic.Field(description="overall, or feature=value")
    value: Figure = pydantic.Field(
        description="of the candidate; for kind 'change', candidate minus champion"
    )
    bound: Figure
    kind: Literal["at_least", "at_most", "change"] = pydantic.Field(
        description="how value compares with bound; change: at least bound, relative to the "
        "champion"
    )
    held: bool
    reason: str | None = pydantic.Field(None, description="why there is no value, in a clause")
    candidate: Figure = pydantic.Field(None, description="the candidate's value, for kind 'change'")
    champion: Figure = pydantic.Field(None, description="the champion's value, for kind 'change'")


class Champion(_Part):
    """The model in service that the candidate was compared with."""

    version: int
    note: str | None = pydantic.Field(None, description="a caveat about the comparison")


class Replaced(_Part):
    """The version that was in service before this run released its model."""

    version: int
    fault: str | None = pydantic.Field(None, description="what was wrong with it, in a clause")


class Row(_Part):
    """A photo, and why it was quarantined or what to check about it."""

    id: str
    reason: str | None = None
    note: str | None = None


class Drift(_Part):
    """How far the photos have drifted from those of a release."""

    against: int | None = pydantic.Field(
        None, description="version compared with; null: no comparison"
    )
    features: list[dict[str, Any]] = pydantic.Field(
        [], description="feature, distance, bound, drifted"
    )

    def drifted(self) -> list[dict[str, Any]]:
        """Return the features that drifted."""
        return [row for row in self.features if row["drifted"]]


class DataSummary(_Part):
    """Summary of the data folder."""

    splits: dict[str, int] = pydantic.Field({}, description="number of photos in each split")
    quarantined: list[Row] = pydantic.Field([], description="quarantined photos, with reasons")
    notes: list[Row] = pydantic.Field([], description="photos in use that are worth a look")
    unlisted: list[str] = pydantic.Field([], description="ids that are not listed, left out")
    spans: list[str] = pydantic.Field([], description="spans used")
    hints: list[str] = pydantic.Field([], description="possible problems of the whole data set")
    drift: Drift = Drift(against=None)


class Component(_Part):
    """One component's part in a run."""

    id: str
    state: Literal["executed", "cached", "failed"]
    seconds: Figure = None


class Tuning(_Part):
    """Results of the Tuner."""

    best: dict[str, Any] = pydantic.Field({}, description="best values of the tuned settings")
    trials: list[dict[str, Any]] = pydantic.Field(
        [], description="number, score and settings of each trial"
    )

    @pydantic.model_serializer(mode="wrap")
    def _omit_unset_nulls(
        self, serialize: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {k: v for k, v in serialize(self).items() if k in self.model_fields_set}


class Outcome(_Part):
    """What became of a run."""

    # First, because `core.ownership` recognizes the file by it.
    status: Literal["pushed", "not_blessed", "failed"] = "failed"
    format: int = pydantic.Field(FORMAT, description="version of this file format")
    error: str | None = pydantic.Field(None, description="why the run failed, in a sentence")
    refused: str | None = pydantic.Field(
        None, description="why a blessed model was not released, in a sentence"
    )
    pushed_version: int | None = pydantic.Field(
        None, description="version that contains this run's model"
    )
    new_version: bool = pydantic.Field(False, description="whether this run released that version")
    replaced: Replaced | None = None
    in_service: int | None = pydantic.Field(None, description="version in service now")
    champion: Champion | None = None
    infra_blessed: bool | None = pydantic.Field(
        None, description="whether a model server could serve the model; null: not tested"
    )
    metrics: dict[str, dict[str, Any]] = pydantic.Field({}, description="metrics by slice")
    gate: list[Threshold] = []
    confusion: dict[str, dict[str, Figure]] = pydantic.Field(
        {}, description="number of pixels by true and by predicted class"
    )
    data: DataSummary = DataSummary()
    components: list[Component] = []
    tuning: Tuning = Tuning()
    training: dict[str, Any] = pydantic.Field({}, description="facts the Trainer records")
    formats: dict[str, dict[str, Any]] = pydantic.Field(
        {}, description="files of other formats in the version in service"
    )
    run_id: str | None = None
    started: str | None = pydantic.Field(None, description="ISO 8601 with time zone")
    seconds: Figure = pydantic.Field(None, description="duration of the run")
    model_name: str | None = None
    data_root: str | None = None
    serving_dir: str | None = None
    copied_to: str | None = pydantic.Field(None, description="where the release was copied to")
    versions: dict[str, str] = pydantic.Field({}, description="versions of the libraries")
    settings: dict[str, Any] = pydantic.Field({}, description="settings of the run, by dotted key")

    @pydantic.model_serializer(mode="wrap")
    def _omit_unset_nulls(
        self, serialize: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return values  # all fields, so that scripts can rely on them

    def missed(self) -> list[Threshold]:
        """Return the thresholds that the candidate missed."""
        return [row for row in self.gate if not row.held]


def write(path: Path, outcome: Outcome) -> None:
    """Write ``latest_run.json`` atomically.

    Raises:
      OSError: if the file cannot be written.
    """
    text = outcome.model_dump_json(indent=2) + "\n"
    files.write_atomically(path, text.encode(errors="replace"))


def read(path: Path) -> Outcome:
    """Read ``latest_run.json``.

    Raises:
      OSError: if the file does not exist or cannot be read.
      ValueError: if it is damaged.
    """
    return Outcome.model_validate_json(path.read_bytes())

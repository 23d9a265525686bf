"""The outcome of a run: what ``latest_run.json`` holds, and terminal, report and Kubeflow share.

Its JSON schema is ``docs/latest_run.schema.json``. `FORMAT` grows when a field changes its meaning
or goes; new fields alone do not change it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic

from pipeline.core import files

FORMAT = 1
PUSHED, NOT_BLESSED, FAILED = "pushed", "not_blessed", "failed"
Figure = float | None  # null where there is no number

UNFINISHED = "The run has not ended: it still goes on, or it was killed."


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")  # what a later version added

    @pydantic.model_serializer(mode="wrap")
    def _without_what_nobody_set(
        self, serialize: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        known = serialize(self)
        return {k: v for k, v in known.items() if v is not None or k in self.model_fields_set}


class Threshold(_Part):
    """A bound of the gate, and how the candidate did."""

    metric: str
    slice: str = pydantic.Field(description="overall, or feature=value")
    value: Figure = pydantic.Field(description="of the candidate; a difference for kind 'change'")
    bound: Figure
    kind: Literal["at_least", "at_most", "change"] = pydantic.Field(
        description="change: at least so much against the champion"
    )
    held: bool
    reason: str | None = pydantic.Field(None, description="why there is no value, in a clause")
    candidate: Figure = pydantic.Field(None, description="its value, for kind 'change'")
    champion: Figure = pydantic.Field(None, description="its value, for kind 'change'")


class Champion(_Part):
    """The model in service that the candidate was compared with."""

    version: int
    note: str | None = pydantic.Field(None, description="what must be known of the comparison")


class Replaced(_Part):
    """What was in service until this run released its model."""

    version: int
    fault: str | None = pydantic.Field(None, description="what was wrong with it, in a clause")


class Row(_Part):
    """A photo, and why it was set aside or what a person should look at."""

    id: str
    reason: str | None = None
    note: str | None = None


class Drift(_Part):
    """How far the photos are from those of a release."""

    against: int | None = pydantic.Field(None, description="the version; null: no comparison")
    features: list[dict[str, Any]] = pydantic.Field(
        [], description="feature, distance, bound, drifted"
    )

    def drifted(self) -> list[dict[str, Any]]:
        """The features that drifted."""
        return [row for row in self.features if row["drifted"]]


class DataSummary(_Part):
    """What the data folder held."""

    splits: dict[str, int] = pydantic.Field({}, description="photos of each split")
    quarantined: list[Row] = pydantic.Field([], description="photos set aside, with the reason")
    notes: list[Row] = pydantic.Field([], description="photos in use that a person should see")
    unlisted: list[str] = pydantic.Field([], description="ids on no list, left out")
    spans: list[str] = pydantic.Field([], description="the spans taken")
    hints: list[str] = pydantic.Field([], description="what looks wrong with all of it")
    drift: Drift = Drift(against=None)


class Component(_Part):
    """One component's part in a run."""

    id: str
    state: Literal["executed", "cached", "failed"]
    seconds: Figure = None


class Tuning(_Part):
    """What the Tuner found."""

    best: dict[str, Any] = pydantic.Field({}, description="values of settings")
    trials: list[dict[str, Any]] = pydantic.Field([], description="trial, score and its values")

    @pydantic.model_serializer(mode="wrap")
    def _without_what_nobody_set(
        self, serialize: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {k: v for k, v in serialize(self).items() if k in self.model_fields_set}


class Outcome(_Part):
    """What became of a run."""

    # First, since `core.ownership` knows the file by it.
    status: Literal["pushed", "not_blessed", "failed"] = "failed"
    format: int = pydantic.Field(FORMAT, description="of this file")
    error: str | None = pydantic.Field(None, description="why it failed, in a sentence")
    refused: str | None = pydantic.Field(
        None, description="why a blessed model was not released, in a sentence"
    )
    pushed_version: int | None = pydantic.Field(None, description="the version with this model")
    new_version: bool = pydantic.Field(False, description="whether this run made that version")
    replaced: Replaced | None = None
    in_service: int | None = pydantic.Field(None, description="the version in service now")
    champion: Champion | None = None
    infra_blessed: bool | None = pydantic.Field(
        None, description="whether a model server could serve it; null: it was not asked"
    )
    metrics: dict[str, dict[str, Any]] = pydantic.Field({}, description="by slice")
    gate: list[Threshold] = []
    confusion: dict[str, dict[str, Figure]] = pydantic.Field(
        {}, description="pixels by true and by predicted class"
    )
    data: DataSummary = DataSummary()
    components: list[Component] = []
    tuning: Tuning = Tuning()
    training: dict[str, Any] = pydantic.Field({}, description="what the Trainer notes of itself")
    formats: dict[str, dict[str, Any]] = pydantic.Field(
        {}, description="files of other formats in the version in service"
    )
    run_id: str | None = None
    started: str | None = pydantic.Field(None, description="ISO 8601, with its time zone")
    seconds: Figure = pydantic.Field(None, description="from start to end")
    model_name: str | None = None
    data_root: str | None = None
    serving_dir: str | None = None
    copied_to: str | None = pydantic.Field(None, description="where the release was copied to")
    versions: dict[str, str] = pydantic.Field({}, description="of the libraries")
    settings: dict[str, Any] = pydantic.Field({}, description="of the run, by dotted key")

    @pydantic.model_serializer(mode="wrap")
    def _without_what_nobody_set(
        self, serialize: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return serialize(self)  # every field, so that scripts need not ask which are there

    def missed(self) -> list[Threshold]:
        """The bounds that the candidate did not hold."""
        return [row for row in self.gate if not row.held]


def write(path: Path, outcome: Outcome) -> None:
    """Writes ``latest_run.json``, which a reader sees whole or not at all.

    Raises:
      OSError: if it cannot be written.
    """
    text = outcome.model_dump_json(indent=2) + "\n"
    files.write_atomically(path, text.encode(errors="replace"))


def read(path: Path) -> Outcome:
    """Reads ``latest_run.json``.

    Raises:
      OSError: if there is none.
      ValueError: if it is damaged.
    """
    return Outcome.model_validate_json(path.read_bytes())

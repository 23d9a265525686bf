"""What a run leaves for people and scripts: latest_run.json and report.html."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx.utils import path_utils

from pipeline import gallery, images, outcome, release_copy, report, serving
from pipeline.settings import Settings

OUTCOME, REPORT = "latest_run.json", "report.html"


def publish(
    artifacts: outcome.RunArtifacts,
    settings: Settings,
    components: Sequence[outcome.Component],
    error: str | None,
    *,
    run_id: str,
    begin: datetime.datetime,
    data_root: str,
    output_root: Path,
    serving_dir: Path,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Writes latest_run.json and report.html into the output root, each at one stroke.

    Args:
      artifacts: of the run.
      settings: of the run.
      components: those that came to run, in order.
      error: the sentence that says why the run failed, if it did.
      run_id: names the run in the metadata store.
      begin: of the run, with its time zone.
      data_root: the data folder.
      output_root: an existing folder.
      serving_dir: the serving folder of the model.

    Returns:
      The content of latest_run.json, and where things are: `outcome`, `report`, `serving`.
    """
    spent = datetime.datetime.now().astimezone() - begin
    in_service = max(serving.versions(str(serving_dir)), default=None)
    result = outcome.collect(
        artifacts,
        settings,
        list(components),
        error,
        run_id=run_id,
        started=begin.isoformat(),
        seconds=round(spent.total_seconds(), 1),
        model_name=settings.model.name,
        serving_dir=str(serving_dir),
        in_service=in_service,
        copied_to=_copied_to(artifacts, settings, serving_dir, in_service),
        data_root=data_root,
    )
    files = {
        "outcome": output_root / OUTCOME,
        "report": output_root / REPORT,
        "serving": serving_dir,
    }
    # First: it is true whatever becomes of the report.
    _write(files["outcome"], result)
    examples = artifacts.get("ExampleGen", "examples")
    model = outcome.model_path(artifacts)
    champion = artifacts.get("Champion", "model")
    photos = (
        gallery.build(model, examples.uri, champion and path_utils.serving_model_path(champion.uri))
        if model and examples
        else []
    )
    report.write(files["report"], result, outcome.history(artifacts), photos)
    return result, files


def _copied_to(
    artifacts: outcome.RunArtifacts, settings: Settings, serving_dir: Path, version: int | None
) -> str | None:
    """Where the run saw the copy of the version in service."""
    copy_to = settings.release.copy_to
    if not copy_to or version is None or artifacts.state(release_copy.NODE) != outcome.EXECUTED:
        return None
    return release_copy.place(copy_to, str(serving_dir), version)


def announce(settings: Settings, output_root: Path) -> None:
    """Replaces outcome and report of the run before, which no longer is the last one."""
    result = outcome.unfinished(settings)
    _write(output_root / OUTCOME, result)
    report.write(output_root / REPORT, result, [], [])


def _write(path: Path, result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    images.write_atomically(path, text.encode())

"""Write the results of a run: latest_run.json and report.html."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from tfx.utils import path_utils

from pipeline.artifacts.run import EXECUTED, RunArtifacts
from pipeline.core import run_folder
from pipeline.core.errors import UserError
from pipeline.release import mirror, model_store
from pipeline.report import gallery, html_page, outcome, run_summary
from pipeline.report.outcome import Component, Outcome
from pipeline.settings import Settings

OUTCOME, REPORT = run_folder.OUTCOME, run_folder.REPORT


def publish(
    artifacts: RunArtifacts,
    settings: Settings,
    components: Sequence[Component],
    error: str | None,
    *,
    run_id: str,
    begin: datetime.datetime,
    data_root: str,
    output_root: Path,
    serving_dir: Path,
) -> tuple[Outcome, dict[str, Path]]:
    """Write latest_run.json and report.html into the output folder, each atomically.

    Args:
      artifacts: of the run.
      settings: of the run.
      components: the components that ran or were cached, in order.
      error: why the run failed, in a sentence; None if it did not.
      run_id: name of the run in the metadata store.
      begin: start of the run, with time zone.
      data_root: the data folder.
      output_root: an existing folder.
      serving_dir: the serving folder of the model.

    Returns:
      The outcome, and the paths `outcome`, `report` and `serving`.
    """
    spent = datetime.datetime.now().astimezone() - begin
    in_service = max(model_store.versions(str(serving_dir)), default=None)
    error = error or fault(serving_dir)
    result = run_summary.collect(
        artifacts,
        settings,
        components,
        error,
        run_id=run_id,
        started=begin.isoformat(),
        seconds=round(spent.total_seconds(), 1),
        model_name=settings.model.name,
        serving_dir=str(serving_dir),
        in_service=in_service,
        copied_to=_copied_to(artifacts, settings, serving_dir, in_service),
        data_root=data_root,
        formats=model_store.record(str(serving_dir), in_service or 0).get("formats", {}),
    )
    pushed = result.pushed_version
    if pushed and in_service and model_store.same_model(str(serving_dir), pushed, in_service):
        result.pushed_version = in_service  # a repair may be newer than the cached Pusher
    files = {
        "outcome": output_root / OUTCOME,
        "report": output_root / REPORT,
        "serving": serving_dir,
    }
    # First, so that scripts have it even if the report fails.
    outcome.write(files["outcome"], result)
    examples = artifacts.get("ExampleGen", "examples")
    model = run_summary.model_path(artifacts)
    champion = artifacts.get("Champion", "model")
    photos = (
        gallery.build(model, examples.uri, champion and path_utils.serving_model_path(champion.uri))
        if model and examples
        else []
    )
    html_page.write(files["report"], result, run_summary.history(artifacts), photos)
    return result, files


def fault(serving_dir: Path) -> str | None:
    """Describe what is wrong with the version in service and how to fix it; None if nothing is."""
    in_service = max(model_store.versions(str(serving_dir)), default=None)
    damage = in_service and model_store.damage(str(serving_dir), in_service)
    if not damage:
        return None
    return (
        f"Version {in_service} in {serving_dir} is in service and broken: {damage}. Repair it with "
        f"`python -m pipeline releases repair {in_service} --serving {serving_dir}`, or roll back "
        "to an older version if the Trainer's output is gone."
    )


def _copied_to(
    artifacts: RunArtifacts, settings: Settings, serving_dir: Path, version: int | None
) -> str | None:
    """Return where the run's Copier put the version in service."""
    copy_to = settings.release.copy_to
    if not copy_to or version is None or artifacts.state(mirror.NODE) != EXECUTED:
        return None
    return mirror.place(copy_to, str(serving_dir), version)


def announce(settings: Settings | None, output_root: Path, error: str | None = None) -> None:
    """Replace the outcome and the report of the previous run, so that nobody takes them for new.

    Args:
      settings: of the run; None if they were invalid.
      output_root: an existing folder.
      error: why the run ended before its first component, in a sentence; None if it did not.

    Raises:
      UserError: if one of the files is a folder.
    """
    for name in (OUTCOME, REPORT):
        if (output_root / name).is_dir():
            raise UserError(
                f"{output_root / name} is a folder, but the run writes its results to that path; "
                "move it elsewhere, or choose another --output-root."
            )
    result = run_summary.unfinished(settings, error)
    outcome.write(output_root / OUTCOME, result)
    html_page.write(output_root / REPORT, result, [], [])

"""Past runs of an output folder, read from ML Metadata."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass

import ml_metadata as mlmd
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from rich.markup import escape
from rich.table import Table
from tfx.dsl.io import fileio

from pipeline.artifacts import data_checks, ingestion, pushed_model
from pipeline.artifacts.run import FAILED, RunArtifacts
from pipeline.evaluation import gate
from pipeline.release import mirror
from pipeline.report import outcome


@dataclass(frozen=True)
class PastRun:
    """One run; fields are None or empty for steps it did not reach.

    Attributes:
      begin: start of the first component, with time zone.
      seconds: duration; up to the last recorded moment if the run was interrupted.
      interrupted: whether the store has no end of the run.
      verdict: its outcome, in a few words.
      mean_iou: of the candidate, on the test split.
      photos: number of photos used, all splits together.
      spans: names of the spans used.
    """

    begin: datetime.datetime
    seconds: float
    interrupted: bool
    verdict: str
    mean_iou: float | None
    photos: int | None
    spans: list[str]


def past_runs(connection: mlmd_pb2.ConnectionConfig, is_running: bool = False) -> list[PastRun]:
    """List all runs that started a component, newest first.

    Args:
      connection: to the metadata store.
      is_running: whether the newest run is still running, which the store cannot tell.
    """
    contexts = mlmd.MetadataStore(connection).get_contexts_by_type("pipeline_run")
    candidates = [_past_run(RunArtifacts(connection, context.name)) for context in contexts]
    runs = sorted((run for run in candidates if run), key=lambda run: run.begin, reverse=True)
    if is_running and runs:
        runs[0] = dataclasses.replace(runs[0], verdict="running")
    return runs


def _past_run(artifacts: RunArtifacts) -> PastRun | None:
    begin, end = artifacts.begin(), artifacts.end()
    if begin is None or end is None:
        return None
    statistics = artifacts.get("StatisticsGen", "statistics")
    examples = artifacts.get("ExampleGen", "examples")
    evaluation = artifacts.get("Evaluator", "evaluation")
    try:
        photos = sum(data_checks.count_examples(statistics).values()) if statistics else None
        spans = ingestion.read_scan(examples.uri)["spans"] if examples else []
        overall = gate.read_metrics(evaluation.uri)["overall"] if evaluation else {}
    except (OSError, KeyError, fileio.NotFoundError, tf.errors.OpError):
        # The artifacts were deleted, or written by an older version of this program.
        photos, spans, overall = None, [], {}
    return PastRun(
        begin=datetime.datetime.fromtimestamp(begin).astimezone(),
        seconds=end - begin if artifacts.run_seconds is None else artifacts.run_seconds,
        interrupted=artifacts.run_seconds is None,
        verdict=_verdict(artifacts),
        mean_iou=overall.get("mean_iou"),
        photos=photos,
        spans=spans,
    )


def _verdict(artifacts: RunArtifacts) -> str:
    pushed = artifacts.get("Pusher", "pushed_model")
    if pushed is None:
        unfinished = [node for node in artifacts.nodes() if artifacts.state(node) == FAILED]
        if not unfinished:
            return "interrupted"  # between two nodes
        node = unfinished[0]
        return f"interrupted in {node}" if artifacts.cut_off(node) else f"{outcome.FAILED}: {node}"
    verdict = outcome.NOT_BLESSED
    if pushed.get_int_custom_property(pushed_model.PUSHED):
        verdict = f"{outcome.PUSHED}: {pushed.get_string_custom_property(pushed_model.VERSION)}"
        if not fileio.exists(pushed.get_string_custom_property(pushed_model.DESTINATION)):
            verdict += ", removed since"
    copy_failed = artifacts.began(mirror.NODE) and artifacts.state(mirror.NODE) == FAILED
    return f"{verdict}, not copied" if copy_failed else verdict


def table(runs: list[PastRun]) -> Table:
    """Build the table that ``python -m pipeline history`` prints."""
    rows = Table()
    for name in ("started", "verdict", "mean IoU", "photos", "spans", "minutes"):
        is_number = name in ("mean IoU", "photos", "minutes")
        rows.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=is_number or name == "started",
            overflow="fold" if name == "spans" else "ellipsis",
        )
    for run in runs:
        rows.add_row(
            f"{run.begin:%Y-%m-%d %H:%M:%S}",
            run.verdict,
            "" if run.mean_iou is None else f"{run.mean_iou:.3f}",
            "" if run.photos is None else str(run.photos),
            escape(", ".join(run.spans)),
            f"{'> ' if run.interrupted else ''}{run.seconds / 60:.1f}",
        )
    return rows

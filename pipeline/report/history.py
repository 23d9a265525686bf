"""The runs that an output folder has seen, from ML Metadata: ``local_runner.py --history``."""

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
    """What is left of a run; None or nothing for what it did not get to."""

    begin: datetime.datetime
    seconds: float  # from its start to its end, or as far as is known
    cut_off: bool  # nothing noted its end
    verdict: str
    mean_iou: float | None  # of the candidate, on the test split
    photos: int | None  # that were used, all splits together
    spans: list[str]


def past_runs(connection: mlmd_pb2.ConnectionConfig, going_on: bool = False) -> list[PastRun]:
    """All runs in which a component began, the newest first.

    Args:
      connection: to the metadata store.
      going_on: the newest run has not been cut off, but goes on; the store cannot tell.
    """
    contexts = mlmd.MetadataStore(connection).get_contexts_by_type("pipeline_run")
    found = [_past_run(RunArtifacts(connection, context.name)) for context in contexts]
    runs = sorted((run for run in found if run), key=lambda run: run.begin, reverse=True)
    if going_on and runs:
        runs[0] = dataclasses.replace(runs[0], verdict="goes on")
    return runs


def _past_run(artifacts: RunArtifacts) -> PastRun | None:
    begin, end = artifacts.begin(), artifacts.end()
    if begin is None or end is None:
        return None
    statistics = artifacts.get("StatisticsGen", "statistics")
    examples = artifacts.get("ExampleGen", "examples")
    judged = artifacts.get("Evaluator", "evaluation")
    try:
        photos = sum(data_checks.count_examples(statistics).values()) if statistics else None
        spans = ingestion.read_scan(examples.uri)["spans"] if examples else []
        overall = gate.read_metrics(judged.uri)["overall"] if judged else {}
    except (OSError, KeyError, fileio.NotFoundError, tf.errors.OpError):
        # Cleaned away, or written by an older version.
        photos, spans, overall = None, [], {}
    return PastRun(
        begin=datetime.datetime.fromtimestamp(begin).astimezone(),
        seconds=end - begin if artifacts.run_seconds is None else artifacts.run_seconds,
        cut_off=artifacts.run_seconds is None,
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
            return "cut off"  # between two nodes
        (node, *_) = unfinished
        return f"cut off in {node}" if artifacts.cut_off(node) else f"{outcome.FAILED}: {node}"
    verdict = outcome.NOT_BLESSED
    if pushed.get_int_custom_property(pushed_model.PUSHED):
        verdict = f"{outcome.PUSHED}: {pushed.get_string_custom_property(pushed_model.VERSION)}"
        if not fileio.exists(pushed.get_string_custom_property(pushed_model.DESTINATION)):
            verdict += ", removed since"
    copied = not artifacts.began(mirror.NODE) or (artifacts.state(mirror.NODE) != FAILED)
    return verdict if copied else f"{verdict}, not copied"


def table(runs: list[PastRun]) -> Table:
    """The runs as people read them."""
    result = Table()
    for name in ("begin", "verdict", "mean IoU", "photos", "batches", "minutes"):
        number = name in ("mean IoU", "photos", "minutes")
        result.add_column(
            name,
            justify="right" if number else "left",
            no_wrap=number or name == "begin",
            overflow="fold" if name == "batches" else "ellipsis",
        )
    for run in runs:
        result.add_row(
            f"{run.begin:%Y-%m-%d %H:%M:%S}",
            run.verdict,
            "" if run.mean_iou is None else f"{run.mean_iou:.3f}",
            "" if run.photos is None else str(run.photos),
            escape(", ".join(run.spans)),
            f"{'> ' if run.cut_off else ''}{run.seconds / 60:.1f}",
        )
    return result

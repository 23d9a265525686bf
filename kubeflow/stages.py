"""The stages of a run: what is done again depends on what changed, and the rest is left out."""

from __future__ import annotations

from collections.abc import Sequence

PLAN = "Plan"  # the task that every run begins with
START = "start"  # its output: the stage to begin with, or NOTHING
NOTHING = "nothing"
DATA, TRAINING, RELEASE, COPY = "data", "training", "release", "copy"
# What people read on the web page: the parts of the graph that begin with these stages.
TITLES = {
    DATA: "from-data-to-release",
    TRAINING: "from-training-to-release",
    RELEASE: "from-verdict-to-release",
    COPY: "copy-of-the-release",
}
_TRAINING = ("Tuner", "Trainer")


def of(node_ids: Sequence[str]) -> dict[str, list[str]]:
    """The nodes of each stage, in order.

    Args:
      node_ids: of the pipeline, each after those it depends on.
    """
    stages: dict[str, list[str]] = {DATA: [], TRAINING: [], RELEASE: []}
    stage = DATA
    for node_id in node_ids:
        if node_id in _TRAINING:
            stage = TRAINING
        elif node_id == "Copier":
            stage = COPY
        elif stage == TRAINING:
            stage = RELEASE
        stages.setdefault(stage, []).append(node_id)
    return stages


def first(node_ids: Sequence[str], to_run: Sequence[str]) -> str:
    """The first stage with a node that has to run, or `NOTHING`."""
    for stage, members in of(node_ids).items():
        if set(members) & set(to_run):
            return stage
    return NOTHING

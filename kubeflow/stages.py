"""The stages of a run. A run starts with the first stage that has something to do."""

from __future__ import annotations

from collections.abc import Sequence

PLAN = "Plan"  # the first task of every run
START = "start"  # its output: the stage to start with, or NOTHING
NOTHING = "nothing"
DATA, TRAINING, RELEASE, COPY = "data", "training", "release", "copy"
# Names in the UI of the parts of the graph that start with these stages.
TITLES = {
    DATA: "from-data-to-release",
    TRAINING: "from-training-to-release",
    RELEASE: "from-verdict-to-release",
    COPY: "copy-of-the-release",
}
_TRAINING = ("Tuner", "Trainer")


def of(node_ids: Sequence[str]) -> dict[str, list[str]]:
    """Assign the nodes to stages, in order.

    Args:
      node_ids: nodes of the pipeline in topological order.
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
    """Return the first stage with a node that has to run, or `NOTHING`."""
    for stage, members in of(node_ids).items():
        if set(members) & set(to_run):
            return stage
    return NOTHING

"""Runs the tasks of a pipeline as Kubeflow Pipelines does: one process each."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from kubeflow import entrypoint, metadata, tasks
from pipeline import settings
from pipeline.artifacts.run import RunArtifacts
from tests.support.forked import Forked
from tests.support.runs import SMALL

NODES = [
    *("ExampleGen", "ImportSchemaGen", "StatisticsGen", "ExampleValidator"),
    *("ReleasedData", "DriftValidator", "DataGate"),
    *("Transform", "Trainer", "Champion", "Evaluator", "Pusher"),
]


class Cluster:
    """Runs tasks one by one, as Kubeflow Pipelines would, on one data and output folder."""

    def __init__(
        self,
        data_root: Path,
        output_root: Path,
        metadata: str = "sqlite",
        tls: str = "off",
        **environment: str,
    ) -> None:
        self.data_root = data_root
        self.output_root = output_root
        self.environment = environment
        self.metadata, self.tls = metadata, tls
        self._started = 0

    def start(self, task: list[str], run: str, *overrides: str) -> Forked:
        arguments = [*task, "--run-id", run, "--output-root", str(self.output_root)]
        arguments += ["--data-root", str(self.data_root), "--metadata", self.metadata]
        arguments += [] if self.tls == "off" else ["--metadata-tls", self.tls]
        # In all three ways that the compiled pipeline uses.
        arguments += ["--pinned", json.dumps({"transform.image_size": 64})]
        for override in (*SMALL[1:4], *overrides):
            arguments += ["--set", override]
        arguments += ["--settings", "; ".join(SMALL[4:])]
        self._started += 1
        log = self.output_root.with_name(f"task-{self._started}.log")
        return Forked(entrypoint.main, arguments, log, self.environment)

    def run(self, node: str, run: str, *overrides: str) -> tuple[int, str]:
        """Exit code and last line of the log of one node."""
        return ended(self.start(["run", node], run, *overrides))

    def prepare(self, run: str, *node_ids: str) -> list[str]:
        """Runs nodes in this process, where TensorFlow is loaded already; how each went."""
        self.output_root.mkdir(exist_ok=True)
        whole = tasks.Run(
            run, settings.load([], SMALL), self.data_root, self.output_root, self.connection
        )
        return [tasks.run_nodes(whole, [node_id])[0] for node_id in node_ids]

    def plan(self, run: str, *overrides: str) -> tuple[int, str, str]:
        """The same of the plan, and the stage that it says."""
        start = self.output_root.with_name(f"start-{run}")
        code, last = ended(self.start(["plan", "--start", str(start)], run, *overrides))
        return code, last, start.read_text() if start.exists() else ""

    def report(self, run: str, folder: Path, *overrides: str) -> tuple[int, str, dict[str, Any]]:
        """The same of the report task, and the executor output that it wrote."""
        outputs = {
            "outputFile": str(folder / "output.json"),
            "artifacts": {
                name: {"artifacts": [{"name": name, "uri": f"s3://bucket/{name}"}]}
                for name in ("report", "metrics")
            },
        }
        task = ["report", "--executor-input", json.dumps({"outputs": outputs})]
        for name in ("report", "metrics"):
            task += ["--artifact", name, str(folder / "a" / name)]
        code, last = ended(self.start(task, run, *overrides))
        return code, last, json.loads((folder / "output.json").read_text())

    @property
    def outcome(self) -> dict[str, Any]:
        outcome: dict[str, Any] = json.loads((self.output_root / "latest_run.json").read_text())
        return outcome

    def states(self) -> list[str]:
        return [component["state"] for component in self.outcome["components"]]

    @functools.cached_property
    def connection(self) -> Any:
        return metadata.connection(self.metadata, self.output_root, self.environment, self.tls)

    def artifacts(self, run: str) -> RunArtifacts:
        return RunArtifacts(self.connection, run)


def ended(process: Forked) -> tuple[int, str]:
    code, out = process.wait()
    print(out)  # pytest shows it when a test fails
    return code, out.splitlines()[-1]

"""Containers and seconds of runs on Kubeflow Pipelines: new data, unchanged data, a new span.

    python -m benchmarks.kubeflow_tasks IMAGE

Rehearses runs in containers of an image that Docker has, on built-in data with small settings, once
with a task for each component and once with grouped tasks. A server starts another pod for each
task, its driver, and one for each part of the graph; that count comes from the compiled pipeline.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import hardships
from kubeflow import compiler, settings
from pipeline.core import yaml_text
from pipeline.data import synthetic

SETTINGS = ("metadata.kind=sqlite", *hardships.SETTINGS)


def rehearse(image: str, data: Path, output: Path, *more: str) -> tuple[list[str], float, str]:
    """Tasks that got a container, seconds of the whole rehearsal, and the last line of Plan."""
    command = [sys.executable, "-m", "kubeflow", "rehearse", "--image", image]
    command += ["--data-root", str(data), "--output-root", str(output)]
    for setting in (*SETTINGS, *more):
        command += ["--set", setting]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"A rehearsal failed: {done.stdout[-2000:]}{done.stderr}")
    lines = done.stdout.splitlines()
    plan = next(line for line in lines if line.startswith("+ Plan"))
    seconds = time.monotonic() - begin
    tasks = [line[2:] for line in lines if line.startswith("> ")]
    return tasks, seconds, plan.removeprefix("+ ")


def parts(tasks: str) -> int:
    """Parts of the graph, each of which has a driver's pod on a server."""
    chosen = settings.load([], [*SETTINGS, f"tasks={tasks}"])
    spec = yaml_text.load_all(compiler.compile_pipeline(chosen))[0]
    return 1 + sum("dag" in component for component in spec["components"].values())


def main(image: str) -> int:
    print("| tasks | run | containers | pods on a server | seconds |")
    print("| --- | --- | --- | --- | --- |")
    plans = []
    for tasks, title in (("per_component", "one task per component"), ("grouped", "grouped")):
        with tempfile.TemporaryDirectory() as folder:
            data, output = Path(folder, "data"), Path(folder, "output")
            for run in ("the first", "nothing is new", "a new span"):
                if run != "nothing is new":
                    number = 1 if run == "the first" else 2
                    synthetic.generate(data / f"span-{number}", count=40, seed=number)
                started, seconds, plan = rehearse(image, data, output, f"tasks={tasks}")
                pods = 2 * len(started) + parts(tasks)
                row = (title, run, len(started), pods, f"{seconds:.0f}")
                print(f"| {' | '.join(map(str, row))} |", flush=True)
                plans.append(plan)
    print("", *plans, sep="\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))

"""What each task of a run needs: peak memory and CPU-seconds, compared with what it requests.

    python -m benchmarks.component_needs                                # built-in data, a small run
    python -m benchmarks.component_needs --data-root DIR --set train.epochs=2 [--set tasks=grouped]

Runs the tasks of the compiled pipeline as the containers of a cluster do: each in its own process,
with one folder and one metadata store for all.
Memory is the peak of the process and its children, TensorFlow and TFX included (sampled every tenth
of a second; Linux's own count of the process alone where that is higher). CPU-seconds are those of
the process and its children. Other work on the machine distorts the wall-clock times, but hardly
the CPU-seconds.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.core import yaml_text


class Need(NamedTuple):
    """Megabytes at the most, CPU-seconds, and wall-clock seconds of one task."""

    megabytes: float
    cpu: float
    wall: float


def watch(command: list[str]) -> Need:
    """Runs one task; ends this script with its log if it fails."""
    with tempfile.TemporaryFile("w+") as log:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        most = 0.0
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            most = max(most, sum(_memory(process.pid)) / 1e6)
            time.sleep(0.1)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(log.read()[-5000:])
    own = used.ru_maxrss * 1024 / 1e6
    return Need(max(most, own), used.ru_utime + used.ru_stime, time.monotonic() - begin)


def _memory(pid: int) -> Iterator[int]:
    """Resident bytes of a process and its children, none of those that just ended."""
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            yield each.memory_info().rss
    except psutil.NoSuchProcess:
        return


def main() -> None:
    """Runs all tasks, and prints a row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", default="", help="data folder; empty: built-in data")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    from kubeflow import compiler, form, orchestration, settings

    versions = " ".join(f"{n} {importlib.metadata.version(n)}" for n in ("tfx", "tensorflow"))
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, {versions}\n"
        f"{arguments.data_root or 'built-in data'} {' '.join(arguments.overrides)}\n"
        "task                      peak MB    CPU-s   wall s   it may have",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        places = {"mount_path": folder, "output_root": f"{folder}/output", "data_root": ""}
        chosen = settings.load(
            [],
            [
                *arguments.overrides,
                *(f"storage.{name}={place!r}" for name, place in places.items()),
                "metadata.kind=sqlite",
            ],
        )

        def execute(container: orchestration.Container) -> int:
            need = watch([sys.executable, *container.command[1:]])
            print(
                f"{container.task:24} {need.megabytes:8.0f} {need.cpu:8.1f} {need.wall:8.1f}   "
                f"{container.memory}",
                flush=True,
            )
            return 0

        orchestration.Orchestration(
            yaml_text.load_all(compiler.compile_pipeline(chosen))[0],
            "benchmark",
            Path(folder, "kfp"),
            execute,
        ).run({form.DATA_ROOT: arguments.data_root})


if __name__ == "__main__":
    main()

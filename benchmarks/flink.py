"""The data stage on Beam's direct runner, on separate workers, and on one and two Flink task slots.

    python -m benchmarks.flink --images 1600

Repeats the photos of the 400-pair sample under new ids (as `benchmarks.data_stage` does), and runs
ExampleGen, StatisticsGen and Transform on them, each in its own process: on the direct runner, on
the same with two worker processes, on Beam's job server in Python with one worker from a pool, and
on Apache Flink with one and two task slots, if Maven has it. Times are wall clock from when the
libraries of that process are loaded. A worker loads its own libraries for each pipeline, which is
part of its cost. Everything is therefore also done with a few photos: the difference is what the
photos cost. The ratios are relative to the direct runner.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import data_stage
from tests.support import Unavailable
from tests.support.servers import beam_cluster
from tests.support.servers.beam_cluster import Cluster

STAGES = ("ExampleGen", "StatisticsGen", "Transform")
FEW = 64  # photos

TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")

Start = Callable[[Path], AbstractContextManager[tuple[str, ...]]]  # gives Beam's options


def clusters() -> dict[str, Start]:
    """What is measured, by the name of its rows."""
    return {
        "direct runner": lambda _: contextlib.nullcontext(()),
        "direct, 2 processes": lambda _: contextlib.nullcontext(TWO_PROCESSES),
        "job server, 1 worker": lambda folder: remote(beam_cluster.job_service(folder)),
        "Flink, 1 task slot": lambda folder: remote(beam_cluster.flink(folder)),
        "Flink, 2 task slots": lambda folder: remote(beam_cluster.flink(folder, slots=2)),
    }


@contextlib.contextmanager
def remote(cluster: AbstractContextManager[Cluster]) -> Iterator[tuple[str, ...]]:
    """Beam's options for a cluster that runs meanwhile."""
    with cluster as running:
        yield f"--runner={beam_cluster.RUNNER}", *running.args


def seconds(folder: Path, beam_args: tuple[str, ...]) -> dict[str, float]:
    """Wall clock of each stage on the photos in a folder."""
    found = {}
    for stage in STAGES:
        command = [sys.executable, "-m", "benchmarks.data_stage", "--stage", stage]
        command += ["--folder", str(folder), *(f"--beam-arg={each}" for each in beam_args)]
        last, _ = data_stage.watched(command)
        found[stage] = json.loads(last)["wall"]
    return found


def compare(name: str, start: Start, images: int, source: Path, base: float | None) -> float:
    """Measures and prints one row; returns its seconds of all stages."""
    with tempfile.TemporaryDirectory() as made, start(Path(made)) as args:
        times = {}
        for count in (FEW, images):
            folder = Path(made, str(count))
            data_stage.repeat(source, folder / "data", count)
            (folder / "output").mkdir()
            times[count] = seconds(folder, args)
    few, many = (sum(times[count].values()) for count in (FEW, images))
    each = " ".join(f"{times[images][stage]:13.1f}" for stage in STAGES)
    print(
        f"{name:22} {few:9.1f} {each} {many:7.1f} {images / many:9.1f} "
        f"{(images - FEW) / (many - few):9.1f} {(base or many) / many:6.2f}",
        flush=True,
    )
    return many


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument(
        "--data-root", type=Path, default=data_stage.SAMPLE, help="photos to repeat"
    )
    args = parser.parse_args()
    versions = " ".join(f"{n} {importlib.metadata.version(n)}" for n in ("tfx", "apache-beam"))
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, {versions}, {args.images} images; seconds of wall clock\n"
        f"{'':22} {FEW} images {' '.join(f'{stage:>13}' for stage in STAGES)}     all "
        "images/s further/s  ratio",
        flush=True,
    )
    base = None
    for name, start in clusters().items():
        try:
            took = compare(name, start, args.images, args.data_root, base)
            base = base or took
        except Unavailable as reason:
            print(f"{name:22} NOT MEASURED: {reason}")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

"""The data stage compared with the textbook's loop: images per CPU-second, memory, bytes on disk.

    python -m benchmarks.data_stage --images 400 1600

Repeats the photos of the 400-pair sample under new ids, a few bytes longer each time, so that none
is a copy of another. Runs the textbook's loop (`keras.utils.load_img` and `img_to_array` of photo
and mask into two arrays) and the pipeline's components up to Transform on the same files, each in a
child process of its own. Measured from when the libraries are loaded: CPU-seconds of the process
and its children, and wall clock; and their peak memory, libraries included. Then reads the
transformed examples into batches of 16, first from disk, then from memory.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "oxford-iiit-pet-sample"
SIZE = 200  # pixels
BATCH = 16

TEXTBOOK, READING = "textbook", "reading"
STAGES = {
    "ExampleGen": ["ExampleGen"],
    "StatisticsGen": ["ImportSchemaGen", "StatisticsGen"],
    "validation": ["ExampleValidator", "ReleasedData", "DriftValidator", "DataGate"],
    "Transform": ["Transform"],
}


def repeat(source: Path, root: Path, count: int) -> None:
    """Makes a data folder of so many pairs, without lists, from those of another."""
    from pipeline.data import layout

    for folder in (layout.IMAGES, layout.TRIMAPS):
        (root / folder).mkdir(parents=True)
    photos = sorted((source / layout.IMAGES).iterdir())
    for number in range(count):
        photo, again = photos[number % len(photos)], number // len(photos)
        breed, _, index = photo.stem.rpartition("_")
        id_ = f"{breed}_{index}{again:03d}"
        copy = root / layout.IMAGES / f"{id_}{photo.suffix}"
        copy.write_bytes(photo.read_bytes() + bytes(again))
        mask = (source / layout.TRIMAPS / f"{photo.stem}.png").read_bytes()
        (root / layout.TRIMAPS / f"{id_}.png").write_bytes(mask)


def textbook(root: Path) -> None:
    """Decodes and resizes all pairs into arrays, as the Keras example does."""
    import numpy as np
    from keras.utils import img_to_array, load_img

    from pipeline.data import layout

    paths = sorted((root / layout.IMAGES).iterdir())
    photos = np.zeros((len(paths), SIZE, SIZE, 3), "float32")
    masks = np.zeros((len(paths), SIZE, SIZE, 1), "uint8")
    for index, path in enumerate(paths):
        mask = root / layout.TRIMAPS / f"{path.stem}.png"
        photos[index] = img_to_array(load_img(path, target_size=(SIZE, SIZE)))
        grey = load_img(mask, target_size=(SIZE, SIZE), color_mode="grayscale")
        masks[index] = img_to_array(grey).astype("uint8") - 1


def run_nodes(names: list[str], root: Path, output: Path, beam_args: list[str]) -> None:
    """Runs some of the pipeline's nodes; those before them ran in other processes."""
    from tfx.orchestration import metadata

    from pipeline import settings
    from pipeline.orchestration import launcher
    from pipeline.orchestration import pipeline as tfx_pipeline

    chosen = settings.load(overrides=[f"beam.args={json.dumps(beam_args)}"])
    store = metadata.sqlite_metadata_connection_config(str(output / "metadata.sqlite"))
    ir = launcher.compile_pipeline(
        tfx_pipeline.create_pipeline(
            data_root=str(root),
            pipeline_root=str(output / "artifacts"),
            serving_dir=str(output / "serving"),
            settings=chosen,
            metadata_connection_config=store,
            beam_pipeline_args=tfx_pipeline.beam_arguments(chosen.beam),
        )
    )
    for name in names:
        launcher.run_node(ir, name, "benchmark")


def transformed(output: Path) -> list[Path]:
    """Transform's files of examples."""
    return sorted((output / "artifacts/Transform/transformed_examples").rglob("*.gz"))


def read(output: Path) -> dict[str, float]:
    """Images per second, and per CPU-second, into batches: from disk, and in later epochs."""
    from pipeline.training.input_pipeline import Photos

    rates: dict[str, float] = {}
    wall, used = time.monotonic(), time.process_time()
    photos = Photos([str(path) for path in transformed(output)], SIZE, BATCH)
    for name in ("from_disk", "from_memory"):
        count = sum(int(batch.shape[0]) for batch, _ in photos.in_order())
        rates[name] = count / (time.monotonic() - wall)
        rates[f"{name}_cpu"] = count / (time.process_time() - used)
        wall, used = time.monotonic(), time.process_time()
    return {**rates, "images": count}


def measure(stage: str, root: Path, output: Path, beam_args: list[str]) -> dict[str, float]:
    """Runs one stage in this process; returns its seconds and what else it found."""
    import keras  # noqa: F401
    import tfx.components  # noqa: F401

    import pipeline.orchestration.pipeline  # noqa: F401

    wall, used = time.monotonic(), sum(os.times()[:4])
    found: dict[str, float] = {}
    if stage == TEXTBOOK:
        textbook(root)
    elif stage == READING:
        found = read(output)
    else:
        run_nodes(STAGES[stage], root, output, beam_args)
    return {"wall": time.monotonic() - wall, "cpu": sum(os.times()[:4]) - used, **found}


def watched(command: list[str]) -> tuple[str, float]:
    """Runs a command; returns its last line and the most megabytes it and its children held."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        most = 0.0
        while process.poll() is None:
            most = max(most, sum(_memory(psutil.Process(process.pid))) / 1e6)
            time.sleep(0.1)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(errors.read())
        return out.read().splitlines()[-1], most


def _memory(process: psutil.Process) -> Iterator[int]:
    """Resident bytes of a process and its children, none of those that just ended."""
    try:
        for each in (process, *process.children(recursive=True)):
            yield each.memory_info().rss
    except psutil.NoSuchProcess:
        return


def compare(count: int, source: Path, beam_args: list[str]) -> None:
    """Runs all stages on so many images, and prints a row each."""
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder, "data"), Path(folder, "output")
        repeat(source, root, count)
        output.mkdir()
        rows: dict[str, dict[str, Any]] = {}
        for stage in (TEXTBOOK, *STAGES, READING):
            command = [sys.executable, "-m", "benchmarks.data_stage", "--stage", stage]
            command += ["--folder", folder, *(f"--beam-arg={each}" for each in beam_args)]
            last, most = watched(command)
            rows[stage] = {**json.loads(last), "megabytes": most}
            if stage != READING:
                _show(count, stage, rows[stage])
        ours = {key: sum(rows[s][key] for s in STAGES) for key in ("wall", "cpu")}
        ours["megabytes"] = max(rows[stage]["megabytes"] for stage in STAGES)
        _show(count, "all stages", ours)
        reading = rows[READING]
        share = rows[TEXTBOOK]["cpu"] / ours["cpu"]
        size = sum(path.stat().st_size for path in transformed(output)) / reading["images"]
        print(
            f"all stages / textbook {share:.2f} by CPU; {size / 1e3:.1f} KB an image after "
            f"Transform; read in batches of {BATCH}: {reading['from_disk']:.0f} images/s from disk "
            f"({reading['from_disk_cpu']:.0f} a CPU-second), {reading['from_memory']:.0f} from "
            f"memory ({reading['from_memory_cpu']:.0f})",
            flush=True,
        )


def _show(count: int, name: str, row: dict[str, Any]) -> None:
    print(
        f"{count:6d} {name:14} {count / row['cpu']:8.0f} {row['cpu']:9.1f} {row['wall']:8.1f} "
        f"{row['megabytes']:8.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[400, 1600, 6400])
    parser.add_argument("--data-root", type=Path, default=SAMPLE, help="whose pairs are repeated")
    parser.add_argument("--beam-arg", action="append", default=[], help="--name=value, for Beam")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        root, output = args.folder / "data", args.folder / "output"
        print(json.dumps(measure(args.stage, root, output, args.beam_arg)))
        return
    versions = " ".join(f"{n} {importlib.metadata.version(n)}" for n in ("tfx", "tensorflow"))
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, {versions} {' '.join(args.beam_arg)}\n"
        "images stage          per CPU-s CPU-s   wall s   peak MB",
        flush=True,
    )
    for count in args.images:
        compare(count, args.data_root, args.beam_arg)


if __name__ == "__main__":
    main()

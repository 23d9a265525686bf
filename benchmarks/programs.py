"""Compares third-party programs that run a release: agreement and latency.

    make run
    python -m benchmarks.programs --photos DIR [--output-root output]

Each program segments the same photos, one at a time, with one thread. Its masks are compared with
those of `serving_default` in Python. A SavedModel gets JPEG files, so its time includes decoding
them; the other formats get decoded photos and resize them. Times are medians.

With ``--int8``, the table compares the int8 formats with float32: mean IoU and IoU of the border on
the test split of the release, milliseconds per photo and megabytes.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import formats
from pipeline.conversion import converter
from pipeline.core import file_formats
from pipeline.data import preprocessing
from pipeline.formats import network, photos
from pipeline.report import publish
from pipeline.saved_model import contract, smoke_test
from tests.support import Unavailable
from tests.support.clients import mlserver, node, ortjava, tfjava, web

Answers = tuple[list[NDArray[Any]], float, str]  # masks, milliseconds, version
ROUNDS = 3


def timed(ask: Callable[[Any], NDArray[Any]], given: Sequence[Any], version: str) -> Answers:
    """Asks a program in this process for one photo after the other."""
    masks, times = [], []
    for photo in given:
        ask(photo)
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            mask = ask(photo)
            times.append(1000 * (time.perf_counter() - begin))
        masks.append(mask)
    return masks, statistics.median(times), version


def saved_model(path: Path, encoded: Sequence[bytes]) -> Iterator[tuple[str, str, Answers]]:
    """The programs that load the SavedModel: name, file and answers."""
    for name, loader in (
        ("Python, its own loader", smoke_test.as_python),
        ("Python, the session loader", smoke_test.as_server),
    ):
        with loader(str(path)) as (_, ask):
            answers = timed(
                lambda photo, ask=ask: ask(contract.SERVE, [photo])[contract.MASK][0],  # type: ignore[misc]
                encoded,
                f"TensorFlow {tf.__version__}",
            )
        yield name, "SavedModel", answers
    yield from client("TensorFlow Java", "SavedModel", tfjava.ask, path, encoded)


def client(
    title: str, file: str, ask: Callable[..., Any], model: Path, given: Sequence[Any]
) -> Iterator[tuple[str, str, Answers]]:
    """A program of tests/support/clients; nothing where it cannot be had."""
    try:
        answer = ask(model, given, rounds=ROUNDS)
    except Unavailable as error:
        print(f"{title}: {error}", file=sys.stderr)
    else:
        yield title, file, (list(answer.masks), answer.milliseconds, answer.version)


def files_of(
    release: network.Release, folder: Path, pixels: Sequence[NDArray[Any]]
) -> Iterator[tuple[str, str, Answers]]:
    """The programs that load a file in another format."""
    programs = {"onnx": "onnxruntime", "litert": "ai-edge-litert", "openvino": "openvino"}
    for name, package in programs.items():
        format_ = file_formats.Format(name)
        path = folder / format_.file_name
        formats.module(format_.family).write(release, path)
        runner = formats.module(format_.family).Runner(path, threads=1)
        version = importlib.metadata.version(package)
        answers = timed(lambda photo, run=runner: run(photo[None]).mask[0], pixels, version)  # type: ignore[misc]
        yield f"{package}, Python", format_.title, answers
    path = folder / file_formats.Format("onnx").file_name
    for title, program in (
        ("ONNX Runtime for Java", ortjava),
        ("onnxruntime-node", node),
        ("onnxruntime-web, Chromium", web),
        ("MLServer, REST", mlserver),
    ):
        yield from client(title, "ONNX", program.ask, path, pixels)


def eight_bits(release: network.Release, folder: Path) -> None:
    """Prints the table of int8 formats."""
    print("| format | mean IoU | float32 | border IoU | float32 | ms | float32 | MB | float32 |")
    print("| --- " * 9 + "|")
    bench = converter.Bench(release, photos.source(release))
    for name in file_formats.NAMES:
        format_ = file_formats.Format(name)
        if not format_.int8:
            continue
        path = folder / format_.file_name
        found = converter.make(name, bench, path, force=True)
        floats = found["float"]
        cells = [format_.family.title]
        for key, digits in (("mean_iou", 4), ("border", 4), ("milliseconds", 1), ("megabytes", 1)):
            for facts in (found, floats):
                value = facts["iou"]["border"] if key == "border" else facts[key]
                cells.append(f"{value:.{digits}f}")
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output-root", type=Path, default=Path("output"))
    parser.add_argument("--photos", type=Path, help="folder of JPEG files; default: the run's")
    parser.add_argument("--count", type=int, default=40, help="photos to ask for")
    parser.add_argument("--int8", action="store_true", help="the table of int8 formats")
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    run = json.loads((args.output_root / publish.OUTCOME).read_text())
    release = network.read(Path(run["serving_dir"], str(run["in_service"])))
    print(
        f"{datetime.date.today()}, one thread of {os.cpu_count()} cores ({platform.machine()}),"
        f" load {os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}; {release.name} at"
        f" {release.size} pixels, data {release.record['data_root']}"
    )
    with tempfile.TemporaryDirectory() as folder:
        if args.int8:
            eight_bits(release, Path(folder))
            return
        paths = sorted((args.photos or Path(run["data_root"]) / "images").glob("*.jpg"))
        encoded = [path.read_bytes() for path in paths[: args.count]]
        pixels = [preprocessing.decode_image(tf.constant(photo)).numpy() for photo in encoded]
        print(f"{len(encoded)} photos of {np.mean([p.size for p in pixels]) / 3e6:.2f} megapixels")
        print("| program | version | file | pixels as in Python | ms a photo |")
        print("| --- | --- | --- | --- | --- |")
        expected = None
        for rows in (saved_model(release.path, encoded), files_of(release, Path(folder), pixels)):
            for title, file, (masks, spent, version) in rows:
                expected = masks if expected is None else expected
                equal = np.mean([np.mean(a == b) for a, b in zip(masks, expected, strict=True)])
                share = "all" if equal == 1 else f"{equal:.3%}"
                print(f"| {title} | {version} | {file} | {share} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()

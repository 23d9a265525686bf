"""Memory and time that large photos take on the page of `serve`.

    make run
    python -m benchmarks.photo_memory [--output-root output]

The page runs in its own process, started as users start it, and gets its requests over HTTP. Each
row is one request, or several concurrent ones. Memory is the peak of the process (VmHWM), which
only grows, compared with what it held after a first small photo.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import platform
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import PIL.Image

SIZES = {"0.2": (500, 375), "12": (4000, 3000), "50": (8000, 6250), "169": (13000, 13000)}


def photo(width: int, height: int, image_format: str) -> bytes:
    """A JPEG of smooth noise, progressive, which takes most memory; a PNG of one colour."""
    if image_format == "PNG":
        picture = PIL.Image.new("L", (width, height), 128)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
        picture = PIL.Image.fromarray(noise).resize((width, height))
    buffer = io.BytesIO()
    options = {"progressive": True, "subsampling": 0} if image_format == "JPEG" else {}
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


@contextlib.contextmanager
def page(model: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a page."""
    command = [sys.executable, "-m", "pipeline", "serve", "--model", str(model)]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split()[1], process.pid
        finally:
            process.send_signal(signal.SIGINT)


def ask(url: str, contents: bytes) -> int:
    """Posts a photo; the status of the response."""
    try:
        with urllib.request.urlopen(f"{url}segment", contents, timeout=600) as answer:
            answer.read()
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


def peak(process: int) -> float:
    """Most memory that a process has held, GB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-root", type=Path, default=Path("output"), metavar="DIR")
    serving = parser.parse_args().output_root / "serving"
    rows = [("JPEG", name, 1) for name in ("0.2", "12", "50")]
    rows += [("PNG", "50", 1), ("PNG", "169", 1), ("JPEG", "50", 4)]
    with page(next(serving.iterdir())) as (url, process):
        ask(url, photo(*SIZES["0.2"], "JPEG"))
        first = peak(process)
        print("| photo | megapixels | concurrent | MB | status | s | peak, GB more |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for image_format, name, count in rows:
            contents = photo(*SIZES[name], image_format)
            begin = time.monotonic()
            with futures.ThreadPoolExecutor(count) as pool:
                (status,) = set(pool.map(ask, [url] * count, [contents] * count))
            print(
                f"| {image_format} | {name} | {count} | {len(contents) / 1e6:.1f} | {status}"
                f" | {time.monotonic() - begin:.1f} | {peak(process) - first:.2f} |"
            )
    load = os.getloadavg()[0]
    today = datetime.date.today()
    print(f"\n{first:.2f} GB after a first photo; {platform.machine()}, load {load:.1f}, {today}")


if __name__ == "__main__":
    main()

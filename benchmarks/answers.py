"""Cost of a response of `serving_default` and `serving_png`: bytes over REST, and milliseconds.

    make run
    python -m benchmarks.answers [--output-root output]

Sends requests with one photo and with sixteen to the release through the session loader, as
TensorFlow Serving does. Bytes are those of the JSON that TensorFlow Serving's REST interface sends,
by its published rules. The first request of each signature is timed too: it prepares the graph,
which the warm-up requests in a release do before users send theirs.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

from pipeline.report import publish
from pipeline.saved_model import contract, smoke_test

ROUNDS = 20


def rest(answer: dict[str, NDArray[Any]]) -> int:
    """Bytes of the JSON body."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return {"b64": base64.b64encode(value).decode()}
        return value.tolist()

    count = len(next(iter(answer.values())))
    rows = [{name: plain(values[i]) for name, values in answer.items()} for i in range(count)]
    return len(json.dumps({"predictions": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output-root", type=Path, default=Path("output"))
    args = parser.parse_args()
    run = json.loads((args.output_root / publish.OUTCOME).read_text())
    paths = sorted(Path(run["data_root"], "images").iterdir())[:16]
    photos = [path.read_bytes() for path in paths]
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load"
        f" {os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}; {run['model_name']} at"
        f" {run['settings']['transform.image_size']} pixels"
    )
    print("| signature | batch | first, ms | later, ms | JSON, KB per photo |")
    print("| --- | --- | --- | --- | --- |")
    version = os.path.join(run["serving_dir"], str(run["in_service"]))
    with smoke_test.as_server(version) as (_, ask):
        for batch in (1, 16):
            given = photos[:batch]
            times: dict[str, list[float]] = {contract.SERVE: [], contract.SERVE_PNG: []}
            for _ in range(ROUNDS):
                for signature, taken in times.items():
                    begin = time.perf_counter()
                    ask(signature, given)
                    taken.append(1000 * (time.perf_counter() - begin))
            for signature, (first, *later) in times.items():
                size = rest(ask(signature, given)) / batch / 1000
                middle = statistics.median(later)
                print(f"| `{signature}` | {batch} | {first:.0f} | {middle:.1f} | {size:.1f} |")


if __name__ == "__main__":
    main()

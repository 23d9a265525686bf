"""Cost of each model: parameters, multiply-adds, images/s of inference and of training.

    python -m benchmarks.models

Inference uses one core and batches of 8; training (forward, backward, AdamW) uses all cores and
batches of 16. Each runs in its own process, because TensorFlow cannot change its threads later. The
models take turns, `--rounds` times, and the best round counts, because other work on the machine
can only slow it down. The images per second of CPU time, which such work affects less, are printed
beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from pipeline import models
from pipeline.models import _cost


def measure(name: str, size: int, seconds: float, what: str) -> dict[str, float]:
    """Images per second, and per second of CPU time, of one model in this process."""
    import numpy as np
    import tensorflow as tf

    if what == "inference":
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    batch = 8 if what == "inference" else 16
    model = models.build(name, size)
    rng = np.random.default_rng(0)
    photos = tf.constant(rng.random((batch, size, size, 3), np.float32))
    run: Callable[[], Any]
    if what == "inference":
        infer = tf.function(lambda: model(photos, training=False), autograph=False)
        run = lambda: infer().numpy()  # noqa: E731
    else:
        from pipeline.training import optimization

        masks = tf.constant(rng.integers(0, 3, (batch, size, size), np.uint8))
        model.compile(optimization.optimizer("adamw", 1e-3), optimization.loss("cross_entropy"))
        data = iter(tf.data.Dataset.from_tensors((photos, masks)).repeat())
        model.make_train_function()
        run = lambda: model.train_function(data)  # noqa: E731
    for _ in range(2):
        run()
    begin, processor, steps = time.monotonic(), time.process_time(), 0
    best = float("inf")
    while steps < 3 or time.monotonic() - begin < seconds:
        step = time.monotonic()
        run()
        best = min(best, time.monotonic() - step)
        steps += 1
    images = batch * steps
    return {
        "images_per_second": images / (time.monotonic() - begin),
        "best_step": batch / best,
        "images_per_processor_second": images / (time.process_time() - processor),
        "parameters": model.count_params(),
        "multiply_adds": _cost.multiply_adds(model),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=models.names(), help="default: all models")
    parser.add_argument("--image-size", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--measure", choices=("inference", "training"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.names[0], args.image_size, args.seconds, args.measure)))
        return

    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for what in ("inference", "training"):
            for name in args.names:
                options = [f"--measure={what}", f"--image-size={args.image_size}"]
                command = [sys.executable, "-m", "benchmarks.models", name, *options]
                command.append(f"--seconds={args.seconds}")
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                results.setdefault((name, what), []).append(json.loads(output.splitlines()[-1]))
    import keras
    import tensorflow as tf

    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}, keras {keras.__version__}, "
        f"{args.image_size} pixels; images/s (per second of CPU time)"
    )
    print(f"{'model':24}{'parameters':>12}{'mega-madds':>12}{'inference':>20}{'training':>20}")
    for name in args.names:
        row = results[name, "inference"][0]
        columns = ""
        for what in ("inference", "training"):
            rounds = results[name, what]
            wall = max(r["images_per_second"] for r in rounds)
            processor = max(r["images_per_processor_second"] for r in rounds)
            columns += f"{wall:12.1f} ({processor:5.1f})"
        print(f"{name:24}{row['parameters']:12,}{row['multiply_adds'] / 1e6:12,.0f}{columns}")


if __name__ == "__main__":
    main()

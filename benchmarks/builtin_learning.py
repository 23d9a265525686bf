"""What the default model learns from the built-in data, and how fast: the basis of builtin.yaml.

    python -m benchmarks.builtin_learning

Trains with the settings of the preset ``builtin.yaml``, on the splits that the pipeline uses and
from arrays in memory. Keeps the epoch with the best mean IoU on eval and prints the figures on
test, one row per seed. The results are quoted in builtin.yaml.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline import settings
from pipeline.core import features
from pipeline.data import synthetic
from pipeline.evaluation import metrics
from tests.support.models import accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, action="append", default=[settings.BUILTIN_CONFIG])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()

    chosen = settings.load(args.config, args.overrides)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        synthetic.generate(root)
        splits = accuracy.load_splits(
            root, chosen.transform.image_size, chosen.data.eval_share, chosen.data.test_share
        )
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}; "
        f"{ {name: len(photos) for name, (photos, _) in splits.items()} } photos\n{chosen.train}"
    )
    pixels = accuracy.class_pixels(splits[features.TEST])
    for class_id, name in enumerate(features.CLASS_NAMES):
        matrix = np.zeros([features.NUM_CLASSES] * 2)
        matrix[:, class_id] = pixels
        print(
            f"always {name}: accuracy {metrics.pixel_accuracy(matrix):.3f}, "
            f"mean IoU {metrics.mean_iou(matrix):.3f}"
        )
    print("seed  seconds  best epoch ", *accuracy.SCORES)
    for seed in args.seeds:
        begin = time.monotonic()
        seeded = settings.load(args.config, [*args.overrides, f"train.seed={seed}"])
        rows = accuracy.train(seeded, splits)
        best = max(rows, key=lambda row: row[features.EVAL]["mean_iou"])
        figures = " ".join(f"{best[features.TEST][key]:.3f}" for key in accuracy.SCORES)
        print(
            f"{seed:4d}  {time.monotonic() - begin:7.1f}  {best['epoch']:10d}  {figures}",
            flush=True,
        )


if __name__ == "__main__":
    main()

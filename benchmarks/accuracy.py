"""Accuracy by training minute: the reference model and the default model, one after the other.

    python -m benchmarks.accuracy --minutes 30

Trains each model for the same number of minutes on the train split of
``../shared/data/oxford-iiit-pet-128`` (photos scaled from 128 to 200 pixels). The split is by the
hash of the id, as in the pipeline (`pipeline.data.scan`, without a test split). After each epoch
the model is evaluated on the whole eval split, which does not count as training time. The eval
split also picks the best epoch, so its figure is slightly optimistic; the last epoch's is not. With
``--test-share 0.1``, the model is also evaluated on a third split, by which nothing is picked.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path

import keras
import tensorflow as tf

from pipeline import settings
from pipeline.core import features
from tests.support.models.accuracy import CLOCKS, CONFIGS, SCORES, line, load_splits, train

DATA = Path(__file__).parents[2] / "shared" / "data" / "oxford-iiit-pet-128"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of training, for each model")
    parser.add_argument("--data-root", type=Path, default=DATA)
    parser.add_argument("--image-size", type=int, default=200)
    parser.add_argument("--eval-share", type=float, default=0.1)
    parser.add_argument("--test-share", type=float, default=0.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--only", choices=CONFIGS)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--output", type=Path, help="JSON file for the curves")
    args = parser.parse_args()

    splits = load_splits(args.data_root, args.image_size, args.eval_share, args.test_share)
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}, keras {keras.__version__}; "
        f"{ {name: len(photos) for name, (photos, _) in splits.items()} } photos, "
        f"{args.image_size} pixels, {args.minutes:g} minutes by the {args.clock} clock"
    )
    curves = {}
    for name, files in CONFIGS.items():
        if args.only in (None, name):
            chosen = settings.load(files, args.overrides)
            print(f"{name}: {chosen.model.name}, {chosen.train}")
            print(f"epoch  minute  loss    split {' '.join(SCORES)}", flush=True)
            curves[name] = train(chosen, splits, args.minutes, args.clock)
            best = max(curves[name], key=lambda row: row[features.EVAL]["mean_iou"])
            print(f"best epoch by eval mean IoU:\n{line(best)}", flush=True)
    if args.output:
        args.output.write_text(json.dumps(curves, indent=1))


if __name__ == "__main__":
    main()

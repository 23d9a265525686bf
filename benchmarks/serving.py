"""Latency of a release's `serving_default` relative to the bare Keras model.

    make run
    python -m benchmarks.serving [--output-root output] [--photos DIR]

In each round, three ways to segment the same photos take turns, in one process and on the same
cores: the signature, from encoded photos to mask and probabilities; the Keras model alone, on
photos that were already decoded, resized and rescaled; and the Keras model with these steps, as one
would write them by hand. Prints the medians over the rounds of the times and of the ratios within a
round, which other work on the machine affects less.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline import models
from pipeline.data import preprocessing
from pipeline.report import publish
from pipeline.saved_model import contract, export

ROUNDS = {1: 40, 16: 12}  # by batch size


def ways(model_path: str, chosen: Mapping[str, Any]) -> dict[str, Callable[[list[bytes]], Any]]:
    """The three ways, each from encoded photos; `bare` prepares them when it is first called."""
    size = chosen["transform.image_size"]
    keras_model = models.build(chosen["model.name"], size, width=chosen["model.width"])
    export.load_weights(keras_model, model_path)
    loaded = tf.saved_model.load(model_path)
    serve = loaded.signatures[contract.SERVE]
    spec = tf.TensorSpec([None, size, size, 3], tf.float32)
    call = tf.function(lambda x: keras_model(x, training=False)).get_concrete_function(spec)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode(contents: tf.Tensor) -> tf.Tensor:
        pixels = preprocessing.resize_image(preprocessing.decode_image(contents), size)
        return preprocessing.rescale(pixels)

    def decoded(photos: list[bytes]) -> tf.Tensor:
        return tf.stack([decode(tf.constant(photo)) for photo in photos])

    ready: dict[int, tf.Tensor] = {}

    def bare(photos: list[bytes]) -> Any:
        if len(photos) not in ready:
            ready[len(photos)] = decoded(photos)
        return call(ready[len(photos)]).numpy()

    def signature(photos: list[bytes]) -> Any:
        answer = serve(**{contract.IMAGE_BYTES: tf.constant(photos)})
        return {key: value.numpy() for key, value in answer.items()}[contract.PROBABILITIES]

    signature.keep = loaded  # type: ignore[attr-defined]
    return {
        "serving_default": signature,
        "model": bare,
        "decode + model": lambda photos: call(decoded(photos)).numpy(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output-root", type=Path, default=Path("output"))
    parser.add_argument("--photos", type=Path, help="folder; default: those of the run")
    args = parser.parse_args()
    run = json.loads((args.output_root / publish.OUTCOME).read_text())
    folder = args.photos or Path(run["data_root"]) / "images"
    photos = [path.read_bytes() for path in sorted(folder.iterdir())[: max(ROUNDS)]]
    path = os.path.join(run["serving_dir"], str(run["in_service"]))
    each = ways(path, run["settings"])
    pixels = statistics.mean(
        int(tf.size(preprocessing.decode_image(tf.constant(photo)))) / 3e6 for photo in photos
    )
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), "
        f"{len(tf.config.list_physical_devices('GPU'))} GPUs, load {os.getloadavg()[0]:.1f}, "
        f"tensorflow {tf.__version__}, keras {keras.__version__}; "
        f"{run['model_name']} at {run['settings']['transform.image_size']} pixels, "
        f"photos of {pixels:.2f} megapixels"
    )
    print(f"{'batch':>5}{'serving_default':>18}{'model':>12}{'ratio':>8}", end="")
    print(f"{'decode + model':>17}{'ratio':>8}")
    for batch, rounds in ROUNDS.items():
        given = photos[:batch]
        answers = {way: do(given) for way, do in each.items()}
        for answer in answers.values():
            np.testing.assert_allclose(answer, answers["serving_default"], atol=0.02)
        times: dict[str, list[float]] = {way: [] for way in each}
        for _ in range(rounds):
            for way, do in each.items():
                begin = time.perf_counter()
                do(given)
                times[way].append(time.perf_counter() - begin)
        served, bare, whole = times.values()
        middle = statistics.median
        ratios = [
            middle(s / o for s, o in zip(served, other, strict=True)) for other in (bare, whole)
        ]
        ms = [1000 * middle(values) for values in (served, bare, whole)]
        print(
            f"{batch:>5}{ms[0]:>15.1f} ms{ms[1]:>9.1f} ms{ratios[0]:>8.2f}{ms[2]:>14.1f} ms"
            f"{ratios[1]:>8.2f}"
        )


if __name__ == "__main__":
    main()

"""What the reference model learns from the built-in data, and in how long: decides the defaults.

    python -m benchmarks.builtin_learning

Trains on the splits that the pipeline uses, from arrays in memory, keeps the epoch of the lowest
loss on eval, and prints the figures on test, one row a seed. Measured on 2026-11-24, compatible
stack (TensorFlow 2.16.2, Keras 3.12), two x86-64 cores which other jobs shared (hence the seconds),
109 train, 11 eval, 40 test photos; always saying "background": accuracy 0.562, mean IoU 0.187:

    seed  pixel accuracy  mean IoU  pet    background  border  seconds  best epoch
    0     0.944           0.836     0.904  0.956       0.646   282      13
    1     0.942           0.836     0.900  0.953       0.653   235      13
    2     0.945           0.844     0.901  0.956       0.674   202      15
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from pipeline import builtin_data, dataset, features, metrics, models


def load(items: list[dataset.Item], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos float32 [n, size, size, 3] in [0, 1], class ids uint8 [n, size, size]."""
    photos, masks = [], []
    for item in items:
        photo = tf.io.decode_jpeg(tf.io.read_file(item.image), channels=3)
        mask = tf.io.decode_png(tf.io.read_file(item.mask), channels=1)
        photos.append(tf.image.resize(photo, (size, size)).numpy() / 255)
        mask = tf.image.resize(mask, (size, size), method="nearest")[..., 0]
        masks.append(mask.numpy() - features.TRIMAP_OFFSET)
    return np.stack(photos), np.stack(masks)


def confusion(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pixels by true class (row) and predicted class (column), int64 [classes, classes]."""
    pairs = truth.astype(np.int64) * features.NUM_CLASSES + prediction
    return np.bincount(pairs.ravel(), minlength=features.NUM_CLASSES**2).reshape(
        features.NUM_CLASSES, features.NUM_CLASSES
    )


def train(args: argparse.Namespace, seed: int, data: dict[str, tuple]) -> dict[str, float]:
    """Trains once; returns the figures of the best epoch on test."""
    keras.utils.set_random_seed(seed)
    model = models.build(args.model, args.image_size)
    model.compile(keras.optimizers.RMSprop(args.learning_rate), "sparse_categorical_crossentropy")
    photos, masks = data[features.TRAIN]
    batches = (
        tf.data.Dataset.from_tensor_slices((photos, masks))
        .shuffle(len(photos), seed=seed)
        .batch(args.batch_size)
        .prefetch(2)
    )
    evaluation = tf.data.Dataset.from_tensor_slices(data[features.EVAL]).batch(args.batch_size)
    test_photos, test_masks = data[features.TEST]

    def score() -> tuple[float, float, np.ndarray]:
        matrix = confusion(test_masks, model.predict(test_photos, 8, verbose=0).argmax(-1))
        return metrics.pixel_accuracy(matrix), metrics.mean_iou(matrix), metrics.class_iou(matrix)

    class Trace(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if args.trace:
                accuracy, mean, ious = score()
                print(
                    f"    epoch {epoch + 1:2d}  loss {logs['loss']:.3f}  val {logs['val_loss']:.3f}"
                    f"  test acc {accuracy:.3f}  mIoU {mean:.3f}  {np.round(ious, 3)}",
                    flush=True,
                )

    with tempfile.TemporaryDirectory() as folder:
        best = os.path.join(folder, "best.weights.h5")
        keep = keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True)
        start = time.monotonic()
        history = model.fit(
            batches,
            validation_data=evaluation,
            epochs=args.epochs,
            verbose=0,
            callbacks=[keep, Trace()],
        ).history
        seconds = time.monotonic() - start
        model.load_weights(best)
    accuracy, mean, ious = score()
    return {
        "seed": seed,
        "pixel_accuracy": accuracy,
        "mean_iou": mean,
        **{name: float(iou) for name, iou in zip(features.CLASS_NAMES, ious, strict=True)},
        "seconds": seconds,
        "best_epoch": int(np.argmin(history["val_loss"])) + 1,
        "val_loss": min(history["val_loss"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="another data set; default: built-in data")
    parser.add_argument("--model", default="encoder_decoder")
    parser.add_argument("--image-size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--eval-share", type=float, default=0.125)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trace", action="store_true", help="figures on test after each epoch")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root or Path(folder, "data")
        if args.data_root is None:
            builtin_data.generate(root)
        items = dataset.scan(root, args.eval_share, test_share=0.1).items
        data = {
            split: load([item for item in items if item.split == split], args.image_size)
            for split in features.SPLITS
        }
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), "
        f"tensorflow {tf.__version__}, keras {keras.__version__}; "
        f"{ {split: len(photos) for split, (photos, _) in data.items()} }, "
        f"{args.image_size} pixels, batch {args.batch_size}, learning rate {args.learning_rate:g}, "
        f"{args.epochs} epochs"
    )
    truth = data[features.TEST][1]
    for class_id, name in enumerate(features.CLASS_NAMES):
        matrix = confusion(truth, np.full_like(truth, class_id))
        print(
            f"always {name}: pixel accuracy {metrics.pixel_accuracy(matrix):.3f}, "
            f"mean IoU {metrics.mean_iou(matrix):.3f}"
        )
    for number, seed in enumerate(args.seeds):
        row = train(args, seed, data)
        if number == 0 or args.trace:
            print("  ".join(f"{key:>14}" for key in row))
        print(
            "  ".join(
                f"{value:14d}" if isinstance(value, int) else f"{value:14.3f}"
                for value in row.values()
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()

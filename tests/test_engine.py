"""The training engine: it loses nothing, and it stops when it should."""

from __future__ import annotations

import json
import logging
import random
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.training import input_pipeline, loop, optimization
from pipeline.training.input_pipeline import Photos
from tests.support.forked import Forked
from tests.support.models import tiny_training


def weights(folder: Path) -> list[NDArray[Any]]:
    with np.load(folder / "done.npz") as file:
        return [file[name] for name in file.files]


def history(folder: Path) -> list[dict[str, float]]:
    history: list[dict[str, float]] = json.loads((folder / "history.json").read_text())
    return history


def same_but_for_time(first: list[dict[str, float]], second: list[dict[str, float]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {
            k: v for k, v in other.items() if k != "seconds"
        }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without interruption, in a process of its own."""
    folder = tmp_path_factory.mktemp("whole")
    run_alone(folder)
    return folder


def start(folder: Path, *arguments: str) -> Forked:
    """The same training in a process of its own."""
    log = folder.with_suffix(f".{time.monotonic_ns()}.log")
    return Forked(tiny_training.main, [str(folder), *arguments], log)


def run_alone(folder: Path, *arguments: str) -> None:
    code, printed = start(folder, *arguments).wait()
    assert code == 0, printed


def test_training_learns_and_keeps_its_best_epoch(whole: Path) -> None:
    rows = history(whole)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < rows[0]["loss"]
    (best,) = [row for row in rows if row["best"]]
    assert best["val_mean_iou"] == max(row["val_mean_iou"] for row in rows)
    assert 0 < rows[0]["learning_rate"] < 0.01
    assert rows[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


def test_metrics_are_those_of_the_kept_weights(whole: Path, tmp_path: Path) -> None:
    model = tiny_training.train(tmp_path)
    (best,) = [row for row in history(tmp_path) if row["best"]]
    photos = Photos([str(tmp_path / "eval")], tiny_training.SIZE, 4)
    confusion = np.zeros((3, 3))
    for images, ids in photos.in_order():
        predicted = np.argmax(model.predict(images, verbose=0), axis=-1)
        np.add.at(confusion, (ids.numpy().ravel(), predicted.ravel()), 1)
    accuracy = np.trace(confusion) / confusion.sum()
    present = confusion.sum(0) + confusion.sum(1) > 0
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    assert best["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert best["val_mean_iou"] == pytest.approx(
        np.mean(np.diag(confusion)[present] / union[present]), abs=1e-6
    )


def test_a_moving_average_does_not_change_the_training(whole: Path, tmp_path: Path) -> None:
    """What the average is taken of is trained on as if there were none."""
    tiny_training.train(tmp_path, ["train.ema=null"])
    without = [row["loss"] for row in history(tmp_path)]
    assert [row["loss"] for row in history(whole)] == pytest.approx(without, rel=1e-6)


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_with_the_same_weights(whole: Path, tmp_path: Path) -> None:
    """kill -9 anywhere, also while it writes: at most the epoch at work is lost."""
    moments = random.Random(4)
    kills = 0
    done = 0
    folder = tmp_path / "killed"
    state = folder / "state" / "state.json"
    while kills < 10:
        process = start(folder)
        # From the moment that an epoch more is done, so that each attempt gets somewhere.
        while process.poll() is None and epochs_done(state) <= done:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.kill()
        kills += 1
        assert epochs_done(state) >= done
        done = min(epochs_done(state), 4)
    assert kills >= 3
    run_alone(folder)
    same_but_for_time(history(folder), history(whole))
    for one, other in zip(weights(folder), weights(whole), strict=True):
        assert (one == other).all()


def epochs_done(state: Path) -> int:
    return json.loads(state.read_text())["epochs"] if state.exists() else 0


def test_two_devices_do_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batches, each split over the devices, lead to the same weights.

    A batch of 7 becomes one of 8, and the last one of the 18 photos has 2.
    """
    # Other optimisers divide by the size of the gradient, be it no more than rounding.
    monkeypatch.setattr(optimization, "optimizer", tiny_training.gradient_descent)
    overrides = ["train.ema=null", "train.epochs=3"]
    tiny_training.train(
        tmp_path / "one", [*overrides, "train.batch_size=8"], tiny_training.smooth_model
    )
    run_alone(tmp_path / "two", "--devices=2", *overrides, "train.batch_size=7")
    for one, two in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
    assert history(tmp_path / "two")[-1]["val_mean_iou"] == pytest.approx(
        history(tmp_path / "one")[-1]["val_mean_iou"], abs=1e-5
    )


@pytest.mark.parametrize("photos", [1, 5])
def test_fewer_photos_than_devices_are_evaluated(photos: int, tmp_path: Path) -> None:
    """A last batch of one photo, of two devices."""
    tiny_training.write_examples(tmp_path / "eval", photos, 2)
    run_alone(tmp_path, "--devices=2", "train.ema=null", "train.epochs=1")
    assert np.isfinite(history(tmp_path)[0]["val_loss"])


def test_devices_share_an_epoch_evenly(tmp_path: Path) -> None:
    """Its remainder is left out: other photos each time."""
    tiny_training.write_examples(tmp_path / "train", 18, 1)
    photos = Photos([str(tmp_path / "train")], tiny_training.SIZE, 8, devices=4)
    seen = []
    for number in (0, 1):
        batches = [images.numpy() for images, _ in photos.epoch(number, seed=1, strength=0)]
        assert [len(images) for images in batches] == [8, 8]
        seen.append({image.tobytes() for images in batches for image in images})
    assert photos.steps == 2
    assert seen[0] != seen[1]


def test_what_memory_does_not_hold_is_read_from_disk_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(tmp_path / name) for name in ("one", "two")]
    for seed, name in enumerate(files):
        tiny_training.write_examples(Path(name), 9, seed)

    def read(photos: Photos, number: int) -> list[bytes]:
        batches = photos.in_order() if number < 0 else photos.epoch(number, seed=1, strength=0)
        return [image.tobytes() for images, _ in batches for image in images.numpy()]

    held = Photos(files, tiny_training.SIZE, 4)
    monkeypatch.setattr(input_pipeline, "_CACHE_BYTES", 1000)
    read_anew = Photos(files, tiny_training.SIZE, 4)
    assert read_anew.count == held.count == 18
    assert read(read_anew, -1) == read(held, -1)
    first = read(read_anew, 0)
    assert first == read(read_anew, 0) != read(read_anew, 1)
    assert sorted(first) == sorted(read(held, 0))


def test_frozen_encoder_learns_after_the_first_epochs(tmp_path: Path) -> None:
    """Also when the training was cut off between the two phases."""
    seen = []

    class Stop(Exception):
        pass

    def build(stop_after: int = 99) -> keras.Model:
        photo = keras.Input([tiny_training.SIZE, tiny_training.SIZE, 3])
        encoder = keras.Sequential([keras.layers.Conv2D(4, 3, padding="same")], name="encoder")
        decoder = keras.layers.Conv2D(3, 3, padding="same", activation="softmax")
        model = keras.Model(photo, decoder(encoder(photo)))
        fit = model.fit

        def watch(*args: Any, initial_epoch: int, **options: Any) -> keras.callbacks.History:
            if initial_epoch >= stop_after:
                raise Stop
            encoder = model.get_layer("encoder")
            before = encoder.get_weights()
            result = fit(*args, initial_epoch=initial_epoch, **options)
            after = encoder.get_weights()
            seen.append(not all(map(np.array_equal, before, after)))
            return result

        model.fit = watch
        return model

    overrides = ["model.name=mobilenet_unet", "train.epochs=3", "train.freeze_epochs=2"]
    with pytest.raises(Stop):
        tiny_training.train(tmp_path, overrides, lambda: build(stop_after=2))
    tiny_training.train(tmp_path, overrides, build)
    assert seen == [False, False, True]


def test_finished_training_trains_no_more(whole: Path) -> None:
    before = (whole / "history.json").read_text()
    begin = time.monotonic()
    tiny_training.train(whole)
    assert (whole / "history.json").read_text() == before
    assert time.monotonic() - begin < 20


def test_stops_without_improvement(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pipeline"):
        tiny_training.train(
            tmp_path,
            ["train.epochs=40", "train.patience=2", "train.learning_rate=3", "train.ema=null"],
        )
    rows = history(tmp_path)
    best = next(row["epoch"] for row in rows if row["best"])
    assert len(rows) == best + 2 < 40
    assert f"No improvement since epoch {best:.0f}" in caplog.text


def test_time_budget_counts_all_attempts(tmp_path: Path) -> None:
    tiny_training.train(tmp_path, ["train.epochs=100000", "train.max_minutes=0.05"])
    spent = json.loads((tmp_path / "state" / "state.json").read_text())
    # On a busy machine the first epoch is the last.
    last = spent["history"][-1]["seconds"]
    assert spent["epochs"] == 1 or spent["seconds"] - last < 3
    assert spent["seconds"] + 3 * max(row["seconds"] for row in spent["history"]) > 3
    tiny_training.train(tmp_path, ["train.epochs=100000", "train.max_minutes=0.05"])
    assert len(history(tmp_path)) == spent["epochs"]


def test_loss_that_is_no_number_keeps_the_last_good_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seed_layers = loop._seed_layers

    def spoil(model: keras.Model, seed: int, epoch: int) -> None:
        seed_layers(model, seed, epoch)
        if epoch == 3:
            model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])

    monkeypatch.setattr(loop, "_seed_layers", spoil)
    with caplog.at_level(logging.INFO, "pipeline"):
        tiny_training.train(tmp_path)
    assert len(history(tmp_path)) == 3
    assert "The loss of epoch 4 is not finite. Training stops and keeps epoch" in caplog.text
    assert all(np.isfinite(w).all() for w in weights(tmp_path))


def test_loss_that_never_was_a_number_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: keras.Model, seed: int, epoch: int) -> None:
        model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])

    monkeypatch.setattr(loop, "_seed_layers", spoil)
    with pytest.raises(loop.TrainingError, match=r"smaller train\.learning_rate"):
        tiny_training.train(tmp_path)

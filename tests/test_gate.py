"""The gate: bad models are refused, whatever flatters them, and the champion is stood up to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.data import synthetic
from pipeline.release import operations
from pipeline.saved_model import export
from tests.support.runs import Run, run_locally, skip_training

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")

SIZE = 64
# The default bounds, which the settings of the small run are laxer than.
DEFAULT_GATE = (
    "gate.pixel_accuracy=0.8",
    "gate.mean_iou=0.6",
    "gate.class_iou=0.35",
    "gate.max_drop=0.01",
)


def constant(probabilities: tuple[float, float, float]) -> keras.Model:
    """Says the same of each pixel."""
    image = keras.Input([SIZE, SIZE, 3])
    logits = keras.layers.Conv2D(
        3,
        1,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(0),
        activation="softmax",
    )
    model = keras.Model(image, logits(image))
    logits.set_weights([np.zeros([1, 1, 3, 3]), np.log(np.array(probabilities) + 1e-9)])
    return model


def background_only() -> keras.Model:
    return constant((0.0, 1.0, 0.0))


def nan_weights() -> keras.Model:
    model = background_only()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    return model


def export_as(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[keras.Model], keras.Model]
) -> list[keras.Model]:
    """Lets the Trainer export another model than the one it trained; returns those exported."""
    exported = []
    save = export.save

    def save_changed(model: keras.Model, *rest: Any) -> None:
        exported.append(change(model))
        save(exported[-1], *rest)

    # Not `trainer.run_fn`: TFX reloads the module that holds the user code.
    monkeypatch.setattr(export, "save", save_changed)
    return exported


def failed_bounds(run: Run) -> set[str]:
    return {row["metric"] for row in run.outcome["gate"] if not row["held"]}


@pytest.mark.usefixtures("untrained")
def test_background_only_is_refused(fresh_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    export_as(monkeypatch, lambda _: background_only())
    before = fresh_run.versions()
    run = fresh_run.again("train.seed=1001", *DEFAULT_GATE)
    assert run.code == 0
    assert run.outcome["status"] == "not_blessed"
    assert run.outcome["pushed_version"] is None
    overall = run.outcome["metrics"]["overall"]
    assert overall["iou"] == {"pet": 0, "background": overall["pixel_accuracy"], "border": 0}
    assert {"mean_iou", "iou_pet", "iou_border"} <= failed_bounds(run)
    assert run.versions() == before


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_background_only_is_refused_on_data_that_flatters_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks that are nearly all background make it 99 % accurate."""
    data = tmp_path / "data"
    synthetic.generate(data, count=40, seed=3)
    import PIL.Image

    for path in (data / "annotations" / "trimaps").iterdir():
        trimap = np.full_like(np.asarray(PIL.Image.open(path)), 2)
        trimap[:12, :12] = 1
        trimap[:12, 12:16] = 3
        PIL.Image.fromarray(trimap).save(path)
    export_as(monkeypatch, lambda _: background_only())
    run = run_locally(data, tmp_path / "output", *DEFAULT_GATE)
    assert run.outcome["status"] == "not_blessed"
    assert run.outcome["metrics"]["overall"]["pixel_accuracy"] > 0.98
    assert failed_bounds(run) == {"mean_iou", "iou_pet", "iou_border"}


@pytest.mark.slow
def test_shuffled_outputs_are_refused(fresh_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose classes changed places, as by a wrong label map, at bounds it would hold."""
    overall = fresh_run.outcome["metrics"]["overall"]
    gate = (
        f"gate.pixel_accuracy={0.9 * overall['pixel_accuracy']}",
        f"gate.mean_iou={0.9 * overall['mean_iou']}",
    )
    sound = fresh_run.again(*gate)
    assert sound.outcome["status"] == "pushed"

    def shuffled(model: keras.Model) -> keras.Model:
        order = keras.ops.take(model.output, keras.ops.array([2, 0, 1]), axis=-1)
        return keras.Model(model.input, order)

    # The model in service, as it is but for its export.
    skip_training(monkeypatch)
    exported = export_as(monkeypatch, shuffled)
    run = fresh_run.again("train.start_from=champion", *gate)
    assert len(exported) == 1
    assert run.outcome["status"] == "not_blessed"
    assert "mean_iou" in failed_bounds(run)


@pytest.mark.usefixtures("untrained")
def test_nan_weights_are_refused_even_by_a_gate_without_bounds(
    fresh_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_as(monkeypatch, lambda _: nan_weights())
    zero = ("gate.pixel_accuracy=0", "gate.mean_iou=0", "gate.class_iou=0")
    run = fresh_run.again("train.seed=1003", *zero)
    assert run.code == 0
    assert run.outcome["status"] == "not_blessed"
    assert run.outcome["metrics"]["overall"]["mean_iou"] is None
    assert {"pixel_accuracy", "mean_iou"} <= failed_bounds(run)


@pytest.mark.usefixtures("untrained")
def test_thresholds_apply_to_each_species_if_set(
    fresh_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_as(monkeypatch, lambda _: background_only())
    run = fresh_run.again(
        "train.seed=1004", "gate.slices=[overall, species]", "gate.min_examples=1", *DEFAULT_GATE
    )
    slices = {row["slice"] for row in run.outcome["gate"] if row["kind"] == "at_least"}
    assert slices == {"overall", "species=cat", "species=dog"}
    assert ("iou_pet", "species=dog", False) in {
        (row["metric"], row["slice"], row["held"]) for row in run.outcome["gate"]
    }


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_candidate_is_compared_with_the_champion(
    fresh_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Border-only is worse than whatever was trained; the gate lets the drop pass or not."""
    in_service = fresh_run.outcome["pushed_version"]
    before = fresh_run.versions()
    worse = ("train.seed=1005", "gate.max_drop=1")
    export_as(monkeypatch, lambda _: constant((0.0, 0.0, 1.0)))
    refused = fresh_run.again("train.seed=1005", "gate.max_drop=0").outcome
    (change,) = [row for row in refused["gate"] if row["kind"] == "change"]
    assert refused["champion"] == {"version": in_service}
    assert change["value"] == pytest.approx(change["candidate"] - change["champion"], abs=1e-9)
    assert change["value"] < 0
    assert not change["held"]
    assert refused["status"] == "not_blessed"
    assert refused["in_service"] == in_service
    assert fresh_run.versions() == before

    allowed = fresh_run.again(*worse).outcome
    assert allowed["status"] == "pushed"
    assert fresh_run.versions() == [*before, allowed["pushed_version"]]

    repeated = fresh_run.again(*worse)
    assert set(repeated.states().values()) == {"cached"}
    assert repeated.versions() == [*before, allowed["pushed_version"]]

    # The former model comes back as a candidate, from the cache: it meets the one in service now.
    back = fresh_run.again()
    assert back.outcome["champion"] == {"version": allowed["pushed_version"]}
    assert back.states()["Trainer"] == "cached"
    assert back.outcome["pushed_version"] == back.versions()[-1] > allowed["pushed_version"]

    # The other was in service, too. It does not come back: it is worse than the one that is.
    forth = fresh_run.again(*worse)
    assert forth.states()["Evaluator"] == "cached"
    assert forth.outcome["status"] == "not_blessed"
    assert "does not beat the" in forth.outcome["refused"]
    assert forth.versions()[-1] == back.outcome["pushed_version"]

    # A rollback takes a model out of service: the next run meets the champion that is back, and
    # does not release what was taken back.
    folder = str(fresh_run.serving_dir)
    rolled_back = operations.rollback(folder, allowed["pushed_version"])
    again = fresh_run.again()
    assert again.outcome["champion"] == {"version": rolled_back}
    assert again.outcome["status"] == "not_blessed"
    assert "This model was withdrawn by a rollback" in again.outcome["refused"]
    assert again.outcome["in_service"] == rolled_back
    assert again.versions()[-1] == rolled_back
    same = fresh_run.again(*worse)
    assert same.outcome["status"] == "pushed"
    assert same.outcome["pushed_version"] == rolled_back
    # Not compared with what was taken back.
    assert (same.outcome["champion"] or {}).get("version") != back.outcome["pushed_version"]


@pytest.mark.usefixtures("untrained")
def test_a_champion_without_artifacts_is_compared(fresh_run: Run) -> None:
    models = fresh_run.output_root / "artifacts" / "Trainer" / "model"
    models.rename(fresh_run.output_root / "aside")
    run = fresh_run.again("train.seed=1006")
    assert run.code == 0
    assert run.outcome["champion"] == {"version": fresh_run.outcome["pushed_version"]}
    (change,) = [row for row in run.outcome["gate"] if row["kind"] == "change"]
    assert change["champion"] == fresh_run.outcome["metrics"]["overall"]["mean_iou"]

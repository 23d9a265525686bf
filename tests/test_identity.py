"""Equal models have one identity, whatever their files; other models have another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow_transform as tft

from pipeline.release import model_store
from pipeline.saved_model import contract, export, identity
from tests.support.forked import Forked
from tests.support.models.tiny_training import SIZE, tiny_model
from tests.support.programs import export_again
from tests.support.runs import Run


def transform_graph(run: Run) -> Path:
    (path,) = (run.output_root / "artifacts" / "Transform" / "transform_graph").iterdir()
    return path


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = tiny_model()
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def saved(model: keras.Model, small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    export.save(model, tft.TFTransformOutput(str(transform_graph(small_run))), SIZE, str(path))
    return path


def test_another_export_of_the_same_model_is_the_same(
    model: keras.Model, saved: Path, small_run: Run, tmp_path: Path
) -> None:
    model.save_weights(tmp_path / "m.weights.h5")
    arguments = (tmp_path / "m.weights.h5", transform_graph(small_run), tmp_path / "anew")
    log = tmp_path / "log"
    code, output = Forked(export_again.main, list(map(str, arguments)), log).wait()
    assert code == 0, output
    assert identity.of_model(str(tmp_path / "anew")) == identity.of_model(str(saved))
    assert model_store.digest(str(tmp_path / "anew")) != model_store.digest(str(saved))


def nudge_a_weight(model: keras.Model) -> keras.Model:
    changed = keras.models.clone_model(model)
    weights = model.get_weights()
    weights[0].flat[0] = np.nextafter(weights[0].flat[0], np.float32(9))
    changed.set_weights(weights)
    return changed


def swap_two_weights(model: keras.Model) -> keras.Model:
    """The same numbers, each of the same shape, elsewhere: gamma and beta."""
    changed = keras.models.clone_model(model)
    weights = model.get_weights()
    assert weights[2].shape == weights[3].shape
    weights[2], weights[3] = weights[3], weights[2]
    changed.set_weights(weights)
    return changed


def change_the_network(model: keras.Model) -> keras.Model:
    changed = keras.Model(model.input, model.output[..., ::-1])
    changed.set_weights(model.get_weights())
    return changed


@pytest.mark.parametrize("change", [nudge_a_weight, swap_two_weights, change_the_network])
def test_another_model_is_another(
    change: Callable[[keras.Model], keras.Model],
    model: keras.Model,
    saved: Path,
    small_run: Run,
    tmp_path: Path,
) -> None:
    transform = tft.TFTransformOutput(str(transform_graph(small_run)))
    export.save(change(model), transform, SIZE, str(tmp_path / "other"))
    assert identity.of_model(str(tmp_path / "other")) != identity.of_model(str(saved))


def test_other_classes_are_another_model(saved: Path, tmp_path: Path) -> None:
    before = identity.of_model(str(saved))
    facts = saved / contract.FACTS
    kept = facts.read_text()
    assert json.loads(kept)["classes"] == ["pet", "background", "border"]
    facts.write_text(kept.replace("pet", "cat"))
    try:
        assert identity.of_model(str(saved)) != before
    finally:
        facts.write_text(kept)

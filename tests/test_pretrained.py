"""The encoder of `mobilenet_unet`: weights from a file, frozen first and fine-tuned later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import models

NAME = "mobilenet_unet"
SIZE = 32


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    keras.utils.set_random_seed(7)
    return keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), include_top=False, weights=None
    )


@pytest.fixture(scope="module")
def weights_file(backbone: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    """As keras.applications publishes them, but random: without a net there are no others."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2_no_top.weights.h5"
    backbone.save_weights(path)
    return str(path)


@pytest.fixture
def pretrained(weights_file: str) -> keras.Model:
    return models.build(NAME, SIZE, weights_file)


def encoder_weights(model: keras.Model) -> list[NDArray[Any]]:
    return [np.array(w) for w in model.get_layer("encoder").get_weights()]


def see(model: keras.Model) -> None:
    """Lets the model see a batch as in training, where batch normalisation takes its means."""
    photos = np.random.default_rng(0).random((4, SIZE, SIZE, 3)).astype(np.float32)
    model(photos, training=True)


def moved(before: list[NDArray[Any]], model: keras.Model) -> bool:
    after = encoder_weights(model)
    return not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def learning(model: keras.Model) -> set[str]:
    """Paths of the encoder's weights that training changes."""
    encoder = {weight.path for weight in model.get_layer("encoder").weights}
    return {weight.path for weight in model.trainable_weights if weight.path in encoder}


def test_the_file_fills_the_encoder(pretrained: keras.Model, backbone: keras.Model) -> None:
    filled = [layer for layer in pretrained.get_layer("encoder").layers if layer.weights]
    assert len(filled) > 100
    for layer in filled:
        theirs = backbone.get_layer(layer.name).get_weights()
        for ours, their in zip(layer.get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(ours, their)


def test_the_encoder_sees_the_range_it_was_trained_on(pretrained: keras.Model) -> None:
    """keras.applications wants -1 to 1 for MobileNetV2; the pipeline's photos are 0 to 1."""
    scaled = keras.Model(pretrained.input, pretrained.get_layer("to_mobilenet").output)
    pixels = np.broadcast_to(np.array([0, 0.5, 1], np.float32), (1, SIZE, SIZE, 3))
    found = scaled.predict_on_batch(pixels)[0, 0, 0]
    expected = keras.applications.mobilenet_v2.preprocess_input(np.array([0, 127.5, 255]))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_frozen_encoder_stays_as_it_is_and_then_learns(pretrained: keras.Model) -> None:
    models.freeze_encoder(pretrained, True)
    before = encoder_weights(pretrained)
    see(pretrained)
    assert not learning(pretrained)
    assert len(pretrained.trainable_weights) > 20  # the decoder's
    assert not moved(before, pretrained)

    models.freeze_encoder(pretrained, False)
    assert {path.rpartition("/")[2] for path in learning(pretrained)} == {"kernel"}


def test_pretrained_batch_normalisation_keeps_its_means(pretrained: keras.Model) -> None:
    for frozen in (None, True, False):
        if frozen is not None:
            models.freeze_encoder(pretrained, frozen)
        before = encoder_weights(pretrained)
        see(pretrained)
        assert not moved(before, pretrained)


def test_without_weights_everything_learns() -> None:
    model = models.build(NAME, SIZE)
    before = encoder_weights(model)
    see(model)
    assert moved(before, model)
    assert {path.rpartition("/")[2] for path in learning(model)} == {"kernel", "gamma", "beta"}


def test_weights_that_cannot_be_loaded_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Cannot load the encoder weights .*missing"):
        models.build(NAME, SIZE, str(tmp_path / "missing.weights.h5"))
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(ValueError, match=r"Cannot load the encoder weights .*other"):
        models.build(NAME, SIZE, str(other))


def test_models_without_an_encoder_say_so(weights_file: str) -> None:
    with pytest.raises(ValueError, match="'encoder_decoder' has no pretrained encoder"):
        models.build("encoder_decoder", SIZE, weights_file)
    with pytest.raises(ValueError, match="no pretrained encoder to freeze"):
        models.freeze_encoder(models.build("encoder_decoder", SIZE), True)

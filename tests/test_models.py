"""The model registry, and the reference model of the design brief."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline import models
from pipeline.models._cost import multiply_adds
from pipeline.training import optimization
from tests.support.runs import ROOT

NAMES = models.names()
REFERENCE = "encoder_decoder"
# Layer by layer, from the first convolution to the softmax.
PARAMETERS = [
    *(1792, 36928, 73856, 147584, 295168, 590080),
    *(590080, 590080, 295040, 147584, 73792, 36928),
    1731,
]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    return models.build(REFERENCE, 200)


def test_reference_has_the_parameters_of_the_brief(reference: keras.Model) -> None:
    assert [layer.count_params() for layer in reference.layers if layer.weights] == PARAMETERS
    assert reference.count_params() == 2_880_643


def test_reference_starts_with_its_first_convolution(reference: keras.Model) -> None:
    """No Rescaling layer: Transform has brought the pixels to [0, 1] already."""
    kinds = [type(layer).__name__ for layer in reference.layers]
    assert kinds == ["InputLayer"] + ["Conv2D"] * 6 + ["Conv2DTranspose"] * 6 + ["Conv2D"]
    assert reference.input_shape == (None, 200, 200, 3)
    strides = [layer.strides for layer in reference.layers if layer.weights]
    assert strides == [(s, s) for s in (2, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 2, 1)]


@pytest.mark.parametrize("size", [32, 104])
@pytest.mark.parametrize("name", NAMES)
def test_output_is_a_probability_for_every_pixel_and_class(name: str, size: int) -> None:
    """Sides that halve without a rest, and one that does not: 104, 52, 26, 13, 7."""
    photos = np.random.default_rng(0).random((2, size, size, 3), np.float32)
    probabilities = models.build(name, size).predict_on_batch(photos)
    assert probabilities.shape == (2, size, size, 3)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_tells_what_the_model_costs(name: str) -> None:
    model = models.build(name, 200)
    words = " ".join((importlib.import_module(f"pipeline.models.{name}").__doc__ or "").split())
    assert f"{model.count_params():,} parameters" in words
    assert f"{multiply_adds(model) / 1e6:,.0f} million multiply-adds" in words


def test_multiply_adds_are_counted_by_hand() -> None:
    photo = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(photo)  # 6 * 6 * 27 * 8
    x = keras.layers.SeparableConv2D(16, 3, padding="same")(x)  # 6 * 6 * 8 * (9 + 16)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)  # 6 * 6 * 9 * 16
    x = keras.layers.Conv2DTranspose(2, 3, strides=2, padding="same")(x)  # 6 * 6 * 9 * 16 * 2
    assert multiply_adds(keras.Model(photo, x)) == 36 * (216 + 200 + 144 + 288)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_still_answers_in_float32(name: str) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(name, 32)
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.predict_on_batch(np.ones((1, 32, 32, 3), np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns(name: str) -> None:
    model = models.build(name, 32)
    rng = np.random.default_rng(0)
    photos = rng.random((2, 32, 32, 3), np.float32)
    masks = rng.integers(0, 3, (2, 32, 32)).astype(np.uint8)
    with tf.GradientTape() as tape:
        loss = optimization.loss("cross_entropy")(masks, model(photos, training=True))
    variables = [weight.value for weight in model.trainable_weights]
    for weight, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, weight.name
        assert np.isfinite(gradient).all(), weight.name


@pytest.mark.parametrize(
    ("size", "advice"),
    [(100, "96 or 104"), (201, "200 or 208"), (5, "8"), (0, "8"), (-16, "8")],
)
def test_refused_sizes_name_the_nearest_good_ones(size: int, advice: str) -> None:
    with pytest.raises(ValueError, match=f"image size {size}; .*multiple of 8.* {advice}[.]$"):
        models.check_image_size(REFERENCE, size)
    with pytest.raises(ValueError, match="multiple of 8"):
        models.build(REFERENCE, size)


def test_a_too_small_size_gets_the_minimum_as_advice() -> None:
    with pytest.raises(ValueError, match=r"image size 24; .* 32[.]$"):
        models.check_image_size("mobilenet_unet", 24)
    models.check_image_size("mobilenet_unet", 32)


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no model 'unet9'.*encoder_decoder"):
        models.build("unet9", 200)
    with pytest.raises(ValueError, match="encoder_decoder"):
        models.check_image_size("unet9", 200)


def test_a_new_file_is_a_new_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.py").write_text(
        "SIZE_MULTIPLE = 3\ndef build(size):\n    return f'tiny {size}'\n"
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "pipeline.models.tiny", raising=False)
    assert models.names() == tuple(sorted([*NAMES, "tiny"]))
    assert models.build("tiny", 9) == "tiny 9"
    with pytest.raises(ValueError, match="multiple of 3"):
        models.build("tiny", 10)


def test_checking_settings_loads_no_tensorflow() -> None:
    probe = ["tests.support.programs.loaded", "tests.support.programs.image_sizes", "200"]
    done = subprocess.run([sys.executable, "-m", *probe], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if models.scalable(name)])
def test_a_width_multiplies_the_channels(name: str) -> None:
    whole, narrow = models.build(name, 32), models.build(name, 32, width=0.5)
    assert 0.2 < narrow.count_params() / whole.count_params() < 0.5
    assert narrow.output_shape == whole.output_shape


def test_a_width_that_a_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="'mobilenet_unet' cannot be scaled"):
        models.build("mobilenet_unet", 32, width=0.5)

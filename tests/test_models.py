"""The model registry, and the reference model of the design brief."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pipeline import models

REFERENCE = "encoder_decoder"
# Layer by layer, from the first convolution to the softmax.
PARAMETERS = [
    *(1792, 36928, 73856, 147584, 295168, 590080),
    *(590080, 590080, 295040, 147584, 73792, 36928),
    1731,
]


@pytest.fixture(scope="module")
def reference():
    return models.build(REFERENCE, 200)


def test_reference_has_the_parameters_of_the_brief(reference):
    assert [layer.count_params() for layer in reference.layers if layer.weights] == PARAMETERS
    assert reference.count_params() == 2_880_643


def test_reference_starts_with_its_first_convolution(reference):
    """No Rescaling layer: Transform has brought the pixels to [0, 1] already."""
    kinds = [type(layer).__name__ for layer in reference.layers]
    assert kinds == ["InputLayer"] + ["Conv2D"] * 6 + ["Conv2DTranspose"] * 6 + ["Conv2D"]
    assert reference.input_shape == (None, 200, 200, 3)
    strides = [layer.strides for layer in reference.layers if layer.weights]
    assert strides == [(s, s) for s in (2, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 2, 1)]


@pytest.mark.parametrize("size", [8, 64, 104])
def test_output_is_a_probability_for_every_pixel_and_class(size):
    photos = np.random.default_rng(0).random((2, size, size, 3), np.float32)
    probabilities = models.build(REFERENCE, size).predict_on_batch(photos)
    assert probabilities.shape == (2, size, size, 3)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "advice"),
    [(100, "96 or 104"), (201, "200 or 208"), (5, "8"), (0, "8"), (-16, "8")],
)
def test_refused_sizes_name_the_nearest_good_ones(size, advice):
    with pytest.raises(ValueError, match=f"image size {size}: .*multiple of 8.* {advice}[.]$"):
        models.check_image_size(REFERENCE, size)
    with pytest.raises(ValueError, match="multiple of 8"):
        models.build(REFERENCE, size)


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no model 'unet9'.*encoder_decoder"):
        models.build("unet9", 200)
    with pytest.raises(ValueError, match="encoder_decoder"):
        models.check_image_size("unet9", 200)


def test_a_new_file_is_a_new_model(tmp_path, monkeypatch):
    (tmp_path / "tiny.py").write_text(
        "SIZE_MULTIPLE = 3\ndef build(size):\n    return f'tiny {size}'\n"
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "pipeline.models.tiny", raising=False)
    assert models.names() == ("encoder_decoder", "tiny")
    assert models.build("tiny", 9) == "tiny 9"
    with pytest.raises(ValueError, match="multiple of 3"):
        models.build("tiny", 10)


def test_checking_settings_loads_no_tensorflow():
    code = (
        "import sys; from pipeline import models; models.names();"
        f"models.check_image_size({REFERENCE!r}, 200);"
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

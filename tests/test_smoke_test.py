"""A broken export never becomes a version, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tfx.utils import io_utils

from pipeline.saved_model import contract, smoke_test
from tests.support.runs import Run

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]
SIZE = 8
OURS, OTHER = (
    tf.io.encode_png(tf.fill([SIZE, SIZE, 1], tf.constant(value, tf.uint8))).numpy()
    for value in (1, 2)
)
JPEG = tf.io.encode_jpeg(tf.zeros([8, 8, 3], tf.uint8)).numpy()


def save(path: Path, answer: Answer, signature: str = "serving_default") -> str:
    """Saves a model that answers each batch of encoded photos with that."""
    module = tf.Module()
    module.weight = tf.Variable(tf.ones([100]))
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    module.serve = tf.function(answer).get_concrete_function(spec)
    tf.saved_model.save(module, str(path), signatures={signature: module.serve})
    return str(path)


def sound(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    heights = tf.map_fn(
        lambda photo: tf.shape(tf.io.decode_jpeg(photo))[0],
        image_bytes,
        fn_output_signature=tf.int32,
    )
    batch = tf.shape(heights)[0]
    mask = tf.ones([batch, SIZE, SIZE], tf.uint8)
    pixel = tf.constant([0.2, 0.5, 0.3])
    return {"mask": mask, "probabilities": tf.ones([batch, SIZE, SIZE, 1]) * pixel}


def changed(**parts: Callable[[tf.Tensor], tf.Tensor]) -> Answer:
    def answer(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        whole = sound(image_bytes)
        return {name: parts.get(name, tf.identity)(value) for name, value in whole.items()}

    return answer


def test_sound_model_passes_in_a_fresh_process(tmp_path: Path) -> None:
    smoke_test.check(save(tmp_path / "m", sound))


def test_truncated_model_is_refused_in_a_fresh_process(tmp_path: Path) -> None:
    model = save(tmp_path / "m", sound)
    data = next((tmp_path / "m" / "variables").glob("*.data*"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(smoke_test.BrokenModelError, match="because a server cannot load") as error:
        smoke_test.check(model)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (changed(probabilities=lambda p: p * float("nan")), "not finite"),
        (changed(probabilities=lambda p: p * 2), "do not add up to 1"),
        (changed(probabilities=lambda p: p[..., :2]), "not float32 (1, 8, 8, 3)"),
        (changed(mask=lambda m: m[:1], probabilities=lambda p: p[:1]), "not uint8 [3, s, s]"),
        (lambda image_bytes: sound(tf.fill(tf.shape(image_bytes), JPEG)), "does not reject"),
        (changed(mask=lambda m: m + 1), "does not contain the most probable"),
        (changed(mask=lambda m: tf.cast(m, tf.int64)), "mask int64"),
        (lambda image_bytes: {"scores": tf.shape(image_bytes)}, "KeyError"),
    ],
)
def test_wrong_answer_is_named(tmp_path: Path, answer: Answer, fault: str) -> None:
    assert fault in str(smoke_test.fault(save(tmp_path / "m", answer)))
    assert smoke_test.fault(save(tmp_path / "sound", sound)) is None


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"mask_png_bytes": lambda files: files[::-1]}, "`valid` is wrong"),
        ({"valid": tf.ones_like}, "`valid` is wrong"),
        ({"mask_png_bytes": lambda files: tf.where(files == b"", b"", OTHER)}, "different masks"),
    ],
)
def test_wrong_png_answer_is_named(
    tmp_path: Path, wrong: dict[str, Callable[[tf.Tensor], tf.Tensor]], fault: str
) -> None:
    def save(path: Path, wrong: dict[str, Callable[[tf.Tensor], tf.Tensor]]) -> str:
        def png(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            valid = tf.strings.length(image_bytes) > 100
            answer = {"mask_png_bytes": tf.where(valid, OURS, b""), "valid": valid}
            return {name: wrong.get(name, tf.identity)(value) for name, value in answer.items()}

        spec = [tf.TensorSpec([None], tf.string, "image_bytes")]
        signatures = {
            "serving_default": tf.function(sound, spec),
            "serving_png": tf.function(png, spec),
        }
        tf.saved_model.save(tf.Module(), str(path), signatures=signatures)
        return str(path)

    assert fault in str(smoke_test.fault(save(tmp_path / "m", wrong)))
    assert smoke_test.fault(save(tmp_path / "sound", {})) is None


def test_a_model_that_only_python_can_run_is_refused(tmp_path: Path) -> None:
    """A Keras 3 model in the module: its variables are restored into copies by servers."""
    layer = keras.layers.Dense(3, activation="softmax")
    layer.build([None, 1])

    def answer(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.shape(sound(image_bytes)["mask"])[0]
        probabilities = layer(tf.ones([batch * SIZE * SIZE, 1]))
        probabilities = tf.reshape(probabilities, [batch, SIZE, SIZE, 3])
        mask = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {"mask": mask, "probabilities": probabilities}

    def save(path: Path, tracked: object) -> str:
        module = tf.Module()
        module.tracked = tracked
        spec = [tf.TensorSpec([None], tf.string, "image_bytes")]
        tf.saved_model.save(module, str(path), signatures=tf.function(answer, spec))
        return str(path)

    broken = save(tmp_path / "broken", layer)
    assert "a server cannot load and query it" in str(smoke_test.fault(broken))
    assert "Could not find variable" in str(smoke_test.fault(broken))
    assert "no server can run it" in str(contract.unservable(broken))
    mended = save(tmp_path / "mended", [variable.value for variable in layer.weights])
    assert smoke_test.fault(mended) is None
    assert contract.unservable(mended) is None


def test_other_signature_is_named(tmp_path: Path) -> None:
    model = save(tmp_path / "m", sound, signature="serve")
    assert "no signature serving_default" in str(smoke_test.fault(model))


def test_copy_that_was_cut_short_is_never_seen(
    fresh_run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for version in fresh_run.serving_dir.iterdir():
        version.rename(fresh_run.output_root / f"gone-{version.name}")
    copy = io_utils.copy_dir

    def cut_short(source: str, target: str) -> None:
        copy(source, target)
        data = next(Path(target, "variables").glob("*.data*"))
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])

    with monkeypatch.context() as patch:
        patch.setattr(io_utils, "copy_dir", cut_short)
        broken = fresh_run.again()
    assert broken.code == 1
    assert broken.outcome["status"] == "failed"
    assert broken.outcome["error"].startswith("Pusher failed: BrokenModelError: ")
    assert broken.versions() == []
    assert "Traceback" not in capfd.readouterr().err
    assert fresh_run.again().outcome["status"] == "pushed"

"""A broken export never becomes a version, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import Run

from pipeline import canary, serving

in_fresh_process = canary.check  # before conftest puts a quicker one in its place
Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]
SIZE = 8


def save(path: Path, answer: Answer, signature: str = "serving_default") -> str:
    """Saves a model that answers each batch of encoded photos with that."""
    module = tf.Module()
    module.weight = tf.Variable(tf.ones([100]))
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    module.serve = tf.function(answer).get_concrete_function(spec)
    tf.saved_model.save(module, str(path), signatures={signature: module.serve})
    return str(path)


def sound(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    batch = tf.shape(image_bytes)[0]
    mask = tf.ones([batch, SIZE, SIZE], tf.uint8)
    pixel = tf.constant([0.2, 0.5, 0.3])
    return {"mask": mask, "probabilities": tf.ones([batch, SIZE, SIZE, 1]) * pixel}


def changed(**parts: Callable[[tf.Tensor], tf.Tensor]) -> Answer:
    def answer(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        whole = sound(image_bytes)
        return {name: parts.get(name, tf.identity)(value) for name, value in whole.items()}

    return answer


def test_sound_model_passes_in_a_fresh_process(tmp_path: Path) -> None:
    in_fresh_process(save(tmp_path / "m", sound))


def test_truncated_model_is_refused_in_a_fresh_process(tmp_path: Path) -> None:
    model = save(tmp_path / "m", sound)
    data = next((tmp_path / "m" / "variables").glob("*.data*"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(canary.BrokenModelError, match="since it cannot be loaded") as error:
        in_fresh_process(model)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (changed(probabilities=lambda p: p * float("nan")), "not finite"),
        (changed(probabilities=lambda p: p * 2), "do not add up to 1"),
        (changed(probabilities=lambda p: p[..., :2]), "not float32 (1, 8, 8, 3)"),
        (changed(mask=lambda m: m + 1), "does not hold the most probable"),
        (changed(mask=lambda m: tf.cast(m, tf.int64)), "mask int64"),
        (lambda image_bytes: {"scores": tf.shape(image_bytes)}, "KeyError"),
    ],
)
def test_wrong_answer_is_named(tmp_path: Path, answer: Answer, fault: str) -> None:
    assert fault in str(canary.fault(save(tmp_path / "m", answer)))
    assert canary.fault(save(tmp_path / "sound", sound)) is None


def test_other_signature_is_named(tmp_path: Path) -> None:
    assert "KeyError" in str(canary.fault(save(tmp_path / "m", sound, signature="serve")))


def test_copy_that_was_cut_short_is_never_seen(
    playground: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for version in playground.serving_dir.iterdir():
        version.rename(playground.output_root / f"gone-{version.name}")
    copy = serving.io_utils.copy_dir

    def cut_short(source: str, target: str) -> None:
        copy(source, target)
        data = next(Path(target, "variables").glob("*.data*"))
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])

    with monkeypatch.context() as patch:
        patch.setattr(serving.io_utils, "copy_dir", cut_short)
        broken = playground.again()
    assert broken.code == 1
    assert broken.outcome["status"] == "failed"
    assert broken.outcome["error"].startswith("Pusher failed: BrokenModelError: ")
    assert broken.versions() == []
    assert "Traceback" not in capfd.readouterr().err
    assert playground.again().outcome["status"] == "pushed"

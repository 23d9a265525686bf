"""A champion that no longer fits: said in a sentence, in every place, and never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components import champion
from pipeline.artifacts import comparison, pushed_model
from pipeline.saved_model import contract
from tests.support.runs import Run


def save(path: Path, size: int = 8, classes: int = 3, counts: bool = True) -> Path:
    """A model with the signatures of the contract, in other measures."""
    module = tf.Module()
    module.weights = tf.Variable(tf.ones([1000]))
    strings = tf.TensorSpec([None], tf.string)

    @tf.function(input_signature=[strings])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        photos = tf.shape(image_bytes)[0]
        return {
            "mask": tf.zeros([photos, size, size], tf.uint8),
            "probabilities": tf.ones([photos, size, size, classes]) * module.weights[0],
        }

    @tf.function(input_signature=[strings])
    def evaluate(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"confusion": tf.ones([tf.shape(examples)[0], classes**2])}

    signatures = {"serving_default": serve} | ({"evaluate": evaluate} if counts else {})
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def release_of(path: Path) -> standard_artifacts.PushedModel:
    artifact = standard_artifacts.PushedModel()
    artifact.set_string_custom_property(pushed_model.DESTINATION, str(path))
    artifact.set_string_custom_property(pushed_model.VERSION, path.name)
    return artifact


def damage(path: Path) -> None:
    data = next((path / "variables").glob("*.data*"))
    data.write_bytes(data.read_bytes()[:500])


def name_other_classes(path: Path) -> None:
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "release.json").write_text('{"classes": ["cat", "dog", "edge"]}')


def test_champion_is_the_newest_release_to_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that serves elsewhere, such as one of another architecture, is none to compare."""
    monkeypatch.chdir(tmp_path)
    here, older, elsewhere, candidate = (standard_artifacts.Model() for _ in range(4))
    releases = []
    for number, (model, path) in enumerate(
        [(here, "serving/a/7"), (older, "serving/a/5"), (elsewhere, "serving/b/9")], start=1
    ):
        model.id, model.uri = number, f"model/{number}"
        release = release_of(Path(path))
        release.id = 10 + number  # the older version was noted later
        release.set_int_custom_property(pushed_model.PUSHED, 1)
        release.set_int_custom_property(pushed_model.MODEL_ID, number)
        releases.append(release)
    candidate.id = 4
    inputs = {
        "candidate": [candidate],
        "model": [here, older, elsewhere, candidate],
        "pushed_model": releases,
        "withdrawn": releases,
    }
    for folder, version in (("serving/a", "7"), ("serving/b/", "9"), ("serving/c", None)):
        found = champion.ChampionStrategy(folder).resolve_artifacts(None, inputs)
        versions = [
            r.get_string_custom_property(pushed_model.VERSION) for r in found["pushed_model"]
        ]
        assert versions == ([version] if version else [])


@pytest.mark.parametrize(
    ("measures", "spoil", "words"),
    [
        ({"counts": False}, None, "it has no signature 'evaluate' (it has: serving_default)"),
        ({"classes": 2}, None, "its output probabilities is float32 [-1, 8, 8, 2]"),
        ({}, damage, "it is damaged ("),
        ({}, name_other_classes, "its classes are cat, dog, edge, not pet, background, border"),
    ],
)
def test_misfit_is_named(
    tmp_path: Path, measures: dict[str, Any], spoil: Callable[[Path], None] | None, words: str
) -> None:
    path = save(tmp_path / "7", **measures)
    if spoil:
        spoil(path)
    release = release_of(path)
    assert words in str(comparison.incompatibility(release, str(path)))
    sentence = str(comparison.note(release, None, None))
    assert sentence.startswith("Version 7 could not be used for the comparison, because it")
    assert sentence.count("\n") == 0


def test_a_champion_of_another_size_is_compared_and_noted(tmp_path: Path) -> None:
    """The confusion matrix alone is enough to be compared."""
    path = save(tmp_path / "7", size=16)
    release = release_of(path)
    assert comparison.incompatibility(release, str(path)) is None
    assert comparison.note(release, str(path), str(save(tmp_path / "same", size=16))) is None
    assert comparison.note(release, str(path), str(save(tmp_path / "other"))) == (
        "Version 7 makes masks of 16x16 pixels, the candidate makes masks of 8x8 pixels. Each was "
        "evaluated at its own size."
    )


def test_a_change_of_exif_handling_is_noted(tmp_path: Path) -> None:
    path = str(save(tmp_path / "7"))
    release = release_of(Path(path))
    candidate = Path(save(tmp_path / "other"))
    assert comparison.note(release, path, str(candidate)) is None
    (candidate / contract.FACTS).parent.mkdir(exist_ok=True)
    (candidate / contract.FACTS).write_text('{"exif": "apply"}')
    assert str(comparison.note(release, path, str(candidate))).startswith(
        "Version 7 was trained with data.exif=as_stored, the candidate with data.exif=apply. "
    )


@pytest.mark.usefixtures("untrained")
def test_an_incompatible_champion_is_not_compared(
    fresh_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    version = fresh_run.outcome["pushed_version"]
    path = fresh_run.released() / "assets.extra" / "release.json"
    record = json.loads(path.read_text())
    assert record["classes"] == ["pet", "background", "border"]
    path.write_text(json.dumps({**record, "classes": ["cat", "dog"]}))
    run = fresh_run.again("train.seed=1008", "gate.mean_iou=1")
    note = (
        f"Version {version} could not be used for the comparison, because its classes are cat, "
        "dog, not pet, background, border. Only the absolute thresholds applied to the candidate."
    )
    assert run.code == 0
    assert run.outcome["champion"] == {"version": version, "note": note}
    assert {row["kind"] for row in run.outcome["gate"]} == {"at_least"}
    assert run.outcome["status"] == "not_blessed"
    assert note in capfd.readouterr().out.replace("\n", "")
    assert note in (run.output_root / "report.html").read_text()

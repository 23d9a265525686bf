"""A batch of photos that differ from those of the last release: named, and stopped if so wished."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tfx.types import Artifact, standard_artifacts

from components.champion import ReleasedDataStrategy
from pipeline.artifacts import pushed_model
from pipeline.core import features
from pipeline.data import appearance
from tests.support.runs import Run, run_locally


def darken(batch: Path) -> None:
    for path in (batch / "images").iterdir():
        PIL.Image.open(path).point(lambda value: value // 4).save(path)


def rename_to_one_breed(batch: Path) -> None:
    """The new breed is in no release, which by itself is no fault."""
    photos = sorted((batch / "images").iterdir())
    new = {photo.stem: f"Newcomer_{number}" for number, photo in enumerate(photos)}
    for photo in photos:
        mask = batch / "annotations" / "trimaps" / f"{photo.stem}.png"
        for path in (photo, mask):
            path.rename(path.with_stem(new[path.stem]))
    for path in (batch / "annotations").glob("*.txt"):
        lines = [line.partition(" ") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{new.get(id_, id_)} {rest}\n" for id_, _, rest in lines))


@pytest.fixture
def batch(small_data: Path, tmp_path: Path) -> Path:
    """A copy of the small data to change."""
    return Path(shutil.copytree(small_data, tmp_path / "batch"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (darken, {features.BRIGHTNESS, features.SHARPNESS, *features.COLOURS}),
        (rename_to_one_breed, {features.BREED}),
    ],
    ids=["dark", "one breed"],
)
def test_a_drifted_batch_is_named_and_stopped(
    change: Callable[[Path], None],
    expected: set[str],
    batch: Path,
    fresh_run: Run,
    capfd: pytest.CaptureFixture[str],
) -> None:
    change(batch)
    run = run_locally(batch, fresh_run.output_root, "data.drift=stop")
    assert run.code == 2
    assert run.states()["DataGate"] == "failed"
    drift = run.outcome["data"]["drift"]
    assert drift["against"] == fresh_run.outcome["in_service"]
    names = {row["feature"] for row in drift["features"]}
    assert names == {*features.DRIFT_NAMES, *features.DRIFT_NUMBERS}
    drifted = {row["feature"]: row["distance"] for row in drift["features"] if row["drifted"]}
    assert set(drifted) == expected
    output = capfd.readouterr()
    page = (run.output_root / "report.html").read_text()
    for feature, distance in drifted.items():
        assert 0.3 < distance <= 1
        assert f"{feature} by {distance:.2f}" in run.outcome["error"]
        assert f"{feature}: distance {distance:.2f}, above" in output.out
        assert f'✗ drifted</td><th scope="row">{feature}</th>' in page


@pytest.mark.usefixtures("no_training")
def test_drift_can_warn_or_be_off(
    batch: Path, fresh_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    darken(batch)
    warned = run_locally(batch, fresh_run.output_root)
    assert warned.states()["Transform"] == "executed"
    assert any(row["drifted"] for row in warned.outcome["data"]["drift"]["features"])
    assert "The photos have drifted from the training data of version" in capfd.readouterr().out
    again = warned.again("data.drift_bound=1")
    assert again.states()["DriftValidator"] == "executed"
    assert not any(row["drifted"] for row in again.outcome["data"]["drift"]["features"])
    off = warned.again("data.drift=off")
    assert off.outcome["data"]["drift"]["features"] == []
    assert off.states()["Transform"] == "cached"


def test_breeds_are_held_to_a_list_only_where_one_is_given(
    small_data: Path, tmp_path: Path
) -> None:
    run = run_locally(small_data, tmp_path / "output", "data.breeds=[Rosette, Tuxedo]")
    assert run.code == 2
    assert "does not match the schema: breed: " in run.outcome["error"]
    assert "Marmalade" in run.outcome["error"]


def test_how_a_photo_looks() -> None:
    for height, width in ((256, 512), (1280, 128)):
        photo = np.zeros([height, width, 3], np.uint8)
        photo[:, width // 2 :] = 255
        looks = appearance.measure(photo)
        assert looks[features.BRIGHTNESS] == pytest.approx(0.5)
        assert looks[features.SHARPNESS] == pytest.approx(1 / 254)
        photo[..., 2] = 51
        colours = [appearance.measure(photo)[name] for name in features.COLOURS]
        assert colours == pytest.approx([0.5, 0.5, 0.2])


def made(kind: type[Artifact], number: int, **properties: int) -> Artifact:
    artifact = kind()
    artifact.id = number
    for name, value in properties.items():
        artifact.set_int_custom_property(name, value)
    return artifact


def released(number: int, statistics: int, **more: int) -> Artifact:
    properties = {pushed_model.PUSHED: 1, pushed_model.STATISTICS_ID: statistics, **more}
    release = made(standard_artifacts.PushedModel, number, **properties)
    release.set_string_custom_property(pushed_model.VERSION, str(number))
    release.set_string_custom_property(pushed_model.DESTINATION, f"serving/pets/{number}")
    return release


@pytest.mark.parametrize(
    ("releases", "expected"),
    [
        ([], None),
        ([released(10, 1)], (10, 1)),
        ([released(10, 1), released(11, 2)], (11, 2)),
        # Of the same data, so a run that is repeated is compared as it was the first time.
        ([released(10, 1), released(11, 2), released(12, 3)], (11, 2)),
        ([released(10, 1), released(11, 2, withdrawn=1)], (10, 1)),
        ([released(10, 1), released(11, 2, pushed=0)], (10, 1)),
        # Its statistics are cleaned away: an older release is not in service.
        ([released(10, 1), released(11, 4)], None),
        ([released(10, 1), released(11, 0)], None),
    ],
)
def test_data_is_compared_with_that_of_the_release_in_service(
    releases: list[Artifact], expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    known = [made(standard_artifacts.ExampleStatistics, number) for number in (1, 2, 3, 4)]
    for artifact in known:
        artifact.uri = str(tmp_path / str(artifact.id))
    for artifact in known[:3]:
        Path(artifact.uri).mkdir()
    inputs = {"statistics": [known[2]], "released": known, "pushed_model": releases}
    found = ReleasedDataStrategy("serving/pets").resolve_artifacts(None, inputs)
    ids = [[artifact.id for artifact in found[key]] for key in ("pushed_model", "released")]
    assert ids == ([[number] for number in expected] if expected else [[], []])

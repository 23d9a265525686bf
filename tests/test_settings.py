"""Settings: defaults < YAML file < --set, and one sentence for whatever is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline import settings
from pipeline.errors import UserError


def test_defaults_are_those_for_real_data() -> None:
    chosen = settings.load()
    assert (chosen.gate.pixel_accuracy, chosen.gate.mean_iou, chosen.gate.class_iou) == (
        0.80,
        0.60,
        0.35,
    )
    assert chosen.transform.image_size == 200
    assert chosen.train.epochs == 50
    assert chosen.train.batch_size == "auto"
    assert chosen.data.max_quarantined == 0.01


def test_later_sources_are_stronger(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("train: {epochs: 2, seed: 7}\nbeam:\n")
    second.write_text("train: {epochs: 3}\n")
    chosen = settings.load([first, second], ["train.batch_size=4", "train.batch_size=8"])
    assert (chosen.train.epochs, chosen.train.seed, chosen.train.batch_size) == (3, 7, 8)


@pytest.mark.parametrize("name", ["builtin", "sample", "full_gpu"])
def test_shipped_configs_load(name: str) -> None:
    settings.load([settings.BUILTIN_CONFIG.with_name(f"{name}.yaml")])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.epoch=3", "Unknown setting 'train.epoch' in --set; did you mean 'train.epochs'?"),
        ("epochs=3", "Unknown setting 'epochs' in --set; did you mean 'train.epochs'?"),
        ("zzz.qqq=3", "Unknown setting 'zzz.qqq' in --set; --help lists all settings."),
        ("train.epochs", "--set takes KEY=VALUE, but got 'train.epochs'."),
        ("train.epochs=0", "Setting 'train.epochs' is 0 (from --set)"),
        ("train.epochs=many", "Setting 'train.epochs' is 'many' (from --set)"),
        ("train.epochs=[", "--set train.epochs has the value '[', which is not valid YAML."),
        ("model.encoder_weights=2026-13-01", "the value '2026-13-01', which is not valid YAML."),
        ("train.batch_size=0", "Setting 'train.batch_size' is 0 (from --set); must be at least 1."),
        ("train.max_minutes=.nan", "Setting 'train.max_minutes' is nan (from --set)"),
        ("gate.slices=[]", "Setting 'gate.slices' is [] (from --set)"),
        ("tune.augmentations=[0, 2]", "Setting 'tune.augmentations' is 2 (from --set)"),
        ("tune.learning_rates=[1, 0.1]", "must begin with the least."),
        ("tune.learning_rates=[1]", "should have at least 2 items"),
        ("model.name=resnet", "known models: encoder_decoder"),
        ("transform.image_size=201", "it must be a positive multiple of 8, for example 200 or 208"),
    ],
)
def test_wrong_override_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        settings.load([], [override])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.name=mobilenet_unet", "model.width=2"], "has one width only"),
        (["tune.trials=2", "train.start_from=champion"], "trials start from scratch"),
        (["model.encoder_weights=imagenet"], "has no pretrained encoder"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    overrides: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        settings.load([], overrides)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("train: [", "is not valid YAML at line 1."),
        ("data: {breeds: [2026-02-30]}", "is not valid YAML."),
        ("- train", "must hold sections such as 'data:'."),
        ("train: 3", "'train' must hold keys such as 'epochs:'."),
        ("trian: {epochs: 3}", "did you mean 'train'?"),
        ("train: {epoch: 3}", "did you mean 'train.epochs'?"),
        ("train: {epochs: -1}", "Setting 'train.epochs' is -1 (from "),
    ],
)
def test_wrong_file_is_one_sentence_that_names_it(
    content: str, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        settings.load([file])
    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the settings file .*No such file"):
        settings.load([tmp_path / "none.yaml"])


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_override_whatsoever_ends_in_a_traceback(key: str, value: str) -> None:
    for override in (f"{key}={value}", f"train.epochs={value}", f"beam.args={value}"):
        with contextlib.suppress(UserError):
            settings.load([], [override])


@given(st.integers(1, 10**6), st.one_of(st.just("auto"), st.integers(1, 4096)))
def test_flat_settings_load_again(epochs: int, batch_size: int | str) -> None:
    chosen = settings.load([], [f"train.epochs={epochs}", f"train.batch_size={batch_size}"])
    again = [f"{key}={yaml.safe_dump(value)}" for key, value in chosen.flat().items()]
    assert settings.load([], again) == chosen


def test_description_lists_every_setting() -> None:
    described = [line.split()[0] for line in settings.describe().splitlines()]
    assert described == list(settings.load().flat())

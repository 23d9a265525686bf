"""Settings: defaults < YAML file < --set, and one sentence for whatever is wrong."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline import settings
from pipeline.core.errors import UserError


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
        ("zzz.qqq=3", "Unknown setting 'zzz.qqq' in --set; --help-settings lists all settings."),
        ("train.epochs", "--set takes KEY=VALUE, but got 'train.epochs'."),
        ("train.epochs=0", "Setting 'train.epochs' is 0 (from --set)"),
        ("train.epochs=many", "Setting 'train.epochs' is 'many' (from --set)"),
        ("train.epochs=[", "--set train.epochs has the value '[', which is not valid YAML."),
        ("model.encoder_weights=2026-13-01", "the value '2026-13-01', which is not valid YAML."),
        ("train.batch_size=0", "'train.batch_size' is 0 (from --set); it must be at least 1."),
        ("train.max_minutes=.nan", "Setting 'train.max_minutes' is nan (from --set)"),
        ("gate.slices=[]", "Setting 'gate.slices' is [] (from --set)"),
        ("tune.augmentations=[0, 2]", "Setting 'tune.augmentations' is 2 (from --set)"),
        ("tune.learning_rates=[1, 0.1]", "it must start with the lower bound."),
        ("tune.learning_rates=[1]", "it must have at least 2 item(s)."),
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
        (["model.name=mobilenet_unet", "model.width=2"], "cannot be scaled"),
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
        ("- train", "must contain sections such as 'data:'."),
        ("train: 3", "must be a section of settings, as in --help-settings."),
        ("trian: {epochs: 3}", "did you mean 'train'?"),
        ("train: {epoch: 3}", "did you mean 'train.epochs'?"),
        ("train.epochs: 3", "in a file, write 'train:' and, indented below it, 'epochs:'."),
        ("train.epoch: 3", "did you mean"),
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


@pytest.mark.parametrize(
    ("first", "second", "override", "wrong", "sentence"),
    [
        ("train.epochs: 3", "", "train.epochs=5", "a", "in a file, write 'train:'"),
        ("train.epochs: 3", "train: {epochs: 4}", "", "a", "in a file, write 'train:'"),
        ("train: {epochs: 4}", "train.epochs: 3", "", "b", "in a file, write 'train:'"),
        ("train: {epochs: 0}", "train: {seed: 1}", "train.batch_size=2", "a", "is 0 (from "),
        ("train: {epochs: 1}", "train: {epochs: 0}", "train.batch_size=2", "b", "is 0 (from "),
        ("train: {seed: 1}", "train: {epoch: 4}", "train.epochs=5", "b", "did you mean"),
        ("train: 3", "train: {epochs: 4}", "", "a", "Setting 'train' is 3 (from "),
        ("train: {epochs: 4}", "train: 3", "", "b", "Setting 'train' is 3 (from "),
    ],
)
def test_of_several_sources_the_wrong_one_is_named(
    first: str, second: str, override: str, wrong: str, sentence: str, tmp_path: Path
) -> None:
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file, content in zip(files, (first, second), strict=True):
        file.write_text(content)
    with pytest.raises(UserError) as caught:
        settings.load(files, [override] if override else [])
    assert sentence in str(caught.value)
    assert [file.stem for file in files if str(file) in str(caught.value)] == [wrong]
    assert "--set" not in str(caught.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in itertools.pairwise("abcdefghi")
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n"
    for old, new in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"data: {breeds: " + b"[" * 2000 + b"]" * 2000 + b"}", "is nested too deeply"),
        (b"- " * 2000, "is nested too deeply"),
        (b"data: " + b"{a: " * 60 + b"}" * 60, "is nested too deeply"),
        (b"a: &a [*a]", "is nested too deeply"),
        (BOMB.encode(), "contains more than 100,000 values at line "),
        (MERGE_BOMB.encode(), "contains more than 100,000 values at line "),
        (b"train: {epochs: 1}\ntrain: {epochs: 2}", "has the key 'train' twice at line 2."),
        (b"train: {epochs: 1, epochs: 2}", "has the key 'epochs' twice at line 1."),
        (b"train: {epochs: 1\0}", "is not valid YAML."),
        (b"data: {breeds: ['K\xe4tzchen']}", "is not UTF-8 text."),
        ("train: {epochs: 1}".encode("utf-16"), "is not UTF-8 text."),
        (b'data: {breeds: ["\\ud800"]}', "contains a value that is not text at line 1."),
        (b"#" * 2**21, "is larger than 1 MB."),
        (b"data:\n---\ndata:\n", "contains more than one YAML document."),
        (b"train: !!python/object/apply:os.system [id]", "is not valid YAML at line 1."),
        (b"? [a, b]\n: c", "is not valid YAML at line 1."),
        (b"? {a: b}\n: c", "is not valid YAML at line 1."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_file_that_is_made_to_harm_is_one_short_sentence(
    content: bytes, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        settings.load([file])
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(file))


def test_aliases_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes("\ufefftune: {learning_rates: &r [0.1, 1], augmentations: *r}".encode())
    assert settings.load([file]).tune.augmentations == (0.1, 1)


@pytest.mark.parametrize("file", ["/", "/dev/zero"])
def test_a_folder_or_a_device_is_no_settings_file(file: str) -> None:
    with pytest.raises(UserError, match=r"Is a directory|is larger than 1 MB"):
        settings.load([Path(file)])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.breeds=Bengal", "is 'Bengal' (from --set); it must be a list, such as [Bengal]."),
        ("data.breeds=[1]", "is 1 (from --set); it must be text, so put it in quotes."),
        ("data.breeds={a: b}", "it must be a list, such as [a, b]."),
        ("train.batch_size=most", "it must be a whole number or 'auto'."),
        ("train.learning_rate=0", "it must be above 0."),
        ("train.seed=9999999999", "it must be below 4294967296."),
        ("data.exif=yes", "is 'yes' (from --set); it must be 'as_stored' or 'apply'."),
        ("train.epochs=", "Setting 'train.epochs' is empty (from --set); it must be a whole"),
        ("train.epochs=1e9", "it must be a whole number without an exponent."),
        ("model.encoder_weights=''", "it must have at least 1 character(s)."),
        ("data.spans=1.5", "it must be a whole number."),
        ("gate.mean_iou=.inf", "it must be a finite number."),
        ("train.epochs=2026-01-01", "Setting 'train.epochs' is 2026-01-01 (from --set)"),
        (f"train.epochs={'9' * 5000}", "..."),
        (f"train.epochs={'[' * 5000}", "nested too deeply."),
        (f"{'x' * 10**6}=1", "Unknown setting 'xxx"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_value_gets_a_plain_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        settings.load([], [override])
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_word_of_pydantic_reaches_people() -> None:
    from kubeflow import settings as cluster
    from pipeline.settings import loader

    values = ["x", "[x]", "{x: 1}", "null", "-1", "1.5", ".nan", "[]", "''", "!!binary aGk="]
    for key, _ in loader.fields(cluster.KubeflowSettings):
        named = key.replace("components.NAME", "components.Trainer").replace("NAME", "p")
        for value in values:
            try:
                cluster.load([], [f"{named}={value}"])
            except UserError as error:
                said = str(error).lower()
                for word in ("input", "valid ", "tuple", "instance", "literal", "parse", "convert"):
                    assert word not in said.replace("no valid", ""), said


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

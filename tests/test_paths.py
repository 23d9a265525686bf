"""Paths that the libraries cannot take are one sentence, from every command, before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kubeflow.__main__
import local_runner
import pipeline.cli.data
from pipeline import settings
from pipeline.cli import convert, predict, releases
from pipeline.core import paths
from pipeline.core.errors import UserError
from tests.support.runs import ROOT

NOT_UTF8 = os.fsdecode(b"K\xe4tzchen")
WORKING = "a b'\"#%20:,;&=+@$!(){SPAN}^~|<>`üé😀-\u200b"

Main = Callable[[list[str]], int]

COMMANDS: list[tuple[Main, list[str]]] = [
    (local_runner.main, ["--data-root", "{}"]),
    (local_runner.main, ["--output-root", "{}"]),
    (local_runner.main, ["--config", "{}"]),
    (local_runner.main, ["--history", "--output-root", "{}"]),
    (pipeline.cli.data.main, ["check", "{}"]),
    (pipeline.cli.data.main, ["check", "data", "--config", "{}"]),
    (pipeline.cli.data.main, ["download", "{}"]),
    (predict.main, ["--model", "{}", "--output-dir", "out", "a.jpg"]),
    (predict.main, ["--model", "model", "--output-dir", "{}", "a.jpg"]),
    (releases.main, ["list", "--serving", "{}"]),
    (releases.main, ["rollback", "1", "--serving", "{}"]),
    (convert.main, ["onnx", "--model", "{}", "--output", "m.onnx"]),
    (convert.main, ["onnx", "--model", "model", "--output", "{}.onnx"]),
    (convert.main, ["onnx", "--model", "model", "--output", "m.onnx", "--data-root", "{}"]),
    (kubeflow.__main__.main, ["compile", "--output", "{}"]),
    (kubeflow.__main__.main, ["compile", "--output", "p.yaml", "--config", "{}"]),
    (kubeflow.__main__.main, ["submit", "--package", "{}.yaml"]),
    (kubeflow.__main__.main, ["status", "--token-file", "{}"]),
    (kubeflow.__main__.main, ["rehearse", "--image", "i:1", "--data-root", "{}"]),
    (kubeflow.__main__.main, ["rehearse", "--image", "i:1", "--output-root", "{}"]),
]


def refusal(main: Main, arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    output = capfd.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    return line


def name_of(value: object) -> str:
    """The same in each process, as pytest-xdist wants it."""
    return value.__module__ if callable(value) else " ".join(map(str, value))  # type: ignore[call-overload]


@pytest.mark.parametrize(("main", "arguments"), COMMANDS, ids=name_of)
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (NOT_UTF8, "K\\xe4tzchen is not UTF-8"),
        ("a\nb\x1b[1m", "a\\nb\\x1b[1m contains a line break"),
    ],
    ids=["bytes", "control"],
)
def test_every_command_refuses_what_is_no_plain_text(
    main: Main,
    arguments: list[str],
    name: str,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [argument.replace("{}", name) for argument in arguments]
    line = refusal(main, given, capfd)
    assert fault in line.replace(".onnx", "").replace(".yaml", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (local_runner.main, ["--output-root", "{}"]),
        (local_runner.main, ["--output-root", "{}/deeper"]),
        (local_runner.main, ["--set", "release.copy_to={}"]),
        (predict.main, ["--model", "{}", "--output-dir", "out", "a.jpg"]),
        (releases.main, ["list", "--serving", "{}"]),
        (convert.main, ["onnx", "--model", "{}", "--output", "m.onnx"]),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\\b"])
def test_patterns_are_seen_behind_symbolic_links(
    main: Main,
    arguments: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / name)
    line = refusal(main, [part.replace("{}", str(link)) for part in arguments], capfd)
    assert f"which resolves to {tmp_path / name}" in line
    assert "contains one of the characters * ? [ ] \\" in line
    assert list((tmp_path / name).iterdir()) == []


def test_a_working_folder_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NOT_UTF8).mkdir()
    monkeypatch.chdir(tmp_path / NOT_UTF8)
    assert "The path output, which resolves to " in refusal(local_runner.main, [], capfd)


@pytest.mark.parametrize("part", ["--data-root", "--output-root"])
@pytest.mark.parametrize("name", ["Kätzchen", NOT_UTF8], ids=["accent", "bytes"])
def test_a_locale_without_utf_8_is_one_sentence(part: str, name: str, tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "local_runner.py", part, os.fsencode(tmp_path / name)],
        env={**os.environ, **plain},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode("ascii").splitlines()
    assert ("set a UTF-8 locale" if name == "Kätzchen" else "is not UTF-8") in line
    assert list(tmp_path.iterdir()) == []


def test_what_works_stays_allowed(tmp_path: Path) -> None:
    """A run in a folder of that name worked, on data in another, when this was written."""
    paths.check_no_pattern(tmp_path / WORKING)
    paths.check(tmp_path / "data[1]*?\\")  # of which nothing is a pattern's business
    paths.check_no_pattern("gs://bucket/models")
    (tmp_path / WORKING).mkdir()
    (tmp_path / WORKING / "a.yaml").write_text("train: {epochs: 2}")
    assert settings.load([tmp_path / WORKING / "a.yaml"]).train.epochs == 2


@pytest.mark.parametrize("value", ["/a\\0b", "/a\\nb", "gs://b/\\x1b", "/a[1]", "gs://b/*"])
def test_folders_elsewhere_are_text_alone(value: str) -> None:
    from kubeflow import settings as cluster

    for key, load in (
        ("release.copy_to", settings.load),
        ("storage.data_root", cluster.load),
        ("storage.output_root", cluster.load),
    ):
        with pytest.raises(UserError):
            load([], [f'{key}="{value}"'])


def test_the_task_of_a_pod_refuses_its_folders(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from kubeflow import entrypoint

    for data_root, output_root in ((NOT_UTF8, "output"), ("", "out[1]")):
        folders = ["--data-root", data_root, "--output-root", str(tmp_path / output_root)]
        more = ["--run-id", "1", "--metadata", "sqlite"]
        assert entrypoint.main(["run", "ExampleGen", *folders, *more]) == 2
        assert "ExampleGen failed: The path " in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []

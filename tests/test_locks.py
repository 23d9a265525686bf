"""What the locks, the environment and the distributions hold."""

import importlib.metadata
import re
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.runs import ROOT

LOCKS = ["compatible.txt", "current.txt", "image-cpu.txt", "image-gpu.txt", "uv.txt"]


def pins(lock: str) -> list[Requirement]:
    """The requirements of a lock file, hashes left out."""
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_place(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "://" not in text
    assert "index-url" not in text
    # Comments name packages, setup.py and the command; a path has a slash, and none of these does.
    assert "/" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_and_hashed(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9.-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", line), line


def declared(extra: str | None) -> list[Requirement]:
    """What setup.py asks for, that extra included."""
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", arguments.update)
        patch.chdir(ROOT)
        runpy.run_path("setup.py")
    more = arguments["extras_require"][extra] if extra else []
    return [Requirement(text) for text in arguments["install_requires"] + more]


def locked(lock: str, version: str) -> dict[str, str]:
    """Name and version of what a lock holds for a Python on Linux."""
    environment = environment_of(version)
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins(lock)
        if not pin.marker or pin.marker.evaluate(environment)
    }


def environment_of(version: str) -> dict[str, str]:
    return {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": "linux",
    }


@pytest.mark.parametrize(
    ("lock", "version", "extra"),
    [
        ("compatible.txt", "3.10", "dev"),
        *[("current.txt", f"3.{minor}", "dev") for minor in (11, 12, 13)],
        ("image-cpu.txt", "3.13", None),
        ("image-gpu.txt", "3.13", "gpu"),
    ],
)
def test_locks_hold_what_setup_py_asks_for(lock: str, version: str, extra: str | None) -> None:
    held = locked(lock, version)
    for wish in declared(extra):
        if not wish.marker or wish.marker.evaluate(environment_of(version)):
            name = canonicalize_name(wish.name)
            assert name in held, f"{wish} is not in {lock}: make lock"
            assert held[name] in wish.specifier, f"{wish} against {held[name]}: make lock"


@pytest.mark.parametrize("lock", ["image-cpu.txt", "image-gpu.txt"])
def test_the_image_has_the_versions_of_the_current_stack(lock: str) -> None:
    current, image = locked("current.txt", "3.13"), locked(lock, "3.13")
    differing = {name for name in image.keys() & current.keys() if image[name] != current[name]}
    assert differing == set()
    cuda = {name for name in image.keys() - current.keys() if name.startswith("nvidia-")}
    assert bool(cuda) == (lock == "image-gpu.txt")
    assert image.keys() - current.keys() == cuda


def stack_in_use() -> str:
    return "current" if sys.version_info >= (3, 11) else "compatible"


def test_the_environment_is_exactly_the_lock() -> None:
    locked = {
        str(canonicalize_name(pin.name)): next(iter(pin.specifier)).version
        for pin in pins(f"{stack_in_use()}.txt") + pins("uv.txt")
        if not pin.marker or pin.marker.evaluate()
    }
    installed = {
        str(canonicalize_name(found.metadata["Name"])): found.version
        for found in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    assert "pip" not in locked  # venv itself puts it in, in the interpreter's own version
    assert installed == {**locked, "pip": installed["pip"]}


def test_uv_finds_no_conflict_in_the_environment() -> None:
    uv = Path(sys.prefix) / "bin" / "uv"
    done = subprocess.run(
        [uv, "pip", "check", "--python", sys.executable], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


AUDITED = """{"dependencies": [
  {"name": "sound", "version": "1", "vulns": []},
  {"name": "js2py", "version": "0.74", "vulns": [
    {"id": "PYSEC-1999-1", "aliases": ["CVE-2024-28397"], "fix_versions": []}]},
  {"name": "other", "version": "2", "vulns": [
    {"id": "PYSEC-1999-2", "aliases": [], "fix_versions": ["3"]}]}], "fixes": []}"""
UNKNOWN = """{"dependencies": [{"name": "uv", "skip_reason": "not found"}], "fixes": []}"""


@pytest.mark.parametrize(
    ("answer", "code", "lines"),
    [
        (
            AUDITED,
            1,
            [
                "compatible.txt: other 2 has PYSEC-1999-2; fixed in 3.",
                "compatible.txt: 1 unknown vulnerability in 3 of 3 packages.",
            ],
        ),
        (UNKNOWN, 0, ["Nothing was audited: pip-audit, or its vulnerability service, is out of"]),
        ("", 0, ["Nothing was audited: "]),
    ],
)
def test_audit_names_packages_it_could_not_check(
    answer: str,
    code: int,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit = runpy.run_path(str(ROOT / "requirements" / "audit.py"))
    done = subprocess.CompletedProcess([], 0, stdout=answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert audit["main"]() == code
    said = capsys.readouterr().out.splitlines()
    assert [line[: len(wanted)] for line, wanted in zip(said, lines, strict=False)] == lines


def test_listed_flaws_are_of_versions_that_are_locked() -> None:
    """A row of docs/reference/known_flaws.md that a raised lock has mended must go."""
    table = (ROOT / "docs" / "reference" / "known_flaws.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) ([\d.]+) \| .*CVE", table, re.MULTILINE)
    assert len(rows) >= 5
    held = locked("compatible.txt", "3.10")
    assert {name: held.get(name) for name, _ in rows} == dict(rows)

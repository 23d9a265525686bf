"""Set-up: which stack and interpreter are taken, and what is installed when."""

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import ROOT

pytestmark = pytest.mark.once

# Every program that the script calls, so that PATH can hold these and nothing of the real machine.
TOOLS = ["cat", "chmod", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "sed", "sh", "tr"]

FAKE_PYTHON = ROOT / "tests/support/programs/fake_python.sh"


class Machine:
    """A made-up machine: a copy of the set-up script, and a PATH with fake interpreters only."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.log = folder / "log"
        self.uv = folder / "uv"
        self.pip_settings = folder / "pip"  # what `pip config list` prints
        shutil.copytree(ROOT / "requirements", self.tree / "requirements")
        self.home.mkdir()
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path, tool
            self.bin.mkdir(exist_ok=True)
            (self.bin / tool).symlink_to(path)
        self.pip_settings.touch()
        said = "uv $* index=$UV_DEFAULT_INDEX certificates=$SSL_CERT_FILE"
        self.program(self.uv, f'#!/bin/sh\necho "{said}" >> "{self.log}"\n')
        self.system("Linux", "x86_64", glibc="2.36")

    def program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def system(self, name: str, machine: str, glibc: str | None = None) -> None:
        uname = f'#!/bin/sh\n[ "$1" = -s ] && echo {name} || echo {machine}\n'
        self.program(self.bin / "uname", uname)
        getconf = f"echo glibc {glibc}" if glibc else "exit 1"
        self.program(self.bin / "getconf", f"#!/bin/sh\n{getconf}\n")

    def python(self, version: str, folder: Path | None = None, lacking: str = "") -> Path:
        path = (folder or self.bin) / f"python{version}"
        facts = {
            "version": version,
            "log": self.log,
            "uv": self.uv,
            "pip_settings": self.pip_settings,
            "lacking": lacking,
        }
        text = FAKE_PYTHON.read_text()
        for name, value in facts.items():
            text = text.replace(f"@{name}@", str(value))
        self.program(path, text)
        return path

    def setup(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.tree / "requirements" / "setup.sh"), *args],
            env={"PATH": str(self.bin), "HOME": str(self.home), "PYTHON_PREFIXES": "", **env},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def which(self, **env: str) -> str:
        done = self.setup("--which", **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refusal(self, *args: str, **env: str) -> str:
        """The one line that a refused set-up says."""
        done = self.setup(*args, **env)
        assert done.returncode == 1
        assert done.stdout == ""
        assert re.fullmatch(r"setup: .*\.\n", done.stderr), done.stderr
        return done.stderr

    def installs(self) -> int:
        """How often packages were installed so far."""
        return self.log.read_text().count("uv pip sync")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("system", "versions", "stack", "version"),
    [
        (("Linux", "x86_64", "2.39"), ["3.10", "3.11", "3.12"], "current", "3.12"),
        (("Linux", "x86_64", "2.41"), ["3.10", "3.13", "3.14"], "current", "3.13"),
        (("Linux", "x86_64", "2.41"), ["3.10", "3.14"], "compatible", "3.10"),
        (("Linux", "x86_64", "2.38"), ["3.10", "3.12"], "compatible", "3.10"),
        (("Linux", "x86_64", "2.4"), ["3.10", "3.12"], "compatible", "3.10"),
        (("Darwin", "arm64"), ["3.10", "3.11"], "current", "3.11"),
    ],
)
def test_the_stack_follows_glibc_and_python(
    machine: Machine, system: tuple[str, ...], versions: list[str], stack: str, version: str
) -> None:
    machine.system(*system)
    paths = {each: machine.python(each) for each in versions}
    assert machine.which() == f"{stack} {paths[version]}"


def test_a_failing_shim_is_skipped(machine: Machine) -> None:
    machine.program(machine.bin / "python3.10", "#!/bin/sh\necho command not found >&2\nexit 127\n")
    real = machine.python("3.10", machine.home / ".pyenv/versions/3.10.13/bin")
    assert machine.which() == f"compatible {real}"


def test_pyenv_may_live_anywhere(machine: Machine, tmp_path: Path) -> None:
    real = machine.python("3.10", tmp_path / "elsewhere/versions/3.10.2/bin")
    machine.program(machine.bin / "pyenv", f"#!/bin/sh\necho {tmp_path / 'elsewhere'}\n")
    assert machine.which() == f"compatible {real}"


def test_prefixes_outside_path_are_searched_last(machine: Machine, tmp_path: Path) -> None:
    local = machine.python("3.10", tmp_path / "local/bin")
    assert machine.which(PYTHON_PREFIXES=str(tmp_path / "local")) == f"compatible {local}"
    on_path = machine.python("3.10")
    assert machine.which(PYTHON_PREFIXES=str(tmp_path / "local")) == f"compatible {on_path}"


def test_python_of_a_virtual_environment_is_passed_over(machine: Machine) -> None:
    """An activated .venv is first on PATH, and set-up may be about to delete it."""
    inside = Path(sys.executable)
    assert sys.prefix != sys.base_prefix, "the suite runs in .venv"
    version = "{}.{}".format(*sys.version_info[:2])
    machine.system("Linux", "x86_64", glibc="2.41")
    assert (inside.parent / f"python{version}").exists()
    other = machine.python(version, machine.home / f".pyenv/versions/{version}.1/bin")
    path = f"{inside.parent}:{machine.bin}"
    assert machine.which(PATH=path).endswith(f" {other}")
    assert "virtual environment" in machine.refusal("--which", PYTHON=str(inside))


def test_python_can_be_named(machine: Machine) -> None:
    machine.system("Linux", "x86_64", glibc="2.41")
    machine.python("3.13")
    older = machine.python("3.11")
    assert machine.which(PYTHON=str(older)) == f"current {older}"
    assert machine.which(PYTHON="python3.11") == f"current {older}"


def test_a_named_python_that_does_not_fit_is_refused(machine: Machine) -> None:
    machine.python("3.10")
    wrong = machine.python("3.12")
    said = machine.refusal("--which", PYTHON=str(wrong))
    assert "Python 3.12" in said
    assert "glibc 2.36" in said
    assert "needs Python 3.10." in said
    assert "does not exist" in machine.refusal(PYTHON="/nowhere/python3.10")


def test_no_fitting_python_is_one_sentence(machine: Machine) -> None:
    machine.python("3.12")
    said = machine.refusal()
    for part in ["glibc 2.36", "needs Python 3.10", "found 3.12", "PYTHON=/path/to/python3.10"]:
        assert part in said
    machine.system("Linux", "x86_64", glibc="2.41")
    (machine.bin / "python3.12").unlink()
    assert "needs Python 3.13 or 3.12 or 3.11 or 3.10, but found none" in machine.refusal()


@pytest.mark.parametrize(
    "system", [("Linux", "aarch64", "2.41"), ("Linux", "x86_64"), ("Darwin", "x86_64")]
)
def test_a_machine_without_packages_is_one_sentence(
    machine: Machine, system: tuple[str, ...]
) -> None:
    machine.system(*system)
    machine.python("3.10")
    machine.python("3.12")
    assert "no packages for this machine" in machine.refusal()


def test_a_missing_compiler_is_reported_first(machine: Machine) -> None:
    machine.python("3.10", lacking="a C++ compiler (Debian: g++)")
    said = machine.refusal()
    assert "lacks a C++ compiler (Debian: g++)" in said
    assert not (machine.tree / ".venv").exists()


def check_build(**env: str) -> str:
    command = [sys.executable, str(ROOT / "requirements" / "check_build.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_build_tools_are_really_looked_for(tmp_path: Path) -> None:
    assert check_build(PATH=os.environ["PATH"]) == ""
    assert check_build(PATH=str(tmp_path)) == "a C++ compiler (Debian: g++)"
    assert "C++" in check_build(PATH=os.environ["PATH"], CXX="no-such-compiler -O2")


def test_missing_headers_and_venv_are_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    runpy.run_path(str(ROOT / "requirements" / "check_build.py"))
    version = "python{}.{}".format(*sys.version_info[:2])
    said = capsys.readouterr().out
    assert f"(Debian: {version}-venv)" in said
    assert f"(Debian: {version}-dev)" in said


def test_a_second_call_does_not_install_and_says_nothing(machine: Machine) -> None:
    machine.python("3.10")
    first = machine.setup()
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 2
    assert machine.installs() == 1
    second = machine.setup()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert machine.installs() == 1


@pytest.mark.parametrize("lock", ["compatible.txt", "uv.txt"])
def test_a_changed_lock_is_installed_from_nothing(machine: Machine, lock: str) -> None:
    machine.python("3.10")
    machine.setup()
    stray = machine.tree / ".venv/bin/stray"
    stray.touch()
    path = machine.tree / "requirements" / lock
    path.write_text(path.read_text() + "# changed\n")
    machine.setup()
    assert machine.installs() == 2
    assert not stray.exists()


def test_another_interpreter_is_installed_anew(machine: Machine) -> None:
    machine.system("Linux", "x86_64", glibc="2.41")
    older = machine.python("3.12")
    machine.python("3.13")
    machine.setup()
    machine.setup(PYTHON=str(older))
    assert machine.installs() == 2
    assert " requirements/current.txt " in machine.log.read_text().splitlines()[-1]


def test_an_install_killed_in_the_middle_is_not_taken_for_whole(machine: Machine) -> None:
    machine.python("3.10")
    whole = machine.uv.read_text()
    machine.program(machine.uv, whole + "kill -9 $PPID\n")
    assert machine.setup().returncode == -signal.SIGKILL
    machine.program(machine.uv, whole)
    assert machine.setup().returncode == 0
    assert machine.installs() == 2


def test_a_failed_install_says_so_and_is_tried_again(machine: Machine) -> None:
    machine.python("3.10")
    whole = machine.uv.read_text()
    machine.program(machine.uv, whole + "exit 2\n")
    failed = machine.setup()
    assert failed.returncode == 1
    assert "installing requirements/compatible.txt failed" in failed.stderr
    machine.program(machine.uv, whole)
    assert machine.setup().returncode == 0
    assert machine.installs() == 2


def test_uv_takes_over_the_pip_settings(machine: Machine) -> None:
    machine.python("3.10")
    machine.pip_settings.write_text(
        "global.cert='/etc/own.pem'\nglobal.index-url='https://registry.example/simple'\n"
    )
    machine.setup()
    installed = machine.log.read_text().splitlines()[-1]
    assert installed.endswith("index=https://registry.example/simple certificates=/etc/own.pem")


def test_the_environment_variable_of_uv_wins_over_pip_settings(machine: Machine) -> None:
    machine.python("3.10")
    machine.pip_settings.write_text("global.cert='/etc/own.pem'\n")
    machine.setup(SSL_CERT_FILE="/etc/other.pem", PIP_INDEX_URL="https://registry.example/simple")
    installed = machine.log.read_text().splitlines()[-1]
    assert installed.endswith("index=https://registry.example/simple certificates=/etc/other.pem")

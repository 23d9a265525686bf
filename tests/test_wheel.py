"""What is installed: the wheel and the sdist, elsewhere, and beside the Kubeflow SDK."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from docker.utils import exclude_paths

from tests.support.runs import ROOT as TREE
from tests.support.runs import SMALL, only_with_all

UV = Path(sys.prefix) / "bin" / "uv"
SDK = "kubeflow==0.5.0"


PACKAGES = ["components", "kubeflow", "pipeline", "schemas"]
COMPONENTS = "kubeflow/manifests/components"
# What may lie in a checkout without being part of the product.
SECRETS = [
    f"{COMPONENTS}/{file}"
    for file in [
        *("mysql/metadata.env", "mysql/metadata.env~", "mysql/.metadata.env.swp"),
        *("postgresql/metadata.env", "postgresql/metadata.env.bak"),
        *("metadata-ca/ca.crt", "metadata-ca/tls.crt", "metadata-ca/tls.key"),
        "metadata-ca/client.pem",
    ]
]
OUTPUT = ["pipeline-out/latest.py", "pipeline-out/metadata.sqlite", "kubeflow_run/models/photo.jpg"]
# Of an earlier build: a removed architecture, and a list of files that an earlier version took.
STALE = "build/lib/pipeline/models/removed.py"
SOURCES = "segmentation_pipeline.egg-info/SOURCES.txt"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which people have worked."""
    tree = tmp_path_factory.mktemp("distribution") / "tree"
    for file in package_files():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / file, tree / file)
    for file in ["LICENSE", "setup.py", "pyproject.toml", "local_runner.py"]:
        shutil.copy(TREE / file, tree / file)
    for file in [*SECRETS, *OUTPUT, STALE, SOURCES]:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text("\n".join(SECRETS))
    return tree


@pytest.fixture(scope="module")
def distributions(tree: Path) -> Path:
    """Folder with the wheel and the sdist of that checkout, built offline."""
    dist = tree.with_name("dist")
    command = [str(UV), "build", "--quiet", "--offline"]
    command += ["--no-build-isolation", "--python", sys.executable, "--sdist", "--wheel"]
    subprocess.run([*command, "--out-dir", str(dist), str(tree)], check=True)
    return dist


def package_files() -> set[str]:
    files = [path for package in PACKAGES for path in (TREE / package).rglob("*")]
    return {
        str(path.relative_to(TREE))
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    } - set(SECRETS)


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        script = archive.read(entry_points).decode()
        (metadata,) = [name for name in names if name.endswith("dist-info/METADATA")]
        facts = archive.read(metadata).decode().splitlines()
    shared = {"kubeflow/__init__.py", "kubeflow/py.typed"}  # PyPI's kubeflow has them too
    taken = {name for name in names if ".dist-info/" not in name}
    assert taken == (package_files() | {"local_runner.py"}) - shared
    assert any(name.startswith("schemas/") and name.endswith(".pbtxt") for name in names)
    assert "segmentation-pipeline = pipeline.cli:main" in script
    assert "License-Expression: Apache-2.0" in facts


def test_the_sdist_holds_every_file_of_the_packages_and_no_other(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}
    taken = {name for name in names if ".egg-info/" not in name} - {"PKG-INFO", "setup.cfg"}
    beside = {"LICENSE", "local_runner.py", "setup.py", "pyproject.toml"}
    assert taken == package_files() | beside


def test_the_image_holds_every_file_of_the_packages_and_no_other(tree: Path) -> None:
    patterns = (TREE / ".dockerignore").read_text().splitlines()
    taken = exclude_paths(str(tree), [line for line in patterns if not line.startswith("#")])
    files = {name for name in taken if (tree / name).is_file()} - {"Dockerfile", ".dockerignore"}
    assert files == package_files() | {"LICENSE", "local_runner.py", "setup.py"}


class Installation:
    """A folder with installed distributions, used from a folder without the checkout.

    Everything else comes from the environment that the tests run in.
    """

    def __init__(self, folder: Path) -> None:
        self.packages, self._elsewhere = folder / "packages", folder / "elsewhere"
        self._elsewhere.mkdir(parents=True)

    def install(self, what: str | Path, *options: str) -> None:
        command = [str(UV), "pip", "install", "--quiet", "--python", sys.executable]
        command += ["--target", str(self.packages), *options, str(what)]
        subprocess.run(command, check=True)

    def python(self, *arguments: str, checkout: bool = False) -> str:
        """Runs Python and returns what it prints; with `checkout`, that comes first on the path."""
        path = [str(TREE)] * checkout + [str(self.packages)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._elsewhere,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def compiles(self) -> bool:
        package = self._elsewhere / "pipeline.yaml"
        self.python("-m", "kubeflow", "compile", "--output", str(package))
        return package.read_text().startswith("# PIPELINE DEFINITION")

    def runs(self) -> str:
        """The status of a small run on the built-in data."""
        overrides = [word for setting in SMALL for word in ("--set", setting)]
        self.python("-m", "pipeline", "run", "--output-root", "output", *overrides)
        status = json.loads((self._elsewhere / "output" / "latest_run.json").read_text())["status"]
        assert isinstance(status, str)
        return status


OFFLINE = ("--no-deps", "--offline", "--no-build-isolation")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_an_installation_runs_and_compiles_without_the_checkout(
    distributions: Path, tmp_path: Path, kind: str
) -> None:
    (distribution,) = distributions.glob(f"*.{kind}")
    installation = Installation(tmp_path)
    installation.install(distribution, *OFFLINE)
    where = installation.python("-c", "import kubeflow.compiler as c; print(c.__file__)")
    assert where.startswith(str(installation.packages))
    assert installation.compiles()
    if kind == "whl":  # both hold the same files
        assert installation.runs() == "pushed"


@pytest.mark.slow
@pytest.mark.parametrize("first", ["ours", "the SDK"])
def test_it_lives_beside_the_kubeflow_sdk(distributions: Path, tmp_path: Path, first: str) -> None:
    only_with_all("THE KUBEFLOW SDK, WHICH HAS TO BE DOWNLOADED,")
    (wheel,) = distributions.glob("*.whl")
    # TFX allows a Kubernetes client below 27, the SDK one from 27.2 on: kfp's own limit is taken.
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("kubernetes<31\n")
    installation = Installation(tmp_path)
    for name in ("ours", "the SDK") if first == "ours" else ("the SDK", "ours"):
        if name == "ours":
            installation.install(wheel, *OFFLINE)
        else:
            installation.install(SDK, "--constraint", str(constraints))
    installation.python("-c", "import kubeflow.trainer, kubeflow.compiler")
    assert installation.compiles()
    # A checkout comes first on the path, and finds the SDK too.
    where = installation.python(
        "-c", "import kubeflow.trainer, kubeflow.client as c; print(c.__file__)", checkout=True
    )
    assert where.startswith(str(TREE))


@pytest.mark.slow
def test_no_file_is_in_both(distributions: Path, tmp_path: Path) -> None:
    only_with_all("THE KUBEFLOW SDK, WHICH HAS TO BE DOWNLOADED,")
    sdk = Installation(tmp_path)
    sdk.install(SDK, "--no-deps")
    theirs = {str(path.relative_to(sdk.packages)) for path in sdk.packages.rglob("*.py")}
    assert "kubeflow/__init__.py" in theirs
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not theirs & set(archive.namelist())

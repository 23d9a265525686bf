"""The manifests: strict Kubernetes schemas, files that are there, names that fit the settings."""

from __future__ import annotations

import base64
import copy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT

from kubeflow.settings import KubeflowSettings

MANIFESTS = ROOT / "kubeflow" / "manifests"
KUSTOMIZATIONS = sorted(MANIFESTS.rglob("kustomization.yaml"))
# The oldest and the newest Kubernetes that the guide speaks of.
KUBERNETES = ["1.29", "1.34"]
OVERLAYS = ["aks", "eks", "gke", "trial"]
CLAIM = "base/volume-claim.yaml"


def relative(path: Path) -> str:
    return str(path.relative_to(MANIFESTS))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def resources() -> dict[str, list[dict[str, Any]]]:
    """All documents that are no kustomizations, by file."""
    files = sorted(set(MANIFESTS.rglob("*.yaml")) - set(KUSTOMIZATIONS))
    return {relative(file): documents(file) for file in files}


def template() -> dict[str, str]:
    lines = (MANIFESTS / "components/mysql/metadata.env.template").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]


def secret() -> dict[str, Any]:
    """What kustomize makes of the filled-in template."""
    (generator,) = documents(MANIFESTS / "components/mysql/kustomization.yaml")[0][
        "secretGenerator"
    ]
    filled = {**template(), "password": "made up"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": generator["name"]},
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in filled.items()},
    }


def patched_claim(overlay: str) -> dict[str, Any]:
    """The claim as the overlay's patch leaves it."""
    (claim,) = copy.deepcopy(resources()[CLAIM])
    (kustomization,) = documents(MANIFESTS / "overlays" / overlay / "kustomization.yaml")
    (patch,) = kustomization["patches"]
    assert patch["target"] == {"kind": claim["kind"], "name": claim["metadata"]["name"]}
    for step in yaml.safe_load(patch["patch"]):
        *way, last = step["path"].strip("/").split("/")
        place = claim
        for key in way:
            place = place[key]
        assert (last in place) == (step["op"] == "replace")
        place[last] = step["value"]
    return claim


def validate(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("file", [name for name in resources() if not name.startswith("serving/")])
def test_every_manifest_passes_the_strict_schema(file: str, version: str) -> None:
    for document in resources()[file]:
        validate(document, version)


@pytest.mark.parametrize("version", KUBERNETES)
def test_what_overlays_and_components_make_passes_the_strict_schema(version: str) -> None:
    validate(secret(), version)
    for overlay in OVERLAYS:
        validate(patched_claim(overlay), version)


@pytest.mark.parametrize(
    ("file", "number", "path", "value"),
    [
        (CLAIM, 0, ("spec", "accesModes"), ["ReadWriteMany"]),
        (CLAIM, 0, ("spec", "accessModes"), "ReadWriteMany"),
        ("base/network-policy.yaml", 0, ("spec", "egres"), []),
        ("base/network-policy.yaml", 0, ("spec", "policyTypes"), "Egress"),
        ("base/service-account.yaml", 1, ("rules", "verb"), ["get"]),
    ],
)
def test_the_check_finds_a_misspelt_field_and_a_wrong_type(
    file: str, number: int, path: tuple[str, str], value: Any
) -> None:
    document = copy.deepcopy(resources()[file][number])
    place = document[path[0]]
    place = place[0] if isinstance(place, list) else place
    place[path[1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document, KUBERNETES[-1])


def test_all_overlays_are_known() -> None:
    assert sorted(path.name for path in (MANIFESTS / "overlays").iterdir()) == OVERLAYS


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=relative)
def test_kustomizations_name_files_that_are_there(file: Path) -> None:
    (content,) = documents(file)
    kind = "Component" if "components" in file.parts else "Kustomization"
    assert content["kind"] == kind
    known = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "labels"}
    assert set(content) <= known | {"secretGenerator"}
    named = [*content.get("resources", []), *content.get("components", [])]
    for generator in content.get("secretGenerator", []):
        # The user makes the file from its template.
        named += [f"{name}.template" for name in generator["envs"]]
    assert named
    for name in named:
        path = file.parent / name
        assert path.is_file() or (path / "kustomization.yaml").is_file(), name


def test_every_manifest_is_named_by_a_kustomization() -> None:
    named = {
        (file.parent / name).resolve()
        for file in KUSTOMIZATIONS
        for name in documents(file)[0].get("resources", [])
    }
    for name in resources():
        assert (MANIFESTS / name).resolve() in named, name


@pytest.mark.skipif(not shutil.which("kustomize"), reason="kustomize is not installed")
@pytest.mark.parametrize("target", [f"overlays/{name}" for name in OVERLAYS] + ["serving"])
def test_kustomize_builds(target: str, tmp_path: Path) -> None:
    tree = shutil.copytree(MANIFESTS, tmp_path / "manifests")
    mysql = tree / "components/mysql"
    shutil.copy(mysql / "metadata.env.template", mysql / "metadata.env")
    done = subprocess.run(
        ["kustomize", "build", tree / target], capture_output=True, text=True, check=True
    )
    for document in yaml.safe_load_all(done.stdout):
        assert document["metadata"]["namespace"] == "kubeflow"
        if document["kind"] != "InferenceService":
            validate(document, KUBERNETES[-1])


def test_no_secret_is_in_the_tree() -> None:
    assert template()["password"] == ""
    assert not any(
        document["kind"] == "Secret" for found in resources().values() for document in found
    )
    filled = "kubeflow/manifests/components/mysql/metadata.env"
    ignored = subprocess.run(["git", "check-ignore", "-q", filled], cwd=ROOT)
    assert ignored.returncode == 0 or not (ROOT / ".git").exists()


def test_the_filled_in_secret_gets_into_no_distribution(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "kubeflow", tree / "kubeflow")
    (tree / "kubeflow/manifests/components/mysql/metadata.env").write_text("password=secret")
    for file in ["setup.py", "pyproject.toml", "local_runner.py"]:
        shutil.copy(ROOT / file, tree / file)
    command = [str(Path(sys.prefix) / "bin" / "uv"), "build", "--quiet", "--offline", "--wheel"]
    command += ["--sdist", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", str(tmp_path / "dist"), str(tree)], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed, tarfile.open(sdist) as source:
        names = packed.namelist() + source.getnames()
    assert not [name for name in names if name.endswith("metadata.env")]
    assert [name for name in names if name.endswith("metadata.env.template")]


def test_rights_name_what_they_are_for() -> None:
    account, role, binding = resources()["base/service-account.yaml"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if {"secrets", "configmaps"} & set(rule["resources"]):
            assert rule["resourceNames"]


def test_names_are_those_of_the_settings() -> None:
    settings = KubeflowSettings()
    assert resources()[CLAIM][0]["metadata"]["name"] == settings.storage.claim
    assert secret()["metadata"]["name"] == settings.metadata.secret
    assert list(template()) == ["host", "port", "database", "user", "password"]
    folder = Path(settings.storage.output_root).relative_to(settings.storage.mount_path)
    (service,) = resources()["serving/inference-service.yaml"]
    model = service["spec"]["predictor"]["model"]
    assert model["storageUri"] == (
        f"pvc://{settings.storage.claim}/{folder}/serving/{settings.model.name}"
    )

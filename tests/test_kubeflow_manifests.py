"""The manifests: strict Kubernetes schemas, files that are there, names that fit the settings."""

from __future__ import annotations

import base64
import copy
import inspect
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tfx.components.infra_validator import serving_bins
from tfx.components.infra_validator.model_server_runners import kubernetes_runner
from tfx.utils import kube_utils

from kubeflow import cluster, pods, settings, tls_relay
from kubeflow.settings import KubeflowSettings
from tests.support.runs import ROOT

pytestmark = pytest.mark.once

MANIFESTS = ROOT / "kubeflow" / "manifests"
KUSTOMIZATIONS = sorted(MANIFESTS.rglob("kustomization.yaml"))
# The oldest and the newest Kubernetes that the guide speaks of.
KUBERNETES = ["1.29", "1.34"]
OVERLAYS = ["aks", "eks", "gke", "trial"]
SERVERS = {"mysql": 3306, "postgresql": 5432}
ALONE = ["photos", "serving", "volume-owner"]  # applied for themselves
CLAIM = "base/volume-claim.yaml"


def relative(path: Path) -> str:
    return str(path.relative_to(MANIFESTS))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def resources() -> dict[str, list[dict[str, Any]]]:
    """All documents that are no kustomizations, by file."""
    files = sorted(set(MANIFESTS.rglob("*.yaml")) - set(KUSTOMIZATIONS))
    return {relative(file): documents(file) for file in files}


def template(kind: str) -> dict[str, str]:
    lines = (MANIFESTS / "components" / kind / "metadata.env.template").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def generator(component: str) -> dict[str, Any]:
    kustomization = documents(MANIFESTS / "components" / component / "kustomization.yaml")[0]
    generators: list[dict[str, Any]] = kustomization["secretGenerator"]
    (only,) = generators
    return only


def secret(kind: str) -> dict[str, Any]:
    """What kustomize makes of the filled-in template, with the certificate of an authority."""
    filled = {**template(kind), "password": "made up"}
    filled |= dict.fromkeys(generator("metadata-ca")["files"], "made up, too")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": generator(kind)["name"]},
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
def test_all_manifests_pass_the_strict_schema(version: str) -> None:
    for kind in SERVERS:
        validate(secret(kind), version)
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
        ("components/infra-validation/rights.yaml", 0, ("rules", "resource"), ["pods"]),
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
    named += [patch["path"] for patch in content.get("patches", []) if "path" in patch]
    for each in content.get("secretGenerator", []):
        # The user makes the file from its template, or brings a certificate.
        named += [f"{name}.template" for name in each.get("envs", [])]
        assert set(each.get("files", [])) <= {tls_relay.CA}
        named += ["kustomization.yaml"] if "files" in each else []
    assert named
    for name in named:
        path = file.parent / name
        assert path.is_file() or (path / "kustomization.yaml").is_file(), name


def test_every_manifest_is_named_by_a_kustomization() -> None:
    named = {
        (file.parent / name).resolve()
        for file in KUSTOMIZATIONS
        for content in documents(file)
        for name in [
            *content.get("resources", []),
            *(patch.get("path", ".") for patch in content.get("patches", [])),
        ]
    }
    for name in resources():
        assert (MANIFESTS / name).resolve() in named, name


@pytest.mark.skipif(not shutil.which("kustomize"), reason="kustomize is not installed")
@pytest.mark.parametrize("target", [*(f"overlays/{name}" for name in OVERLAYS), *ALONE])
def test_kustomize_builds(target: str, tmp_path: Path) -> None:
    tree = shutil.copytree(MANIFESTS, tmp_path / "manifests")
    for kind in SERVERS:
        folder = tree / "components" / kind
        shutil.copy(folder / "metadata.env.template", folder / "metadata.env")
    done = subprocess.run(
        ["kustomize", "build", tree / target], capture_output=True, text=True, check=True
    )
    for document in yaml.safe_load_all(done.stdout):
        assert document["metadata"]["namespace"] == "kubeflow"
        if document["kind"] != "InferenceService":
            validate(document, KUBERNETES[-1])


@pytest.mark.skipif(not shutil.which("kustomize"), reason="kustomize is not installed")
def test_kustomize_patches_the_servers_own_configuration(tmp_path: Path) -> None:
    """As one does it who installs Kubeflow Pipelines: its other settings stay."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    server = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": cluster.CONFIG_MAP, "namespace": cluster.NAMESPACE},
        "data": {"executor": "a: b", "workflowDefaults": "spec: {}"},
    }
    (tmp_path / "server.yaml").write_text(yaml.safe_dump(server))
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["server.yaml"], "components": [_component("retries")]})
    )
    done = subprocess.run(
        ["kustomize", "build", tmp_path], capture_output=True, text=True, check=True
    )
    made = yaml.safe_load(done.stdout)
    assert made["data"]["executor"] == "a: b"
    assert cluster.explain(made["data"]) == cluster.PATCHED
    assert made["metadata"] == server["metadata"]


def _component(name: str) -> str:
    return f"manifests/components/{name}"


def test_only_the_job_that_gives_the_volume_away_is_root() -> None:
    """And it fits Kubernetes' level "baseline", which Kubeflow Pipelines sets for its namespace."""
    (job,) = resources()["volume-owner/job.yaml"]
    (pod,) = resources()["photos/pod.yaml"]
    baseline = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"}
    for spec in (job["spec"]["template"]["spec"], pod["spec"]):
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(context["capabilities"].get("add", [])) <= baseline
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        (volume,) = spec["volumes"]
        claim = volume["persistentVolumeClaim"]["claimName"]
        assert claim == KubeflowSettings().storage.claim
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    user = re.search(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    assert pod["spec"]["securityContext"]["runAsUser"] == int(user[1])
    assert f"{user[1]}:{user[1]}" in job["spec"]["template"]["spec"]["containers"][0]["command"]


def test_the_photos_land_where_the_settings_look() -> None:
    (pod,) = resources()["photos/pod.yaml"]
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == KubeflowSettings().storage.mount_path


def test_the_trial_overlay_needs_nothing_else() -> None:
    chosen = settings.load([ROOT / "kubeflow" / "configs" / "trial.yaml"])
    assert chosen.storage.data_root == ""
    assert chosen.metadata.kind == "sqlite"
    assert not chosen.pools
    assert chosen.image.cpu == chosen.image.gpu
    # A node pulls an image of another tag only if it does not have it.
    assert "/" not in chosen.image.cpu
    assert not chosen.image.cpu.endswith(":latest")


@pytest.mark.skipif(not shutil.which("kustomize"), reason="kustomize is not installed")
def test_kustomize_adds_the_authority_to_the_secret(tmp_path: Path) -> None:
    components = shutil.copytree(MANIFESTS, tmp_path / "manifests") / "components"
    folder = components / "postgresql"
    shutil.copy(folder / "metadata.env.template", folder / "metadata.env")
    (components / "metadata-ca" / "ca.crt").write_text("a certificate")
    overlay = {"components": ["../components/postgresql", "../components/metadata-ca"]}
    (tmp_path / "manifests" / "own").mkdir()
    (tmp_path / "manifests" / "own" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = ["kustomize", "build", str(tmp_path / "manifests" / "own")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (made,) = yaml.safe_load_all(done.stdout)
    assert made["metadata"]["name"] == "segmentation-metadata"
    assert set(made["data"]) == {*pods.SECRET_KEYS, tls_relay.CA}


SECRETS = [
    *(f"components/{kind}/metadata.env" for kind in SERVERS),
    *(f"components/metadata-ca/{name}" for name in ("ca.crt", "tls.crt", "tls.key")),
]


def test_no_secret_is_in_the_tree() -> None:
    assert all(template(kind)["password"] == "" for kind in SERVERS)
    assert not any(
        document["kind"] == "Secret" for found in resources().values() for document in found
    )
    for file in SECRETS:
        command = ["git", "check-ignore", "-q", f"kubeflow/manifests/{file}"]
        ignored = subprocess.run(command, cwd=ROOT)
        assert ignored.returncode == 0 or not (ROOT / ".git").exists()


@pytest.mark.parametrize(
    "file", ["base/service-account.yaml", "components/infra-validation/rights.yaml"]
)
def test_rights_name_what_they_are_for(file: str) -> None:
    account = resources()["base/service-account.yaml"][0]
    *_, role, binding = resources()[file]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if {"secrets", "configmaps"} & set(rule["resources"]):
            assert rule["resourceNames"]


def test_infra_validation_may_what_tfx_does() -> None:
    """Held against the source of TFX's runner: its calls, its label, its server's port."""
    role, _ = resources()["components/infra-validation/rights.yaml"]
    source = inspect.getsource(kubernetes_runner) + inspect.getsource(kube_utils)
    verbs = {"create": "create", "read": "get", "delete": "delete"}
    resource_of = {
        "pod": "pods",
        "pod_log": "pods/log",
        "persistent_volume_claim": "persistentvolumeclaims",
    }
    wanted = {
        (verbs[verb], resource_of[what])
        for verb, what in re.findall(r"\.(create|read|delete)_namespaced_(\w+)\(", source)
    }
    assert wanted == {
        (verb, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    (policy,) = resources()["components/infra-validation/network-policy.yaml"]
    (way,) = policy["spec"]["egress"]
    label = way["to"][0]["podSelector"]["matchLabels"]
    assert label == {kubernetes_runner._APP_KEY: kubernetes_runner._MODEL_SERVER_APP_LABEL}
    assert way["ports"][0]["port"] == serving_bins.TensorFlowServing("m", tag="1").container_port
    (base,) = resources()["base/network-policy.yaml"]
    assert policy["spec"]["podSelector"] == base["spec"]["podSelector"]


def test_names_are_those_of_the_settings() -> None:
    settings = KubeflowSettings()
    assert resources()[CLAIM][0]["metadata"]["name"] == settings.storage.claim
    role, _ = resources()["components/infra-validation/rights.yaml"]
    assert [settings.storage.claim] in [rule.get("resourceNames") for rule in role["rules"]]
    ways = resources()["base/network-policy.yaml"][0]["spec"]["egress"]
    open_ports = {way["port"] for each in ways if "to" not in each for way in each["ports"]}
    for kind, port in SERVERS.items():
        assert secret(kind)["metadata"]["name"] == settings.metadata.secret
        assert list(template(kind)) == list(pods.SECRET_KEYS)
        assert template(kind)["port"] == str(port)
        assert port in open_ports
    assert generator("metadata-ca")["name"] == settings.metadata.secret
    folder = Path(settings.storage.output_root).relative_to(settings.storage.mount_path)
    (service,) = resources()["serving/inference-service.yaml"]
    model = service["spec"]["predictor"]["model"]
    assert model["storageUri"] == (
        f"pvc://{settings.storage.claim}/{folder}/serving/{settings.model.name}"
    )

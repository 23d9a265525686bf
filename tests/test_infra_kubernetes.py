"""TFX's Kubernetes runner against a stand-in for Kubernetes' API, and for the pod that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes import client
from tfx.components.infra_validator import serving_bins
from tfx.components.infra_validator.model_server_runners import kubernetes_runner
from tfx.utils import kube_utils

from pipeline.compat import tfx_infra_validator
from pipeline.core.errors import ServerError
from tests.support.serving import stand_in as serving_stand_in
from tests.support.serving.infra_bench import IMAGE, ON_KUBERNETES, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Cluster:
    """In place of Kubernetes' API: what TFX's runner asks of it, with the stand-in as a pod.

    The task's own pod looks like those of a real server, kubeflow/pods.py's parts included.
    """

    def __init__(self, volume: Path, access: str = "ReadWriteMany") -> None:
        claim = client.V1PersistentVolumeClaimVolumeSource(claim_name="segmentation")
        mount = client.V1VolumeMount(name="segmentation", mount_path=str(volume))
        self._own = client.V1Pod(
            api_version="v1",
            kind="Pod",
            metadata=client.V1ObjectMeta(name="task-1", uid="1"),
            spec=client.V1PodSpec(
                service_account_name="segmentation-pipeline",
                containers=[
                    client.V1Container(name="wait"),
                    client.V1Container(name="main", volume_mounts=[mount]),
                ],
                volumes=[client.V1Volume(name="segmentation", persistent_volume_claim=claim)],
            ),
        )
        self._access = access
        self._server: Any = None
        self.pod: dict[str, Any] = {}

    def read_namespaced_pod(self, name: str, namespace: str) -> Any:
        assert namespace == "kubeflow"
        if name == "task-1":
            return self._own
        assert name == "server-1"
        status = client.V1PodStatus(phase="Running", pod_ip="127.0.0.1")
        return client.V1Pod(status=status)

    def read_namespaced_persistent_volume_claim(self, name: str, namespace: str) -> Any:
        assert (name, namespace) == ("segmentation", "kubeflow")
        spec = client.V1PersistentVolumeClaimSpec(access_modes=[self._access])
        return client.V1PersistentVolumeClaim(spec=spec)

    def create_namespaced_pod(self, namespace: str, body: Any) -> Any:
        pod = client.ApiClient().sanitize_for_serialization(body)
        self.pod = {"apiVersion": "v1", "kind": "Pod", **pod}
        (container,) = self.pod["spec"]["containers"]
        told = {each["name"]: each["value"] for each in container["env"]}
        self._server, port = serving_stand_in.serve(
            Path(told["MODEL_BASE_PATH"]), told["MODEL_NAME"]
        )
        serving_bins.TensorFlowServing._DEFAULT_GRPC_PORT = port
        return client.V1Pod(metadata=client.V1ObjectMeta(name="server-1"))

    def read_namespaced_pod_log(self, name: str, namespace: str, container: str) -> str:
        if container not in [each["name"] for each in self.pod["spec"]["containers"]]:
            raise client.ApiException(400, f"container {container} is not valid for pod {name}")
        return "what the server says"

    def delete_namespaced_pod(self, name: str, namespace: str) -> None:
        self._server.stop(None)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(tmp_path)
    port = serving_bins.TensorFlowServing._DEFAULT_GRPC_PORT
    monkeypatch.setattr(serving_bins.TensorFlowServing, "_DEFAULT_GRPC_PORT", port)
    monkeypatch.setattr(kube_utils, "make_core_v1_api", lambda: made)
    monkeypatch.setattr(kube_utils._factory, "_config_loaded", True)
    monkeypatch.setattr(kube_utils._factory, "_inside_cluster", True)
    monkeypatch.setenv("KFP_POD_NAME", "task-1")
    monkeypatch.setenv("KFP_NAMESPACE", "kubeflow")
    return made


def test_tfx_kubernetes_runner_mounts_the_claim(
    bench: Bench, cluster: Cluster, tmp_path: Path
) -> None:
    bench.export()
    assert bench.verdict(where=ON_KUBERNETES) == (True, "")
    kubernetes_validate.validate(cluster.pod, "1.34", strict=True)
    spec = cluster.pod["spec"]
    assert spec["serviceAccountName"] == "segmentation-pipeline"
    (volume,), (container,) = spec["volumes"], spec["containers"]
    assert volume["persistentVolumeClaim"] == {"claimName": "segmentation", "readOnly": True}
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path)
    assert container["image"] == IMAGE


def test_a_refusal_has_its_reason_and_the_servers_log(
    bench: Bench, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    bench.export(sound=False)
    reason = bench.verdict(where=ON_KUBERNETES)[1]
    assert "it responded to a request with FAILED_PRECONDITION: " in reason
    assert "what the server says" in caplog.text


def test_a_claim_of_one_node_is_no_fault_of_the_model(
    bench: Bench, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_access", "ReadWriteOnce")
    bench.export()
    with pytest.raises(ServerError, match="Access mode should be ReadWriteMany"):
        bench.verdict(where=ON_KUBERNETES)


def test_tfx_still_has_the_errors_patched_here(
    bench: Bench,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If this fails, upstream is mended, and compat/tfx_infra_validator.py can do without."""
    original = kubernetes_runner.KubernetesRunner
    monkeypatch.setattr(tfx_infra_validator, "KubernetesRunner", original)
    bench.export(sound=False)
    bench.verdict(where=ON_KUBERNETES)
    assert "what the server says" not in caplog.text
    with pytest.raises(kubernetes_validate.ValidationError, match="claims"):
        kubernetes_validate.validate(cluster.pod, "1.34", strict=True)

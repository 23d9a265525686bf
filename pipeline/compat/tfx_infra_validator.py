"""TFX's InfraValidator: two errors on Kubernetes, and what it keeps to itself.

For tfx 1.16 (compatible stack) and 1.21 (current).

* The pod of the model server asks for `claims: {}` where a list belongs, and is refused.
* The server's log is asked of the wrong pod.
* Why an attempt failed is logged and lost; `Executor.failed` is told.
* The folder with the copy of the model that a server sees cannot be chosen, nor the address of the
  server be changed for the one that is in reach.
"""

from __future__ import annotations

from typing import Any

from tfx.components.infra_validator import executor
from tfx.components.infra_validator.model_server_runners import kubernetes_runner
from tfx.proto import infra_validator_pb2

from pipeline.compat import Part

_RUNNER = "tfx.components.infra_validator.model_server_runners.kubernetes_runner"
_ONCE = ("self", "model_path", "serving_binary", "serving_spec", "validation_spec", "requests")
PARTS = (
    Part("tfx.components.infra_validator.executor", "Executor._ValidateOnce", _ONCE),
    Part("tfx.components.infra_validator.executor", "Executor._get_tmp_dir", ("self",)),
    Part(_RUNNER, "KubernetesRunner._BuildPodManifest", ("self",)),
    Part(_RUNNER, "_MODEL_SERVER_CONTAINER_NAME"),
)


class Executor(executor.Executor):
    """TFX's, which says why an attempt failed, and lets a folder and an address be chosen."""

    def failed(self, image: str, failure: Exception) -> None:
        """Is told of each attempt that failed: the server's image, and how it ended."""

    def folder(self) -> str | None:
        """Where the copy of the model goes that the server sees; None: wherever TFX likes."""
        return None

    def spec(self, spec: infra_validator_pb2.ServingSpec) -> infra_validator_pb2.ServingSpec:
        """Which server is started, given the one that the component was made with."""
        return spec

    def _ValidateOnce(
        self,
        model_path: str,
        serving_binary: Any,
        serving_spec: infra_validator_pb2.ServingSpec,
        validation_spec: infra_validator_pb2.ValidationSpec,
        requests: list[Any],
    ) -> None:
        runner = kubernetes_runner.KubernetesRunner
        kubernetes_runner.KubernetesRunner = KubernetesRunner  # TFX has no place to name another
        try:
            super()._ValidateOnce(
                model_path=model_path,
                serving_binary=serving_binary,
                serving_spec=self.spec(serving_spec),
                validation_spec=validation_spec,
                requests=requests,
            )
        except Exception as error:
            self.failed(serving_binary.image, error)
            raise
        finally:
            kubernetes_runner.KubernetesRunner = runner

    def _get_tmp_dir(self) -> str:
        return self.folder() or super()._get_tmp_dir()


class KubernetesRunner(kubernetes_runner.KubernetesRunner):
    """TFX's runner without two of its errors, which 1.16 has as well as 1.21."""

    def _BuildPodManifest(self) -> Any:
        """Asks for no resources; TFX's `claims: {}`, where a list belongs, has the pod refused."""
        pod = super()._BuildPodManifest()
        for container in pod.spec.containers:
            container.resources = None
        return pod

    def GetLogs(self) -> str | None:
        """The server's log; TFX asks the server's pod for a container of the task's pod."""
        if self._pod_name is None:
            return None
        return self._k8s_core_api.read_namespaced_pod_log(
            name=self._pod_name,
            namespace=self._namespace,
            container=kubernetes_runner._MODEL_SERVER_CONTAINER_NAME,
        )

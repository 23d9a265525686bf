"""TFX's InfraValidator: two bugs on Kubernetes, and missing hooks.

For tfx 1.16 (compatible stack) and 1.21 (current).

* The pod of the model server requests `claims: {}` instead of a list, so Kubernetes rejects it.
* The server's log is read from the wrong container.
* The reason for a failed attempt is only logged; here it is passed to `Executor.failed`.
* The folder with the model for the server, and the server's address, cannot be configured; here
  `Executor.folder` and `Executor.spec` decide.
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
    """TFX's executor with hooks for failures, the model's folder and the server."""

    def failed(self, image: str, failure: Exception) -> None:
        """Handle a failed attempt; gets the server's image and the error."""

    def folder(self) -> str | None:
        """Return the folder for the server's copy of the model; None: TFX's default."""
        return None

    def spec(self, spec: infra_validator_pb2.ServingSpec) -> infra_validator_pb2.ServingSpec:
        """Return the spec of the server to start, from that of the component."""
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
        kubernetes_runner.KubernetesRunner = KubernetesRunner  # not configurable in TFX
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
    """TFX's runner without the two bugs above."""

    def _BuildPodManifest(self) -> Any:
        """Remove the resources, whose `claims: {}` Kubernetes rejects."""
        pod = super()._BuildPodManifest()
        for container in pod.spec.containers:
            container.resources = None
        return pod

    def GetLogs(self) -> str | None:
        """Return the server's log; TFX asks for a container that only the task's pod has."""
        if self._pod_name is None:
            return None
        log: str = self._k8s_core_api.read_namespaced_pod_log(
            name=self._pod_name,
            namespace=self._namespace,
            container=kubernetes_runner._MODEL_SERVER_CONTAINER_NAME,
        )
        return log

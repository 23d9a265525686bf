"""Which failed tasks the cluster tries again, and what a task says about that when it ends.

What Argo makes of the shipped patch was tried once with Argo's own controller
(docs/explanation/kubeflow_retries.md); here its expression is evaluated on messages in Argo's form,
with Python in place of Argo's language, which for this expression differs in `contains` and in the
signs of and, or and not. The API of Kubernetes is a stand-in that knows one path.
"""

from __future__ import annotations

import http.server
import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given
from kfp_fixtures import Kubeflow

from kubeflow import cluster, termination

pytest_plugins = ["kfp_fixtures"]

SHIPPED = {  # by Kubeflow Pipelines 2.17
    "workflowDefaults": "spec:\n  templateDefaults:\n    retryStrategy:\n"
    "      limit: '2'\n      retryPolicy: OnError\n"
}
PATCHED = yaml.safe_load(cluster.PATCH.read_text())["data"]


class Kubernetes(http.server.ThreadingHTTPServer):
    """Answers for one ConfigMap: with its data, or a status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: dict[str, str] | int = SHIPPED


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Kubernetes

    def do_GET(self) -> None:
        known = "/api/v1/namespaces/kubeflow/configmaps/workflow-controller-configmap"
        answer = self.server.answer if self.path == known else 404
        status = answer if isinstance(answer, int) else 200
        body: dict[str, Any] = {"kind": "Status", "message": "no"}
        if not isinstance(answer, int):
            body = {"kind": "ConfigMap", "apiVersion": "v1", "data": answer}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    server = Kubernetes()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    context = {"name": "mine", "context": {"cluster": "c", "user": "u"}}
    content = {
        "current-context": "mine",
        "contexts": [context],
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    # The client has read KUBECONFIG when it was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    yield server
    server.shutdown()
    server.server_close()


def test_status_says_that_failed_containers_are_not_tried_again_and_what_mends_it(
    kubernetes: Kubernetes, uploaded: Kubeflow
) -> None:
    assert uploaded("status") == 0
    (line,) = [line for line in uploaded.out.splitlines() if line.startswith("Retries ")]
    assert "context 'mine'" in line
    assert "evicted ones and failed containers are not" in line
    assert "kubectl patch -n kubeflow configmap workflow-controller-configmap" in line
    assert Path(line.partition("--patch-file ")[2].split()[0]).is_file()


def test_status_says_nothing_more_where_the_patch_is_in(
    kubernetes: Kubernetes, uploaded: Kubeflow
) -> None:
    kubernetes.answer = PATCHED
    assert uploaded("status") == 0
    assert f"{cluster.MENDED}." in uploaded.out
    assert "kubectl" not in uploaded.out


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_without_rights_nothing_is_said(
    status: int, kubernetes: Kubernetes, uploaded: Kubeflow
) -> None:
    kubernetes.answer = status
    assert uploaded("status") == 0
    assert "Retries" not in uploaded.out
    assert uploaded.err == ""


def test_without_a_cluster_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    for content in (None, "", "a: [", "clusters: 3"):
        path = tmp_path / "config"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(place, str(path))
        assert cluster.retries() is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (None, "failed containers and evicted pods are tried"),  # Argo's own, before 2.17
        ({"limit": 2}, "pods that vanish are not"),
        ({"retryPolicy": "OnError"}, "failed containers are not"),
        ({"retryPolicy": "OnTransientError"}, "a passing fault"),
        ({"retryPolicy": "Always"}, "many times over"),
    ],
)
def test_policies_that_the_patch_mends(strategy: Any, said: str) -> None:
    defaults = {"spec": {"templateDefaults": {"retryStrategy": strategy}}} if strategy else {}
    found = cluster.explain({"workflowDefaults": yaml.safe_dump(defaults)})
    assert found is not None
    assert said in found
    assert "mends it" in found


@pytest.mark.parametrize(
    "text", ["spec: [", "3", "spec: 3", "spec: {templateDefaults: {retryStrategy: 3}}"]
)
def test_of_what_is_odd_nothing_is_said(text: str) -> None:
    assert cluster.explain({"workflowDefaults": text}) is None
    own = {"retryPolicy": "Always", "expression": "true"}
    defaults = {"spec": {"templateDefaults": {"retryStrategy": own}}}
    assert cluster.explain({"workflowDefaults": yaml.safe_dump(defaults)}) is None


def again(message: str) -> bool:
    """What the patch's expression says to a message."""
    defaults = yaml.safe_load(PATCHED["workflowDefaults"])
    text = defaults["spec"]["templateDefaults"]["retryStrategy"]["expression"]
    for part in ("Error (exit code", "another attempt may help"):
        whole = f"lastRetry.message contains '{part}'"
        assert whole in text
        text = text.replace(whole, f"({part!r} in message)")
    text = text.replace("lastRetry.message", "message").replace("&&", " and ")
    text = text.replace("||", " or ").replace("!(", "not (")
    return bool(eval(text, {"message": message}))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kubernetes' file for the message."""
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setattr(termination, "_FILE", path)
    return path


@given(words=st.text(st.characters(), max_size=3000), wanted=st.booleans())
def test_a_task_has_its_way_about_another_attempt(words: str, wanted: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.NamedTemporaryFile() as file:
        patch.setattr(termination, "_FILE", Path(file.name))
        termination.note(f"Trainer failed: {words}.", again=True)
        termination.note(f"Trainer: {words}.", wanted)
        content = file.read()
    assert len(content) <= 4096
    for form in ("main: Error (exit code 1): ", "Error (exit code 1): "):  # Argo 4, Argo 3
        assert again(form + content.decode(errors="replace")) == wanted


def test_lost_pods_are_tried_again_and_the_graphs_around_a_task_are_not() -> None:
    for message in ("pod deleted", "The node was low on resource: memory.", "main: OOMKilled"):
        assert again(message)
    assert not again("")
    assert not again("main: Error (exit code 1)")  # of other pipelines, as before the patch


def test_the_message_is_written_only_where_kubernetes_has_a_file_for_it(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    termination.note("One", again=False)
    assert kept.read_text() == "One"
    monkeypatch.setattr(termination, "_FILE", tmp_path / "none")
    termination.note("Two", again=False)
    assert not (tmp_path / "none").exists()

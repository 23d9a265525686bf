"""Rights, and servers that are dead, slow, old or wrong: each is one plain sentence."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from kubeflow import client, connection
from kubeflow.__main__ import main
from tests.support.kfp.api_server import Trouble
from tests.support.kfp.fixtures import Kubeflow
from tests.support.ports import free_port

pytest_plugins = ["tests.support.kfp.fixtures"]


# Users' namespaces and tokens


def test_namespaces_of_users(kubeflow: Kubeflow) -> None:
    kubeflow.server.multi_user = True
    assert "specify your namespace with --namespace" in kubeflow.refusal("status")
    mine = ["--namespace", "ada"]
    assert kubeflow.submit(*mine) == 0
    assert kubeflow("schedule", "--cron", "0 2 * * *", "--param", "data_root=/d", *mine) == 0
    assert kubeflow("status", *mine) == 0
    (pipeline,) = kubeflow.server.pipelines.values()
    (experiment,) = kubeflow.server.experiments.values()
    assert pipeline["namespace"] == experiment["namespace"] == "ada"


def test_a_wrong_namespace_is_one_sentence(kubeflow: Kubeflow) -> None:
    kubeflow.server.multi_user = True
    said = kubeflow.refusal("status", "--namespace", "bob")
    assert "Permission denied in the namespace 'bob'" in said
    assert "check --namespace" in said
    kubeflow.server.multi_user = False
    said = kubeflow.refusal("status", "--namespace", "bob")
    assert "is in single-user mode" in said


def test_a_refused_upload_says_that_rights_may_be_missing(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [
        Trouble("/upload_version", 400, b'{"error_message": "Failed to create a pipeline"}')
    ]
    assert kubeflow.submit() == 2
    assert "(400: Failed to create a pipeline); it says the same if you lack" in kubeflow.err


def test_the_token_is_read_anew_for_each_request(kubeflow: Kubeflow, tmp_path: Path) -> None:
    kubeflow.server.token = "first"
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("first\n")
    said = kubeflow.refusal("status")
    assert "requires a login (401: " in said
    assert kubeflow.submit("--token-file", str(token), "--no-run") == 0
    token.write_text("old")
    assert "pass a fresh token" in kubeflow.refusal("status", "--token-file", str(token))
    missing = kubeflow.refusal("status", "--token-file", str(tmp_path / "none"))
    assert "Cannot read the token" in missing


# Servers that are dead, slow, old, or wrong


COMMANDS: list[tuple[str, ...]] = [
    ("status",),
    ("schedule", "--list"),
    ("schedule", "--cron", "0 2 * * *"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dead_server_is_one_sentence(kubeflow: Kubeflow, command: tuple[str, ...]) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    said = kubeflow.refusal(*command, host=dead)
    assert f"Cannot reach a Kubeflow Pipelines server at {dead}" in said
    assert "Connection refused" in said


def test_a_host_that_does_not_exist_is_one_sentence(kubeflow: Kubeflow) -> None:
    said = kubeflow.refusal("status", host="http://no.such.host.invalid")
    assert "Cannot reach a Kubeflow Pipelines server at http://no.such.host.invalid" in said


def test_no_host_is_one_sentence(
    kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeflow.connection.IN_CLUSTER", Path("/none"))
    assert main(["status"]) == 2
    assert "No server given; pass --host" in capsys.readouterr().err


@pytest.mark.parametrize("matches", ["healthz", "GET .*/pipelines$"])
def test_a_slow_server_is_one_sentence_in_time(uploaded: Kubeflow, matches: str) -> None:
    uploaded.server.troubles = [Trouble(matches, 0, delay=3)]
    begin = time.monotonic()
    said = uploaded.refusal("status", "--request-timeout", "0.2")
    assert time.monotonic() - begin < 2
    assert "did not respond within 0.2 s" in said
    assert "--request-timeout" in said


def test_requests_with_side_effects_are_not_retried(uploaded: Kubeflow) -> None:
    uploaded.server.troubles = [Trouble("POST .*/runs", 0, delay=0.5, times=1)]
    assert uploaded.submit("--request-timeout", "0.2") == 2
    assert "did not respond" in uploaded.err
    time.sleep(0.5)
    assert uploaded.server.requests.count("POST /apis/v2beta1/runs") == 1


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (
            500,
            b'{"code": 13, "message": "Internal Server Error: db"}',
            "failed when looking for the",
        ),
        (502, b"<html>Bad Gateway</html>", "(502: <html>Bad Gateway</html>)"),
        (503, b"", "(503: Service Unavailable)"),
        (500, b"\xff\xfe", "failed when looking for the pipeline"),
        (401, b"", "requires a login (401: Unauthorized)"),
        (403, b"RBAC: access denied", "Permission denied on"),
        (404, b'{"error": "namespace not found", "code": 5}', "found nothing when"),
        (409, b"{}", "rejected looking for the pipeline"),
        (200, b"<html>Log in</html>", "behind a login page"),
    ],
)
def test_a_server_that_errs_is_one_sentence(
    kubeflow: Kubeflow, status: int, body: bytes, sentence: str
) -> None:
    kubeflow.server.troubles = [Trouble("GET .*/pipelines$", status, body)]
    assert sentence in kubeflow.refusal("status")


def test_an_old_server_is_one_sentence(kubeflow: Kubeflow) -> None:
    kubeflow.server.v1_only = True
    said = kubeflow.refusal("status")
    assert "is too old: it only has version 1 of the API" in said
    assert "upgrade Kubeflow Pipelines to 2.0 or newer" in said


def test_the_web_pages_server_is_known_by_its_own_words(kubeflow: Kubeflow) -> None:
    """A port-forward leads to it; what is here is read in the source of its health answer."""
    answer = {"apiServerTagName": "2.17.0", "apiServerReady": True, "pipelineStore": "kubernetes"}
    kubeflow.server.troubles = [Trouble("healthz", 200, json.dumps(answer).encode())]
    server = client.Server(connection.Connection(host=kubeflow.url))
    assert server.version == (2, 17)


def test_another_server_is_one_sentence(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [Trouble("healthz", 404, b"404 page not found")]
    assert "No Kubeflow Pipelines server found at" in kubeflow.refusal("status")
    kubeflow.server.troubles = [Trouble("healthz", 200, b"<html>welcome</html>")]
    assert "does not respond like Kubeflow Pipelines" in kubeflow.refusal("status")


def test_a_server_that_hangs_up_is_one_sentence(kubeflow: Kubeflow) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(2):
                listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        said = kubeflow.refusal("status", host=f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert "Cannot reach a Kubeflow Pipelines server" in said


def test_tls_that_fails_is_one_sentence(kubeflow: Kubeflow, tmp_path: Path) -> None:
    secure = kubeflow.url.replace("http:", "https:")  # where nobody speaks TLS
    assert f"Cannot make a trusted connection to {secure}" in kubeflow.refusal(
        "status", host=secure
    )
    said = kubeflow.refusal("status", "--ca-cert", str(tmp_path / "none.pem"))
    assert "specify a CA certificate" in said


@pytest.mark.parametrize("option", ["--request-timeout=0", "--request-timeout=soon"])
def test_a_bad_time_limit_is_one_sentence(kubeflow: Kubeflow, option: str) -> None:
    assert "--request-timeout" in kubeflow.refusal("status", option)

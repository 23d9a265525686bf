"""What the stand-in for a server refuses, as the API models and the source of the server do."""

import json
import urllib.parse
from typing import Any

import pytest
import urllib3

from tests.support.kfp.api import check
from tests.support.kfp.fixtures import Kubeflow
from tests.support.kfp.stand_in import StandIn

pytest_plugins = ["tests.support.kfp.fixtures"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"display_nam": "a"}, "no field 'display_nam'"),
        ({"display_name": 5}, "5 is no str"),
        ({"mode": "ON"}, "'ON' is no RecurringRunMode"),
        ({"no_catchup": "yes"}, "'yes' is no bool"),
        ({"trigger": {"cron_schedule": {"corn": "x"}}}, "no field 'corn'"),
        ({"runtime_config": {"parameters": ["epochs"]}}, "is no dict"),
        ({"created_at": "yesterday"}, "yesterday"),
    ],
)
def test_the_stand_in_refuses_what_the_api_models_do_not_have(
    value: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        check(value, "V2beta1RecurringRun", "body")


def test_the_stand_in_keeps_a_request_that_the_api_does_not_have() -> None:
    stand_in = StandIn()
    for target in ["/apis/v2beta1/runs?page_sise=3", "/apis/v2beta1/jobs"]:
        status, _ = stand_in.answer("GET", target, {}, b"")
        assert status == 400
    assert stand_in.answer("PUT", "/apis/v2beta1/runs", {}, b"")[0] == 400
    assert stand_in.answer("POST", "/apis/v2beta1/runs", {}, b'{"name": "x"}')[0] == 400
    assert len(stand_in.faults) == 4


PARAMETERS = {"data_root": "/data"}


@pytest.mark.parametrize(
    ("given", "status", "sentence"),
    [
        ({}, 400, "parameter data_root is not optional"),
        (None, 400, "pipeline requiring input has no parameter(s) provided"),
        ({"data_root": 5}, 400, "input parameter data_root requires type STRING"),
        ({**PARAMETERS, "epochs": "5"}, 400, "input parameter epochs requires type NUMBER_INTEGER"),
        ({**PARAMETERS, "epochs": True}, 400, "requires type NUMBER_INTEGER"),
        ({**PARAMETERS, "epoch": 5}, 400, "not required by pipeline: {'epoch'}"),
        ({**PARAMETERS, "epochs": 5}, 200, ""),
    ],
)
@pytest.mark.parametrize("kind", ["runs", "recurringruns"])
def test_the_stand_in_checks_parameters_as_the_server_does(
    uploaded: Kubeflow, kind: str, given: dict[str, Any] | None, status: int, sentence: str
) -> None:
    answer, said = post(uploaded, kind, {} if given is None else {"parameters": given}, given)
    assert answer == status
    assert sentence in said


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"max_concurrency": "0"}, 400),
        ({"max_concurrency": "11"}, 400),
        ({"trigger": {"cron_schedule": {"cron": "0 2 * *"}}}, 400),
        ({"trigger": {"cron_schedule": {"cron": "0 0 24 * * *"}}}, 400),
        ({"trigger": {"cron_schedule": {"cron": "0 0 2 * * 7"}}}, 400),
        ({"display_name": ""}, 500),
        ({"trigger": {"cron_schedule": {"cron": "0 */15 2 1-7/3 * mon"}}}, 200),
    ],
)
def test_the_stand_in_checks_schedules_as_the_server_does(
    uploaded: Kubeflow, changes: dict[str, Any], status: int
) -> None:
    assert (
        post(uploaded, "recurringruns", {"parameters": PARAMETERS}, PARAMETERS, changes)[0]
        == status
    )


def post(
    kubeflow: Kubeflow,
    kind: str,
    runtime: dict[str, Any],
    given: dict[str, Any] | None,
    changes: dict[str, Any] | None = None,
) -> tuple[int, str]:
    """Asks the stand-in for a run or a schedule; returns the status and what it says."""
    kubeflow.server.experiments["e"] = {"experiment_id": "e", "display_name": "e"}
    (version,) = kubeflow.server.versions.values()
    reference = {key: version[key] for key in ("pipeline_id", "pipeline_version_id")}
    body = {
        "display_name": "by hand",
        "experiment_id": "e",
        "pipeline_version_reference": reference,
        **({} if given is None else {"runtime_config": runtime}),
    }
    if kind == "recurringruns":
        body |= {
            "max_concurrency": "1",
            "mode": "ENABLE",
            "trigger": {"cron_schedule": {"cron": "0 0 2 * * *"}},
        }
    content = json.dumps({**body, **(changes or {})}).encode()
    status, answer = kubeflow.server.answer("POST", f"/apis/v2beta1/{kind}", {}, content)
    return status, json.loads(answer).get("message", "")


@pytest.mark.parametrize(
    ("package", "name", "status"),
    [
        ("schemaVersion: 2.0.0\npipelineInfo: {name: a}\nroot: {dag: {}}", "v", 400),
        ("schemaVersion: 2.1.0\npipelineInfo: {name: -}\nroot: {dag: {}}", "v", 400),
        ("schemaVersion: 2.1.0\npipelineInfo: {name: a}", "v", 400),
        ("schemaVersion: 2.1.0\npipelineInfo: {name: a}\nroot: {dag: {}}", "v" * 128, 400),
        ("schemaVersion: 2.1.0\npipelineInfo: {name: a}\nroot: {dag: {}}", "v", 200),
        ("schemaVersion: 2.1.0\npipelineInfo: {name: a}\nroot: {dag: {}}", "taken", 409),
    ],
)
def test_the_stand_in_checks_packages_and_names_as_the_server_does(
    uploaded: Kubeflow, package: str, name: str, status: int
) -> None:
    (version,) = uploaded.server.versions.values()
    version["display_name"] = "taken"
    query = urllib.parse.urlencode({"name": name, "pipelineid": version["pipeline_id"]})
    body, kind = urllib3.encode_multipart_formdata({"uploadfile": ("p.yaml", package)})
    target = f"/apis/v2beta1/pipelines/upload_version?{query}"
    assert uploaded.server.answer("POST", target, {"content-type": kind}, body)[0] == status

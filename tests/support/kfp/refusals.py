"""What a Kubeflow Pipelines server refuses, as read in the source of its release 2.17.0.

Named at each: the file under backend/src/apiserver of kubeflow/pipelines.
"""

from __future__ import annotations

import re
from typing import Any

_NUMBER = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    "NUMBER_DOUBLE": _NUMBER,
    "NUMBER_INTEGER": _NUMBER,
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_CRON = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_there(value: Any, message: str) -> None:
    """Names must not be empty (server/run_server.go, pipeline_server.go, experiment_server.go)."""
    if not value:
        raise Refused(400, message)


def check_length(what: str, value: str, most: int) -> None:
    """validation/length.go."""
    if len(value) > most:
        raise Refused(400, f"{what} length cannot exceed {most}")


def check_object_name(name: str) -> None:
    """storage/pipeline_store_kubernetes.go: a version is an object of Kubernetes."""
    if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", name):
        raise Refused(400, "Failed to create a pipeline version")


def check_new(name: str, known: list[str]) -> None:
    """storage/pipeline_store.go and experiment_store.go."""
    if name in known:
        raise Refused(409, f"The name {name} already exists")


def check_package(documents: list[Any]) -> None:
    """template/v2_template.go, NewV2SpecTemplate."""
    spec = documents[0]
    if spec.get("schemaVersion") != "2.1.0":
        raise Refused(400, f"KFP only supports schema version 2.1.0, not {spec['schemaVersion']}")
    if not re.match(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", spec["pipelineInfo"]["name"]):
        raise Refused(400, "invalid v2 pipeline spec: name should consist of lower case")
    if not spec.get("root"):
        raise Refused(400, "invalid v2 pipeline spec: root component is empty")


def check_parameters(spec: dict[str, Any], runtime: dict[str, Any] | None) -> None:
    """template/v2_template.go, validatePipelineJobInputs."""
    wanted = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if runtime is None:
        if wanted:
            raise Refused(400, "pipeline requiring input has no parameter(s) provided")
        return
    given = runtime.get("parameters") or {}
    for name, parameter in wanted.items():
        if name not in given:
            if not parameter.get("isOptional") and "defaultValue" not in parameter:
                raise Refused(400, f"parameter {name} is not optional, yet has no value")
            continue
        kind, value = parameter["parameterType"], given[name]
        if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise Refused(400, f"input parameter {name} requires type {kind}")
        if parameter.get("literals") and value not in parameter["literals"]:
            raise Refused(400, f"input parameter {name} is not one of the literals")
    if extra := set(given) - set(wanted):
        raise Refused(400, f"parameter(s) provided are not required by pipeline: {extra}")


def check_recurring_run(body: dict[str, Any]) -> None:
    """server/api_converter.go, toModelJob."""
    if not body.get("display_name"):
        raise Refused(500, "Recurring run's name cannot be empty")
    if not 1 <= int(body.get("max_concurrency") or 0) <= 10:
        raise Refused(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
    if not _is_cron(body["trigger"]["cron_schedule"]["cron"]):
        raise Refused(400, "Schedule cron is not a supported format")


def _is_cron(text: str) -> bool:
    """github.com/robfig/cron v1.2.0, Parse: names and ranges are left to tests/test_kubeflow_*."""
    fields = text.split()
    if len(fields) not in (5, 6):
        return False
    numbers = zip(fields, _CRON, strict=False)
    return all(
        least <= int(number) <= most
        for field, (least, most) in numbers
        for number in re.findall(r"(?<![/\d])\d+", field)
    )

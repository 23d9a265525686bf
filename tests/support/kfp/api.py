"""The API of Kubeflow Pipelines as the SDK has it: its operations, and what fits their models."""

from __future__ import annotations

import datetime
import inspect
import re
from dataclasses import dataclass
from typing import Any

import kfp_server_api

_SERVICES = ["Experiment", "Healthz", "PipelineUpload", "Pipeline", "RecurringRun", "Run"]


@dataclass(frozen=True)
class Operation:
    """One operation of the API, as kfp_server_api has it."""

    name: str
    method: str
    path: str
    query: frozenset[str]
    body: str | None
    answer: str

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(self.path)) + "$")


def operations() -> list[Operation]:
    """All operations of the services we talk to, from the source of the SDK's API client."""
    found = []
    for service in _SERVICES:
        api = getattr(kfp_server_api, f"{service}ServiceApi")
        for name, function in inspect.getmembers(api, inspect.isfunction):
            if not name.endswith("_with_http_info"):
                continue
            source = inspect.getsource(function)
            where = re.search(r"call_api\(\s*'([^']+)', '(\w+)'", source)
            answer = re.search(r"response_type='([^']+)'", source)
            assert where, name
            assert answer, name
            body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
            typed = body and re.search(rf":type {body[1]}: (\S+)", function.__doc__ or "")
            assert bool(typed) == bool(body), name
            query = re.findall(r"query_params\.append\(\('(\w+)'", source)
            found.append(
                Operation(
                    name.removesuffix("_with_http_info").rpartition("_service_")[2],
                    where[2],
                    where[1],
                    frozenset(query),
                    typed[1] if typed else None,
                    answer[1],
                )
            )
    return found


def check(value: Any, kind: str, where: str) -> None:
    """Checks a JSON value against a type of kfp_server_api.

    Raises:
      ValueError: for an unknown field, a wrong type, or a value outside an enumeration.
    """
    if value is None or kind == "object":
        return
    if kind.startswith("list["):
        _demand(isinstance(value, list), where, kind, value)
        for number, item in enumerate(value):
            check(item, kind[5:-1], f"{where}[{number}]")
    elif kind.startswith("dict("):
        _demand(isinstance(value, dict), where, kind, value)
        for key, item in value.items():
            check(item, kind[5:-1].partition(", ")[2], f"{where}.{key}")
    elif kind == "datetime":
        _demand(isinstance(value, str), where, kind, value)
        datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    elif kind in ("str", "int", "bool", "float"):
        # int64 is a str in the models; the JSON of protocol buffers takes a number as well.
        wanted = {"str": (str, int), "int": (int,), "bool": (bool,), "float": (int, float)}[kind]
        int64 = kind != "str" or isinstance(value, str) or where.endswith("max_concurrency")
        boolean = isinstance(value, bool) and kind != "bool"
        _demand(isinstance(value, wanted) and int64 and not boolean, where, kind, value)
    else:
        _check_model(value, kind, where)


def _check_model(value: Any, kind: str, where: str) -> None:
    model = getattr(kfp_server_api.models, kind)
    if not model.openapi_types:  # an enumeration
        allowed = {getattr(model, name) for name in dir(model) if name.isupper()}
        _demand(value in allowed, where, kind, value)
        return
    _demand(isinstance(value, dict), where, kind, value)
    known = {json_name: name for name, json_name in model.attribute_map.items()}
    for key, item in value.items():
        if key not in known:
            raise ValueError(f"{where}: {kind} has no field {key!r}")
        check(item, model.openapi_types[known[key]], f"{where}.{key}")
    model(**{known[key]: item for key, item in value.items()})


def _demand(holds: bool, where: str, kind: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"{where}: {value!r} is no {kind}")

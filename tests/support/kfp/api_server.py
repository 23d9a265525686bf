"""The requests of the stand-in's API: which there are, whether they fit, and how they are answered.

A request that is no operation of the SDK's own kfp_server_api (`api`), has an unknown field or
query parameter, or a value of the wrong type, is refused and kept in ``faults``. The answers are
checked likewise.
"""

from __future__ import annotations

import datetime
import email
import email.policy
import json
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from tests.support.kfp.api import Operation, check, operations
from tests.support.kfp.nodes import Look
from tests.support.kfp.refusals import (
    Refused,
)

_NEVER = "1970-01-01T00:00:00Z"


@dataclass
class Trouble:
    """What to answer instead, to requests whose method and path match, ``times`` times."""

    matches: str
    status: int = 500
    body: bytes = b'{"code": 13, "message": "made to fail"}'
    times: int = 1000
    delay: float = 0.0


@dataclass
class ApiServer:
    """The server's state, what tests set and look at, and how it takes requests.

    Attributes:
      tag: the release that it claims to be.
      multi_user: whether users have namespaces.
      rights: namespaces that the user may use, where multi_user is set.
      token: bearer token that is asked for.
      v1_only: only API v1 is there, as before 2.0.
      pipeline_store: where it keeps pipelines: "database" or "kubernetes".
      script: states of a new run, one for each look at it, or several with commas that it had since
        the last; the last one stays.
      task_script: the same for its components.
      notes_stops: whether a run's history tells that it was stopped; it does not where Argo ends it
        before the server has looked again.
      logs: component to the log of its pods.
      logs_at: who gives logs: "api", as the API server does, "page", as the UI's server does,
        or "none", where no log is kept.
      requests: method and path of all requests, in order.
    """

    tag: str = "2.17.0"
    multi_user: bool = False
    rights: tuple[str, ...] = ("ada",)
    token: str | None = None
    v1_only: bool = False
    pipeline_store: str = "database"
    script: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    task_script: list[dict[str, Look]] = field(default_factory=list)
    notes_stops: bool = True
    logs: dict[str, str] = field(default_factory=dict)
    logs_at: str = "api"
    pods: dict[str, str] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    active: list[int] = field(default_factory=list)
    page_limit: int = 200

    def __post_init__(self) -> None:
        self._operations = operations()
        self._clock = datetime.datetime(2026, 11, 24, 1, tzinfo=datetime.timezone.utc)
        self._lock = threading.Lock()

    def answer(self, method: str, target: str, headers: Any, content: bytes) -> tuple[int, bytes]:
        """Answers one request."""
        url = urllib.parse.urlsplit(target)
        self.requests.append(f"{method} {url.path}")
        for trouble in self.troubles:
            if trouble.times and re.search(trouble.matches, f"{method} {url.path}"):
                trouble.times -= 1
                time.sleep(trouble.delay)
                if trouble.status:
                    return trouble.status, trouble.body
        if "/nodes/" in url.path or url.path == "/k8s/pod/logs":
            return self._log(url)
        try:
            with self._lock:
                return 200, json.dumps(self._dispatch(method, url, headers, content)).encode()
        except Refused as refusal:
            code = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6}.get(refusal.status, 13)
            body = {"code": code, "message": str(refusal), "details": []}
            if "/upload" in url.path:
                body = {"error_message": str(refusal), "error_details": ""}
            return refusal.status, json.dumps(body).encode()
        except Exception as error:  # a mistake here, or an answer that does not pass the check
            self.faults.append(f"{method} {url.path}: {error!r}")
            return 500, b"{}"

    def _log(self, url: Any) -> tuple[int, bytes]:
        """As ReadRunLogV1 of the API server, or the pod-logs handler of the UI's, answers."""
        page = url.path == "/k8s/pod/logs"
        if page != (self.logs_at == "page"):
            # The one knows no such path, and the other shows its page on any.
            return (404, b"404 page not found") if page else (200, b"<!doctype html><html></html>")
        query = dict(urllib.parse.parse_qsl(url.query))
        pod = query.get("podname", "") if page else url.path.split("/")[-2]
        log = self.logs.get(self.pods.get(pod, ""))
        if log is not None and self.logs_at != "none":
            return 200, log.encode()
        if page:
            return 500, b"Could not get main container logs: Error: Unable to retrieve workflow"
        message = {"error_message": "Failed to read logs for run", "error_details": ""}
        return 200, json.dumps(message).encode()

    def _dispatch(self, method: str, url: Any, headers: Any, content: bytes) -> Any:
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(401, "Request header error: there is no user identity header")
        if self.v1_only and not url.path.startswith("/apis/v1beta1/"):
            raise Refused(404, "Not Found")
        if url.path == "/apis/v1beta1/healthz":
            return {"multi_user": self.multi_user}
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        try:
            operation, names = self._operation(method, url.path)
            unknown = set(query) - operation.query
            if unknown:
                raise ValueError(f"{operation.name} has no query parameter {unknown}")
            body = self._body(operation, headers, content)
        except ValueError as error:
            self.faults.append(f"{method} {url.path}: {error}")
            raise Refused(400, str(error)) from None
        self.bodies.append(body)
        answer = getattr(self, f"_{operation.name}")(query=query, body=body, **names)
        if operation.name != "get_healthz":  # the real one says more than its model, too
            check(answer, operation.answer, operation.name)
        return answer

    def _operation(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        for operation in self._operations:
            match = operation.pattern.match(path)
            if match and operation.method == method:
                return operation, match.groupdict()
        raise ValueError("the API has no such operation")

    def _body(self, operation: Operation, headers: Any, content: bytes) -> Any:
        if operation.name.startswith("upload"):
            head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
            message = email.message_from_bytes(head + content, policy=email.policy.HTTP)
            (part,) = message.iter_parts()
            if part.get_param("name", header="content-disposition") != "uploadfile":
                raise ValueError("the form has no uploadfile")
            return part.get_payload(decode=True)
        if operation.body is None:
            if content:
                raise ValueError(f"{operation.name} takes no body")
            return None
        body = json.loads(content)
        check(body, operation.body, operation.name)
        return body

    def _now(self) -> str:
        self._clock += datetime.timedelta(seconds=1)
        return self._clock.isoformat().replace("+00:00", "Z")

    def _allow(self, namespace: str | None) -> None:
        if self.multi_user and namespace not in self.rights:
            raise Refused(
                403,
                f"User 'ada' is not authorized with reason: no rights in {namespace!r}",
            )

    def _list(self, key: str, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            # The JSON of protocol buffers takes stringValue for string_value, and numbers of
            # enumerations; the SDK sends both.
            snake = {re.sub("([A-Z])", r"_\1", key).lower(): predicate[key] for key in predicate}
            if snake["operation"] == 1:
                snake["operation"] = "EQUALS"
            check(snake, "V2beta1Predicate", "filter")
            if snake["operation"] != "EQUALS":
                raise Refused(400, "the stand-in knows EQUALS only")
            items = [item for item in items if item[snake["key"]] == snake["string_value"]]
        by, _, order = (query.get("sort_by") or "created_at").partition(" ")
        items = sorted(items, key=lambda item: item[by], reverse=order == "desc")
        size = min(int(query.get("page_size") or 20), self.page_limit)
        begin = int(query.get("page_token") or 0)
        answer: dict[str, Any] = {key: items[begin : begin + size], "total_size": len(items)}
        if begin + size < len(items):
            answer["next_page_token"] = str(begin + size)
        return answer if answer[key] else {}  # protocol buffers leave out what is empty

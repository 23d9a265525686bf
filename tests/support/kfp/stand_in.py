"""A stand-in for a Kubeflow Pipelines server, on loopback; it is not Kubeflow Pipelines.

It keeps pipelines, versions, experiments, runs and recurring runs in memory. A request that is no
operation of the SDK's own kfp_server_api (kfp_api.py), has an unknown field or query parameter, or
a value of the wrong type, is refused and kept in ``faults``. The answers are checked likewise. What
the server itself refuses is refused as its source does it (kfp_refusals.py), and a run's tasks have
the shapes that a real server gave them (kfp_nodes.py).
"""

from __future__ import annotations

import copy
import datetime
import email
import email.policy
import json
import re
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.support.kfp.api import Operation, check, operations
from tests.support.kfp.nodes import Look, Nodes
from tests.support.kfp.refusals import (
    Refused,
    check_length,
    check_new,
    check_object_name,
    check_package,
    check_parameters,
    check_recurring_run,
    check_there,
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
class StandIn:
    """The server's state, and what tests set and look at.

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
      logs_at: who gives logs: "api", as the API server does, "page", as the web page's server does,
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
        """As ReadRunLogV1 of the API server, or the pod-logs handler of the web page's, answers."""
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

    def _get_healthz(self, query: Any, body: Any) -> Any:
        return {
            "commit_sha": "unknown",
            "tag_name": self.tag,
            "multi_user": self.multi_user,
            "pipeline_store": self.pipeline_store,
        }

    def _new_version(self, pipeline_id: str, name: str, description: str, content: bytes) -> Any:
        documents = list(yaml.safe_load_all(content))
        check_package(documents)
        check_length("PipelineVersion.Name", name, 127)
        if self.pipeline_store == "kubernetes":
            check_object_name(name)
        known = [each for each in self.versions.values() if each["pipeline_id"] == pipeline_id]
        check_new(name, [each["display_name"] for each in known])
        spec = {"pipeline_spec": documents[0]}
        if len(documents) > 1:
            spec["platform_spec"] = documents[1]
        version_id = str(uuid.uuid4())
        version = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": version_id,
            "display_name": name,
            "description": description,
            "created_at": self._now(),
            "pipeline_spec": spec,
        }
        self.versions[version_id] = version
        return version

    def _create_pipeline(self, query: Any, body: dict[str, Any]) -> Any:
        check_there(body.get("display_name"), "name is required")
        check_length("Pipeline.Name", body["display_name"], 128)
        self._allow(body.get("namespace"))
        known = [e for e in self.pipelines.values() if e["namespace"] == body.get("namespace", "")]
        check_new(body["display_name"], [each["display_name"] for each in known])
        ids = {"pipeline_id": str(uuid.uuid4()), "created_at": self._now()}
        made = {"namespace": "", **body, **ids}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def _upload_pipeline_version(self, query: dict[str, str], body: bytes) -> Any:
        pipeline = self._known(self.pipelines, query["pipelineid"])
        if self.multi_user and pipeline["namespace"] not in self.rights:
            raise Refused(400, "Failed to create a pipeline version")  # the real one says no more
        return self._new_version(
            query["pipelineid"], query["name"], query.get("description", ""), body
        )

    def _known(self, shelf: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        if key not in shelf:
            raise Refused(404, f"ResourceNotFoundError: {key} not found")
        return shelf[key]

    def _list_pipelines(self, query: dict[str, str], body: Any) -> Any:
        namespace = query.get("namespace", "")
        if namespace:
            self._allow(namespace)
        items = [each for each in self.pipelines.values() if each["namespace"] == namespace]
        return self._list("pipelines", items, query)

    def _list_pipeline_versions(self, query: dict[str, str], body: Any, pipeline_id: str) -> Any:
        self._known(self.pipelines, pipeline_id)
        items = [each for each in self.versions.values() if each["pipeline_id"] == pipeline_id]
        return self._list("pipeline_versions", items, query)

    def _list_experiments(self, query: dict[str, str], body: Any) -> Any:
        self._allow(query.get("namespace"))
        items = [
            each
            for each in self.experiments.values()
            if each.get("namespace", "") == query.get("namespace", "")
        ]
        return self._list("experiments", items, query)

    def _create_experiment(self, query: Any, body: dict[str, Any]) -> Any:
        self._allow(body.get("namespace"))
        check_there(body.get("display_name"), "experiment's name cannot be empty")
        place = body.get("namespace")
        known = [each for each in self.experiments.values() if each.get("namespace") == place]
        check_new(body["display_name"], [each["display_name"] for each in known])
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": self._now()}
        self.experiments[made["experiment_id"]] = made
        return made

    def newest(self, pipeline_id: str) -> str:
        """Id of the newest version."""
        items = [each for each in self.versions.values() if each["pipeline_id"] == pipeline_id]
        return str(max(items, key=lambda each: each["created_at"])["pipeline_version_id"])

    def _create_run(self, query: Any, body: dict[str, Any]) -> Any:
        check_there(body.get("display_name"), "The run name is empty. Please specify a valid name")
        self._allow(self._known(self.experiments, body["experiment_id"]).get("namespace"))
        reference = body["pipeline_version_reference"]
        self._known(self.pipelines, reference["pipeline_id"])
        reference["pipeline_version_id"] = reference["pipeline_version_id"] or self.newest(
            reference["pipeline_id"]
        )
        check_parameters(self._spec(reference["pipeline_version_id"]), body.get("runtime_config"))
        run_id, now = str(uuid.uuid4()), self._now()
        self.runs[run_id] = {
            "storage_state": "AVAILABLE",
            "service_account": "pipeline-runner",
            **body,
            "run_id": run_id,
            "created_at": now,
            "scheduled_at": now,
            "finished_at": _NEVER,
            "state_history": [],
        }
        self._set_state(self.runs[run_id], "PENDING")
        self.looks[run_id] = 0
        return self.runs[run_id]

    def _spec(self, version_id: str) -> dict[str, Any]:
        spec: dict[str, Any] = self._known(self.versions, version_id)["pipeline_spec"]
        pipeline_spec: dict[str, Any] = spec["pipeline_spec"]
        return pipeline_spec

    def _set_state(self, run: dict[str, Any], state: str) -> None:
        noted = state != "CANCELING" or self.notes_stops
        if run.get("state") != state and noted:
            run["state_history"].append({"update_time": self._now(), "state": state})
        run["state"] = state
        if state in ("SUCCEEDED", "FAILED", "CANCELED"):
            run["finished_at"] = "2026-11-24T02:00:00Z"

    def _get_run(self, query: Any, body: Any, run_id: str) -> Any:
        run = self._known(self.runs, run_id)
        look, self.looks[run_id] = self.looks[run_id], self.looks[run_id] + 1
        for state in self.script[min(look, len(self.script) - 1)].split(", "):
            self._set_state(run, state)
        looks = self.task_script[min(look, len(self.task_script) - 1)] if self.task_script else {}
        spec = self._spec(run["pipeline_version_reference"]["pipeline_version_id"])
        nodes = Nodes(spec, f"segmentation-{run_id[:5]}", looks)
        self.pods |= nodes.pods
        run["run_details"] = {"task_details": [{**task, "run_id": run_id} for task in nodes.tasks]}
        return run

    def _list_runs(self, query: dict[str, str], body: Any) -> Any:
        items = [
            each
            for each in self.runs.values()
            if each["experiment_id"] == query.get("experiment_id", each["experiment_id"])
        ]
        return self._list("runs", items, query)

    def _create_recurring_run(self, query: Any, body: dict[str, Any]) -> Any:
        check_recurring_run(body)
        self._known(self.experiments, body["experiment_id"])
        reference = body["pipeline_version_reference"]
        version_id = reference.get("pipeline_version_id")
        if not version_id and not self.tag.startswith("2.17"):
            raise Refused(500, "runtime error: invalid memory address or nil pointer dereference")
        spec = self._spec(version_id or self.newest(reference["pipeline_id"]))
        check_parameters(spec, body.get("runtime_config"))
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "created_at": self._now()}
        made["status"] = "ENABLED" if body["mode"] == "ENABLE" else "DISABLED"
        self.recurring_runs[made["recurring_run_id"]] = made
        self._count()
        return made

    def _count(self) -> None:
        self.active.append(sum(r["status"] == "ENABLED" for r in self.recurring_runs.values()))

    def _list_recurring_runs(self, query: dict[str, str], body: Any) -> Any:
        self._allow(query.get("namespace"))
        return self._list("recurringRuns", list(self.recurring_runs.values()), query)

    def _enable_recurring_run(self, query: Any, body: Any, recurring_run_id: str) -> Any:
        self._known(self.recurring_runs, recurring_run_id)["status"] = "ENABLED"
        self._count()
        return {}

    def _disable_recurring_run(self, query: Any, body: Any, recurring_run_id: str) -> Any:
        self._known(self.recurring_runs, recurring_run_id)["status"] = "DISABLED"
        self._count()
        return {}

    def trigger(self, schedule: dict[str, Any]) -> dict[str, Any]:
        """Starts a run of a schedule, as the clock would."""
        known = {"experiment_id", "pipeline_version_reference", "runtime_config"}
        body = {key: copy.deepcopy(schedule[key]) for key in known}
        body["display_name"] = f"{schedule['display_name']} {len(self.runs)}"
        run: dict[str, Any] = self._create_run({}, body)
        run["recurring_run_id"] = schedule["recurring_run_id"]
        return run

    def _delete_recurring_run(self, query: Any, body: Any, recurring_run_id: str) -> Any:
        self._known(self.recurring_runs, recurring_run_id)
        for run in self.runs.values():
            # Kubernetes deletes the workflow of a run with the schedule that owns it.
            if run.get("recurring_run_id") == recurring_run_id and run["state"] == "RUNNING":
                self.faults.append(f"the run {run['display_name']} was ended")
        del self.recurring_runs[recurring_run_id]
        self._count()
        return {}

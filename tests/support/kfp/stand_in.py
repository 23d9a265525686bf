"""A stand-in for a Kubeflow Pipelines server, on loopback; it is not Kubeflow Pipelines.

It keeps pipelines, versions, experiments, runs and recurring runs in memory. What the server itself
refuses is refused as its source does it (`refusals`), and a run's tasks have the shapes that a real
server gave them (`nodes`).
"""

from __future__ import annotations

import copy
import uuid
from typing import Any

import yaml

from tests.support.kfp.api_server import ApiServer
from tests.support.kfp.nodes import Nodes
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


class StandIn(ApiServer):
    """The operations of the server, each named as the SDK names it."""

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

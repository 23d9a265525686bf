"""Client of a Kubeflow Pipelines server: the SDK plus readable errors.

Facts about the server that this code relies on (source: kubeflow/pipelines 2.17.0):

* Since 2.5.0, a recurring run without a pipeline version uses the newest version at each trigger
  (pull request 11560).
* Before 2.17.0, such a recurring run can crash the server, and its limit of one run at a time has
  no effect (fixed in 13440). On those servers, schedules name the newest version, and each upload
  moves them to the version it creates.
* ``/apis/v2beta1/healthz`` has the version of the server, in a field that the SDK's model lacks,
  and since 2.14 whether pipelines are stored as Kubernetes objects.
* Uploading a new pipeline names its first version after the pipeline. So this code first creates
  the pipeline, and then uploads the version to it.
* ``/apis/v1alpha1/runs/RUN/nodes/POD/log`` has the log of a pod for anyone, from the archive if it
  is gone. The UI's server has ``/k8s/pod/logs`` instead, for users of the namespace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import kfp_server_api

from kubeflow import answers, errors, package
from kubeflow.answers import Run, Schedule, Version
from kubeflow.connection import IN_CLUSTER, Connection, connect
from pipeline.core.errors import UserError

_FOLLOWS_NEWEST = (2, 17)  # first version with safe schedules of the newest version
_NAMES_PODS = (2, 14)  # first version whose pod names `kubeflow.package` can tell
_PAGE = 100
_OWN_NAMESPACE = "kubeflow"  # usual namespace of the pods of a single-user server
# Final states of a run.
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", answers.STOPPED)


class Server:
    """A Kubeflow Pipelines server.

    Every method raises UserError, with one sentence, if the server cannot be reached, is too slow,
    rejects the request or fails.

    Attributes:
      host: address of the server, without credentials.
      version: major and minor version; None if the server does not tell.
    """

    def __init__(self, connection: Connection) -> None:
        """Connect and ask for the version of the server.

        Raises:
          UserError: also if the server is too old, or if the namespace is missing or superfluous.
        """
        self._client = connect(connection)
        # The address in a kubeconfig may contain a login.
        address = self._client._healthz_api.api_client.configuration.host
        self.host = re.sub(r"//[^/]*@", "//", address)
        self._limits = errors.Limits(self.host, connection.timeout, connection.namespace)
        health = self._health()
        # The UI's server, which a port-forward reaches, has other names for the same fields.
        tag = health.get("tag_name") or health.get("apiServerTagName") or ""
        match = re.match(r"v?(\d+)\.(\d+)", str(tag))
        self.version = (int(match[1]), int(match[2])) if match else None
        self._namespace = self._choose_namespace(connection.namespace, health)
        store = health.get("pipeline_store") or health.get("pipelineStore")
        self._stores_objects = store == "kubernetes"

    def _health(self) -> Mapping[str, Any]:
        with self._asking("checking the server's health"):
            try:
                return self._get("/apis/v2beta1/healthz")
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
                with contextlib.suppress(kfp_server_api.ApiException, errors.NotJson):
                    self._get("/apis/v1beta1/healthz")
                    raise UserError(
                        f"The server at {self.host} is too old: it only has version 1 of the API; "
                        f"upgrade Kubeflow Pipelines to 2.0 or newer."
                    ) from None
                raise UserError(
                    f"No Kubeflow Pipelines server found at {self.host} (404); check --host, "
                    f"including the path if there is one, such as https://HOST/pipeline."
                ) from None

    def _get(self, path: str, **query: str) -> Mapping[str, Any]:
        return self._ask(path, "GET", query_params=list(query.items()))

    def _ask(self, path: str, method: str, **options: Any) -> Mapping[str, Any]:
        """Call a path for which not all releases of the SDK have the same function."""
        api = self._client._healthz_api.api_client
        answer = api.call_api(
            path,
            method,
            response_type="object",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
            **options,
        )
        if not isinstance(answer, Mapping):
            raise errors.NotJson(str(answer))
        return answer

    def _choose_namespace(self, wanted: str | None, health: Mapping[str, Any]) -> str:
        if not health.get("multi_user"):
            if wanted:
                raise UserError(
                    f"The server at {self.host} is in single-user mode and would ignore the "
                    f"namespace {wanted!r}; leave out --namespace."
                )
            return ""
        namespace: str = wanted or self._client.get_user_namespace()
        if not namespace and IN_CLUSTER.exists():
            namespace = IN_CLUSTER.read_text().strip()
        if not namespace:
            raise UserError(
                f"The server at {self.host} is in multi-user mode; "
                f"specify your namespace with --namespace."
            )
        self._limits = dataclasses.replace(self._limits, namespace=namespace)
        return namespace

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        # The SDK prints links to standard output; the commands print their own.
        with errors.sentences(doing, self._limits), contextlib.redirect_stdout(io.StringIO()):
            yield

    @property
    def follows_newest(self) -> bool:
        """Whether the server can run schedules that always use the newest version."""
        return self.version is not None and self.version >= _FOLLOWS_NEWEST

    def run_page(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self._client._get_url_prefix()}/#/runs/details/{run_id}"

    def find_pipeline(self, name: str) -> str | None:
        """Return the id of the pipeline with this name, or None."""
        # The SDK's get_pipeline_id would only search the shared namespace.
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        with self._asking(f"looking for the pipeline {name!r}"):
            answer = self._client.list_pipelines(
                namespace=self._namespace or None, filter=json.dumps({"predicates": [predicate]})
            )
            return str(answer.pipelines[0].pipeline_id) if answer.pipelines else None

    def newest_version(self, pipeline_id: str) -> Version | None:
        """Return the version that was uploaded last, or None."""
        with self._asking("looking for the newest version of the pipeline"):
            answer = self._client.list_pipeline_versions(
                pipeline_id, page_size=1, sort_by="created_at desc"
            )
            return (
                answers.version(answer.pipeline_versions[0]) if answer.pipeline_versions else None
            )

    def upload(self, compiled: package.Package, code: str | None = None) -> tuple[Version, bool]:
        """Upload the pipeline as a new version, unless the newest version has the same content.

        Args:
          compiled: the pipeline.
          code: the code in the name of the version, such as a commit; default: its digest.

        Returns:
          The version on the server, and whether it is new.
        """
        name = compiled.spec.name
        pipeline_id = self.find_pipeline(name)
        newest = self.newest_version(pipeline_id) if pipeline_id else None
        # Schedules use the newest version, so older versions with the same content do not count.
        if newest and newest.digest and compiled.digest.startswith(newest.digest):
            return newest, False
        if pipeline_id is None:
            pipeline_id = self._create_pipeline(compiled.spec)
        version_name = self._version_name(pipeline_id, code or compiled.digest[:7])
        with self._asking(f"uploading the pipeline {name!r}"):
            self._client.upload_pipeline_version(
                str(compiled.path),
                version_name,
                pipeline_id=pipeline_id,
                description=package.describe(compiled),
            )
        newest = self.newest_version(pipeline_id)
        if newest is None:
            raise UserError(
                f"The server at {self.host} accepted the pipeline {name!r} but lists no version; "
                f"look at its UI."
            )
        return newest, True

    def _create_pipeline(self, spec: package.Spec) -> str:
        body = {"display_name": spec.name, "description": spec.description}
        if self._namespace:
            body["namespace"] = self._namespace
        with self._asking(f"creating the pipeline {spec.name!r}"):
            return str(self._ask("/apis/v2beta1/pipelines", "POST", body=body)["pipeline_id"])

    def _version_name(self, pipeline_id: str, code: str) -> str:
        """Find an unused name for a version; the UI also uses it for runs."""
        with self._asking("listing the versions of the pipeline"):
            answer = self._client.list_pipeline_versions(
                pipeline_id, page_size=_PAGE, sort_by="created_at desc"
            )
            taken = {each.display_name for each in answer.pipeline_versions or []}
        name = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {code}"
        if self._stores_objects:
            name = re.sub("[^a-z0-9]+", "-", name.lower())
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(each for each in names if each not in taken)

    def experiment(self, name: str) -> str:
        """Return the id of the experiment with this name; create it if necessary."""
        with self._asking(f"opening the experiment {name!r}"):
            experiment = self._client.create_experiment(
                name,
                description="Runs started by python -m kubeflow submit and by schedules.",
                namespace=self._namespace or None,
            )
            return str(experiment.experiment_id)

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment with this name, or None."""
        with self._asking(f"looking for the experiment {name!r}"):
            try:
                experiment = self._client.get_experiment(
                    experiment_name=name, namespace=self._namespace or None
                )
            except ValueError:  # from the SDK, if there is none
                return None
            return str(experiment.experiment_id)

    def start(
        self,
        version: Version,
        experiment_id: str,
        name: str,
        parameters: dict[str, Any],
        service_account: str | None,
    ) -> str:
        """Start a run of a version and return the id of the run."""
        with self._asking("starting the run"):
            run = self._client.run_pipeline(
                experiment_id,
                name,
                params=parameters,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=service_account,
            )
            return str(run.run_id)

    def get_run(self, run_id: str) -> Run:
        """Return the run in its current state."""
        with self._asking(f"reading the run {run_id}"):
            return answers.run(self._client.get_run(run_id))

    def log(self, run_id: str, pod: str) -> str | None:
        """Return the log of a task's container; None if no server has it."""
        namespace = self._namespace or _OWN_NAMESPACE
        requests: list[tuple[str, dict[str, str]]] = [
            (f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", {}),
            ("/k8s/pod/logs", {"podname": pod, "podnamespace": namespace, "runid": run_id}),
        ]
        for path, query in requests:
            # A missing log must not end the wait; `log_command` shows the way to it.
            with contextlib.suppress(UserError), self._asking("reading a log"):
                try:
                    self._get(path, **query)  # JSON is an error message, even with status 200
                except errors.NotJson as answer:
                    if not str(answer).lstrip().startswith("<"):  # HTML from the other server
                        return str(answer)
        return None

    def log_command(self, run_id: str, pod: str) -> str:
        """Return the shell command for the log of a pod, or of all pods on older servers."""
        has_name = self.version is not None and self.version >= _NAMES_PODS
        which = pod if has_name else f"-l pipeline/runid={run_id} --prefix"
        return f"kubectl logs -n {self._namespace or _OWN_NAMESPACE} {which} -c main"

    def pods_command(self, run_id: str) -> str:
        """Return the shell command that lists the pods of a run."""
        namespace = self._namespace or _OWN_NAMESPACE
        return f"kubectl get pods -n {namespace} -l pipeline/runid={run_id}"

    def last_runs(self, experiment_id: str, count: int) -> list[Run]:
        """Return the last runs of an experiment, newest first."""
        with self._asking("listing the runs"):
            answer = self._client.list_runs(
                experiment_id=experiment_id, page_size=count, sort_by="created_at desc"
            )
            return [answers.run(each) for each in answer.runs or []]

    def schedules(self, pipeline_id: str) -> list[Schedule]:
        """Return all schedules of a pipeline, oldest first."""
        schedules: list[Schedule] = []
        token = ""
        while True:
            with self._asking("listing the schedules"):
                answer = self._client.list_recurring_runs(
                    page_token=token,
                    page_size=_PAGE,
                    sort_by="created_at asc",
                    namespace=self._namespace or None,
                )
                for each in answer.recurring_runs or []:
                    reference = each.pipeline_version_reference
                    if reference and reference.pipeline_id == pipeline_id:
                        schedules.append(answers.schedule(each))
            token = answer.next_page_token
            if not token:
                return schedules

    def create_schedule(self, pipeline_id: str, wanted: Schedule, old: list[Schedule]) -> str:
        """Create a schedule, replace others by it, and return its id.

        There is always a schedule on the server, and never two active ones: the new one is created
        paused, and resumed after the old ones are deleted.

        Args:
          pipeline_id: the pipeline to run.
          wanted: the schedule to create, except for its id; no version means always the newest.
          old: schedules to delete.

        Raises:
          UserError: also if a run of an old schedule is in progress.
        """
        for each in old:
            self._check_idle(each)
        with self._asking(f"creating the schedule {wanted.name!r}"):
            recurring_run = self._client.create_recurring_run(
                wanted.experiment_id,
                wanted.name,
                description=wanted.description,
                cron_expression=wanted.cron,
                max_concurrency=1,
                no_catchup=True,
                params=wanted.parameters,
                pipeline_id=pipeline_id,
                # The SDK requires an id; to the server, an empty one means the newest version.
                version_id=wanted.version_id or "",
                enabled=False,
                service_account=wanted.service_account,
            )
            schedule_id = str(recurring_run.recurring_run_id)
        for each in old:
            self._delete(each)
        if wanted.enabled:
            self.switch(dataclasses.replace(wanted, schedule_id=schedule_id), on=True)
        return schedule_id

    def move_schedules(self, version: Version) -> list[Schedule]:
        """Recreate all schedules of other versions with this version, and return the old ones."""
        moved = []
        for each in self.schedules(version.pipeline_id):
            if each.version_id not in (None, version.version_id):
                newest = None if self.follows_newest else version.version_id
                wanted = dataclasses.replace(each, version_id=newest)
                self.create_schedule(version.pipeline_id, wanted, [each])
                moved.append(each)
        return moved

    def switch(self, schedule: Schedule, on: bool) -> None:
        """Resume or pause a schedule."""
        with self._asking(f"{'resuming' if on else 'pausing'} the schedule {schedule.name!r}"):
            if on:
                self._client.enable_recurring_run(schedule.schedule_id)
            else:
                self._client.disable_recurring_run(schedule.schedule_id)

    def delete(self, schedule: Schedule) -> None:
        """Delete a schedule but not the records of its runs.

        Raises:
          UserError: also if a run of it is in progress.
        """
        self._check_idle(schedule)
        self._delete(schedule)

    def _check_idle(self, schedule: Schedule) -> None:
        # A schedule owns the workflows of its runs, so Kubernetes would delete running ones too.
        for run in self.last_runs(schedule.experiment_id, _PAGE):
            if run.schedule_id == schedule.schedule_id and run.state not in ENDED:
                raise UserError(
                    f"Deleting the schedule {schedule.name!r} would stop its run in progress, "
                    f"{run.name}; wait until the run ends (see python -m kubeflow status), then "
                    f"try again."
                )

    def _delete(self, schedule: Schedule) -> None:
        with self._asking(f"deleting the schedule {schedule.name!r}"):
            self._client.delete_recurring_run(schedule.schedule_id)

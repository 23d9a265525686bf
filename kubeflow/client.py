"""All talk with a Kubeflow Pipelines server, through the SDK's client, with errors for people.

What the server does with a recurring run was read in its source (kubeflow/pipelines, 2.17.0):

* A recurring run that names no pipeline version takes the newest one at each trigger, since 2.5.0
  (pull request 11560).
* Up to 2.16 the server may crash when such a run is made, and does not label its runs, so that the
  limit of one run at a time is not kept; mended in 2.17.0 (13440). There, schedules name the newest
  version, and each upload moves them to the version it makes.
* A server says its version at ``/apis/v2beta1/healthz``, in a field the SDK's model leaves out, and
  since 2.14 whether it keeps pipelines as objects of Kubernetes.
* The upload of a new pipeline names its first version like the pipeline. So the pipeline is made
  first, and the version uploaded to it.
* The log of a pod is at ``/apis/v1alpha1/runs/RUN/nodes/POD/log``, which asks for no rights; gone
  pods' logs come from the archive. The web page's server does not pass that path on, and has its
  own, ``/k8s/pod/logs``, for those who may read the namespace.
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

# From here on, a schedule without a version is safe.
_FOLLOWS_NEWEST = (2, 17)
# From here on, the names of pods are known (`kubeflow.package`).
_NAMES_PODS = (2, 14)
_PAGE = 100
_OWN_NAMESPACE = "kubeflow"  # where a server without users' namespaces usually runs its pods
# States that a run does not leave.
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", answers.STOPPED)


class Server:
    """One Kubeflow Pipelines server.

    Every method raises UserError, one sentence, when the server cannot be reached, is too slow,
    refuses or fails.
    """

    def __init__(self, connection: Connection) -> None:
        """Connects and asks for the server's version.

        Raises:
          UserError: also for an old server, and for a namespace where there is none, or none where
            one is needed.
        """
        self._client = connect(connection)
        # A kubeconfig may give a login with the address.
        found = self._client._healthz_api.api_client.configuration.host
        self.host = re.sub(r"//[^/]*@", "//", found)
        self._limits = errors.Limits(self.host, connection.timeout, connection.namespace)
        health = self._health()
        # The web page's server, to which a port-forward leads, answers in words of its own.
        tag = health.get("tag_name") or health.get("apiServerTagName") or ""
        found = re.match(r"v?(\d+)\.(\d+)", str(tag))
        self.version = (int(found[1]), int(found[2])) if found else None
        self._namespace = self._choose_namespace(connection.namespace, health)
        store = health.get("pipeline_store") or health.get("pipelineStore")
        self._names_are_objects = store == "kubernetes"

    def _health(self) -> Mapping[str, Any]:
        with self._asking("asking for the server's health"):
            try:
                return self._get("/apis/v2beta1/healthz")
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
                with contextlib.suppress(kfp_server_api.ApiException, errors.NotJson):
                    self._get("/apis/v1beta1/healthz")
                    raise UserError(
                        f"The server at {self.host} is too old: it has only the first version of "
                        f"the API; upgrade Kubeflow Pipelines to 2.0 or newer."
                    ) from None
                raise UserError(
                    f"There is no Kubeflow Pipelines server at {self.host} (404); check --host, "
                    f"with its path if it has one, such as https://HOST/pipeline."
                ) from None

    def _get(self, path: str, **query: str) -> Mapping[str, Any]:
        return self._ask(path, "GET", query_params=list(query.items()))

    def _ask(self, path: str, method: str, **how: Any) -> Mapping[str, Any]:
        """What the SDK has no function for, or not under one name in all its releases."""
        api = self._client._healthz_api.api_client
        answer = api.call_api(
            path,
            method,
            response_type="object",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
            **how,
        )
        if not isinstance(answer, Mapping):
            raise errors.NotJson(str(answer))
        return answer

    def _choose_namespace(self, wanted: str | None, health: Mapping[str, Any]) -> str:
        if not health.get("multi_user"):
            if wanted:
                raise UserError(
                    f"The server at {self.host} has no namespaces for users, so that {wanted!r} "
                    f"would be ignored; leave --namespace out."
                )
            return ""
        namespace = wanted or self._client.get_user_namespace()
        if not namespace and IN_CLUSTER.exists():
            namespace = IN_CLUSTER.read_text().strip()
        if not namespace:
            raise UserError(
                f"The server at {self.host} has a namespace for each user; "
                f"say which with --namespace."
            )
        self._limits = dataclasses.replace(self._limits, namespace=namespace)
        return namespace

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        # The SDK prints links to standard output; ours come from the commands.
        with errors.sentences(doing, self._limits), contextlib.redirect_stdout(io.StringIO()):
            yield

    @property
    def follows_newest(self) -> bool:
        """Whether a schedule without a version takes the newest one, one run at a time."""
        return self.version is not None and self.version >= _FOLLOWS_NEWEST

    def run_page(self, run_id: str) -> str:
        """Address of a run's page."""
        return f"{self._client._get_url_prefix()}/#/runs/details/{run_id}"

    def find_pipeline(self, name: str) -> str | None:
        """Id of the pipeline with this name, if there is one."""
        # Not the SDK's get_pipeline_id, which looks in no namespace but the shared one.
        wish = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        with self._asking(f"looking for the pipeline {name!r}"):
            answer = self._client.list_pipelines(
                namespace=self._namespace or None, filter=json.dumps({"predicates": [wish]})
            )
            return answer.pipelines[0].pipeline_id if answer.pipelines else None

    def newest_version(self, pipeline_id: str) -> Version | None:
        """The version that was uploaded last."""
        with self._asking("looking for the newest version of the pipeline"):
            answer = self._client.list_pipeline_versions(
                pipeline_id, page_size=1, sort_by="created_at desc"
            )
            return (
                answers.version(answer.pipeline_versions[0]) if answer.pipeline_versions else None
            )

    def upload(self, compiled: package.Package, code: str | None = None) -> tuple[Version, bool]:
        """Uploads the pipeline, or a new version of it if its content is not that of the newest.

        Args:
          compiled: the pipeline.
          code: what the name of the version says of its code, such as a commit; default: the
            content's digest.

        Returns:
          The version on the server, and whether it is new.
        """
        name = compiled.spec.name
        pipeline_id = self.find_pipeline(name)
        newest = self.newest_version(pipeline_id) if pipeline_id else None
        # Only the newest counts: content that comes back must be the newest again for schedules.
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
                f"The server at {self.host} took the pipeline {name!r} but shows no version of it."
            )
        return newest, True

    def _create_pipeline(self, spec: package.Spec) -> str:
        body = {"display_name": spec.name, "description": spec.description}
        if self._namespace:
            body["namespace"] = self._namespace
        with self._asking(f"making the pipeline {spec.name!r}"):
            return str(self._ask("/apis/v2beta1/pipelines", "POST", body=body)["pipeline_id"])

    def _version_name(self, pipeline_id: str, code: str) -> str:
        """A name that the pipeline does not have yet; the web page names runs after it."""
        with self._asking("listing the versions of the pipeline"):
            answer = self._client.list_pipeline_versions(
                pipeline_id, page_size=_PAGE, sort_by="created_at desc"
            )
            taken = {each.display_name for each in answer.pipeline_versions or []}
        name = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {code}"
        if self._names_are_objects:
            name = re.sub("[^a-z0-9]+", "-", name.lower())
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(each for each in names if each not in taken)

    def experiment(self, name: str) -> str:
        """Id of the experiment with this name, which is made if need be."""
        with self._asking(f"opening the experiment {name!r}"):
            return self._client.create_experiment(
                name,
                description="Runs that python -m kubeflow submit started, and those of schedules.",
                namespace=self._namespace or None,
            ).experiment_id

    def find_experiment(self, name: str) -> str | None:
        """Id of the experiment with this name, if there is one."""
        with self._asking(f"looking for the experiment {name!r}"):
            try:
                found = self._client.get_experiment(
                    experiment_name=name, namespace=self._namespace or None
                )
            except ValueError:  # the SDK's way to say that there is none
                return None
            return found.experiment_id

    def start(
        self,
        version: Version,
        experiment_id: str,
        name: str,
        parameters: dict[str, Any],
        service_account: str | None,
    ) -> str:
        """Starts a run of a version; returns the run's id."""
        with self._asking("starting the run"):
            return self._client.run_pipeline(
                experiment_id,
                name,
                params=parameters,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=service_account,
            ).run_id

    def get_run(self, run_id: str) -> Run:
        """The run as it stands now."""
        with self._asking(f"looking at the run {run_id}"):
            return answers.run(self._client.get_run(run_id))

    def log(self, run_id: str, pod: str) -> str | None:
        """What a task's container printed; None if neither the API nor the web page tells."""
        namespace = self._namespace or _OWN_NAMESPACE
        places: list[tuple[str, dict[str, str]]] = [
            (f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", {}),
            ("/k8s/pod/logs", {"podname": pod, "podnamespace": namespace, "runid": run_id}),
        ]
        for path, query in places:
            # What cannot be had is no reason to stop: the command that shows it is said, too.
            with contextlib.suppress(UserError), self._asking("reading a log"):
                try:
                    self._get(path, **query)  # an error, which comes as JSON and with status 200
                except errors.NotJson as found:
                    if not str(found).lstrip().startswith("<"):  # a page: of the other server
                        return str(found)
        return None

    def log_command(self, run_id: str, pod: str) -> str:
        """What to type to see the log of a pod, or of all pods of the run."""
        known = self.version is not None and self.version >= _NAMES_PODS
        which = pod if known else f"-l pipeline/runid={run_id} --prefix"
        return f"kubectl logs -n {self._namespace or _OWN_NAMESPACE} {which} -c main"

    def pods_command(self, run_id: str) -> str:
        """What to type to see the pods of a run."""
        namespace = self._namespace or _OWN_NAMESPACE
        return f"kubectl get pods -n {namespace} -l pipeline/runid={run_id}"

    def last_runs(self, experiment_id: str, count: int) -> list[Run]:
        """The newest runs of an experiment, newest first."""
        with self._asking("listing the runs"):
            answer = self._client.list_runs(
                experiment_id=experiment_id, page_size=count, sort_by="created_at desc"
            )
            return [answers.run(each) for each in answer.runs or []]

    def schedules(self, pipeline_id: str) -> list[Schedule]:
        """All schedules of a pipeline, oldest first."""
        found: list[Schedule] = []
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
                        found.append(answers.schedule(each))
            token = answer.next_page_token
            if not token:
                return found

    def create_schedule(self, pipeline_id: str, wanted: Schedule, old: list[Schedule]) -> str:
        """Makes a schedule in place of others; returns its id.

        At no time is none stored or are two active: the new one is made paused, and wakes when the
        others are gone.

        Args:
          pipeline_id: the pipeline to run.
          wanted: what to make; its id counts for nothing, and no version means always the newest.
          old: schedules to remove.

        Raises:
          UserError: also while a run of an old one goes on.
        """
        for each in old:
            self._check_idle(each)
        with self._asking(f"making the schedule {wanted.name!r}"):
            schedule_id = self._client.create_recurring_run(
                wanted.experiment_id,
                wanted.name,
                description=wanted.description,
                cron_expression=wanted.cron,
                max_concurrency=1,
                no_catchup=True,
                params=wanted.parameters,
                pipeline_id=pipeline_id,
                version_id=wanted.version_id
                or "",  # the SDK insists on one; empty is the server's "newest"
                enabled=False,
                service_account=wanted.service_account,
            ).recurring_run_id
        for each in old:
            self._delete(each)
        if wanted.enabled:
            self.switch(dataclasses.replace(wanted, schedule_id=schedule_id), on=True)
        return schedule_id

    def move_schedules(self, version: Version) -> list[Schedule]:
        """Makes schedules that name another version anew with this one; returns those."""
        moved = []
        for each in self.schedules(version.pipeline_id):
            if each.version_id not in (None, version.version_id):
                newest = None if self.follows_newest else version.version_id
                wanted = dataclasses.replace(each, version_id=newest)
                self.create_schedule(version.pipeline_id, wanted, [each])
                moved.append(each)
        return moved

    def switch(self, schedule: Schedule, on: bool) -> None:
        """Resumes or pauses a schedule."""
        with self._asking(f"{'resuming' if on else 'pausing'} the schedule {schedule.name!r}"):
            if on:
                self._client.enable_recurring_run(schedule.schedule_id)
            else:
                self._client.disable_recurring_run(schedule.schedule_id)

    def delete(self, schedule: Schedule) -> None:
        """Deletes a schedule; what is known of its runs stays.

        Raises:
          UserError: also while a run of it goes on.
        """
        self._check_idle(schedule)
        self._delete(schedule)

    def _check_idle(self, schedule: Schedule) -> None:
        # A schedule owns the workflows of its runs: with it, Kubernetes deletes even running ones.
        for run in self.last_runs(schedule.experiment_id, _PAGE):
            if run.schedule_id == schedule.schedule_id and run.state not in ENDED:
                raise UserError(
                    f"A run of the schedule {schedule.name!r} goes on, and would end with it: "
                    f"{run.name}; wait for its end (python -m kubeflow status), and call "
                    f"again."
                )

    def _delete(self, schedule: Schedule) -> None:
        with self._asking(f"deleting the schedule {schedule.name!r}"):
            self._client.delete_recurring_run(schedule.schedule_id)

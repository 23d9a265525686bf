"""All talk with a Kubeflow Pipelines server, through the SDK's client, with errors for people.

What the server does with a recurring run was read in its source (kubeflow/pipelines, 2.17.0):

* A recurring run that names no pipeline version takes the newest one at each trigger, since 2.5.0
  (pull request 11560).
* Up to 2.16 the server may crash when such a run is made, and does not label its runs, so that the
  limit of one run at a time is not kept; mended in 2.17.0 (13440). There, schedules name the newest
  version, and each upload moves them to the version it makes.
* A server says its version at ``/apis/v2beta1/healthz``, in a field the SDK's model leaves out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import kfp_server_api

from kubeflow import errors, package
from kubeflow.connection import IN_CLUSTER, Connection, connect
from pipeline.errors import UserError

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
# From here on, a schedule without a version is safe.
_FOLLOWS_NEWEST = (2, 17)
_PAGE = 100
# States that a run does not leave.
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of a pipeline; ``digest`` is that of its package, None if others uploaded it."""

    pipeline_id: str
    version_id: str
    name: str
    digest: str | None
    spec: package.Spec | None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A recurring run of ours; ``version_id`` is None where it takes the newest version itself."""

    schedule_id: str
    name: str
    cron: str
    enabled: bool
    version_id: str | None
    experiment_id: str
    parameters: dict[str, Any]
    service_account: str | None


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
        self.host: str = self._client._healthz_api.api_client.configuration.host
        self._limits = errors.Limits(self.host, connection.timeout, connection.namespace)
        health = self._health()
        found = re.match(r"v?(\d+)\.(\d+)", str(health.get("tag_name", "")))
        self.version = (int(found[1]), int(found[2])) if found else None
        self._namespace = self._choose_namespace(connection.namespace, health)

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

    def _get(self, path: str) -> Mapping[str, Any]:
        api = self._client._healthz_api.api_client
        answer = api.call_api(
            path,
            "GET",
            response_type="object",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
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
        return _version(answer.pipeline_versions[0]) if answer.pipeline_versions else None

    def upload(self, compiled: package.Package) -> tuple[Version, bool]:
        """Uploads the pipeline, or a new version of it if its content is not that of the newest.

        Returns:
          The version on the server, and whether it is new.
        """
        name = compiled.spec.name
        pipeline_id = self.find_pipeline(name)
        newest = self.newest_version(pipeline_id) if pipeline_id else None
        # Only the newest counts: content that comes back must be the newest again for schedules.
        if newest and newest.digest == compiled.digest:
            return newest, False
        description = f"Content: sha256:{compiled.digest}"
        now = datetime.datetime.now(datetime.timezone.utc)
        with self._asking(f"uploading the pipeline {name!r}"):
            if pipeline_id is None:
                made = self._client.upload_pipeline(
                    str(compiled.path), name, description, self._namespace or None
                )
                pipeline_id = str(made.pipeline_id)
            else:
                self._client.upload_pipeline_version(
                    str(compiled.path),
                    f"{now:%Y%m%d-%H%M%S}-{compiled.digest[:8]}",
                    pipeline_id=pipeline_id,
                    description=description,
                )
        newest = self.newest_version(pipeline_id)
        if newest is None:
            raise UserError(
                f"The server at {self.host} took the pipeline {name!r} but shows no version of it."
            )
        return newest, True

    def experiment(self, name: str) -> str:
        """Id of the experiment with this name, which is made if need be."""
        with self._asking(f"opening the experiment {name!r}"):
            return self._client.create_experiment(
                name, namespace=self._namespace or None
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

    def get_run(self, run_id: str) -> Any:
        """The run as the SDK's V2beta1Run."""
        with self._asking(f"looking at the run {run_id}"):
            return self._client.get_run(run_id)

    def last_runs(self, experiment_id: str, count: int) -> list[Any]:
        """The newest runs of an experiment, newest first, as V2beta1Run."""
        with self._asking("listing the runs"):
            answer = self._client.list_runs(
                experiment_id=experiment_id, page_size=count, sort_by="created_at desc"
            )
        return answer.runs or []

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
                    found.append(_schedule(each))
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
            if run.recurring_run_id == schedule.schedule_id and run.state not in ENDED:
                raise UserError(
                    f"A run of the schedule {schedule.name!r} goes on, and would end with it: "
                    f"{run.display_name}; wait for its end (python -m kubeflow status), and call "
                    f"again."
                )

    def _delete(self, schedule: Schedule) -> None:
        with self._asking(f"deleting the schedule {schedule.name!r}"):
            self._client.delete_recurring_run(schedule.schedule_id)


def _version(found: Any) -> Version:
    digest = _DIGEST.search(found.description or "")
    return Version(
        found.pipeline_id,
        found.pipeline_version_id,
        found.display_name,
        digest[1] if digest else None,
        package.read_spec(found.pipeline_spec),
    )


def _schedule(found: Any) -> Schedule:
    cron = found.trigger.cron_schedule if found.trigger else None
    runtime = found.runtime_config
    return Schedule(
        found.recurring_run_id,
        found.display_name,
        (cron.cron if cron else None) or "",
        found.status == "ENABLED",
        found.pipeline_version_reference.pipeline_version_id or None,
        found.experiment_id,
        dict(runtime.parameters or {}) if runtime else {},
        found.service_account or None,
    )

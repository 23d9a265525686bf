"""``python -m kubeflow schedule``: create, pause, resume, delete and list schedules."""

from __future__ import annotations

import argparse
import datetime

from kubeflow import arguments as shared
from kubeflow import cron, package
from kubeflow.answers import Schedule
from kubeflow.client import Server
from pipeline.core import console
from pipeline.core.errors import UserError

_EXAMPLES = """\
examples:
  python -m kubeflow schedule --cron "0 2 * * *"        every night at two
  python -m kubeflow schedule --cron "0 30 2 * * mon"   six fields, starting with seconds
  python -m kubeflow schedule --pause

Times are in the server's time zone: UTC unless its CRON_SCHEDULE_TIMEZONE says otherwise. Runs do
not overlap: triggers during a run or a pause are skipped. Each run uses the newest version of the
pipeline.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EXAMPLES
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--cron", metavar="FIELDS", help="create the schedule, or replace the one of that name"
    )
    action.add_argument("--pause", action="store_true", help="pause the schedule")
    action.add_argument("--resume", action="store_true", help="resume the schedule")
    action.add_argument("--delete", action="store_true", help="delete the schedule, not its runs")
    action.add_argument("--list", action="store_true", help="list all schedules of the pipeline")
    parser.add_argument("--name", default="nightly", help="name of the schedule (default: nightly)")
    shared.add_pipeline(parser)
    shared.add_run(parser)
    shared.add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return 0."""
    timing = cron.parse(arguments.cron) if arguments.cron is not None else None
    server = Server(shared.connection(arguments))
    pipeline_id = shared.require_pipeline(server, arguments.pipeline)
    schedules = server.schedules(pipeline_id)
    if arguments.list:
        print_schedules(schedules)
        return 0
    named = [each for each in schedules if each.name == arguments.name]
    if timing:
        _create(server, pipeline_id, timing, named, arguments)
        return 0
    if not named:
        others = ", ".join(sorted({each.name for each in schedules}))
        hint = f"it has {others}; choose one with --name" if others else "create one with --cron"
        raise UserError(
            f"The pipeline {arguments.pipeline!r} has no schedule {arguments.name!r}; {hint}."
        )
    for each in named:
        if arguments.delete:
            server.delete(each)
        else:
            server.switch(each, on=arguments.resume)
    done = "deleted" if arguments.delete else "resumed" if arguments.resume else "paused"
    console.print_line(f"Schedule {arguments.name!r} {done}.")
    return 0


def _create(
    server: Server,
    pipeline_id: str,
    timing: cron.Cron,
    old: list[Schedule],
    arguments: argparse.Namespace,
) -> None:
    newest = server.newest_version(pipeline_id)
    if newest is None:
        raise UserError(
            f"The pipeline {arguments.pipeline!r} has no versions; "
            f"upload one with python -m kubeflow submit."
        )
    spec = newest.spec or package.Spec(arguments.pipeline, "", {}, ())
    parameters = package.read_parameters(arguments.param, spec)
    wanted = Schedule(
        schedule_id="",
        name=arguments.name,
        cron=timing.expression,
        enabled=True,
        version_id=None if server.follows_newest else newest.version_id,
        experiment_id=server.experiment(arguments.experiment),
        parameters=parameters,
        service_account=arguments.service_account,
        description=_description(timing, server.follows_newest),
    )
    server.create_schedule(pipeline_id, wanted, old)
    done = "replaced" if old else "created"
    console.print_line(f"Schedule {wanted.name!r} {done}: {describe(wanted)}")


def _description(timing: cron.Cron, follows: bool) -> str:
    """Write the description of a schedule for the UI."""
    version = "newest version" if follows else "last version uploaded with submit"
    return f"{cron.describe(timing.expression)} (UTC), {version}, one run at a time."


def print_schedules(schedules: list[Schedule]) -> None:
    """Print one line per schedule."""
    for each in schedules:
        console.print_line(f"{each.name:<18} {describe(each)}")
    if not schedules:
        console.print_line("No schedules.")


def describe(schedule: Schedule) -> str:
    """Describe a schedule: cron expression, next trigger, version, parameters."""
    version = f"version {schedule.version_id}" if schedule.version_id else "newest version"
    parts = [f"cron '{schedule.cron}'", _next(schedule), version]
    if schedule.parameters:
        parts.append(" ".join(f"{key}={value}" for key, value in schedule.parameters.items()))
    return ", ".join(parts)


def _next(schedule: Schedule) -> str:
    if not schedule.enabled:
        return "paused"
    try:
        coming = cron.parse(schedule.cron).next(datetime.datetime.now(datetime.timezone.utc))
    except UserError:  # another tool created it, with a syntax that `cron` does not support
        return "next trigger unknown"
    return f"next {coming:%Y-%m-%d %H:%M:%S} UTC"

"""``python -m kubeflow schedule``: makes, pauses, resumes, deletes and lists recurring runs."""

from __future__ import annotations

import argparse
import datetime

from kubeflow import arguments as shared
from kubeflow import client, cron, package
from pipeline.core import console
from pipeline.core.errors import UserError

_EXAMPLES = """\
examples:
  python -m kubeflow schedule --cron "0 2 * * *"        every night at two
  python -m kubeflow schedule --cron "0 30 2 * * mon"   six fields: seconds come first
  python -m kubeflow schedule --pause

Times are those of the server: UTC unless its CRON_SCHEDULE_TIMEZONE says otherwise. One run at a
time; triggers that pass while it is paused or a run goes on are not made up for; each run takes the
newest version of the pipeline.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.epilog = _EXAMPLES
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--cron", metavar="FIELDS", help="make the schedule, or replace the one with its name"
    )
    action.add_argument("--pause", action="store_true", help="stop triggering")
    action.add_argument("--resume", action="store_true", help="trigger again")
    action.add_argument("--delete", action="store_true", help="remove it; its runs stay")
    action.add_argument("--list", action="store_true", help="show all schedules of the pipeline")
    parser.add_argument("--name", default="nightly", help="of the schedule (default: nightly)")
    shared.add_pipeline(parser)
    shared.add_run(parser)
    shared.add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns 0."""
    timing = cron.parse(arguments.cron) if arguments.cron is not None else None
    server = client.Server(shared.connection(arguments))
    pipeline_id = shared.known_pipeline(server, arguments.pipeline)
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
        hint = f"it has: {others}; choose with --name" if others else "make one with --cron"
        raise UserError(
            f"The pipeline {arguments.pipeline!r} has no schedule {arguments.name!r}; {hint}."
        )
    for each in named:
        if arguments.delete:
            server.delete(each)
        else:
            server.switch(each, on=arguments.resume)
    done = "deleted" if arguments.delete else "resumed" if arguments.resume else "paused"
    console.show(f"Schedule {arguments.name!r} {done}.")
    return 0


def _create(
    server: client.Server,
    pipeline_id: str,
    timing: cron.Cron,
    old: list[client.Schedule],
    arguments: argparse.Namespace,
) -> None:
    newest = server.newest_version(pipeline_id)
    if newest is None:
        raise UserError(
            f"The pipeline {arguments.pipeline!r} has no version; "
            f"upload one with python -m kubeflow submit."
        )
    spec = newest.spec or package.Spec(arguments.pipeline, "", {}, ())
    parameters = package.read_parameters(arguments.param, spec)
    wanted = client.Schedule(
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
    console.show(f"Schedule {wanted.name!r} {'replaced' if old else 'made'}: {describe(wanted)}")


def _description(timing: cron.Cron, follows: bool) -> str:
    """What the web page says of a schedule."""
    version = "newest version" if follows else "the version last uploaded with submit"
    return f"{cron.describe(timing.expression)} (UTC), {version}, one run at a time."


def print_schedules(schedules: list[client.Schedule]) -> None:
    """Prints one line a schedule."""
    for each in schedules:
        console.show(f"{each.name:<18} {describe(each)}")
    if not schedules:
        console.show("No schedules.")


def describe(schedule: client.Schedule) -> str:
    """When it comes next, which version it takes, with which parameters."""
    version = f"version {schedule.version_id}" if schedule.version_id else "newest version"
    parts = [f"cron '{schedule.cron}'", _next(schedule), version]
    if schedule.parameters:
        parts.append(" ".join(f"{key}={value}" for key, value in schedule.parameters.items()))
    return ", ".join(parts)


def _next(schedule: client.Schedule) -> str:
    if not schedule.enabled:
        return "paused"
    try:
        coming = cron.parse(schedule.cron).next(datetime.datetime.now(datetime.timezone.utc))
    except UserError:  # made by others, in a form that we do not make
        return "next trigger unknown"
    return f"next {coming:%Y-%m-%d %H:%M:%S} UTC"

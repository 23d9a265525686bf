"""``python -m kubeflow status``: newest version, schedules with their next trigger, last runs."""

from __future__ import annotations

import argparse
from typing import Any

from kubeflow import arguments as shared
from kubeflow import client, schedule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "--runs", type=int, default=10, metavar="N", help="show the last N runs (default: 10)"
    )
    parser.add_argument(
        "--experiment",
        default=shared.EXPERIMENT,
        help=f"whose runs (default: {shared.EXPERIMENT})",
    )
    shared.add_pipeline(parser)
    shared.add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the state of things; returns 0."""
    server = client.Server(shared.connection(arguments))
    pipeline_id = shared.known_pipeline(server, arguments.pipeline)
    newest = server.newest_version(pipeline_id)
    release = "{}.{}".format(*server.version) if server.version else "of unknown version"
    print(f"Server     {server.host}, Kubeflow Pipelines {release}")
    print(f"Pipeline   {arguments.pipeline}, newest version {newest.name if newest else 'none'}")
    print("\nSchedules")
    schedule.print_schedules(server.schedules(pipeline_id))
    print(f"\nLast runs in the experiment {arguments.experiment}")
    experiment_id = server.find_experiment(arguments.experiment)
    runs = server.last_runs(experiment_id, arguments.runs) if experiment_id else []
    for each in runs:
        print(_line(each))
    if not runs:
        print("No runs.")
    return 0


def _line(found: Any) -> str:
    lasted = ""
    if found.finished_at and found.finished_at > found.created_at:
        lasted = f"{(found.finished_at - found.created_at).total_seconds():.0f} s"
    origin = "by schedule" if found.recurring_run_id else "by hand"
    state = str(found.state or "unknown").lower()
    begin = f"{found.created_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{begin}  {state:<10} {lasted:>8}  {origin:<11}  {found.display_name}"

"""``python -m kubeflow status``: newest version, schedules with their next trigger, last runs."""

from __future__ import annotations

import argparse

from kubeflow import answers, client, cluster, schedule
from kubeflow import arguments as shared
from pipeline.core import console


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
    console.show(f"Server     {server.host}, Kubeflow Pipelines {release}")
    version = newest.name if newest else "none"
    console.show(f"Pipeline   {arguments.pipeline}, newest version {version}")
    if retries := cluster.retries():
        console.show(f"Retries    {retries}")
    console.show("")
    console.show("Schedules")
    schedule.print_schedules(server.schedules(pipeline_id))
    console.show("")
    console.show(f"Last runs in the experiment {arguments.experiment}")
    experiment_id = server.find_experiment(arguments.experiment)
    runs = server.last_runs(experiment_id, arguments.runs) if experiment_id else []
    for each in runs:
        console.show(_line(each))
    if not runs:
        console.show("No runs.")
    return 0


def _line(found: answers.Run) -> str:
    lasted = "" if found.seconds is None else f"{found.seconds:.0f} s"
    origin = "by schedule" if found.schedule_id else "by hand"
    begin = f"{found.begin:%Y-%m-%d %H:%M:%S} UTC" if found.begin else "unknown"
    return f"{begin:<23}  {found.state.lower():<10} {lasted:>8}  {origin:<11}  {found.name}"

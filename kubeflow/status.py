"""``python -m kubeflow status``: show the newest version, schedules and last runs."""

from __future__ import annotations

import argparse

from kubeflow import arguments as shared
from kubeflow import cluster, schedule
from kubeflow.answers import Run
from kubeflow.client import Server
from pipeline.core import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--runs", type=int, default=10, metavar="N", help="number of runs to show (default: 10)"
    )
    parser.add_argument(
        "--experiment",
        default=shared.EXPERIMENT,
        help=f"experiment of the runs to show (default: {shared.EXPERIMENT})",
    )
    shared.add_pipeline(parser)
    shared.add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the status and return 0."""
    server = Server(shared.connection(arguments))
    pipeline_id = shared.require_pipeline(server, arguments.pipeline)
    newest = server.newest_version(pipeline_id)
    release = "{}.{}".format(*server.version) if server.version else "of unknown version"
    console.print_line(f"Server     {server.host}, Kubeflow Pipelines {release}")
    version = newest.name if newest else "none"
    console.print_line(f"Pipeline   {arguments.pipeline}, newest version {version}")
    if retries := cluster.retries():
        console.print_line(f"Retries    {retries}")
    console.print_line("")
    console.print_line("Schedules")
    schedule.print_schedules(server.schedules(pipeline_id))
    console.print_line("")
    console.print_line(f"Last runs in experiment {arguments.experiment}")
    experiment_id = server.find_experiment(arguments.experiment)
    runs = server.last_runs(experiment_id, arguments.runs) if experiment_id else []
    for each in runs:
        console.print_line(_line(each))
    if not runs:
        console.print_line("No runs.")
    return 0


def _line(run: Run) -> str:
    duration = "" if run.seconds is None else f"{run.seconds:.0f} s"
    origin = "scheduled" if run.schedule_id else "manual"
    begin = f"{run.begin:%Y-%m-%d %H:%M:%S} UTC" if run.begin else "unknown"
    return f"{begin:<23}  {run.state.lower():<10} {duration:>8}  {origin:<11}  {run.name}"

"""Arguments shared by the commands that talk to a server."""

from __future__ import annotations

import argparse
from pathlib import Path

from kubeflow.client import Server
from kubeflow.connection import Connection
from pipeline.core.errors import UserError

EXPERIMENT = "segmentation"
PIPELINE = "segmentation"


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for `connection`."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host",
        metavar="URL",
        help="URL of the Kubeflow Pipelines API (default: KF_PIPELINES_ENDPOINT, else the cluster "
        "this runs in, else the cluster in your kubeconfig)",
    )
    group.add_argument("--namespace", help="your namespace, if the server is in multi-user mode")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that contains a bearer token"
    )
    group.add_argument(
        "--ca-cert", type=Path, metavar="FILE", help="CA certificate to verify the server with"
    )
    group.add_argument(
        "--request-timeout",
        type=positive,
        default=30.0,
        metavar="SECONDS",
        help="time limit per request (default: 30)",
    )


def connection(arguments: argparse.Namespace) -> Connection:
    """Build the connection from the arguments of `add_connection`, and check it.

    Raises:
      UserError: as `Connection.check`.
    """
    result = Connection(
        arguments.host,
        arguments.namespace,
        arguments.token_file,
        arguments.ca_cert,
        arguments.request_timeout,
    )
    result.check()
    return result


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a run."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a pipeline parameter; may be repeated",
    )
    parser.add_argument(
        "--experiment",
        default=EXPERIMENT,
        help=f"experiment for the run, created if missing (default: {EXPERIMENT})",
    )
    parser.add_argument(
        "--service-account",
        metavar="NAME",
        help="service account of the pods (default: the server's choice)",
    )


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """Add the name of the pipeline."""
    parser.add_argument(
        "--pipeline",
        default=PIPELINE,
        metavar="NAME",
        help=f"name of the pipeline on the server (default: {PIPELINE})",
    )


def require_pipeline(server: Server, name: str) -> str:
    """Return the id of a pipeline.

    Raises:
      UserError: if the server does not have it.
    """
    pipeline_id = server.find_pipeline(name)
    if pipeline_id is None:
        raise UserError(
            f"{server.host} has no pipeline {name!r}; upload it with python -m kubeflow submit."
        )
    return pipeline_id


def positive(text: str) -> float:
    """Parse a number above zero, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return number

"""Arguments that the commands share which talk to a server."""

from __future__ import annotations

import argparse
from pathlib import Path

from kubeflow.client import Connection, Server
from pipeline.core.errors import UserError

EXPERIMENT = "segmentation"
PIPELINE = "segmentation"


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Adds where the server is and who asks."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host",
        metavar="URL",
        help="of Kubeflow Pipelines; default: KF_PIPELINES_ENDPOINT, else the cluster this runs "
        "in, else kubeconfig's",
    )
    group.add_argument("--namespace", help="yours, where the server has one for each user")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="holds a bearer token")
    group.add_argument(
        "--ca-cert", type=Path, metavar="FILE", help="certificate that signs the server's"
    )
    group.add_argument(
        "--request-timeout",
        type=positive,
        default=30.0,
        metavar="SECONDS",
        help="longest wait for one whole answer (default: 30)",
    )


def connection(arguments: argparse.Namespace) -> Connection:
    """What ``add_connection`` has read.

    Raises:
      UserError: as `Connection.check`.
    """
    found = Connection(
        arguments.host,
        arguments.namespace,
        arguments.token_file,
        arguments.ca_cert,
        arguments.request_timeout,
    )
    found.check()
    return found


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds what a run is given."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a pipeline parameter; may be given again",
    )
    parser.add_argument(
        "--experiment",
        default=EXPERIMENT,
        help=f"groups runs on the web page (default: {EXPERIMENT}); made if need be",
    )
    parser.add_argument(
        "--service-account", metavar="NAME", help="of the pods (default: the server's)"
    )


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """Adds the name of the pipeline."""
    parser.add_argument(
        "--pipeline",
        default=PIPELINE,
        metavar="NAME",
        help=f"name on the server (default: {PIPELINE})",
    )


def known_pipeline(server: Server, name: str) -> str:
    """Id of a pipeline that must be there.

    Raises:
      UserError: if it is not.
    """
    pipeline_id = server.find_pipeline(name)
    if pipeline_id is None:
        raise UserError(
            f"There is no pipeline {name!r} on {server.host}; "
            f"upload it with python -m kubeflow submit."
        )
    return pipeline_id


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return number

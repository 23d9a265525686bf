"""``python -m pipeline serve``: serve a web page that segments the photos dropped on it.

Exit codes: 0 after Ctrl-C, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence

from pipeline.cli.predict import add_model, load
from pipeline.core import console
from pipeline.core.errors import UserError
from pipeline.settings.arguments import Parser, add_verbose


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.command(lambda: _serve(_parse(argv)), argv, "The command")


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from pipeline.inference import web
    except ModuleNotFoundError as error:
        raise UserError(
            f"The page needs the package {error.name}; install segmentation-pipeline[serve]."
        ) from error
    with web.listen(arguments.host, arguments.port) as listener:
        segmenter = load(arguments.model)
        address = web.address_of(listener)
        console.print_line(f"Open {address} and drop photos on the page. Press Ctrl-C to stop.")
        with contextlib.suppress(KeyboardInterrupt):  # raised by older Pythons only
            web.serve(segmenter, listener, arguments.host)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipeline serve",
        description="Serve a web page that segments the photos dropped on it.",
    )
    add_model(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8510,
        help="port to listen on, 0 for any free port (default: %(default)s)",
    )
    add_verbose(parser)
    return parser.parse_args(argv)

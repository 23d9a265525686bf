"""The command line: ``python -m pipeline VERB``, one module a verb.

Each has ``main(argv) -> int``, whose result is the exit code. It is imported when it is called, and
itself imports what takes seconds (TensorFlow, TFX) only when the arguments are known to be good.
May import everything; nothing imports it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from pipeline.core import console
from pipeline.settings.arguments import choose

# Name: module, and what it does in one line.
VERBS: dict[str, tuple[str, str]] = {
    "run": ("pipeline.cli.run", "Runs the pipeline once on this machine."),
    "data": ("pipeline.cli.data", "Checks a data folder, or downloads the Oxford-IIIT Pet data."),
    "predict": ("pipeline.cli.predict", "Segments photos with a released model."),
    "serve": ("pipeline.cli.serve", "Opens a web page that segments photos."),
    "releases": ("pipeline.cli.releases", "Lists, rolls back, repairs and prunes releases."),
    "convert": ("pipeline.cli.convert", "Converts a release to ONNX, LiteRT, OpenVINO or Triton."),
    "history": ("pipeline.cli.history", "Lists past runs."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code; 2 for the user's mistakes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return console.command(lambda: _main(arguments), arguments, "The command")


def _main(arguments: list[str]) -> int:
    verb = choose("python -m pipeline", "Keeps a segmentation model fresh.", VERBS, arguments)
    return importlib.import_module(VERBS[verb][0]).main(arguments[1:])

"""The command line: ``python -m pipeline VERB``, one module per verb.

Each module has ``main(argv) -> int``, which returns the exit code. A module is imported only when
its verb is used, and imports what takes seconds (TensorFlow, TFX) only after checking its
arguments.
May import: `pipeline.orchestration`, `pipeline.report` and what these may import. Of the product,
only programs import it: `local_runner`, `pipeline.__main__`, `pipeline.predict`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from pipeline.core import console
from pipeline.settings.arguments import choose

# Verb: module and one-line help.
VERBS: dict[str, tuple[str, str]] = {
    "run": ("pipeline.cli.run", "Run the pipeline once on this machine."),
    "data": ("pipeline.cli.data", "Check a data folder, or download the Oxford-IIIT Pet data."),
    "predict": ("pipeline.cli.predict", "Segment photos with a released model."),
    "serve": ("pipeline.cli.serve", "Serve a web page that segments photos."),
    "releases": ("pipeline.cli.releases", "List, roll back, repair and prune releases."),
    "convert": ("pipeline.cli.convert", "Convert a release to ONNX, LiteRT, OpenVINO or Triton."),
    "history": ("pipeline.cli.history", "List past runs."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; 2 for user errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return console.command(lambda: _main(arguments), arguments, "The command")


def _main(arguments: list[str]) -> int:
    verb = choose("python -m pipeline", "Keep a segmentation model fresh.", VERBS, arguments)
    run: Callable[[Sequence[str]], int] = importlib.import_module(VERBS[verb][0]).main
    return run(arguments[1:])

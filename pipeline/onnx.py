"""``python -m pipeline.onnx --model DIR --output FILE``: short for `pipeline.convert onnx`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline import convert


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return convert.main(["onnx", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())

"""Run the pipeline on this machine: ``python local_runner.py --help`` (`pipeline.cli.run`)."""

import sys
from collections.abc import Sequence

from pipeline.cli import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline once and return the exit code."""
    return run.main(argv, program="local_runner.py")


if __name__ == "__main__":
    sys.exit(main())

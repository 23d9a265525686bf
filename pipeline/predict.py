"""``python -m pipeline.predict``: the same as ``python -m pipeline predict``."""

import sys

from pipeline.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())

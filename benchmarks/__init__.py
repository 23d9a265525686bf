"""The scripts behind every figure in the docs: ``python -m benchmarks.NAME``."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

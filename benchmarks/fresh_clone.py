"""How long a newcomer waits: `make run` in a fresh clone with empty caches, then the same again.

    python -m benchmarks.fresh_clone

Needs git and what `make run` needs, but nothing from a virtual environment. Prints one row per run.
Measured on Linux x86_64, 2 idle cores, compatible stack, on 2026-11-25 and on a faster machine on
2026-11-26:

    fresh clone  140 s  of them the run  91.9 s  pushed, 0 of 10 components cached, mean IoU 0.918
    again         15 s  of them the run   8.1 s  pushed, 10 of 10 components cached, mean IoU 0.918
    fresh clone   87 s  of them the run  57.3 s  pushed, 0 of 10 components cached, mean IoU 0.918
    again         10 s  of them the run   5.7 s  pushed, 10 of 10 components cached, mean IoU 0.918
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Clones the last commit and runs it twice."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {
            **{k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
            "UV_CACHE_DIR": f"{folder}/uv",
            "PIP_CACHE_DIR": f"{folder}/pip",
        }
        rows = []
        for name in ("fresh clone", "again"):
            begin = time.monotonic()
            subprocess.run(["make", "run"], cwd=clone, env=environment, check=True)
            seconds = time.monotonic() - begin
            outcome = json.loads((clone / "output" / "latest_run.json").read_text())
            states = [component["state"] for component in outcome["components"]]
            rows.append(
                f"{name:<12} {seconds:>6.0f} s  of them the run {outcome['seconds']:>6.1f} s  "
                f"{outcome['status']}, {states.count('cached')} of {len(states)} components "
                f"cached, mean IoU {outcome['metrics']['overall']['mean_iou']:.3f}"
            )
    stack = outcome["versions"]
    print(
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, TFX {stack['tfx']}, TensorFlow {stack['tensorflow']} "
        f"({stack['stack']} stack)"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()

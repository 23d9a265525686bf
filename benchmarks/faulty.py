"""The real sample with a faulty file of each kind mixed in, compared with the sample alone.

    python -m benchmarks.faulty

Both go through the whole pipeline, at 64 pixels and for one epoch. The kinds are those of
tests/support/faulty_data.py. Prints how many items were quarantined, what the splits contain, and
whether every metric is the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import local_runner
from benchmarks.data_stage import SAMPLE
from tests.support.faulty_data import FAULTY, add

SETTINGS = (
    "transform.image_size=64",
    "train.epochs=1",
    "data.max_quarantined=0.1",
    "gate.pixel_accuracy=0",
    "gate.mean_iou=0",
    "gate.class_iou=0",
)


def mix_in(root: Path) -> dict[str, str]:
    """Adds an item of each faulty kind to a folder and its lists; returns the reasons by id."""
    reasons = {}
    for number, kind in enumerate(FAULTY):
        id_ = f"Faulty_{number}"
        add(root, kind, id_)
        reasons[id_] = (kind.reason or "").format(id=id_)
    for name in ("list.txt", "trainval.txt"):
        with (root / "annotations" / name).open("a") as file:
            file.writelines(f"{id_} 1 1 1\n" for id_ in reasons)
    return reasons


def run(root: Path, output: Path) -> dict[str, Any]:
    """The content of latest_run.json of a run on a folder."""
    arguments = ["--data-root", str(root), "--output-root", str(output)]
    for setting in SETTINGS:
        arguments += ["--set", setting]
    if local_runner.main(arguments):
        raise SystemExit(f"The run on {root} failed.")
    outcome: dict[str, Any] = json.loads((output / "latest_run.json").read_text())
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, default=SAMPLE)
    source = parser.parse_args().data_root
    with tempfile.TemporaryDirectory() as folder:
        alone, mixed = Path(folder, "alone"), Path(folder, "mixed")
        shutil.copytree(source, alone)
        shutil.copytree(source, mixed)
        reasons = mix_in(mixed)
        before, after = (run(root, root.with_suffix(".output")) for root in (alone, mixed))
    aside = {row["id"]: row["reason"] for row in after["data"]["quarantined"]}
    named = sum(aside.get(id_) == reason for id_, reason in reasons.items())
    others = len(aside.keys() - reasons.keys())
    print(f"{len(reasons)} mixed in; quarantined: {named} of these, {others} others")
    same = before["data"]["splits"] == after["data"]["splits"]
    print(f"photos used {'as before' if same else 'NOT as before'}: {after['data']['splits']}")
    print(f"metrics: {'the same' if before['metrics'] == after['metrics'] else 'NOT the same'}")


if __name__ == "__main__":
    main()

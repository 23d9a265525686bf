"""Ten candidates that should not replace a good champion, and the outcome of each.

    make run
    python -m benchmarks.bad_candidates [--output-root output] [NAME ...]

Makes candidates from the examples and the newest release of a finished run, and puts each through
the steps of the pipeline: the Trainer's check of its export, the Evaluator, the release. Prints a
Markdown table with the verdicts in the words of the report; the champion is version V. Breeds are
judged from 5 test photos on, because the built-in data has no more of each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import tensorflow_transform as tft
from tfx.orchestration import metadata

from pipeline import models
from pipeline.artifacts.run import RunArtifacts
from pipeline.report import publish
from pipeline.saved_model import export
from pipeline.settings import gate_of
from tests.support.models.bad_candidates import CANDIDATES, Bench, verdict


def bench_of(output_root: Path) -> Bench:
    """The bench of the last run in an output folder, which must have been a full one."""
    run = json.loads((output_root / publish.OUTCOME).read_text())
    connection = metadata.sqlite_metadata_connection_config(str(output_root / "metadata.sqlite"))
    artifacts = RunArtifacts(connection, run["run_id"])
    examples, graph = (
        artifacts.get(*where)
        for where in (("ExampleGen", "examples"), ("Transform", "transform_graph"))
    )
    if not (examples and graph and run["in_service"]):
        raise SystemExit(f"The last run in {output_root} released nothing; call `make run` first.")
    settings = run["settings"]
    champion = os.path.join(run["serving_dir"], str(run["in_service"]))
    model = models.build(
        settings["model.name"], settings["transform.image_size"], width=settings["model.width"]
    )
    export.load_weights(model, champion)
    return Bench(
        model=model,
        champion=champion,
        name=settings["model.name"],
        width=settings["model.width"],
        size=settings["transform.image_size"],
        transform=tft.TFTransformOutput(graph.uri),
        examples=examples.uri,
        gate=gate_of(settings).model_copy(update={"min_examples": 5}),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output-root", type=Path, default=Path("output"))
    names = [make.__name__ for make in CANDIDATES]
    parser.add_argument("names", nargs="*", choices=[[], *names], metavar="NAME", default=[])
    args = parser.parse_args()
    bench = bench_of(args.output_root)
    print("| candidate | what it is | outcome |\n| --- | --- | --- |")
    for make in CANDIDATES:
        if args.names and make.__name__ not in args.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "candidate")
            make(bench, path)
            name, what = make.__name__.replace("_", " "), (make.__doc__ or "").splitlines()[0]
            print(f"| {name} | {what} | {verdict(bench, path)} |", flush=True)


if __name__ == "__main__":
    main()

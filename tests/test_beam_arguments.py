"""What Beam is told: settings `beam.*`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability import prism_runner
from apache_beam.testing.util import assert_that, equal_to

from pipeline import settings
from pipeline.orchestration import launcher
from pipeline.orchestration.pipeline import beam_arguments


def arguments(**values: object) -> list[str]:
    return beam_arguments(settings.Beam.model_validate(values))


def test_direct_runner_asks_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        prism_runner.PrismRunner, "default_job_server", lambda *given: asked.append(given)
    )
    with beam.Pipeline(argv=arguments()) as pipeline:
        assert_that(pipeline | beam.Create([1, 2]) | beam.Map(lambda n: n + 1), equal_to([2, 3]))
    assert asked == []


def test_worker_processes_find_this_package_from_any_folder(tmp_path: Path) -> None:
    launcher.prepare_process()  # as whoever runs a node does
    subprocess.run(
        [sys.executable, "-c", "import pipeline.core.features, components"],
        cwd=tmp_path,
        check=True,
    )


def test_workers_install_the_checkout_unless_they_have_an_image() -> None:
    def installs(*args: str) -> bool:
        told = arguments(runner="DataflowRunner", args=args)
        assert told[0] == "--runner=DataflowRunner"
        assert told[len(told) - len(args) :] == list(args)
        return any(each.startswith("--setup_file=") for each in told)

    assert installs("--region=europe-west1")
    assert not installs("--sdk_container_image=registry/segmentation:0.2.0-cpu")

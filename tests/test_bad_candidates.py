"""What becomes of candidates that must not replace a good champion; the others are in test_gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow_transform as tft

from pipeline.core import features
from pipeline.settings import Gate
from tests.support.models import bad_candidates
from tests.support.models.bad_candidates import Bench
from tests.support.runs import Run

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


@pytest.fixture(scope="module")
def bench(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small run's, with a champion that makes no mistake on the test photos."""
    artifacts = small_run.output_root / "artifacts"
    (graph,) = (artifacts / "Transform" / "transform_graph").iterdir()
    (examples,) = (artifacts / "ExampleGen" / "examples").iterdir()
    small = Bench(
        model=None,
        champion=str(small_run.released()),
        name="encoder_decoder",
        width=1,
        size=small_run.outcome["settings"]["transform.image_size"],
        transform=tft.TFTransformOutput(str(graph)),
        examples=str(examples),
        gate=Gate(min_examples=1),
    )
    best = bad_candidates.by_heart(small, features.TEST)
    champion = tmp_path_factory.mktemp("champion") / "model"
    small.save(best, str(champion))
    return dataclasses.replace(small, model=best, champion=str(champion))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bad_candidates.other_image_size, "its masks are 32x32 pixels, but transform.image_size"),
        (
            bad_candidates.other_signature,
            "it has no signature 'evaluate' (it has: serving_default)",
        ),
        (bad_candidates.truncated_export, "because it is damaged ("),
        (bad_candidates.untrained, "Mean IoU (overall) is 0."),
        (bad_candidates.overfit, "Mean IoU (overall), change against the champion: "),
    ],
)
def test_bad_candidate_is_refused_in_words(
    bench: Bench, tmp_path: Path, make: Callable[[Bench, str], None], words: str
) -> None:
    make(bench, str(tmp_path / "candidate"))
    verdict = bad_candidates.verdict(bench, str(tmp_path / "candidate"))
    assert words in verdict
    assert verdict.startswith(("Not released: ", "Failed: Trainer failed: "))
    assert verdict.endswith("Version V stays in service.")
    assert "\n" not in verdict


def test_identical_candidate_is_no_new_version(bench: Bench, tmp_path: Path) -> None:
    bad_candidates.identical(bench, str(tmp_path / "candidate"))
    verdict = bad_candidates.verdict(bench, str(tmp_path / "candidate"))
    assert verdict == "Version V stays in service. This run produced the same model."

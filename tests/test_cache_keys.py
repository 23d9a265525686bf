"""What makes a component work anew, without running any: see also tests/test_run.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tfx.utils import json_utils

from pipeline import settings
from pipeline.core import code, file_formats
from pipeline.orchestration.pipeline import create_pipeline
from tests.support.runs import ROOT, run_locally

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


def config(node: str, *overrides: str) -> dict[str, object]:
    """The ``custom_config`` of a node, which is part of its cache key."""
    pipeline = create_pipeline(
        data_root="data",
        pipeline_root="artifacts",
        serving_dir="serving",
        settings=settings.load(overrides=overrides),
    )
    (found,) = (each for each in pipeline.components if each.id == node)
    custom_config: dict[str, object] = json_utils.loads(found.exec_properties["custom_config"])
    return custom_config


def test_what_a_file_of_encoder_weights_holds_counts(tmp_path: Path) -> None:
    weights = tmp_path / "encoder.weights.h5"
    chosen = ("model.name=mobilenet_unet", f"model.encoder_weights={weights}")
    missing = config("Trainer", *chosen)  # as where the pipeline is compiled for a cluster
    weights.write_bytes(b"some")
    first = config("Trainer", *chosen)
    assert config("Trainer", *chosen) == first != missing
    weights.write_bytes(b"other")
    assert config("Trainer", *chosen) != first


def test_how_long_the_training_is_does_not_matter_to_the_trials() -> None:
    asked = ("tune.trials=2", "train.epochs=9")
    trials, training = config("Tuner", *asked), config("Trainer", *asked)
    longer = ("tune.trials=2", "train.epochs=10", "train.max_minutes=5")
    assert config("Tuner", *longer) == trials
    assert config("Trainer", *longer) != training
    for change in (
        "tune.trial_epochs=2",
        "train.seed=2",
        "tune.widths=[1]",
        "transform.image_size=64",
    ):
        assert config("Tuner", *asked, change) != trials


@pytest.fixture
def copied_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code, which the fingerprints are taken of; what runs stays the original."""
    for package in ("pipeline", "components"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package)
    monkeypatch.setattr(code, "ROOT", tmp_path / "code")
    return tmp_path / "code"


def edit(file: Path, text: str = "EDITED = 1") -> None:
    file.write_text(f"{file.read_text()}\n{text}\n")


ENTRIES = ("components.trainer", "pipeline.training.trainer")


def test_code_far_below_an_entry_counts(copied_code: Path) -> None:
    before = code.fingerprint(*ENTRIES)
    assert before == code.fingerprint(*ENTRIES)
    for module in code.closure(*ENTRIES):
        path = copied_code.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        kept = file.read_text()
        edit(file)
        assert code.fingerprint(*ENTRIES) != before, module
        file.write_text(kept)
    assert code.fingerprint(*ENTRIES) == before


def test_comments_docstrings_and_other_code_do_not_count(copied_code: Path) -> None:
    before = code.fingerprint(*ENTRIES)
    loop = copied_code / "pipeline" / "training" / "loop.py"
    edit(loop, "# Another comment.")
    loop.write_text(loop.read_text().replace('"""', '"""Another word. ', 1))
    for other in ("report/html_page.py", "core/console.py", "data/near_misses.py"):
        edit(copied_code / "pipeline" / other)
    assert code.fingerprint(*ENTRIES) == before


def test_every_unrelated_module_is_left_out_of_something(monkeypatch: pytest.MonkeyPatch) -> None:
    unrelated = set(code.UNRELATED)
    monkeypatch.setattr(code, "UNRELATED", {})
    reached = set(code.closure("components.example_gen", "components.pusher", *ENTRIES))
    assert unrelated <= reached


def keys(*overrides: str) -> dict[str, dict[str, object]]:
    """The parameters of each node, which are part of its cache key."""
    pipeline = create_pipeline(
        data_root="data",
        pipeline_root="artifacts",
        serving_dir="serving",
        settings=settings.load(overrides=["release.infra_validation=docker", *overrides]),
    )
    return {each.id: dict(each.exec_properties) for each in pipeline.components}


def test_the_code_of_every_component_counts(copied_code: Path) -> None:
    """But for those that are TFX's own, and for a copy of what the node was given."""
    before = keys()
    for node, module in {
        "ExampleGen": "components/example_gen.py",
        "StatisticsGen": "components/statistics_gen.py",
        "DataGate": "components/data_gate.py",
        "Transform": "components/transform.py",
        "Trainer": "components/trainer.py",
        "Evaluator": "components/evaluator.py",
        "InfraValidator": "components/infra_validator.py",
        "Pusher": "components/pusher.py",
    }.items():
        kept = (copied_code / module).read_text()
        edit(copied_code / module)
        after = keys()
        assert after[node] != before[node], node
        (copied_code / module).write_text(kept)
    own = {"ImportSchemaGen", "ExampleValidator", "ReleasedData", "DriftValidator", "Champion"}
    assert before.keys() == own | {
        *("ExampleGen", "StatisticsGen", "DataGate", "Transform", "Trainer", "Evaluator"),
        *("InfraValidator", "Pusher"),
    }


@pytest.mark.parametrize(
    "file",
    [
        "pipeline/release/operations.py",
        "pipeline/release/model_store.py",
        "pipeline/release/templates/model_card.md.j2",
        "pipeline/conversion/judgement.py",
        "pipeline/formats/litert.py",
    ],
)
def test_the_code_of_a_release_counts(file: str, copied_code: Path) -> None:
    before = keys()
    edit(copied_code / file)
    after = keys()
    assert after["Pusher"] != before["Pusher"]
    assert after["Trainer"] == before["Trainer"]


def test_a_file_in_another_format_is_made_again_by_other_code(copied_code: Path) -> None:
    asked = {"release.formats": ["onnx", "litert_int8"]}
    before = file_formats.wanted(asked)
    edit(copied_code / "pipeline" / "formats" / "litert.py")
    after = file_formats.wanted(asked)
    assert after["onnx"] == before["onnx"]
    assert after["litert_int8"] != before["litert_int8"]


def test_where_beam_works_does_not_count() -> None:
    beam = ('beam.args=["--direct_num_workers=2"]', "beam.runner=FlinkRunner")
    assert keys(*beam) == keys()


def test_an_unknown_entry_is_no_fingerprint() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no source for pipeline\.nowhere"):
        code.fingerprint("pipeline.nowhere")


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_an_edit_makes_run_again_what_stands_on_it(
    small_data: Path, tmp_path: Path, copied_code: Path
) -> None:
    shutil.copy(ROOT / "setup.py", copied_code)
    first = run_locally(small_data, tmp_path / "output")
    edit(copied_code / "pipeline" / "report" / "charts.py")
    assert set(first.again().states().values()) == {"cached"}
    edit(copied_code / "pipeline" / "data" / "photo_header.py")  # of ExampleGen's check of a photo
    states = first.again().states()
    assert {node for node, state in states.items() if state == "executed"} >= {
        *("ExampleGen", "DataGate", "Transform", "Trainer"),
    }
    assert states["ImportSchemaGen"] == "cached"

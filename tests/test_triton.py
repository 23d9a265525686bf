"""A model repository for Triton, read with its own messages.

tests/test_open_inference.py has the server serve it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pipeline.cli import convert
from pipeline.core import features
from tests.support.runs import Run

DATA_TYPES = {
    "tensor(uint8)": model_config_pb2.TYPE_UINT8,
    "tensor(float)": model_config_pb2.TYPE_FP32,
}


def write(run: Run, repository: Path) -> int:
    return convert.main(["triton", "--model", str(run.released()), "--output", str(repository)])


@pytest.fixture(scope="module")
def model(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the only model of a repository."""
    repository = tmp_path_factory.mktemp("triton") / "repository"
    assert write(small_run, repository) == 0
    (model,) = repository.iterdir()
    return model


@pytest.fixture(scope="module")
def config(model: Path) -> Any:
    text = (model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_layout(model: Path, small_run: Run) -> None:
    version = str(small_run.outcome["pushed_version"])
    files = sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file())
    assert files == sorted(["config.pbtxt", "labels.txt", f"{version}/model.onnx"])
    # Triton overlooks a version that is no number, or has a leading zero.
    assert version.isdecimal()
    assert not version.startswith("0")


def test_tensors_are_those_of_the_file(model: Path, config: Any) -> None:
    (file,) = model.glob("*/model.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    described = [*config.input, *config.output]
    for tensor, told in zip(
        [*session.get_inputs(), *session.get_outputs()], described, strict=True
    ):
        assert (told.name, told.data_type) == (tensor.name, DATA_TYPES[tensor.type])
        # With a batch size Triton puts one free dimension before `dims`.
        shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
        assert [-1, *told.dims] == shape
        # Labels would be those of the first pixel's values.
        assert not getattr(told, "label_filename", "")


def test_settings(model: Path, config: Any) -> None:
    assert config.name == model.name
    assert config.backend == "onnxruntime"
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 1


def test_labels_are_the_classes_by_id(model: Path) -> None:
    assert (model / "labels.txt").read_text().splitlines() == list(features.CLASS_NAMES)


def test_a_folder_that_exists_is_left_alone(
    model: Path, small_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(model.rglob("*"))
    assert write(small_run, model.parent) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{model.parent} already exists" in line
    assert sorted(model.rglob("*")) == before

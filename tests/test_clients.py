"""A release is asked by programs that nobody here wrote, and answers them as it does Python.

They need Maven, npm or Chromium, and time: see tests/support/clients.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from numpy.typing import NDArray
from PIL import Image

from pipeline import models
from pipeline.cli import convert
from pipeline.data import preprocessing
from pipeline.saved_model import contract, export
from tests.support import Unavailable, debian
from tests.support.clients import _building, mlserver, node, ortjava, tfjava, web
from tests.support.photos import encoded
from tests.support.runs import Run, only_with_all

pytestmark = pytest.mark.once

SIZE = 64  # that of `small_run`, and all models take it
CLIENTS = Path(_building.__file__).parent
NO_PHOTO = b"no photo"

ONNX_CLIENTS = pytest.mark.parametrize(
    "client", [ortjava, node, web, mlserver], ids=["ortjava", "node", "web", "mlserver"]
)


@pytest.fixture(scope="session")
def all_is_asked_for() -> None:
    only_with_all("CLIENTS IN OTHER LANGUAGES")


def in_another_program(test: Callable[..., None]) -> Any:
    """Marks a test; it is skipped before a run is made for it."""
    return pytest.mark.slow(pytest.mark.usefixtures("all_is_asked_for")(test))


@pytest.fixture(scope="module")
def photos(small_run: Run) -> list[bytes]:
    """Five encoded photos of as many sizes, one of them a PNG and one larger than most."""
    found: dict[tuple[int, int], bytes] = {}
    for path in sorted((small_run.data_root / "images").iterdir()):
        content = path.read_bytes()
        found.setdefault(Image.open(io.BytesIO(content)).size, content)
    first, *others = list(found.values())[:3]
    picture = Image.open(io.BytesIO(first))
    small, large = picture.resize([201, 99]), picture.resize([1600, 1200])
    return [first, *others, encoded(small, "PNG"), encoded(large, "JPEG")]


@pytest.fixture(scope="module")
def transform_output(small_run: Run) -> tft.TFTransformOutput:
    (graph,) = (small_run.output_root / "artifacts" / "Transform" / "transform_graph").iterdir()
    return tft.TFTransformOutput(str(graph))


def served(model: Path, photos: list[bytes]) -> dict[str, NDArray[Any]]:
    """What `serving_default` answers through Python's own loader."""
    loaded = tf.saved_model.load(str(model))
    outputs = loaded.signatures[contract.SERVE](**{contract.IMAGE_BYTES: tf.constant(photos)})
    return {key: value.numpy() for key, value in outputs.items()}


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Calls a client; skips, loudly, what this machine has no programs for."""

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Unavailable as reason:
            pytest.skip(f"{function.__module__.upper()} NOT TESTED: {reason}")

    return call


@in_another_program
def test_tensorflow_java_gives_the_same_masks(
    ask: Callable[..., Any], small_run: Run, photos: list[bytes]
) -> None:
    answer = ask(tfjava.ask, small_run.released(), photos, rounds=3)
    expected = served(small_run.released(), photos)[contract.MASK]
    np.testing.assert_array_equal(answer.masks, expected)
    assert len(np.unique(expected)) > 1
    assert answer.milliseconds > 0


@in_another_program
def test_one_bad_photo_costs_tensorflow_java_no_other_answer(
    ask: Callable[..., Any], small_run: Run, photos: list[bytes]
) -> None:
    model, batch = small_run.released(), [photos[0], NO_PHOTO, photos[1]]
    requests = [
        tfjava.Request(model, [NO_PHOTO]),
        tfjava.Request(model, batch, contract.SERVE_PNG),
        tfjava.Request(model, batch),
        tfjava.Request(model, photos[:1]),
    ]
    alone, png, mixed, good = ask(tfjava.ask_all, requests).replies
    # The plain signature says no and works on; the other one answers for each photo.
    assert "Unknown image file format" in alone.error
    assert "Unknown image file format" in mixed.error
    masks = served(model, photos[:2])[contract.MASK]
    np.testing.assert_array_equal(good.outputs[contract.MASK], masks[:1])
    assert png.error == ""
    assert png.outputs[contract.VALID].tolist() == [True, False, True]
    first, nothing, last = png.outputs[contract.MASK_PNG]
    assert nothing == b""
    for content, mask in zip((first, last), masks, strict=True):
        picture = Image.open(io.BytesIO(content))
        assert (picture.format, picture.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(picture), mask)


class TracksTheModel(export.SegmentationModule):
    """The export as it once was: it tracks the Keras model, not the plain variables."""

    def __init__(self, model: keras.Model, *rest: Any) -> None:
        super().__init__(model, *rest)
        del self.weights
        self.model = model


@in_another_program
def test_an_export_that_tracks_the_keras_model_cannot_be_served(
    ask: Callable[..., Any],
    transform_output: tft.TFTransformOutput,
    photos: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `pipeline.saved_model.export` avoids; Python's own loader notices nothing."""
    image = keras.Input([SIZE, SIZE, 3])
    model = keras.Model(image, keras.layers.Conv2D(3, 1, activation="softmax")(image))
    new, old = str(tmp_path / "new"), str(tmp_path / "old")
    export.save(model, transform_output, SIZE, new)
    monkeypatch.setattr(export, "SegmentationModule", TracksTheModel)
    export.save(model, transform_output, SIZE, old)

    requests = [tfjava.Request(Path(path), photos[:1]) for path in (old, new)]
    failed, answered = ask(tfjava.ask_all, requests).replies
    assert "Could not find variable" in failed.error
    mask = served(Path(old), photos[:1])[contract.MASK]
    np.testing.assert_array_equal(answered.outputs[contract.MASK], mask)
    # And the Trainer refuses it without any Java.
    assert "no server can run it" in (contract.unservable(old) or "")
    assert contract.unservable(new) is None


@in_another_program
def test_tensorflow_java_serves_every_architecture(
    ask: Callable[..., Any],
    transform_output: tft.TFTransformOutput,
    photos: list[bytes],
    tmp_path: Path,
) -> None:
    for name in models.names():
        keras.utils.set_random_seed(1)
        model = models.build(name, SIZE)
        export.save(model, transform_output, SIZE, str(tmp_path / name))
    requests = [tfjava.Request(tmp_path / name, photos[:3]) for name in models.names()]
    replies = ask(tfjava.ask_all, requests).replies
    for name, reply in zip(models.names(), replies, strict=True):
        assert reply.error == "", name
        expected = served(tmp_path / name, photos[:3])
        np.testing.assert_allclose(
            reply.outputs[contract.PROBABILITIES], expected[contract.PROBABILITIES], atol=1e-5
        )
        np.testing.assert_array_equal(reply.outputs[contract.MASK], expected[contract.MASK], name)


@pytest.fixture(scope="module")
def onnx_file(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release as an ONNX file that takes photos of any size."""
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    arguments = ["onnx", "--model", str(small_run.released()), "--output", str(file)]
    assert convert.main(arguments) == 0
    return file


@in_another_program
@ONNX_CLIENTS
def test_onnx_runtime_gives_nearly_the_same_masks(
    client: ModuleType,
    ask: Callable[..., Any],
    onnx_file: Path,
    small_run: Run,
    photos: list[bytes],
) -> None:
    decoded = [preprocessing.decode_image(tf.constant(photo)).numpy() for photo in photos]
    together = np.stack([decoded[0], decoded[0][:, ::-1]])
    answer = ask(client.ask, onnx_file, [*decoded, together], rounds=3)
    expected = served(small_run.released(), photos)[contract.MASK]
    *alone, first, mirrored = answer.masks
    for mask, wanted in zip(alone, expected, strict=True):
        assert np.mean(mask == wanted) >= 0.995
    # In a batch a photo has the mask that it has alone, and each photo its own.
    np.testing.assert_array_equal(first, alone[0])
    assert (mirrored != first).any()
    assert answer.milliseconds > 0


@in_another_program
@ONNX_CLIENTS
def test_a_file_that_is_no_model_is_an_error(
    client: ModuleType, ask: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"(?i)protobuf"):
        ask(client.ask, tmp_path / "no.onnx", [np.zeros([8, 8, 3], np.uint8)])


def test_versions_are_pinned_and_locks_name_no_registry() -> None:
    for file in CLIENTS.rglob("pom.xml"):
        text = file.read_text()
        assert re.search(r"ersion>\d+\.\d+\.\d+<", text)
        assert "<repository>" not in text
    for file in CLIENTS.rglob("package.json"):
        lock = json.loads((file.parent / "package-lock.json").read_text())
        pins = json.loads(file.read_text())["dependencies"]
        assert lock["packages"][""]["dependencies"] == pins
        for package, version in pins.items():
            assert lock["packages"][f"node_modules/{package}"]["version"] == version
        assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
    for file in CLIENTS.rglob("requirements.txt"):
        text = file.read_text()
        assert "://" not in text
        for line in text.replace("\\\n", "").splitlines():
            assert re.match(r"#|[a-z0-9.-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_two_builders_build_once_and_anew_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_building, "STORE", tmp_path / "store")
    source, made = tmp_path / "source", []

    def make(making: Path) -> None:
        made.append(source.read_text())
        time.sleep(0.3)  # for the other one to come meanwhile
        (making / "content").write_text(source.read_text())

    def keep(_: object = None) -> str:
        return (_building.kept("it", [source], make) / "content").read_text()

    source.write_text("one")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(keep, range(2))) == ["one", "one"]
    assert made == ["one"]
    source.write_text("two")
    assert (keep(), made) == ("two", ["one", "two"])


def test_a_build_that_failed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_building, "STORE", tmp_path / "store")

    def fail(making: Path) -> None:
        (making / "half").touch()
        raise Unavailable("no line")

    with pytest.raises(Unavailable):
        _building.kept("it", [Path(__file__)], fail)
    assert [path.name for path in (tmp_path / "store").iterdir()] in ([], ["lock"])


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Unavailable, match="no-such-program not found"):
        debian.need("no-such-program")

"""Servers of the Open Inference Protocol (v2) answer as docs/how_to/serve_open_inference.md says.

MLServer serves the ONNX file of a release, NVIDIA's Triton the model repository; see
tests/support/clients.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from pipeline.cli import convert
from pipeline.data import preprocessing
from pipeline.saved_model import contract
from tests.support.clients import _v2, mlserver, triton
from tests.support.photos import encoded
from tests.support.runs import ROOT, Run, only_with_all, skips_without

SIZE = 64  # that of `small_run`
# How each is started, with which format, and what its file or folder is called.
SERVERS: dict[str, tuple[Callable[[Path], AbstractContextManager[_v2.Server]], str, str]] = {
    "mlserver": (mlserver.serving, "onnx", "pets.onnx"),
    "triton": (triton.serving, "triton", "repository"),
}
pytestmark = [pytest.mark.once, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def all_is_asked_for() -> None:
    only_with_all("OPEN INFERENCE PROTOCOL")


@pytest.fixture(scope="module")
def photos(all_is_asked_for: None, small_run: Run) -> list[bytes]:
    """Three encoded photos of as many sizes, and one more of the first one's."""
    first, second = sorted((small_run.data_root / "images").iterdir())[:2]
    pictures = [Image.open(path) for path in (first, second)]
    sizes = [(120, 90), (301, 77), (40, 50)]
    return [
        *(encoded(pictures[0].resize(size), "PNG") for size in sizes),
        encoded(pictures[1].resize(sizes[0]), "PNG"),
    ]


@pytest.fixture(scope="module")
def requests(photos: list[bytes]) -> list[NDArray[Any]]:
    """The photos, decoded: three alone, then the two of one size together."""
    decoded = [preprocessing.decode_image(tf.constant(photo)).numpy() for photo in photos]
    return [*(photo[None] for photo in decoded[:3]), np.stack([decoded[0], decoded[3]])]


@pytest.fixture(scope="module")
def expected(small_run: Run, photos: list[bytes]) -> list[NDArray[Any]]:
    """The masks that `serving_default` gives for the same requests."""
    signature = tf.saved_model.load(str(small_run.released())).signatures[contract.SERVE]
    masks = signature(**{contract.IMAGE_BYTES: tf.constant(photos)})[contract.MASK].numpy()
    return [masks[0:1], masks[1:2], masks[2:3], masks[[0, 3]]]


@pytest.fixture(scope="module", params=list(SERVERS))
def server(
    request: pytest.FixtureRequest,
    all_is_asked_for: None,
    small_run: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[_v2.Server]:
    name = request.param
    serving, format_, file = SERVERS[name]
    path = tmp_path_factory.mktemp(name) / file
    model = str(small_run.released())
    assert convert.main([format_, "--model", model, "--output", str(path)]) == 0
    with ExitStack() as stack:
        with skips_without(f"{name.upper()}"):
            running = stack.enter_context(serving(path))
        yield running


def documented(name: str) -> Any:
    """The documented JSON whose first key is `name`, at this model's size."""
    text = (ROOT / "docs" / "how_to" / "serve_open_inference.md").read_text()
    (block,) = re.findall(rf'```json\n(\{{"{name}".*?)\n```', text, re.DOTALL)
    return json.loads(block.replace("200", str(SIZE)))


def test_health_and_metadata(server: _v2.Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{server.model}/ready"):
        assert server.get(path) is None
    told = server.get(f"/v2/models/{server.model}")
    described = documented("name")
    assert told["name"] == server.model
    # The docs show MLServer's answer; Triton's differs in the rest.
    for key in described if server.model == described["name"] else ("inputs", "outputs"):
        assert told[key] == described[key]


def test_masks_are_those_of_the_release(
    server: _v2.Server, requests: list[NDArray[Any]], expected: list[NDArray[Any]]
) -> None:
    assert len(np.unique(expected[0])) > 1
    for photos, masks in zip(requests, expected, strict=True):
        answer = server.ask(photos, contract.MASK)
        assert list(answer) == [contract.MASK]
        assert answer[contract.MASK].shape == masks.shape
        assert np.mean(answer[contract.MASK] == masks) >= 0.995
        # Raw bytes over gRPC are the same numbers.
        (raw,) = server.ask_grpc(photos, contract.MASK).values()
        np.testing.assert_array_equal(raw, answer[contract.MASK])


def test_probabilities_come_unless_the_request_names_outputs(
    server: _v2.Server, requests: list[NDArray[Any]]
) -> None:
    for answer in (server.ask(requests[3]), server.ask_grpc(requests[3])):
        probabilities = answer[contract.PROBABILITIES]
        assert probabilities.dtype == np.float32
        assert probabilities.shape == (2, SIZE, SIZE, 3)
        np.testing.assert_array_equal(probabilities.argmax(-1), answer[contract.MASK])


def test_an_answer_is_the_documented_one(server: _v2.Server, requests: list[NDArray[Any]]) -> None:
    asked = _v2.request(requests[0], contract.MASK)
    answer, described = server.infer(asked), documented("model_name")
    (output,), (shown,) = answer["outputs"], described["outputs"]
    for key in ("name", "datatype", "shape"):
        assert output[key] == shown[key]
    if server.model == described["model_name"]:
        assert (answer.keys(), output.keys()) == (described.keys(), shown.keys())
    assert len(output["data"]) == SIZE * SIZE
    asked["inputs"][0]["data"] = requests[0].tolist()  # nested
    (same,) = server.infer(asked)["outputs"]
    assert same["data"] == output["data"]


def test_the_server_survives_bad_requests(
    server: _v2.Server, requests: list[NDArray[Any]], expected: list[NDArray[Any]]
) -> None:
    good = _v2.request(requests[0], contract.MASK)
    (image,) = good["inputs"]
    refused = [
        ({"inputs": [{**image, "name": "photo"}]}, "400.*photo"),
        ({"inputs": [{**image, "datatype": "FP32"}]}, "400.*(FP32|float)"),
        ({"outputs": [{"name": "masks"}]}, "400.*masks"),
        # Triton takes these for its own fault.
        ({"inputs": [{**image, "shape": [1, 5, 5, 3]}]}, "(400|500).*(shape)"),
        ({"inputs": [{**image, "data": [-1, *image["data"][1:]]}]}, "(400|500).*(-1|unsigned)"),
    ]
    for change, said in refused:
        with pytest.raises(RuntimeError, match=said) as caught:
            server.infer({**good, **change})
        assert json.loads(str(caught.value)[4:]).keys() == {"error"}
    assert np.mean(server.ask(requests[0])[contract.MASK] == expected[0]) >= 0.995


def test_many_at_once(server: _v2.Server, requests: list[NDArray[Any]]) -> None:
    """Triton may join them; each gets its own mask."""
    asked = [*requests[:3], requests[3][1:]] * 3
    alone = [server.ask_grpc(photos, contract.MASK)[contract.MASK] for photos in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda photos: server.ask_grpc(photos, contract.MASK), asked))
    for one, other in zip(alone, together, strict=True):
        assert np.mean(one == other[contract.MASK]) > 0.999

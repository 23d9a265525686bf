"""The smoke test, the last check before a release: a fresh process loads and queries the model.

``python -m pipeline.saved_model.smoke_test MODEL`` is that process. Like a server, it needs only
TensorFlow, so an export that depends on the code that built it fails here. It loads the model with
both loaders. The session loader restores variables as TensorFlow Serving, C, Java and Go do;
Python's loader restores them differently, so it proves nothing about servers.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import code, features
from pipeline.saved_model import contract

TIMEOUT = 600  # seconds
# Height and width of the photos in pixels: three small ones, and one of 12 megapixels, as phones
# take them.
SMALL, LARGE = ((96, 128), (128, 96), (64, 64)), (3000, 4000)
UNDECODABLE = b"no photo"

# Minimum fractions of equal pixels; if two classes are equally probable, rounding decides.
_AGREEMENT = 0.999
_ROTATED_AGREEMENT = 0.98  # a rotated photo is resized in another order
_ORIENTATION = 6  # EXIF value: rotate by 90 degrees

Array = npt.NDArray[Any]
# From a signature's name and encoded photos to the outputs by name.
Query = Callable[[str, Sequence[bytes]], dict[str, Array]]


class BrokenModelError(Exception):
    """A model must not be released; the message is a clause that says why."""


def check(model_path: str) -> None:
    """Runs the smoke test of a SavedModel in a fresh process, on the CPU.

    Raises:
      BrokenModelError: if the model cannot be loaded, or its outputs break the contract.
    """
    packages = str(code.ROOT)
    path = os.pathsep.join([packages, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.saved_model.smoke_test", model_path],
            env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        fault = f"it segmented no photo within {TIMEOUT} s"
    else:
        if done.returncode == 0:
            return
        lines = done.stdout.strip().splitlines()
        fault = lines[-1] if lines else f"the smoke test ended with exit code {done.returncode}"
    raise BrokenModelError(f"the exported model is not released, because {fault}")


def fault(model_path: str) -> str | None:
    """What is wrong with a SavedModel, in one clause; None if it keeps the contract.

    With each loader, ``serving_default`` gets one photo, a batch of three sizes, a photo that
    cannot be decoded, which must fail without affecting the next request, and one of 12 megapixels.
    ``mask`` must be class ids, uint8 [batch, s, s]. ``probabilities`` must be float32
    [batch, s, s, 3] and finite, add up to 1 for each pixel and be highest for the class of the
    mask. If the model has ``serving_png``, it must return the same masks, even if another photo of
    the batch cannot be decoded. A model that claims to apply the EXIF orientation must do so.
    """
    small, large = [_photo(*size) for size in SMALL], _photo(*LARGE)
    rotated = _rotated(*SMALL[0]) if contract.exif(model_path) == contract.APPLY else ()
    results = []
    for name, loader in (("a server", as_server), ("Python", as_python)):
        try:
            with loader(model_path) as (signatures, query):
                results.append(_query_all(signatures, query, small, large, rotated))
        except _WrongOutputError as error:
            return f"{error} (queried like {name})"
        except Exception as error:  # TensorFlow raises many kinds of errors for a damaged file
            message = " ".join(str(error).replace(f"{model_path}/", "").split()).rstrip(".")[:200]
            return f"{name} cannot load and query it ({type(error).__name__}: {message})"
    server, python = results
    if not all(_agree(a, b) for a, b in zip(server, python, strict=True)):
        return "its masks differ between a server and Python"
    return None


class _WrongOutputError(Exception):
    """The model's output breaks the contract; the message is one clause."""


def _query_all(
    signatures: Container[str],
    query: Query,
    small: Sequence[bytes],
    large: bytes,
    rotated: Sequence[bytes],
) -> list[Array]:
    """Sends the queries that `fault` describes; returns the masks, each uint8 [batch, s, s]."""
    if contract.SERVE not in signatures:
        raise _WrongOutputError(f"it has no signature {contract.SERVE}")
    masks = [_masks(query, small[:1]), _masks(query, small)]
    try:
        query(contract.SERVE, [UNDECODABLE])
    except Exception:  # the type depends on the loader
        masks.append(_masks(query, small[:1]))
    else:
        raise _WrongOutputError("it does not reject a photo that cannot be decoded")
    masks.append(_masks(query, [large]))
    if contract.SERVE_PNG in signatures:
        first, *others = small
        outputs = query(contract.SERVE_PNG, [first, UNDECODABLE, *others])
        valid, files = outputs[contract.VALID].tolist(), outputs[contract.MASK_PNG].tolist()
        if valid != [bool(file) for file in files] or valid != [True, False, True, True]:
            raise _WrongOutputError("its `valid` is wrong about photos that cannot be decoded")
        pngs = [_decode_png(file) for file in files if file]
        if not _agree(np.stack(pngs), masks[1]):
            raise _WrongOutputError(f"{contract.SERVE_PNG} returns different masks")
    if rotated:
        applied, upright = _masks(query, rotated[:1]), _masks(query, rotated[1:])
        if float((applied == upright).mean()) < _ROTATED_AGREEMENT:
            raise _WrongOutputError("it does not apply the EXIF orientation of a photo")
        masks.append(applied)
    return masks


def _masks(query: Query, photos: Sequence[bytes]) -> Array:
    """The masks of a batch, uint8 [batch, s, s]; raises _WrongOutputError if they are invalid."""
    outputs = query(contract.SERVE, photos)
    mask, probabilities = outputs[contract.MASK], outputs[contract.PROBABILITIES]
    count, size = len(photos), mask.shape[-1]
    if mask.dtype != np.uint8 or mask.shape != (count, size, size):
        raise _WrongOutputError(
            f"it returns a mask {mask.dtype} {mask.shape}, not uint8 [{count}, s, s]"
        )
    expected = (count, size, size, features.NUM_CLASSES)
    if probabilities.dtype != np.float32 or probabilities.shape != expected:
        actual = f"{probabilities.dtype} {probabilities.shape}"
        raise _WrongOutputError(f"it returns probabilities {actual}, not float32 {expected}")
    if not np.isfinite(probabilities).all():
        raise _WrongOutputError("its probabilities are not finite")
    if np.abs(probabilities.sum(axis=-1) - 1).max() > 1e-3:
        raise _WrongOutputError("its probabilities do not add up to 1")
    if not (mask == probabilities.argmax(axis=-1)).all():
        raise _WrongOutputError("its mask does not contain the most probable classes")
    return mask


def _agree(masks: Array, others: Array) -> bool:
    return masks.shape == others.shape and float((masks == others).mean()) >= _AGREEMENT


@contextlib.contextmanager
def as_server(model_path: str) -> Iterator[tuple[Container[str], Query]]:
    """Loads a SavedModel with the session loader; yields its signature names and a query function.

    The function takes a signature's name and encoded photos.
    """
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with contextlib.closing(session):
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], model_path)

        def query(name: str, photos: Sequence[bytes]) -> dict[str, Array]:
            signature = loaded.signature_def[name]
            fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
            feeds = {signature.inputs[contract.IMAGE_BYTES].name: list(photos)}
            outputs: dict[str, Array] = session.run(fetches, feeds)
            return outputs

        yield loaded.signature_def, query


@contextlib.contextmanager
def as_python(model_path: str) -> Iterator[tuple[Container[str], Query]]:
    """Does the same with Python's loader."""
    import tensorflow as tf

    signatures = tf.saved_model.load(model_path).signatures

    def query(name: str, photos: Sequence[bytes]) -> dict[str, Array]:
        inputs = {contract.IMAGE_BYTES: tf.constant(list(photos))}
        return {key: tensor.numpy() for key, tensor in signatures[name](**inputs).items()}

    yield signatures, query


def _photo(height: int, width: int) -> bytes:
    """A JPEG of a ramp from black to white."""
    import tensorflow as tf

    ramp = tf.linspace(0.0, 255.0, width)[None, :, None] * tf.ones([height, 1, 3])
    file: bytes = tf.io.encode_jpeg(tf.cast(ramp, tf.uint8)).numpy()
    return file


def _rotated(height: int, width: int) -> tuple[bytes, bytes]:
    """A photo with an EXIF orientation of 90 degrees, and the same photo upright."""
    import tensorflow as tf

    photo = _photo(height, width)
    upright = tf.image.rot90(tf.io.decode_jpeg(photo), k=3)
    directory = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, _ORIENTATION, 0, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    return photo[:2] + segment + photo[2:], tf.io.encode_png(upright).numpy()


def _decode_png(file: bytes) -> Array:
    import tensorflow as tf

    ids: Array = tf.io.decode_png(file)[..., 0].numpy()
    return ids


if __name__ == "__main__":
    reason = fault(sys.argv[1])
    if reason:
        sys.stdout.write(reason)
        sys.exit(1)

"""The last check before a release: a fresh process loads the model and asks it as servers do.

``python -m pipeline.saved_model.smoke_test MODEL`` is that process. TensorFlow is all it needs, as
in a server, so an export that only works beside the code that made it fails here. It loads the
model twice: through the session loader, which restores variables as TensorFlow Serving, C, Java and
Go do, and through Python's own, which does that in another way and so proves nothing about them.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np

from pipeline.core import code, features
from pipeline.saved_model import contract

TIMEOUT = 600  # seconds
# Height and width of the photos, pixels. One is asked by itself, three as a batch, and then one of
# twelve megapixels, as telephones take them.
SMALL, LARGE = ((96, 128), (128, 96), (64, 64)), (3000, 4000)
UNDECODABLE = b"no photo"

# Shares of pixels; where two classes are as probable, rounding decides.
_AGREEMENT = 0.999
_TURNED_AGREEMENT = 0.98  # which resizes the same pixels in another order
_ORIENTATION = 6  # turned by 90 degrees

# From a signature's name and encoded photos to the outputs by name.
Ask = Callable[[str, Sequence[bytes]], dict[str, np.ndarray]]


class BrokenModelError(Exception):
    """A model that must not be released; the message says why."""


def check(model_path: str) -> None:
    """Loads a SavedModel in a fresh process, on the CPU, and has it segment photos.

    Raises:
      BrokenModelError: if it cannot be loaded, or its answers are not what the contract of
        its serving signatures says; one sentence.
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
        fault = lines[-1] if lines else f"the process that loaded it ended with {done.returncode}"
    raise BrokenModelError(f"the exported model is not released, since {fault}")


def fault(model_path: str) -> str | None:
    """What is wrong with a SavedModel, in one clause; None if it answers as the contract says.

    Each loader asks ``serving_default`` one photo, three of different sizes in one batch, one that
    cannot be decoded, which must fail and leave the next request alone, and one of twelve
    megapixels. ``mask`` must be uint8 [batch, s, s] of class ids, and ``probabilities`` float32
    [batch, s, s, 3], finite, adding up to 1 for each pixel and highest at the class of the mask.
    ``serving_png``, where the model has it, must give the same masks, also beside a photo that
    cannot be decoded. A model that says it applies the EXIF orientation must do so.
    """
    small, large = [_photo(*size) for size in SMALL], _photo(*LARGE)
    turned = _turned(*SMALL[0]) if contract.exif(model_path) == contract.APPLY else ()
    answers = []
    for name, loader in (("a server", as_server), ("Python", as_python)):
        try:
            with loader(model_path) as (signatures, ask):
                answers.append(_interview(signatures, ask, small, large, turned))
        except _WrongAnswerError as error:
            return f"{error} (asked as {name} does)"
        except Exception as error:  # TensorFlow raises many kinds for a damaged file
            what = " ".join(str(error).replace(f"{model_path}/", "").split()).rstrip(".")[:200]
            return f"{name} cannot load and query it ({type(error).__name__}: {what})"
    served, python = answers
    if not all(_agree(a, b) for a, b in zip(served, python, strict=True)):
        return "its masks differ between a server and Python"
    return None


class _WrongAnswerError(Exception):
    """The message says what is wrong with it, in one clause."""


def _interview(
    signatures: Container[str],
    ask: Ask,
    small: Sequence[bytes],
    large: bytes,
    turned: Sequence[bytes],
) -> list[np.ndarray]:
    """Asks what `fault` says; returns the masks, each uint8 [batch, s, s]."""
    if contract.SERVE not in signatures:
        raise _WrongAnswerError(f"it has no signature {contract.SERVE}")
    masks = [_masks(ask, small[:1]), _masks(ask, small)]
    try:
        ask(contract.SERVE, [UNDECODABLE])
    except Exception:  # of many kinds
        masks.append(_masks(ask, small[:1]))
    else:
        raise _WrongAnswerError("it does not reject a photo that cannot be decoded")
    masks.append(_masks(ask, [large]))
    if contract.SERVE_PNG in signatures:
        first, *others = small
        answer = ask(contract.SERVE_PNG, [first, UNDECODABLE, *others])
        valid, files = answer[contract.VALID].tolist(), answer[contract.MASK_PNG].tolist()
        if valid != [bool(file) for file in files] or valid != [True, False, True, True]:
            raise _WrongAnswerError("its `valid` is wrong about photos that cannot be decoded")
        pngs = [_decode_png(file) for file in files if file]
        if not _agree(np.stack(pngs), masks[1]):
            raise _WrongAnswerError(f"{contract.SERVE_PNG} returns different masks")
    if turned:
        noted, upright = _masks(ask, turned[:1]), _masks(ask, turned[1:])
        if float((noted == upright).mean()) < _TURNED_AGREEMENT:
            raise _WrongAnswerError("it does not turn a photo as its EXIF orientation says")
        masks.append(noted)
    return masks


def _masks(ask: Ask, photos: Sequence[bytes]) -> np.ndarray:
    """The masks of a batch, uint8 [batch, s, s]; raises _WrongAnswerError if they are none."""
    answer = ask(contract.SERVE, photos)
    mask, probabilities = answer[contract.MASK], answer[contract.PROBABILITIES]
    count, size = len(photos), mask.shape[-1]
    if mask.dtype != np.uint8 or mask.shape != (count, size, size):
        raise _WrongAnswerError(
            f"it answers with a mask {mask.dtype} {mask.shape}, not uint8 [{count}, s, s]"
        )
    expected = (count, size, size, features.NUM_CLASSES)
    if probabilities.dtype != np.float32 or probabilities.shape != expected:
        found = f"{probabilities.dtype} {probabilities.shape}"
        raise _WrongAnswerError(f"it answers with probabilities {found}, not float32 {expected}")
    if not np.isfinite(probabilities).all():
        raise _WrongAnswerError("its probabilities are not finite")
    if np.abs(probabilities.sum(axis=-1) - 1).max() > 1e-3:
        raise _WrongAnswerError("its probabilities do not add up to 1")
    if not (mask == probabilities.argmax(axis=-1)).all():
        raise _WrongAnswerError("its mask does not hold the most probable classes")
    return mask


def _agree(masks: np.ndarray, others: np.ndarray) -> bool:
    return masks.shape == others.shape and float((masks == others).mean()) >= _AGREEMENT


@contextlib.contextmanager
def as_server(model_path: str) -> Iterator[tuple[Container[str], Ask]]:
    """The names of the signatures and a way to ask them, through the session loader."""
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with contextlib.closing(session):
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], model_path)

        def ask(name: str, photos: Sequence[bytes]) -> dict[str, np.ndarray]:
            signature = loaded.signature_def[name]
            wanted = {key: tensor.name for key, tensor in signature.outputs.items()}
            given = {signature.inputs[contract.IMAGE_BYTES].name: list(photos)}
            return session.run(wanted, given)

        yield loaded.signature_def, ask


@contextlib.contextmanager
def as_python(model_path: str) -> Iterator[tuple[Container[str], Ask]]:
    """The same through Python's own loader."""
    import tensorflow as tf

    signatures = tf.saved_model.load(model_path).signatures

    def ask(name: str, photos: Sequence[bytes]) -> dict[str, np.ndarray]:
        given = {contract.IMAGE_BYTES: tf.constant(list(photos))}
        return {key: tensor.numpy() for key, tensor in signatures[name](**given).items()}

    yield signatures, ask


def _photo(height: int, width: int) -> bytes:
    """A JPEG of a ramp from black to white."""
    import tensorflow as tf

    ramp = tf.linspace(0.0, 255.0, width)[None, :, None] * tf.ones([height, 1, 3])
    return tf.io.encode_jpeg(tf.cast(ramp, tf.uint8)).numpy()


def _turned(height: int, width: int) -> tuple[bytes, bytes]:
    """A photo whose EXIF orientation says that it lies on its side, and the same upright."""
    import tensorflow as tf

    photo = _photo(height, width)
    upright = tf.image.rot90(tf.io.decode_jpeg(photo), k=3)
    directory = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, _ORIENTATION, 0, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    return photo[:2] + segment + photo[2:], tf.io.encode_png(upright).numpy()


def _decode_png(file: bytes) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_png(file)[..., 0].numpy()


if __name__ == "__main__":
    found = fault(sys.argv[1])
    if found:
        sys.stdout.write(found)
        sys.exit(1)

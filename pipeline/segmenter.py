"""A released model that segments encoded photos; TensorFlow is all it needs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import contract, features, images
from pipeline.errors import UserError, first_line


class ImageError(Exception):
    """One photo cannot be segmented; the message says why, in one clause, without its path."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one photo, at the model's own size."""

    mask: images.Pixels  # class ids, uint8 [size, size]
    probabilities: npt.NDArray[np.float32]  # [size, size, 3]


class Segmenter:
    """A released model, ready to segment encoded photos.

    Args:
      model_dir: a SavedModel, or a model's serving folder (its newest version is taken).

    Raises:
      UserError: if there is no such model or it lacks the signature of the contract.
    """

    def __init__(self, model_dir: str | Path) -> None:
        self.path = find_saved_model(Path(model_dir))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        try:
            self._model = tf.saved_model.load(str(self.path))
        except Exception as error:  # TensorFlow raises many kinds for a damaged file
            raise UserError(
                f"The model in {self.path} cannot be loaded, it seems damaged"
                f" ({first_line(error)}); give another version."
            ) from error
        signatures = self._model.signatures
        if contract.SERVE not in signatures:
            found = ", ".join(sorted(signatures)) or "none"
            raise UserError(
                f"The model in {self.path} has no signature {contract.SERVE!r} (found: {found});"
                " give a model that this pipeline released."
            )
        self._serve = signatures[contract.SERVE]
        inputs = set(self._serve.structured_input_signature[1])
        missing = {contract.MASK, contract.PROBABILITIES} - set(self._serve.structured_outputs)
        if inputs != {contract.IMAGE_BYTES} or missing:
            raise UserError(
                f"The signature {contract.SERVE!r} of the model in {self.path} must take"
                f" {contract.IMAGE_BYTES!r} and return {contract.MASK!r} and"
                f" {contract.PROBABILITIES!r};"
                " give a model that this pipeline released."
            )

    def predict(self, photos: Sequence[bytes]) -> list[Prediction]:
        """Segments one batch of encoded photos (JPEG, PNG, GIF or BMP), in their order.

        Raises:
          ImageError: if the model cannot decode one of them, or its probabilities are unusable.
        """
        import tensorflow as tf

        if not photos:
            return []
        try:
            outputs = self._serve(**{contract.IMAGE_BYTES: tf.constant(list(photos), tf.string)})
        except tf.errors.OpError as error:
            raise ImageError(f"the model cannot take it ({first_line(error)})") from error
        masks = outputs[contract.MASK].numpy()
        probabilities = outputs[contract.PROBABILITIES].numpy()
        if probabilities.shape != (*masks.shape, features.NUM_CLASSES):
            raise ImageError(
                f"the model answers with masks of shape {masks.shape[1:]} and probabilities of"
                f" shape {probabilities.shape[1:]}, not with {features.NUM_CLASSES} a pixel"
            )
        if not np.isfinite(probabilities).all():
            raise ImageError("the model answers with probabilities that are not numbers")
        return [Prediction(m, p) for m, p in zip(masks, probabilities, strict=True)]


def find_saved_model(model_dir: Path) -> Path:
    """Finds the SavedModel that ``model_dir`` means: itself, or its version of the highest number.

    Raises:
      UserError: if there is none.
    """
    if not model_dir.is_dir():
        raise UserError(f"There is no model folder {model_dir}; give the folder of a SavedModel.")
    if _is_saved_model(model_dir):
        return model_dir
    newest = _newest_version(model_dir)
    if newest:
        return newest
    hint = next((d for d in sorted(model_dir.iterdir()) if d.is_dir() and _newest_version(d)), None)
    advice = f"did you mean {hint}?" if hint else "give a SavedModel or a model's serving folder."
    raise UserError(f"{model_dir} is no SavedModel and holds no version folders with one; {advice}")


def decode_photo(contents: bytes) -> images.Pixels:
    """Decodes a photo as the model's graph does: uint8 [h, w, 3], EXIF orientation not applied.

    Raises:
      ImageError: if it is empty, damaged or of another format.
    """
    import tensorflow as tf

    from pipeline import preprocessing

    if not contents:
        raise ImageError("the file is empty")
    try:
        pixels: images.Pixels = preprocessing.decode_image(tf.constant(contents)).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise ImageError("not a JPEG, PNG, GIF or BMP image, or a damaged one") from error
    return pixels


def shares(ids: images.Pixels) -> dict[str, float]:
    """Share of each class, by its name, among class ids, uint8 [h, w]."""
    counts = np.bincount(ids.ravel(), minlength=features.NUM_CLASSES) / ids.size
    return dict(zip(features.CLASS_NAMES, counts.tolist(), strict=True))


@contextlib.contextmanager
def native_noise_held_back() -> Iterator[None]:
    """Keeps what native code writes to stderr from the user, unless something unforeseen happens.

    TensorFlow reports on its start, and libjpeg on every damaged photo, past all log settings.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not isinstance(error, UserError):
                noise.seek(0)
                os.write(kept, noise.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def _is_saved_model(folder: Path) -> bool:
    return any((folder / f"saved_model.{ending}").is_file() for ending in ("pb", "pbtxt"))


def _newest_version(folder: Path) -> Path | None:
    versions = [d for d in folder.iterdir() if d.name.isdecimal() and _is_saved_model(d)]
    return max(versions, key=lambda d: int(d.name), default=None)

"""Segment encoded photos with a released model, in TensorFlow or in another format."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.core import features, images, paths
from pipeline.core.errors import UserError, first_line
from pipeline.data import photo_header
from pipeline.saved_model import contract

NO_MEMORY = "there is not enough memory"


class ImageError(Exception):
    """A photo cannot be segmented; the message is one clause, without the path."""


@dataclass(frozen=True)
class Prediction:
    """The model's output for one photo, at the model's own size."""

    mask: images.Pixels  # class ids, uint8 [size, size]
    probabilities: npt.NDArray[np.float32]  # [size, size, 3]


class Predictor(Protocol):
    """A model that segments encoded photos: `Segmenter` or `FileSegmenter`."""

    path: Path
    exif: str  # how it treats a photo's EXIF orientation: see `contract.exif`

    def predict(self, photos: Sequence[bytes]) -> list[Prediction]:
        """Segments one batch, in order; raises ImageError if one of the photos fails."""


class Segmenter:
    """A SavedModel, loaded and ready to segment encoded photos.

    Args:
      model_dir: a SavedModel, or a model's serving folder, whose newest version is used.

    Raises:
      UserError: if there is no such model, or it lacks the signature of the contract.
    """

    def __init__(self, model_dir: str | Path) -> None:
        self.path = find_saved_model(Path(model_dir))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        if fault := contract.missing(str(self.path)):
            raise UserError(
                f"The model in {self.path} cannot be loaded, because {fault}. {_advice(self.path)}."
            )
        try:
            self._model = tf.saved_model.load(str(self.path))
            self.exif = contract.exif(str(self.path))
        except Exception as error:  # TensorFlow raises many kinds of errors for a damaged file
            raise UserError(
                f"The model in {self.path} cannot be loaded and is probably damaged"
                f" ({first_line(error)}). {_advice(self.path)}."
            ) from error
        signatures = self._model.signatures
        if contract.SERVE not in signatures:
            names = ", ".join(sorted(signatures)) or "none"
            raise UserError(
                f"The model in {self.path} has no signature {contract.SERVE!r} (it has: {names})."
                " Specify a model that this pipeline released."
            )
        self._serve = signatures[contract.SERVE]
        inputs = set(self._serve.structured_input_signature[1])
        missing = {contract.MASK, contract.PROBABILITIES} - set(self._serve.structured_outputs)
        if inputs != {contract.IMAGE_BYTES} or missing:
            raise UserError(
                f"The signature {contract.SERVE!r} of the model in {self.path} does not take"
                f" {contract.IMAGE_BYTES!r} and return {contract.MASK!r} and"
                f" {contract.PROBABILITIES!r}. Specify a model that this pipeline released."
            )

    def predict(self, photos: Sequence[bytes]) -> list[Prediction]:
        """Segments one batch of encoded photos (JPEG, PNG, GIF or BMP), in order.

        Raises:
          ImageError: if a photo is not valid or too large, the model fails on it, or the model's
            probabilities are not finite.
        """
        import tensorflow as tf

        if not photos:
            return []
        for photo in photos:
            header(photo)
        try:
            outputs = self._serve(**{contract.IMAGE_BYTES: tf.constant(list(photos), tf.string)})
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise ImageError(NO_MEMORY) from error
        except tf.errors.OpError as error:
            raise ImageError(f"the model failed ({first_line(error)})") from error
        masks = outputs[contract.MASK].numpy()
        probabilities = outputs[contract.PROBABILITIES].numpy()
        return _predictions(masks, probabilities)


def _predictions(masks: images.Pixels, probabilities: npt.NDArray[np.float32]) -> list[Prediction]:
    """Splits the output of a batch by photo; raises ImageError if it is unusable."""
    if probabilities.shape != (*masks.shape, features.NUM_CLASSES):
        raise ImageError(
            f"the model returned masks of shape {masks.shape[1:]} and probabilities of"
            f" shape {probabilities.shape[1:]}, not {features.NUM_CLASSES} per pixel"
        )
    if not np.isfinite(probabilities).all():
        raise ImageError("the model returned probabilities that are not finite")
    return [Prediction(m, p) for m, p in zip(masks, probabilities, strict=True)]


class FileSegmenter:
    """A release in another format, loaded and ready to segment encoded photos.

    Args:
      file: a file that `pipeline.cli.convert` wrote.

    Raises:
      UserError: if the file cannot be loaded, or the package that runs it is missing.
    """

    def __init__(self, file: Path) -> None:
        from pipeline import formats
        from pipeline.core import file_formats

        self.path = file
        family = file_formats.family_of(file.suffix)
        if family is None:
            *others, last = (each.ending for each in file_formats.FAMILIES.values())
            raise UserError(
                f"{file} is not a model. Specify a file with the extension {', '.join(others)}"
                f" or {last}, or the folder of a released model."
            )
        file_formats.check_runtime(family)
        try:
            for ending in family.endings:
                file.with_suffix(ending).open("rb").close()
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be read ({error.strerror}). Convert the model again with"
                " `python -m pipeline convert`."
            ) from error
        try:
            self._runner = formats.module(family).Runner(file)
            self.exif: str = self._runner.exif
        except Exception as error:  # every runtime raises its own errors
            raise UserError(
                f"The model in {file} cannot be loaded ({first_line(error)}). Convert it again with"
                " `python -m pipeline convert`."
            ) from error

    def predict(self, photos: Sequence[bytes]) -> list[Prediction]:
        """Segments photos one by one; see `Segmenter.predict`."""
        predictions: list[Prediction] = []
        for photo in photos:
            pixels = decode_photo(photo, self.exif)[None]
            try:
                output = self._runner(pixels)
            except MemoryError as error:
                raise ImageError(NO_MEMORY) from error
            except Exception as error:
                raise ImageError(f"the model failed ({first_line(error)})") from error
            predictions += _predictions(output.mask, output.probabilities)
        return predictions


def find_saved_model(model_dir: Path) -> Path:
    """Returns ``model_dir`` itself if it is a SavedModel, else its newest version.

    Raises:
      UserError: if there is none, or TensorFlow would take the path for a glob pattern.
    """
    paths.check_no_pattern(model_dir)
    if not model_dir.is_dir():
        raise UserError(
            f"The model folder {model_dir} does not exist. Specify the folder of a released model,"
            " or a file that `python -m pipeline convert` wrote."
        )
    if _is_saved_model(model_dir):
        return model_dir
    newest = _newest_version(model_dir)
    if newest:
        return newest
    hint = next((d for d in sorted(model_dir.iterdir()) if d.is_dir() and _newest_version(d)), None)
    advice = (
        f"Did you mean {hint}?" if hint else "Specify a SavedModel or a model's serving folder."
    )
    raise UserError(f"{model_dir} is not a SavedModel and has no versions of one. {advice}")


def header(contents: bytes) -> photo_header.Header:
    """Reads the header of a photo.

    Raises:
      ImageError: if the file is not a photo, or too large to decode.
    """
    try:
        return photo_header.read(contents)
    except photo_header.HeaderError as error:
        raise ImageError(str(error)) from error


def decode_photo(contents: bytes, exif: str = contract.AS_STORED) -> images.Pixels:
    """Decodes a photo as the model's graph does.

    Args:
      contents: the bytes of the file.
      exif: how the model treats the EXIF orientation: see `contract.exif`.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ImageError: if the photo is empty, damaged, too large or in another format.
    """
    header(contents)
    import tensorflow as tf

    from pipeline.data import preprocessing

    try:
        decoded = preprocessing.decode_upright(tf.constant(contents), exif)
        pixels: images.Pixels = decoded.numpy()
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise ImageError(NO_MEMORY) from error
    except (tf.errors.OpError, ValueError) as error:
        raise ImageError(photo_header.damage(contents)) from error
    return pixels


def orientation_note(contents: bytes, exif: str) -> str | None:
    """Says in one clause that the model ignores a photo's EXIF orientation; None if it does not.

    Args:
      contents: the bytes of the file.
      exif: how the model treats the EXIF orientation: see `contract.exif`.
    """
    from pipeline.data import orientation

    value = orientation.of_file(contents)
    if exif == contract.APPLY or value == 1:
        return None
    return (
        f"its EXIF orientation {value} ({orientation.WORDS[value]}) is not applied, because the"
        " model was trained on photos as stored; the mask fits the stored pixels"
    )


def shares(ids: images.Pixels) -> dict[str, float]:
    """Fraction of pixels of each class, 0 to 1, by class name; ids are uint8 [height, width]."""
    counts = np.bincount(ids.ravel(), minlength=features.NUM_CLASSES) / ids.size
    return dict(zip(features.CLASS_NAMES, counts.tolist(), strict=True))


@contextlib.contextmanager
def native_noise_held_back() -> Iterator[None]:
    """Hides what native code writes to stderr, unless an unexpected error occurs.

    TensorFlow's start-up messages and libjpeg's warnings bypass all log settings.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not isinstance(error, UserError):
                noise.seek(0)
                os.write(stderr, noise.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def _advice(version: Path) -> str:
    """Advice for a version that cannot be loaded, without a full stop."""
    others = [d for d in version.parent.iterdir() if d.name.isdecimal() and d != version]
    complete = [d for d in others if version.name.isdecimal() and not contract.missing(str(d))]
    if not complete:
        return "Choose another version"
    return f"Choose another version, such as {max(complete, key=lambda d: int(d.name))}"


def _is_saved_model(folder: Path) -> bool:
    return any((folder / f"saved_model.{ending}").is_file() for ending in ("pb", "pbtxt"))


def _newest_version(folder: Path) -> Path | None:
    versions = [d for d in folder.iterdir() if d.name.isdecimal() and _is_saved_model(d)]
    return max(versions, key=lambda d: int(d.name), default=None)

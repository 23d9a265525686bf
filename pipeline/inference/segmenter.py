"""A released model that segments encoded photos; TensorFlow is all it needs."""

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

NO_MEMORY = "there is not enough memory for it"


class ImageError(Exception):
    """One photo cannot be segmented; the message says why, in one clause, without its path."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one photo, at the model's own size."""

    mask: images.Pixels  # class ids, uint8 [size, size]
    probabilities: npt.NDArray[np.float32]  # [size, size, 3]


class Predictor(Protocol):
    """Segments encoded photos: `Segmenter`, `FileSegmenter`."""

    path: Path
    exif: str  # what it does with a photo's EXIF orientation: see `contract.exif`

    def predict(self, photos: Sequence[bytes]) -> list[Prediction]:
        """Segments one batch, in its order; raises ImageError if one of them cannot be."""


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

        if fault := contract.missing(str(self.path)):
            raise UserError(
                f"The model in {self.path} cannot be loaded, since {fault}; {_another(self.path)}."
            )
        try:
            self._model = tf.saved_model.load(str(self.path))
            self.exif = contract.exif(str(self.path))
        except Exception as error:  # TensorFlow raises many kinds for a damaged file
            raise UserError(
                f"The model in {self.path} cannot be loaded, it seems damaged"
                f" ({first_line(error)}); {_another(self.path)}."
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
          ImageError: if one of them is no photo or too large, the model cannot decode it, or its
            probabilities are unusable.
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
            raise ImageError(f"the model cannot take it ({first_line(error)})") from error
        masks = outputs[contract.MASK].numpy()
        probabilities = outputs[contract.PROBABILITIES].numpy()
        return _predictions(masks, probabilities)


def _predictions(masks: images.Pixels, probabilities: npt.NDArray[np.float32]) -> list[Prediction]:
    """What a model answered to a batch; raises ImageError if it cannot be used."""
    if probabilities.shape != (*masks.shape, features.NUM_CLASSES):
        raise ImageError(
            f"the model answers with masks of shape {masks.shape[1:]} and probabilities of"
            f" shape {probabilities.shape[1:]}, not with {features.NUM_CLASSES} a pixel"
        )
    if not np.isfinite(probabilities).all():
        raise ImageError("the model answers with probabilities that are not numbers")
    return [Prediction(m, p) for m, p in zip(masks, probabilities, strict=True)]


class FileSegmenter:
    """A release in another format, ready to segment encoded photos.

    Args:
      file: as `pipeline.cli.convert` writes it.

    Raises:
      UserError: if it is no such file, or a package is missing that asks it.
    """

    def __init__(self, file: Path) -> None:
        from pipeline import formats
        from pipeline.core import file_formats

        self.path = file
        family = file_formats.family_of(file.suffix)
        if family is None:
            *others, last = (each.ending for each in file_formats.FAMILIES.values())
            raise UserError(
                f"{file} is no model: give a file that ends in {', '.join(others)} or {last}, or"
                " the folder of a released model."
            )
        file_formats.check_runtime(family)
        try:
            for ending in family.endings:
                file.with_suffix(ending).open("rb").close()
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from error
        try:
            self._ask = formats.module(family).Runner(file)
            self.exif: str = self._ask.exif
        except Exception as error:  # each program has its own
            raise UserError(
                f"The model in {file} cannot be loaded ({first_line(error)}); write it again with"
                " `python -m pipeline convert`."
            ) from error

    def predict(self, photos: Sequence[bytes]) -> list[Prediction]:
        """As `Segmenter.predict`."""
        answers: list[Prediction] = []
        for photo in photos:
            pixels = decode_photo(photo, self.exif)[None]
            try:
                answer = self._ask(pixels)
            except MemoryError as error:
                raise ImageError(NO_MEMORY) from error
            except Exception as error:
                raise ImageError(f"the model cannot take it ({first_line(error)})") from error
            answers += _predictions(answer.mask, answer.probabilities)
        return answers


def find_saved_model(model_dir: Path) -> Path:
    """Finds the SavedModel that ``model_dir`` means: itself, or its version of the highest number.

    Raises:
      UserError: if there is none, or TensorFlow would take its path for a pattern.
    """
    paths.check_no_pattern(model_dir)
    if not model_dir.is_dir():
        raise UserError(
            f"There is no model folder {model_dir}; give the folder of a released model, or a file"
            " that `python -m pipeline convert` wrote."
        )
    if _is_saved_model(model_dir):
        return model_dir
    newest = _newest_version(model_dir)
    if newest:
        return newest
    hint = next((d for d in sorted(model_dir.iterdir()) if d.is_dir() and _newest_version(d)), None)
    advice = f"did you mean {hint}?" if hint else "give a SavedModel or a model's serving folder."
    raise UserError(f"{model_dir} is no SavedModel and holds no version folders with one; {advice}")


def header(contents: bytes) -> photo_header.Header:
    """Reads the header of a photo.

    Raises:
      ImageError: if it is no photo, or one that is too large to decode.
    """
    try:
        return photo_header.read(contents)
    except photo_header.HeaderError as error:
        raise ImageError(str(error)) from error


def decode_photo(contents: bytes, exif: str = contract.AS_STORED) -> images.Pixels:
    """Decodes a photo as a model's graph does: uint8 [h, w, 3].

    Args:
      contents: of the file.
      exif: what the model does with the EXIF orientation: see `contract.exif`.

    Raises:
      ImageError: if it is empty, damaged, too large or of another format.
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
    """What to know of a photo whose EXIF orientation a model does not honour, in one clause."""
    from pipeline.data import orientation

    found = orientation.of_file(contents)
    if exif == contract.APPLY or found == 1:
        return None
    return (
        f"its EXIF orientation {found} ({orientation.WORDS[found]}) is not applied, since the model"
        " learned from photos as they are stored; the mask fits the stored pixels"
    )


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


def _another(version: Path) -> str:
    """What to do where a version cannot be loaded, in a clause."""
    others = [d for d in version.parent.iterdir() if d.name.isdecimal() and d != version]
    whole = [d for d in others if version.name.isdecimal() and not contract.missing(str(d))]
    if not whole:
        return "give another version"
    return f"give another version, such as {max(whole, key=lambda d: int(d.name))}"


def _is_saved_model(folder: Path) -> bool:
    return any((folder / f"saved_model.{ending}").is_file() for ending in ("pb", "pbtxt"))


def _newest_version(folder: Path) -> Path | None:
    versions = [d for d in folder.iterdir() if d.name.isdecimal() and _is_saved_model(d)]
    return max(versions, key=lambda d: int(d.name), default=None)

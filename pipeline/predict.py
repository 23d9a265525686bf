"""Segments photos with a released model.

``python -m pipeline.predict --model DIR --output-dir DIR IMAGE...`` makes two files of every photo:
``<stem>_mask.png``, 8-bit greyscale with trimap values (1 pet, 2 background, 3 border), and
``<stem>_overlay.png``, the photo tinted by class. Both have the size of the photo as it is stored:
an EXIF orientation is not applied, because neither the model nor the masks it learned from do.

Exit code 0 if every photo was done, 1 if some could not be (the others are), 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pipeline import contract, features, images
from pipeline.errors import UserError

BATCH_SIZE = 8


class ImageError(Exception):
    """One photo cannot be segmented; the message says why, in one clause, without its path."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one photo, at the model's own size."""

    mask: images.Pixels  # class ids, uint8 [size, size]
    probabilities: npt.NDArray[np.float32]  # [size, size, 3]


@dataclass(frozen=True)
class Job:
    """One photo and the two files to make of it."""

    photo: Path
    mask: Path
    overlay: Path


class Segmenter:
    """A released model, ready to segment encoded photos. TensorFlow is all it needs.

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
                f" ({_first_line(error)}); give another version."
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
            raise ImageError(f"the model cannot take it ({_first_line(error)})") from error
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


def plan(photos: Sequence[Path], output_dir: Path) -> list[Job]:
    """Names the files to make; of photos with one stem the first keeps it, the next get ``-2``, ...

    Raises:
      UserError: if a result would replace one of the photos.
    """
    # Case is ignored because some file systems ignore it too.
    taken = {photo.stem.casefold() for photo in photos}
    seen: set[str] = set()
    inputs = {photo.resolve(): photo for photo in photos}
    jobs = []
    for photo in photos:
        stem = photo.stem
        if stem.casefold() in seen:
            numbered = (f"{photo.stem}-{number}" for number in itertools.count(2))
            stem = next(name for name in numbered if name.casefold() not in taken)
        taken.add(stem.casefold())
        seen.add(stem.casefold())
        job = Job(photo, output_dir / f"{stem}_mask.png", output_dir / f"{stem}_overlay.png")
        for path in (job.mask, job.overlay):
            if path.resolve() in inputs:
                raise UserError(
                    f"A result of {photo} would replace the photo {inputs[path.resolve()]};"
                    " choose another --output-dir."
                )
        jobs.append(job)
    return jobs


def segment(segmenter: Segmenter, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | ImageError]]:
    """Does the jobs in small batches; yields each, in order, with a line on its result."""
    for start in range(0, len(jobs), BATCH_SIZE):
        batch = jobs[start : start + BATCH_SIZE]
        with _native_noise_held_back():
            results = _predict_batch(segmenter, batch)
        for job, result in zip(batch, results, strict=True):
            yield job, result if isinstance(result, ImageError) else _write(job, *result)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0, 1 or 2, as above)."""
    for stream in (sys.stdout, sys.stderr):  # file names need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parse(argv)
    output_dir: Path = arguments.output_dir
    try:
        if output_dir.exists() and not output_dir.is_dir():
            raise UserError(f"--output-dir {output_dir} is a file; give a folder.")
        jobs = plan(arguments.images, output_dir)
        with _native_noise_held_back():
            segmenter = Segmenter(arguments.model)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {output_dir} cannot be made ({error.strerror})."
            ) from error
        done = 0
        for job, result in segment(segmenter, jobs):
            if isinstance(result, str):
                done += 1
                print(f"{job.photo}: {result}", flush=True)
            else:
                print(f"{job.photo}: {result}.", file=sys.stderr, flush=True)
                if arguments.verbose:
                    traceback.print_exception(result)
    except UserError as error:
        if arguments.verbose:
            traceback.print_exc()
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    print(
        f"{done} of {len(jobs)} photos segmented with {segmenter.path}; results are in {output_dir}"
    )
    return 0 if done == len(jobs) else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[0].upper()}{message[1:]}; --help shows how it is called.\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m pipeline.predict",
        description="Segments photos with a released model: for each a mask PNG (values 1 pet,"
        " 2 background, 3 border) and an overlay PNG, in the size of the photo as it is stored"
        " (an EXIF orientation is not applied).",
        epilog="Exit code: 0 all done, 1 some photos could not be segmented, 2 bad arguments.",
    )
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR",
        help="a SavedModel, or a model's serving folder (its newest version is taken)",
    )
    parser.add_argument(
        "--output-dir", required=True, type=Path, metavar="DIR", help="where the results go"
    )
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="a JPEG, PNG, GIF or BMP file"
    )
    return parser.parse_args(argv)


def _read(photo: Path) -> tuple[bytes, images.Pixels]:
    try:
        contents = photo.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except IsADirectoryError as error:
        raise ImageError("a folder, not an image; name the files in it") from error
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error
    return contents, decode_photo(contents)


Result = tuple[images.Pixels, Prediction]


def _predict_batch(segmenter: Segmenter, batch: Iterable[Job]) -> list[Result | ImageError]:
    """Reads and segments; the good photos go through the model together."""
    read: list[tuple[bytes, images.Pixels] | ImageError] = []
    for job in batch:
        try:
            read.append(_read(job.photo))
        except ImageError as error:
            read.append(error)
    good = [item for item in read if not isinstance(item, ImageError)]
    answers: Iterator[Prediction | ImageError]
    try:
        answers = iter(segmenter.predict([contents for contents, _ in good]))
    except ImageError:  # one of them spoils the batch: find out which
        answers = iter([_predict_alone(segmenter, contents) for contents, _ in good])
    results: list[Result | ImageError] = []
    for item in read:
        if isinstance(item, ImageError):
            results.append(item)
        else:
            answer = next(answers)
            results.append(answer if isinstance(answer, ImageError) else (item[1], answer))
    return results


def _predict_alone(segmenter: Segmenter, contents: bytes) -> Prediction | ImageError:
    try:
        return segmenter.predict([contents])[0]
    except ImageError as error:
        return error


def _write(job: Job, photo: images.Pixels, prediction: Prediction) -> str | ImageError:
    ids = images.mask_at_size(prediction.probabilities, *photo.shape[:2])
    try:
        images.write_atomically(job.mask, images.encode(images.to_trimap(ids)))
        images.write_atomically(job.overlay, images.encode(images.overlay(photo, ids)))
    except OSError as error:
        return ImageError(f"its result cannot be written ({error.strerror or error})")
    shares = np.bincount(ids.ravel(), minlength=features.NUM_CLASSES) / ids.size
    text = ", ".join(f"{n} {s:.0%}" for n, s in zip(features.CLASS_NAMES, shares, strict=True))
    return f"{text} -> {job.mask.name}, {job.overlay.name}"


def _is_saved_model(folder: Path) -> bool:
    return any((folder / f"saved_model.{ending}").is_file() for ending in ("pb", "pbtxt"))


def _newest_version(folder: Path) -> Path | None:
    versions = [d for d in folder.iterdir() if d.name.isdecimal() and _is_saved_model(d)]
    return max(versions, key=lambda d: int(d.name), default=None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def _native_noise_held_back() -> Iterator[None]:
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


if __name__ == "__main__":
    sys.exit(main())

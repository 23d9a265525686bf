"""Segment a list of photos in small batches, and write a mask and an overlay for each.

A photo that fails never affects the others. The number of pixels in a batch is limited, and so is
memory.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.core import images, ownership
from pipeline.core.errors import UserError, first_line
from pipeline.data import photo_header
from pipeline.inference.segmenter import (
    NO_MEMORY,
    ImageError,
    Prediction,
    Predictor,
    decode_photo,
    header,
    native_noise_held_back,
    orientation_note,
    shares,
)

BATCH_SIZE, BATCH_PIXELS = 8, 12_000_000  # limits of a batch: photos, and decoded pixels
_MAX_BYTES = 8 * photo_header.MAX_PIXELS  # of a photo file; no format needs more
# After one of these errors, no other result can be written either.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp"})  # of photos in a folder
PIPE = Path("-")


@dataclass(frozen=True)
class Job:
    """One photo and the two files to write for it."""

    photo: Path
    mask: Path
    overlay: Path


def photos_in(paths: Iterable[Path]) -> list[Path]:
    """Replaces each folder by its photos, sorted by name; keeps a folder without photos."""
    photos = []
    for path in paths:
        entries: list[Path] = []
        with contextlib.suppress(OSError):  # not a folder, or not readable
            entries = sorted(path.iterdir())
        in_folder = [
            file
            for file in entries
            if file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()
        ]
        photos += in_folder or [path]
    return photos


def plan(photos: Sequence[Path], output_dir: Path) -> list[Job]:
    """Names the result files by the photos' stems; photos with the same stem get ``-2``, ``-3``...

    Raises:
      UserError: if a result would replace one of the photos.
    """
    # Ignore case, as some filesystems do.
    taken = {photo.stem.casefold() for photo in photos}
    seen: set[str] = set()
    # `Path.resolve` raises for a symbolic link to itself; `realpath` does not.
    inputs = {os.path.realpath(photo): photo for photo in photos}
    jobs = []
    for photo in photos:
        stem = original = "stdin" if photo == PIPE else photo.stem
        if stem.casefold() in seen:
            numbered = (f"{original}-{number}" for number in itertools.count(2))
            stem = next(name for name in numbered if name.casefold() not in taken)
        taken.add(stem.casefold())
        seen.add(stem.casefold())
        job = Job(photo, output_dir / f"{stem}_mask.png", output_dir / f"{stem}_overlay.png")
        for path in (job.mask, job.overlay):
            replaced = inputs.get(os.path.realpath(path))
            if replaced:
                raise UserError(
                    f"A result of {photo} would replace the photo {replaced}."
                    " Choose another --output-dir."
                )
        jobs.append(job)
    return jobs


class OutputError(Exception):
    """No more results can be written; the message is a sentence for users."""


def segment(segmenter: Predictor, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | ImageError]]:
    """Segments the photos in small batches and writes the results.

    Yields:
      Each job, in order, with a one-line summary of its result or the error.

    Raises:
      OutputError: if no more results can be written.
    """
    for batch in _batches(jobs):
        with native_noise_held_back():
            results = _predict_batch(segmenter, [contents for _, contents in batch])
        for (job, _), result in zip(batch, results, strict=True):
            yield job, result if isinstance(result, ImageError) else _attempt(_write, job, *result)


def _read(photo: Path) -> bytes:
    try:
        pipe = contextlib.nullcontext(sys.stdin.buffer)
        with pipe if photo == PIPE else photo.open("rb") as file:
            contents = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageError("the file does not exist") from error
    except IsADirectoryError as error:
        raise ImageError("the folder has no readable JPEG, PNG, GIF or BMP file") from error
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror or error})") from error
    if len(contents) > _MAX_BYTES:
        raise ImageError(f"the file is larger than {_MAX_BYTES // 10**6} MB; make it smaller")
    return contents


_T = TypeVar("_T")


def _attempt(do: Callable[..., _T], *arguments: object) -> _T | ImageError:
    """Returns the result, or the error as an ImageError, so that one photo cannot stop the rest."""
    try:
        return do(*arguments)
    except ImageError as error:
        return error
    except (OutputError, UserError):
        raise
    except MemoryError as error:
        failure = ImageError(NO_MEMORY)
        failure.__cause__ = error
    except Exception as error:
        failure = ImageError(f"an unexpected error occurred ({first_line(error)})")
        failure.__cause__ = error
    return failure


Contents = bytes | ImageError
Result = tuple[images.Pixels, Prediction, str | None]  # the photo, its prediction, a note


def _batches(jobs: Iterable[Job]) -> Iterator[list[tuple[Job, Contents]]]:
    """Reads the photos in batches that fit into memory when decoded."""
    batch: list[tuple[Job, Contents]] = []
    batch_pixels = 0
    for job in jobs:
        contents = _attempt(_read, job.photo)
        head = contents if isinstance(contents, ImageError) else _attempt(header, contents)
        if isinstance(head, ImageError):
            contents, pixels = head, 0
        else:
            pixels = head.pixels
        if batch and (len(batch) == BATCH_SIZE or batch_pixels + pixels > BATCH_PIXELS):
            yield batch
            batch, batch_pixels = [], 0
        batch.append((job, contents))
        batch_pixels += pixels
    if batch:
        yield batch


def _predict_batch(segmenter: Predictor, batch: Iterable[Contents]) -> list[Result | ImageError]:
    """Decodes the photos and segments those that can be decoded, as one batch."""
    decoded: list[tuple[bytes, images.Pixels] | ImageError] = []
    for contents in batch:
        if isinstance(contents, ImageError):
            decoded.append(contents)
        else:
            decoded.append(_attempt(_decode, contents, segmenter.exif))
    valid = [item[0] for item in decoded if not isinstance(item, ImageError)]
    batch_result = _attempt(segmenter.predict, valid)
    predictions: Iterator[Prediction | ImageError]
    if isinstance(batch_result, ImageError):  # retry one by one, so that only the bad photo fails
        predictions = (_attempt(_predict_alone, segmenter, contents) for contents in valid)
    else:
        predictions = iter(batch_result)
    results: list[Result | ImageError] = []
    for item in decoded:
        if isinstance(item, ImageError):
            results.append(item)
            continue
        prediction, (contents, photo) = next(predictions), item
        if isinstance(prediction, ImageError):
            results.append(prediction)
        else:
            results.append((photo, prediction, orientation_note(contents, segmenter.exif)))
    return results


def _decode(contents: bytes, exif: str) -> tuple[bytes, images.Pixels]:
    return contents, decode_photo(contents, exif)


def _predict_alone(segmenter: Predictor, contents: bytes) -> Prediction:
    return segmenter.predict([contents])[0]


def _write(job: Job, photo: images.Pixels, prediction: Prediction, note: str | None) -> str:
    ids = images.mask_at_size(prediction.probabilities, *photo.shape[:2])
    try:
        ownership.write(job.mask, images.encode(images.to_trimap(ids)))
        ownership.write(job.overlay, images.encode(images.overlay(photo, ids)))
    except OSError as error:
        if error.errno in _FATAL:
            raise OutputError(
                f"No more results can be written to {job.mask.parent} ({error.strerror}). Make room"
                " there or choose another --output-dir."
            ) from error
        raise ImageError(f"its result cannot be written ({error.strerror or error})") from error
    text = ", ".join(f"{name} {share:.0%}" for name, share in shares(ids).items())
    return f"{text} -> {job.mask.name}, {job.overlay.name}" + (f"; {note}" if note else "")

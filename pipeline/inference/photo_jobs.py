"""Photos to segment, one by one in sight but in small batches at work, and the files to make.

A photo that fails, whatever the reason, takes no other along; memory is bounded by pixels.
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

# Photos go through the model together, as far as memory for this many pixels allows.
BATCH_SIZE, BATCH_PIXELS = 8, 12_000_000
_MOST_BYTES = 8 * photo_header.MAX_PIXELS  # of a photo's file; no format takes more
# Once one result cannot be written for such a reason, no other can.
_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp"})  # of the photos in a folder
PIPE = Path("-")


@dataclass(frozen=True)
class Job:
    """One photo and the two files to make of it."""

    photo: Path
    mask: Path
    overlay: Path


def photos_in(paths: Iterable[Path]) -> list[Path]:
    """Puts the photos of each folder, by name, in the folder's place; an empty one stays."""
    photos = []
    for path in paths:
        inside: list[Path] = []
        with contextlib.suppress(OSError):  # no folder, or none that may be read
            inside = sorted(path.iterdir())
        found = [
            file
            for file in inside
            if file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()
        ]
        photos += found or [path]
    return photos


def plan(photos: Sequence[Path], output_dir: Path) -> list[Job]:
    """Names the files to make; of photos with one stem the first keeps it, the next get ``-2``, ...

    Raises:
      UserError: if a result would replace one of the photos.
    """
    # Case is ignored because some file systems ignore it too.
    taken = {photo.stem.casefold() for photo in photos}
    seen: set[str] = set()
    # Not `resolve`, which raises at a symbolic link to itself.
    inputs = {os.path.realpath(photo): photo for photo in photos}
    jobs = []
    for photo in photos:
        stem = first = "stdin" if photo == PIPE else photo.stem
        if stem.casefold() in seen:
            numbered = (f"{first}-{number}" for number in itertools.count(2))
            stem = next(name for name in numbered if name.casefold() not in taken)
        taken.add(stem.casefold())
        seen.add(stem.casefold())
        job = Job(photo, output_dir / f"{stem}_mask.png", output_dir / f"{stem}_overlay.png")
        for path in (job.mask, job.overlay):
            replaced = inputs.get(os.path.realpath(path))
            if replaced:
                raise UserError(
                    f"A result of {photo} would replace the photo {replaced};"
                    " choose another --output-dir."
                )
        jobs.append(job)
    return jobs


class OutputError(Exception):
    """Nothing more can be written; the message is one sentence."""


def segment(segmenter: Predictor, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | ImageError]]:
    """Does the jobs in small batches; yields each, in order, with a line on its result.

    Raises:
      OutputError: if the folder of the results takes nothing more.
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
            contents = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except IsADirectoryError as error:
        raise ImageError(
            "a folder without a JPEG, PNG, GIF or BMP file that can be read"
        ) from error
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error
    if len(contents) > _MOST_BYTES:
        raise ImageError(f"the file is larger than {_MOST_BYTES // 10**6} MB; make it smaller")
    return contents


_T = TypeVar("_T")


def _attempt(do: Callable[..., _T], *arguments: object) -> _T | ImageError:
    """What it gives, or why one photo fails: none may take the photos after it along."""
    try:
        return do(*arguments)
    except ImageError as error:
        return error
    except (OutputError, UserError):
        raise
    except MemoryError as error:
        failed = ImageError(NO_MEMORY)
        failed.__cause__ = error
    except Exception as error:
        failed = ImageError(f"something unforeseen happened ({first_line(error)})")
        failed.__cause__ = error
    return failed


Contents = bytes | ImageError
Result = tuple[images.Pixels, Prediction, str | None]  # with a note


def _batches(jobs: Iterable[Job]) -> Iterator[list[tuple[Job, Contents]]]:
    """Reads the photos, as many at a time as fit into memory decoded."""
    batch: list[tuple[Job, Contents]] = []
    pixels = 0
    for job in jobs:
        contents = _attempt(_read, job.photo)
        head = contents if isinstance(contents, ImageError) else _attempt(header, contents)
        if isinstance(head, ImageError):
            contents, more = head, 0
        else:
            more = head.pixels
        if batch and (len(batch) == BATCH_SIZE or pixels + more > BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append((job, contents))
        pixels += more
    if batch:
        yield batch


def _predict_batch(segmenter: Predictor, batch: Iterable[Contents]) -> list[Result | ImageError]:
    """Decodes and segments; the good photos go through the model together."""
    decoded: list[tuple[bytes, images.Pixels] | ImageError] = []
    for contents in batch:
        if isinstance(contents, ImageError):
            decoded.append(contents)
        else:
            decoded.append(_attempt(_decode, contents, segmenter.exif))
    good = [item[0] for item in decoded if not isinstance(item, ImageError)]
    together = _attempt(segmenter.predict, good)
    answers: Iterator[Prediction | ImageError]
    if isinstance(together, ImageError):  # one of them spoils the batch: find out which
        answers = (_attempt(_predict_alone, segmenter, contents) for contents in good)
    else:
        answers = iter(together)
    results: list[Result | ImageError] = []
    for item in decoded:
        if isinstance(item, ImageError):
            results.append(item)
        else:
            answer, (contents, photo) = next(answers), item
            if isinstance(answer, ImageError):
                results.append(answer)
            else:
                note = orientation_note(contents, segmenter.exif)
                results.append((photo, answer, note))
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
        if error.errno in _NO_MORE:
            raise OutputError(
                f"Nothing more can be written into {job.mask.parent} ({error.strerror}); make room"
                " there, or give another --output-dir."
            ) from error
        raise ImageError(f"its result cannot be written ({error.strerror or error})") from error
    text = ", ".join(f"{name} {share:.0%}" for name, share in shares(ids).items())
    return f"{text} -> {job.mask.name}, {job.overlay.name}" + (f"; {note}" if note else "")

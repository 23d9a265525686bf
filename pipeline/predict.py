"""Segments photos with a released model.

``python -m pipeline.predict --model DIR --output-dir DIR IMAGE...`` makes two files of every photo:
``<stem>_mask.png``, 8-bit greyscale with trimap values (1 pet, 2 background, 3 border), and
``<stem>_overlay.png``, the photo tinted by class. Both have the size of the photo as it is stored:
an EXIF orientation is not applied, because neither the model nor the masks it learned from do.
An IMAGE is a file, a folder of them, or ``-`` for one photo from a pipe. With ``--serve`` a page on
this machine does the same for photos that are dropped there (`pipeline.web`).

Exit code 0 if every photo was done, 1 if some could not be (the others are), 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline import console, images
from pipeline.errors import UserError
from pipeline.segmenter import (
    ImageError,
    Prediction,
    Segmenter,
    decode_photo,
    native_noise_held_back,
    shares,
)

BATCH_SIZE = 8
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


def segment(segmenter: Segmenter, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | ImageError]]:
    """Does the jobs in small batches; yields each, in order, with a line on its result."""
    for start in range(0, len(jobs), BATCH_SIZE):
        batch = jobs[start : start + BATCH_SIZE]
        with native_noise_held_back():
            results = _predict_batch(segmenter, batch)
        for job, result in zip(batch, results, strict=True):
            yield job, result if isinstance(result, ImageError) else _write(job, *result)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0, 1 or 2, as above)."""
    for stream in (sys.stdout, sys.stderr):  # file names need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parse(argv)
    try:
        return _serve(arguments) if arguments.serve else _segment_files(arguments)
    except UserError as error:
        if arguments.verbose:
            traceback.print_exc()
        console.complain(str(error))
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _segment_files(arguments: argparse.Namespace) -> int:
    output_dir: Path | None = arguments.output_dir
    if output_dir is None or not arguments.images:
        raise UserError("Give --output-dir and photos, or --serve; --help shows how it is called.")
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output-dir {output_dir} is a file; give a folder.")
    jobs = plan(photos_in(arguments.images), output_dir)
    with native_noise_held_back():
        segmenter = Segmenter(arguments.model)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {output_dir} cannot be made ({error.strerror}).") from error
    done = 0
    with _progress(len(jobs)) as advance:
        for job, result in segment(segmenter, jobs):
            if isinstance(result, str):
                done += 1
                print(f"{job.photo}: {result}", flush=True)
            else:
                print(f"{job.photo}: {result}.", file=sys.stderr, flush=True)
                if arguments.verbose:
                    traceback.print_exception(result)
            advance()
    print(
        f"{done} of {len(jobs)} photos segmented with {segmenter.path}; results are in {output_dir}"
    )
    return 0 if done == len(jobs) else 1


def _serve(arguments: argparse.Namespace) -> int:
    if arguments.output_dir or arguments.images:
        raise UserError("With --serve photos come from the page; leave out --output-dir and IMAGE.")
    try:
        from pipeline import web
    except ModuleNotFoundError as error:
        raise UserError(
            f"--serve needs the package {error.name}; install this one with its extra 'serve'."
        ) from error
    with web.listen(arguments.host, arguments.port) as listener:
        with native_noise_held_back():
            segmenter = Segmenter(arguments.model)
        host, port = listener.getsockname()[:2]
        print(f"Open http://{host}:{port}/ and drop photos there; Ctrl-C ends it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # which newer Pythons keep to themselves
            web.serve(segmenter, listener)
    return 0


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar while stderr is a terminal; yields what to call after each photo."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # A descriptor of its own, since stderr's is bent aside while the model works.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal:
        bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=terminal, highlight=False, markup=False, soft_wrap=True),
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        )
        with bar:
            task = bar.add_task("", total=total)
            yield lambda: bar.advance(task)


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
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--serve", action="store_true", help="show a web page to drop photos on, on this machine"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address of the page (default: this machine alone)"
    )
    parser.add_argument(
        "--port", type=int, default=8501, help="port of the page, 0 for any (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE",
        help="a JPEG, PNG, GIF or BMP file, a folder of them, or - for a photo from a pipe",
    )
    return parser.parse_args(argv)


def _read(photo: Path) -> tuple[bytes, images.Pixels]:
    try:
        contents = sys.stdin.buffer.read() if photo == PIPE else photo.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except IsADirectoryError as error:
        raise ImageError(
            "a folder without a JPEG, PNG, GIF or BMP file that can be read"
        ) from error
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
    text = ", ".join(f"{name} {share:.0%}" for name, share in shares(ids).items())
    return f"{text} -> {job.mask.name}, {job.overlay.name}"


if __name__ == "__main__":
    sys.exit(main())

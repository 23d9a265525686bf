"""Segments photos with a released model.

``python -m pipeline predict --model DIR --output-dir DIR PHOTO...`` makes two files of every photo:
``<stem>_mask.png``, 8-bit greyscale with trimap values (1 pet, 2 background, 3 border), and
``<stem>_overlay.png``, the photo tinted by class. Both show the photo as the model saw it: as it is
stored, or, if the model learned with ``data.exif=apply``, upright by its EXIF orientation.
A release in another format (ONNX, LiteRT, OpenVINO) is given as its file.
A PHOTO is a file, a folder of them, or ``-`` for one photo from a pipe.

A file that this program did not make is never replaced (`pipeline.core.ownership`).

Exit code 0 if every photo was done, 1 if some could not be (the others are), 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.core import console, ownership
from pipeline.core.errors import UserError
from pipeline.inference.photo_jobs import OutputError, photos_in, plan, segment
from pipeline.inference.segmenter import FileSegmenter, Predictor, Segmenter, native_noise_held_back
from pipeline.saved_model import contract
from pipeline.settings.arguments import Parser, add_verbose


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0, 1 or 2, as above)."""
    return console.command(lambda: _segment(_parse(argv)), argv, "The command")


def _segment(arguments: argparse.Namespace) -> int:
    output_dir: Path = arguments.output_dir
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output-dir {output_dir} is a file; give a folder.")
    jobs = plan(photos_in(arguments.images), output_dir)
    results = [path for job in jobs for path in (job.mask, job.overlay)]
    ownership.require_ours(results, "give another --output-dir")
    if output_dir.exists():
        _require_writable(output_dir)
    segmenter = load(arguments.model)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {output_dir} cannot be made ({error.strerror}).") from error
    _require_writable(output_dir)
    done = 0
    try:
        with _progress(len(jobs)) as advance:
            for job, result in segment(segmenter, jobs):
                if isinstance(result, str):
                    done += 1
                    console.show(f"{job.photo}: {result}")
                else:
                    console.show(f"{job.photo}: {result}.", sys.stderr)
                    if arguments.verbose:
                        console.show_traceback(result)
                advance()
    except OutputError as error:
        console.complain(str(error))
    where = f"; results are in {output_dir}" if done else ""
    console.show(f"{done} of {len(jobs)} photos segmented with {segmenter.path}{where}")
    return 0 if done == len(jobs) else 1


def _require_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"Nothing can be written into {folder} ({error.strerror}); give another --output-dir."
        ) from error


def load(model: Path) -> Predictor:
    """Loads a model, and says so if programs other than this one cannot."""
    if model.is_file():
        with native_noise_held_back():
            return FileSegmenter(model)
    with native_noise_held_back():
        segmenter = Segmenter(model)
        fault = contract.unservable(str(segmenter.path))
    if fault:
        folder, name = segmenter.path.parent, segmenter.path.name
        advice = (
            f"; `python -m pipeline releases repair {name} --serving {folder}` fixes it"
            if name.isdecimal()
            else ""
        )
        console.show(f"Note: {fault}. Python can{advice}.", sys.stderr)
    return segmenter


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar while stderr is a terminal; yields what to call after each photo."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # A descriptor of its own, since stderr's is bent aside while the model works.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal:
        bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console.Terminal(terminal),
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        )
        with bar:
            task = bar.add_task("", total=total)
            yield lambda: bar.advance(task)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``, which `load` takes."""
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="MODEL",
        help="a SavedModel, a model's serving folder (its newest version is taken), or a file that"
        " `python -m pipeline convert` wrote",
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipeline predict",
        description="Segments photos with a released model: for each a mask PNG (values 1 pet,"
        " 2 background, 3 border) and an overlay PNG, in the size of the photo as it is stored,"
        " or upright by its EXIF orientation if the model learned with data.exif=apply.",
        epilog="Exit code: 0 all done, 1 some photos could not be segmented, 2 bad arguments.",
    )
    add_model(parser)
    parser.add_argument(
        "--output-dir", required=True, type=Path, metavar="DIR", help="where the results go"
    )
    parser.unchecked = ("images",)  # each fails alone
    add_verbose(parser)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="PHOTO",
        help="a JPEG, PNG, GIF or BMP file, a folder of them, or - for a photo from a pipe",
    )
    return parser.parse_args(argv)

"""Segment photos: ``python -m pipeline predict --model MODEL --output-dir DIR PHOTO...``.

Writes two files for each photo: ``<stem>_mask.png``, 8-bit greyscale with trimap values (1 pet, 2
background, 3 border), and ``<stem>_overlay.png``, the photo tinted by class. Both are oriented as
the model saw the photo: as stored or, if the model was trained with ``data.exif=apply``, upright by
its EXIF orientation.

MODEL is a serving folder, a SavedModel, or a converted file (ONNX, LiteRT, OpenVINO). PHOTO is a
file, a folder of photos, or ``-`` to read one photo from standard input. Files that this program
did not write are never overwritten (`pipeline.core.ownership`).

Exit codes: 0 all photos segmented, 1 some photos failed, 2 bad arguments.
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
    """Run the command and return its exit code."""
    return console.command(lambda: _segment(_parse(argv)), argv, "The command")


def _segment(arguments: argparse.Namespace) -> int:
    output_dir: Path = arguments.output_dir
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output-dir {output_dir} is a file; specify a folder.")
    jobs = plan(photos_in(arguments.images), output_dir)
    results = [path for job in jobs for path in (job.mask, job.overlay)]
    ownership.require_ours(results, "choose another --output-dir")
    if output_dir.exists():
        _require_writable(output_dir)
    segmenter = load(arguments.model)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot create {output_dir} ({error.strerror}); choose another --output-dir."
        ) from error
    _require_writable(output_dir)
    done = 0
    try:
        with _progress(len(jobs)) as advance:
            for job, result in segment(segmenter, jobs):
                if isinstance(result, str):
                    done += 1
                    console.print_line(f"{job.photo}: {result}")
                else:
                    console.print_line(f"{job.photo}: {result}.", sys.stderr)
                    if arguments.verbose:
                        console.print_traceback(result)
                advance()
    except OutputError as error:
        console.print_error(str(error))
    where = f"; results are in {output_dir}" if done else ""
    console.print_line(f"Segmented {done} of {len(jobs)} photos with {segmenter.path}{where}")
    return 0 if done == len(jobs) else 1


def _require_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder} ({error.strerror}); choose another --output-dir."
        ) from error


def load(model: Path) -> Predictor:
    """Load a model, with a note on stderr if only Python can load it.

    Raises:
      UserError: if `model` is not a model that this machine can run.
    """
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
        console.print_line(f"Note: {fault}. Python can load it{advice}.", sys.stderr)
    return segmenter


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar if stderr is a terminal; yields a function to call after each photo."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # A duplicate, because stderr itself is redirected while the model runs.
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
    """Add ``--model``, the argument of `load`."""
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="MODEL",
        help="a SavedModel, a model's serving folder to use its newest version, or a file written"
        " by `python -m pipeline convert`",
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipeline predict",
        description="Segment photos with a released model. Writes a mask PNG (1 pet, 2 background,"
        " 3 border) and an overlay PNG for each photo, at the size of the photo as stored, or"
        " rotated upright by its EXIF orientation if the model was trained with data.exif=apply.",
        epilog="Exit codes: 0 all photos segmented, 1 some photos failed, 2 bad arguments.",
    )
    add_model(parser)
    parser.add_argument(
        "--output-dir", required=True, type=Path, metavar="DIR", help="folder for the results"
    )
    parser.unchecked = ("images",)  # a bad photo must not stop the others
    add_verbose(parser)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="PHOTO",
        help="a JPEG, PNG, GIF or BMP file, a folder of photos, or - to read one photo from "
        "standard input",
    )
    return parser.parse_args(argv)

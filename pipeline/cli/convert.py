"""A release as a file of another format: ``python -m pipeline convert FORMAT --model DIR ...``.

Formats are those of `pipeline.core.file_formats.NAMES`, and ``triton``, a model repository with the
ONNX file in it. A file takes decoded photos of any size and gives the outputs of
``serving_default``; what it is called and holds is in `pipeline.formats.network`. Before it is kept
it is compared with the SavedModel; one in 8 bits is calibrated on photos of the training data that
is on record, and judged by the test split beside one of floats. A file that this program did not
make is never replaced.

Exit code 0 if it was written, 1 if it is not good enough, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core import console, errors, file_formats, ownership
from pipeline.core.errors import UserError, first_line
from pipeline.inference.segmenter import find_saved_model
from pipeline.settings.arguments import Parser, add_verbose

TRITON = "triton"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return console.command(lambda: _convert(_parse(argv)), argv, "The command")


def _convert(arguments: argparse.Namespace) -> int:
    output: Path = arguments.output
    name = "onnx" if arguments.format == TRITON else arguments.format
    folder = arguments.format == TRITON
    _check_output(output, file_formats.Format(name), folder)
    if arguments.opset and "onnx" not in file_formats.Format(name).family.converters:
        raise UserError(f"--opset has no meaning for {name}, which is not made from ONNX.")
    if arguments.model.is_file():
        raise UserError(f"{arguments.model} is a file; give the folder of a released version.")
    file_formats.check_packages(name)
    model_path = find_saved_model(arguments.model)
    fault: str | None = None
    with console.quiet(Path(os.devnull)):  # converters have much to say
        from pipeline.conversion import converter, triton
        from pipeline.formats import network, photos

        release = network.read(model_path)
        try:
            source = photos.source(release, arguments.data_root)
        except UserError:
            if arguments.data_root or file_formats.Format(name).int8:
                raise
            source = None
        bench = converter.Bench(release, source)
        options = {"opset": arguments.opset, "force": arguments.force}
        with _scratch(output) as scratch:
            made = Path(scratch, output.name)
            try:
                if folder:
                    facts = triton.write(bench, made, **options)
                else:
                    facts = converter.make(name, bench, made, **options)
            except converter.ConversionError as error:
                fault = str(error)
            except UserError:
                raise
            except Exception as error:  # each converter has its own
                raise UserError(
                    f"{model_path} cannot be written as {file_formats.Format(name).title}"
                    f" ({first_line(error)}); --verbose shows more."
                ) from error
            else:
                # Weights first: the file that names them is the one that is asked for.
                for each in sorted(Path(scratch).iterdir(), key=lambda file: file == made):
                    _put(each, output.with_name(each.name))
    if fault:
        console.complain(f"Nothing was written: {fault}; --force writes it anyway.")
        return errors.FAILED
    console.show(f"{output}: {converter.describe(name, facts)}")
    return errors.DONE


def _put(made: Path, target: Path) -> None:
    try:
        if made.is_dir():  # a model repository, where nothing was before
            made.rename(target)
        else:
            ownership.write(target, made.read_bytes())
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); choose another --output."
        ) from error


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[str]:
    """A folder beside the output, on the same disk, so that files can be renamed into place."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        raise UserError(
            f"Nothing can be written into {output.parent} ({error.strerror}); choose another"
            " --output."
        ) from error
    with folder as scratch:
        yield scratch


def _check_output(output: Path, format_: file_formats.Format, folder: bool) -> None:
    """Refuses what cannot be written before the work is done."""
    if folder and os.path.lexists(output):
        raise UserError(f"{output} exists; give the folder of a new model repository.")
    if not folder and output.is_dir():
        raise UserError(f"{output} is a folder; give the file to write.")
    if not folder and output.suffix != format_.family.ending:
        raise UserError(f"{output} must end in {format_.family.ending}.")
    if not folder:
        written = [output.with_suffix(ending) for ending in format_.family.endings]
        ownership.require_ours(written, "choose another --output")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    lowest, highest = file_formats.OPSETS[0], file_formats.OPSETS[-1]
    parser = Parser(
        prog="python -m pipeline convert",
        description="Writes a released model in another format, after comparing the two.",
    )
    parser.add_argument(
        "format",
        choices=(*file_formats.NAMES, TRITON),
        metavar="FORMAT",
        help=", ".join((*file_formats.NAMES, f"or {TRITON}: a model repository")),
    )
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR",
        help="a released version, or a model's serving folder (its newest version is taken)",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="the file or folder to write"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="data to calibrate on and to judge by (default: that of the release)",
    )
    parser.add_argument(
        "--opset",
        type=int,
        choices=file_formats.OPSETS,
        metavar="N",
        help=f"ONNX opset, {lowest} to {highest} (default: {file_formats.OPSET})",
    )
    parser.add_argument("--force", action="store_true", help="write it even if it fails the checks")
    add_verbose(parser)
    return parser.parse_args(argv)

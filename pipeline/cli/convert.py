"""Convert a release: ``python -m pipeline convert FORMAT --model DIR --output PATH``.

FORMAT is one of `pipeline.core.file_formats.NAMES`, or ``triton`` for a model repository that
contains the ONNX file. A converted model takes decoded photos of any size and returns the outputs
of ``serving_default``; `pipeline.formats.network` describes its names and contents.

Each file is compared with the SavedModel before it is kept. An int8 file is calibrated on training
photos and compared with a float32 file on the test split. Files that this program did not write are
never overwritten.

Exit codes: 0 written, 1 the conversion or the checks failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core import console, errors, file_formats, ownership
from pipeline.core.errors import CommandError, UserError, first_line
from pipeline.inference.segmenter import find_saved_model
from pipeline.settings.arguments import Parser, add_verbose

TRITON = "triton"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.command(lambda: _convert(_parse(argv)), argv, "The command")


def _convert(arguments: argparse.Namespace) -> int:
    output: Path = arguments.output
    to_folder = arguments.format == TRITON
    name = "onnx" if to_folder else arguments.format
    _check_output(output, file_formats.Format(name), to_folder)
    if arguments.opset and "onnx" not in file_formats.Format(name).family.converters:
        raise UserError(f"--opset does not apply to {name}, which is not made from ONNX.")
    if arguments.model.is_file():
        raise UserError(f"{arguments.model} is a file; specify the folder of a released version.")
    file_formats.check_packages(name)
    model_path = find_saved_model(arguments.model)
    fault: str | None = None
    with console.quiet(Path(os.devnull)):  # converters print a lot
        from pipeline.conversion import converter, triton
        from pipeline.conversion.judgement import ConversionError
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
                if to_folder:
                    facts = triton.write(bench, made, **options)
                else:
                    facts = converter.make(name, bench, made, **options)
            except ConversionError as error:
                fault = str(error)
            except UserError:
                raise
            except Exception as error:  # each converter raises its own
                raise CommandError(
                    f"Cannot convert {model_path} to {file_formats.Format(name).title}"
                    f" ({first_line(error)}); run again with --verbose for details."
                ) from error
            else:
                # The requested file refers to its weights file, so the weights go first.
                for file in sorted(Path(scratch).iterdir(), key=lambda file: file == made):
                    _put(file, output.with_name(file.name))
    if fault:
        console.print_error(f"Nothing was written: {fault}; use --force to write it anyway.")
        return errors.FAILED
    console.print_line(f"{output}: {converter.describe(name, facts)}")
    return errors.DONE


def _put(made: Path, target: Path) -> None:
    try:
        if made.is_dir():  # a model repository, whose target does not exist yet
            made.rename(target)
        else:
            ownership.write(target, made.read_bytes())
    except OSError as error:
        raise CommandError(
            f"Cannot write {target} ({error.strerror}); choose another --output."
        ) from error


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[str]:
    """Make a folder next to the output, on the same disk, so files can be renamed into place."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        raise UserError(
            f"Cannot write to {output.parent} ({error.strerror}); choose another --output."
        ) from error
    with folder as scratch:
        yield scratch


def _check_output(output: Path, format_: file_formats.Format, to_folder: bool) -> None:
    """Check the output path before the slow work starts."""
    if to_folder:
        if os.path.lexists(output):
            raise UserError(f"{output} already exists; choose a new folder.")
        return
    if output.is_dir():
        raise UserError(f"{output} is a folder; specify the file to write.")
    if output.suffix != format_.family.ending:
        raise UserError(f"{output} must have the extension {format_.family.ending}.")
    written = [output.with_suffix(ending) for ending in format_.family.endings]
    ownership.require_ours(written, "choose another --output")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    lowest, highest = file_formats.OPSETS[0], file_formats.OPSETS[-1]
    parser = Parser(
        prog="python -m pipeline convert",
        description="Convert a released model to another format and check the result against it.",
    )
    parser.add_argument(
        "format",
        choices=(*file_formats.NAMES, TRITON),
        metavar="FORMAT",
        help=", ".join((*file_formats.NAMES, f"or {TRITON} (a model repository)")),
    )
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR",
        help="a released version, or a model's serving folder to use its newest version",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="the file or folder to write"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="data for calibration and checks (default: the data of the release)",
    )
    parser.add_argument(
        "--opset",
        type=int,
        choices=file_formats.OPSETS,
        metavar="N",
        help=f"ONNX opset, {lowest} to {highest} (default: {file_formats.OPSET})",
    )
    parser.add_argument(
        "--force", action="store_true", help="write the file even if it fails the checks"
    )
    add_verbose(parser)
    return parser.parse_args(argv)

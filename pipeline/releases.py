"""The releases of a model: ``python -m pipeline.releases list | show | rollback | prune | copy``.

TensorFlow Serving serves the highest version. A rollback therefore releases the old model again,
under a new version number: servers follow it like any release, and the history stays as it was.
Where the last run copied its release to (`release.copy_to`), the new version is copied at once.

Exit code 0 if it was done, 1 if the old model cannot be used any more or the copy failed, 2 for bad
arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
from rich.markup import escape
from rich.table import Table

from pipeline import canary, console, run_folder, settings
from pipeline.arguments import Parser
from pipeline.errors import CopyError, UserError

_DONE, _FAILED, _USER_ERROR = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    verbose = "--verbose" in (sys.argv if argv is None else argv)
    try:
        arguments = _parse(argv)
        with console.quiet(Path(os.devnull)):  # TensorFlow has much to say when it is loaded
            import pipeline.serving  # noqa: F401
        arguments.do(arguments)
        return _DONE
    except UserError as error:
        sentence, code = str(error), _USER_ERROR
    except canary.BrokenModelError as error:
        sentence, code = f"Nothing was changed: {error}.", _FAILED
    except CopyError as error:
        sentence, code = f"{str(error)[:1].upper()}{str(error)[1:]}.", _FAILED
    if verbose:
        traceback.print_exc()
    console.complain(sentence)
    return code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    common = Parser(add_help=False)
    common.add_argument(
        "--serving",
        type=Path,
        metavar="DIR",
        default=Path("output") / "serving" / settings.Model().name,
        help="the serving folder of a model (default: %(default)s)",
    )
    common.add_argument("--json", action="store_true", help="print JSON, for scripts")
    common.add_argument("--verbose", action="store_true", help="show tracebacks of errors")
    parser = Parser(prog="python -m pipeline.releases", description="The releases of a model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(do=do)
        return command

    add("list", _list, "all versions with metrics, data and what became of them")
    show = add("show", _show, "all that is recorded of a version")
    rollback = add("rollback", _rollback, "put the model of an older version back into service")
    for command in (show, rollback):
        command.add_argument("version", type=int, metavar="V", help="the version")
    prune = add("prune", _prune, "remove the oldest versions, never the one in service")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="newest to leave")
    add("copy", _copy, "copy the version in service to where the last run did (release.copy_to)")
    return parser.parse_args(argv)


def _list(arguments: argparse.Namespace) -> None:
    records = _history(arguments.serving)
    if arguments.json:
        print(json.dumps(records, indent=2))
        return
    table = Table(title=f"Releases in {escape(str(arguments.serving))}", title_justify="left")
    for name in ("version", "status", "released", "mean IoU", "accuracy", "photos", "data"):
        table.add_column(name, no_wrap=name != "data", overflow="fold")
    for record in records:
        overall = record.get("metrics", {}).get("overall", {})
        splits = record.get("data", {}).get("splits", {})
        table.add_row(
            str(record["version"]),
            _status(record),
            record.get("released", "unknown").replace("T", " ")[:16],
            *(_number(overall.get(name)) for name in ("mean_iou", "pixel_accuracy")),
            " / ".join(map(str, splits.values())),
            escape(record.get("data_root", "unknown")),
        )
    table.caption = "photos: train / eval / test"
    console.print_table(table)


def _show(arguments: argparse.Namespace) -> None:
    known = {record["version"]: record for record in _history(arguments.serving)}
    if arguments.version not in known:
        raise UserError(
            f"There is no version {arguments.version} in {arguments.serving}; it holds: "
            f"{', '.join(map(str, known)) or 'none'}."
        )
    record = known[arguments.version]
    if arguments.json:
        print(json.dumps(record, indent=2))
        return
    table = Table(title=f"Version {arguments.version}", title_justify="left", show_header=False)
    for name, value in _rows({"status": record.pop("status"), **record}):
        table.add_row(escape(name), escape(value))
    console.print_table(table)


def _rollback(arguments: argparse.Namespace) -> None:
    from pipeline import serving

    _history(arguments.serving)
    with _lock(arguments.serving):
        before = serving.versions(str(arguments.serving))
        version = serving.rollback(str(arguments.serving), arguments.version)
        try:
            copied_to = _copy_on(arguments.serving)
        except UserError as error:  # the way back does not wait for a package
            raise CopyError(
                f"version {version} is in service in {arguments.serving}, but was not copied: "
                f"{str(error).rstrip('.')}"
            ) from error
    done = {"version": version, "to": arguments.version, "from": before[-1]}
    if arguments.json:
        print(json.dumps({**done, "copied_to": copied_to}))
        return
    print(
        f"Version {version} is in service in {arguments.serving}: the model of version "
        f"{arguments.version} again, in place of version {done['from']}."
    )
    if copied_to:
        print(f"Copy: {copied_to}")


def _prune(arguments: argparse.Namespace) -> None:
    from pipeline import serving

    if arguments.keep < 1:
        raise UserError(f"--keep is {arguments.keep}; it must be at least 1.")
    _history(arguments.serving)
    with _lock(arguments.serving):
        removed = serving.prune(str(arguments.serving), arguments.keep)
    if arguments.json:
        print(json.dumps({"removed": removed}))
        return
    names = ", ".join(map(str, removed)) or "nothing"
    print(f"Removed {names} from {arguments.serving}.")


def _copy(arguments: argparse.Namespace) -> None:
    _history(arguments.serving)
    with _lock(arguments.serving):
        copied_to = _copy_on(arguments.serving)
    if copied_to is None:
        raise UserError(
            f"Nothing is copied from {arguments.serving}: it holds no version, or the last run "
            "beside it had no release.copy_to."
        )
    print(json.dumps({"copied_to": copied_to}) if arguments.json else f"Copy: {copied_to}")


def _copy_on(folder: Path) -> str | None:
    """Copies the version in service to where the last run did; None if it copied nowhere."""
    from pipeline import publication, release_copy

    folder = folder.resolve()
    last_run = folder.parent.parent / publication.OUTCOME
    chosen = json.loads(last_run.read_text())["settings"] if last_run.exists() else {}
    copy_to = chosen.get(release_copy.SETTING)
    return copy_to and release_copy.copy(str(folder), copy_to, chosen["beam.args"])


def _history(folder: Path) -> list[dict[str, Any]]:
    from pipeline import serving  # loads TFX, which takes seconds

    if not folder.is_dir():
        raise UserError(f"There is no serving folder {folder}; give it with --serving DIR.")
    return serving.history(str(folder))


def _lock(folder: Path) -> filelock.AcquireReturnProxy:
    """Keeps a run on this machine from releasing meanwhile: it holds its output root's lock."""
    parent = folder.resolve().parent
    root = parent.parent if (parent.parent / "artifacts").is_dir() else parent
    return run_folder.lock(root, ", then call this again")


def _status(record: dict[str, Any]) -> str:
    colours = {"in service": "green", "withdrawn": "red"}
    text = record["status"]
    if text in colours:
        text = f"[{colours[text]}]{text}[/]"
    back = record.get("rollback")
    return f"{text}, rollback to {back['to']}" if back else text


def _rows(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _rows(part, f"{name}.{key}" if name else key)
    elif isinstance(value, float):
        yield name, f"{value:.4g}"
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield name if not i else "", json.dumps(part)
    else:
        yield name, "none" if value is None else str(value)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())

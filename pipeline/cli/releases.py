"""Manage releases: ``python -m pipeline releases list|show|rollback|repair|prune|copy``.

TensorFlow Serving serves the highest version. A rollback therefore releases the old model again
under a new version number: servers pick it up like any other release, and the history is preserved.
A repair does the same for a version that is damaged or that no server can run. Both copy the new
version to where the last run copied its release (`release.copy_to`).

Exit codes: 0 done, 1 the old model is unusable or the copy failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.core import console, errors, paths
from pipeline.core.errors import CommandError, CopyError, UserError
from pipeline.saved_model import smoke_test
from pipeline.settings.arguments import Parser, add_verbose
from pipeline.settings.training import Model

_INCOMPLETE = (
    "was lost; to release the model with a complete record, run the pipeline again with the same "
    "data and settings."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.command(lambda: _main(argv), argv, "The command")


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    with console.quiet(Path(os.devnull)):  # TensorFlow prints a lot while it loads
        import pipeline.release.operations  # noqa: F401
    try:
        arguments.do(arguments)
    except smoke_test.BrokenModelError as error:
        raise CommandError(f"Nothing was changed: {error}.") from error
    except CopyError as error:
        raise CommandError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    return errors.DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    common = Parser(add_help=False)
    common.add_argument(
        "--serving",
        type=Path,
        metavar="DIR",
        default=Path("output") / "serving" / Model().name,
        help="serving folder of the model (default: %(default)s)",
    )
    common.add_argument("--json", action="store_true", help="print JSON, for scripts")
    add_verbose(common)
    parser = Parser(
        prog="python -m pipeline releases", description="Manage the releases of a model."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, do: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(do=do)
        return command

    add("list", _list, "list all versions with their metrics, data and status")
    show = add("show", _show, "show the full record of a version")
    rollback = add("rollback", _rollback, "put the model of an older version back into service")
    repair = add(
        "repair",
        _repair,
        "repair a version that is damaged or that no server can run, and put it into service",
    )
    for command in (show, rollback, repair):
        command.add_argument("version", type=_version, metavar="VERSION", help="version number")
    prune = add("prune", _prune, "remove the oldest versions, but never the one in service")
    prune.add_argument(
        "--keep", type=int, required=True, metavar="N", help="number of newest versions to keep"
    )
    add("copy", _copy, "copy the version in service to the last run's release.copy_to")
    return parser.parse_args(argv)


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a version number; `list` shows the versions"
        )
    return int(text)


def _list(arguments: argparse.Namespace) -> None:
    records = _history(arguments.serving)
    if arguments.json:
        console.print_json(records, indent=2)
        return
    if not records:
        raise UserError(
            f"{arguments.serving} has no versions; specify the serving folder of a model with"
            " --serving, such as output/serving/MODEL."
        )
    table = Table(title=f"Releases in {escape(str(arguments.serving))}", title_justify="left")
    for name in ("version", "status", "released", "mean IoU", "accuracy", "photos", "data"):
        table.add_column(
            name,
            no_wrap=name not in ("status", "data"),
            overflow="fold" if name == "data" else "ellipsis",
        )
    for record in records:
        overall = record.get("metrics", {}).get("overall", {})
        splits = record.get("data", {}).get("splits", {})
        table.add_row(
            str(record["version"]),
            _status(record),
            escape(record.get("released", "unknown").replace("T", " ")[:16]),
            *(_number(overall.get(name)) for name in ("mean_iou", "pixel_accuracy")),
            " / ".join(map(str, splits.values())),
            escape(record.get("data_root", "unknown")),
        )
    table.caption = "photos: train / eval / test"
    console.print_table(table, less_important=("accuracy", "photos", "data", "released"))
    for record in records:
        if record["fault"]:
            repairs = [r["version"] for r in records if r.get("repaired") == record["version"]]
            advice = _advice(arguments, record, repairs)
            console.print_line(f"Version {record['version']}: {record['fault']}.{advice}")
        elif record.get("incomplete"):
            console.print_line(f"Version {record['version']}: most of its record {_INCOMPLETE}")
    from pipeline.release import model_store

    if strays := model_store.strays(str(arguments.serving)):
        console.print_line(
            "Not a version, but TensorFlow Serving may try to load it; move it elsewhere: "
            f"{', '.join(strays)}."
        )


def _advice(arguments: argparse.Namespace, record: dict[str, Any], repairs: list[int]) -> str:
    """Say in a further sentence what to do about a broken version."""
    if repairs:
        return f" Version {repairs[-1]} is the repaired copy."
    if not record["repairable"]:
        if record["status"] == "in service":
            return " No other copy of its model was found: roll back, or run the pipeline again."
        return ""
    command = (
        f"python -m pipeline releases repair {record['version']} --serving {arguments.serving}"
    )
    if record["status"] == "in service":
        return f" `{command}` fixes it."
    return f" To roll back to it, use `{command}`."


def _show(arguments: argparse.Namespace) -> None:
    records = {record["version"]: record for record in _history(arguments.serving)}
    if arguments.version not in records:
        versions = f"it has {', '.join(map(str, records))}" if records else "it has none"
        raise UserError(f"{arguments.serving} has no version {arguments.version}; {versions}.")
    record = records[arguments.version]
    if arguments.json:
        console.print_json(record, indent=2)
        return
    table = Table(title=f"Version {arguments.version}", title_justify="left", show_header=False)
    status = Text.from_markup(_status(record)).plain
    del record["status"]
    for name, value in _rows({"status": status, **record}):
        table.add_row(escape(name), escape(value))
    console.print_table(table)


def _rollback(arguments: argparse.Namespace) -> None:
    from pipeline.release import model_store, operations
    from pipeline.saved_model import contract

    _check(arguments.serving)
    path = model_store.path(str(arguments.serving), arguments.version)
    newest = model_store.versions(str(arguments.serving))[-1:] == [arguments.version]
    sound = Path(path).is_dir() and not newest and not contract.incompatibility(path)
    if sound and (fault := contract.unservable(path)):
        raise UserError(
            f"Nothing was changed: {fault}; `python -m pipeline releases repair"
            f" {arguments.version} --serving {arguments.serving}` repairs it and puts it into"
            " service."
        )
    _bring_back(arguments, operations.rollback, "the model of version {}")


def _repair(arguments: argparse.Namespace) -> None:
    from pipeline.release import operations

    _bring_back(arguments, operations.repair, "the model of version {}, repaired")


def _bring_back(
    arguments: argparse.Namespace, release: Callable[[str, int], int], what: str
) -> None:
    """Release an older version, copy it to `release.copy_to`, and print the result.

    Args:
      arguments: of the command.
      release: takes the serving folder and the old version; returns the new version.
      what: what the new version is, with a placeholder for the old version.
    """
    from pipeline.release import model_store

    _check(arguments.serving)
    with _lock(arguments.serving):
        before = model_store.versions(str(arguments.serving))
        version = release(str(arguments.serving), arguments.version)
        incomplete = bool(model_store.record(str(arguments.serving), version).get("incomplete"))
    try:
        copied_to = _copy_on(arguments.serving)
    except UserError as error:
        raise CopyError(
            f"version {version} is in service in {arguments.serving}, but was not copied: "
            f"{str(error).rstrip('.')}"
        ) from error
    done = {"version": version, "to": arguments.version, "from": before[-1]}
    if arguments.json:
        console.print_json({**done, "incomplete": incomplete, "copied_to": copied_to})
        return
    console.print_line(
        f"Version {version} is in service in {arguments.serving}. It has "
        f"{what.format(arguments.version)}, and replaces version {done['from']}."
    )
    if incomplete:
        console.print_line(f"Note: most of the record of version {version} {_INCOMPLETE}")
    if copied_to:
        console.print_line(f"Copy: {copied_to}")


def _prune(arguments: argparse.Namespace) -> None:
    from pipeline.release import operations

    if arguments.keep < 1:
        raise UserError(f"--keep is {arguments.keep}; it must be at least 1.")
    _check(arguments.serving)
    removed = operations.prune(str(arguments.serving), arguments.keep, _say)
    if arguments.json:
        console.print_json({"removed": removed})
        return
    names = ", ".join(map(str, removed)) or "nothing"
    console.print_line(f"Removed {names} from {arguments.serving}.")


def _copy(arguments: argparse.Namespace) -> None:
    _check(arguments.serving)
    copied_to = _copy_on(arguments.serving)
    if copied_to is None:
        raise UserError(
            f"Nothing to copy: {arguments.serving} has no version, or release.copy_to was "
            "not set in the last run."
        )
    if arguments.json:
        console.print_json({"copied_to": copied_to})
    else:
        console.print_line(f"Copy: {copied_to}")


def _copy_on(folder: Path) -> str | None:
    """Copy the version in service to the last run's `release.copy_to`.

    Returns:
      Where the copy is; None if the last run copied nothing.

    Raises:
      UserError: if the last run's settings are unreadable or the copy cannot be made.
      CopyError: if the copy failed.
    """
    with console.quiet(Path(os.devnull)):  # TFX and Beam print a lot while they load
        from pipeline.release import mirror
        from pipeline.report import publish

    folder = folder.resolve()
    last_run = folder.parent.parent / publish.OUTCOME
    try:
        settings = json.loads(last_run.read_bytes())["settings"]
        copy_to, beam_args = settings.get(mirror.SETTING), settings["beam.args"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(
            f"{last_run} is damaged, so its setting {mirror.SETTING!r} is unknown; run the pipeline"
            " again to copy the release."
        ) from None
    return mirror.copy(str(folder), copy_to, beam_args) if copy_to else None


def _history(folder: Path) -> list[dict[str, Any]]:
    from pipeline.release import model_store, operations, salvage  # loads TFX, which takes seconds

    _check(folder)
    records = model_store.history(str(folder))
    for record in records:
        version = record["version"]
        record["fault"] = operations.fault_of(str(folder), version)
        record["repairable"] = bool(record["fault"]) and bool(salvage.find(str(folder), version)[0])
    return records


def _check(folder: Path) -> None:
    paths.check_no_pattern(folder)
    if not folder.is_dir():
        raise UserError(
            f"The serving folder {folder} does not exist; specify one with --serving DIR."
        )


def _lock(folder: Path) -> contextlib.AbstractContextManager[bool]:
    """Lock the serving folder, so that no run or other command releases in the meantime."""
    from pipeline.release import model_store

    return model_store.lock(str(folder), _say)


def _say(text: str) -> None:
    console.print_line(text, sys.stderr)


def _status(record: dict[str, Any]) -> str:
    colours = {"in service": "green", "withdrawn": "red"}
    text = record["status"]
    if text in colours:
        text = f"[{colours[text]}]{text}[/]"
    if record.get("rollback"):
        text += f", rollback to {record['rollback']['to']}"
    if record.get("repaired"):
        text += f", repair of {record['repaired']}"
    return f"{text}, [red]broken[/]" if record["fault"] else text


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
    return "" if value is None else escape(str(value))

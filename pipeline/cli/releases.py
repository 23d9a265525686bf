"""The releases of a model: ``python -m pipeline releases COMMAND``.

Commands are list, show, rollback, repair, prune and copy.

TensorFlow Serving serves the highest version. A rollback therefore releases the old model again,
under a new version number: servers follow it like any release, and the history stays as it was.
A repair does the same with a version whose export no server can run. Where the last run copied its
release to (`release.copy_to`), the new version is copied at once.

Exit code 0 if it was done, 1 if the old model cannot be used any more or the copy failed, 2 for bad
arguments.
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

from pipeline import settings
from pipeline.core import console, errors, paths
from pipeline.core.errors import CommandError, CopyError, UserError
from pipeline.saved_model import smoke_test
from pipeline.settings.arguments import Parser, add_verbose

_INCOMPLETE = (
    "its record is not complete, since most of it was lost; a run on the same data with the same "
    "settings releases the model with a whole one."
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return console.command(lambda: _main(argv), argv, "The command")


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    with console.quiet(Path(os.devnull)):  # TensorFlow has much to say when it is loaded
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
        default=Path("output") / "serving" / settings.Model().name,
        help="the serving folder of a model (default: %(default)s)",
    )
    common.add_argument("--json", action="store_true", help="print JSON, for scripts")
    add_verbose(common)
    parser = Parser(prog="python -m pipeline releases", description="The releases of a model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(do=do)
        return command

    add("list", _list, "all versions with metrics, data and what became of them")
    show = add("show", _show, "all that is recorded of a version")
    rollback = add("rollback", _rollback, "put the model of an older version back into service")
    repair = add(
        "repair",
        _repair,
        "re-export a version that no server can run, and put it into service",
    )
    for command in (show, rollback, repair):
        command.add_argument("version", type=_version, metavar="VERSION", help="its number")
    prune = add("prune", _prune, "remove the oldest versions, never the one in service")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="newest to leave")
    add("copy", _copy, "copy the version in service to where the last run did (release.copy_to)")
    return parser.parse_args(argv)


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no version; `list` shows their numbers")
    return int(text)


def _list(arguments: argparse.Namespace) -> None:
    records = _history(arguments.serving)
    if arguments.json:
        console.show_json(records, indent=2)
        return
    if not records:
        raise UserError(
            f"There is no version in {arguments.serving}; give the serving folder of a model with"
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
            console.show(f"Version {record['version']}: {record['fault']}.{advice}")
        elif record.get("incomplete"):
            console.show(f"Version {record['version']}: {_INCOMPLETE}")
    from pipeline.release import model_store

    if strays := model_store.strays(str(arguments.serving)):
        console.show(
            f"Not a version, though TensorFlow Serving may try to load it: {', '.join(strays)}; "
            "move it away."
        )


def _advice(arguments: argparse.Namespace, record: dict[str, Any], repairs: list[int]) -> str:
    if repairs:
        return f" Version {repairs[-1]} is its repair."
    if not record["repairable"]:
        if record["status"] == "in service":
            return " Nothing that holds its model was found: roll back to another, or run again."
        return ""
    command = (
        f"python -m pipeline releases repair {record['version']} --serving {arguments.serving}"
    )
    if record["status"] == "in service":
        return f" `{command}` fixes it."
    return f" Before a rollback to it: `{command}`, which puts it into service."


def _show(arguments: argparse.Namespace) -> None:
    known = {record["version"]: record for record in _history(arguments.serving)}
    if arguments.version not in known:
        raise UserError(
            f"There is no version {arguments.version} in {arguments.serving}; it holds: "
            f"{', '.join(map(str, known)) or 'none'}."
        )
    record = known[arguments.version]
    if arguments.json:
        console.show_json(record, indent=2)
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
    sound = Path(path).is_dir() and not newest and not contract.misfit(path)
    if sound and (fault := contract.unservable(path)):
        raise UserError(
            f"Nothing was changed: {fault}; `python -m pipeline releases repair"
            f" {arguments.version} --serving {arguments.serving}` puts it into service so that they"
            " can."
        )
    _bring_back(arguments, operations.rollback, "the model of version {} again")


def _repair(arguments: argparse.Namespace) -> None:
    from pipeline.release import operations

    _bring_back(arguments, operations.repair, "the model of version {}, repaired")


def _bring_back(
    arguments: argparse.Namespace, release: Callable[[str, int], int], what: str
) -> None:
    """Releases an older version by `release`, copies it on, and says so."""
    from pipeline.release import model_store

    _check(arguments.serving)
    with _lock(arguments.serving):
        before = model_store.versions(str(arguments.serving))
        version = release(str(arguments.serving), arguments.version)
        incomplete = bool(model_store.record(str(arguments.serving), version).get("incomplete"))
    try:
        copied_to = _copy_on(arguments.serving)
    except UserError as error:  # the way back does not wait for a package
        raise CopyError(
            f"version {version} is in service in {arguments.serving}, but was not copied: "
            f"{str(error).rstrip('.')}"
        ) from error
    done = {"version": version, "to": arguments.version, "from": before[-1]}
    if arguments.json:
        console.show_json({**done, "incomplete": incomplete, "copied_to": copied_to})
        return
    console.show(
        f"Version {version} is in service in {arguments.serving}: "
        f"{what.format(arguments.version)}, in place of version {done['from']}."
    )
    if incomplete:
        console.show(f"Note: {_INCOMPLETE}")
    if copied_to:
        console.show(f"Copy: {copied_to}")


def _prune(arguments: argparse.Namespace) -> None:
    from pipeline.release import operations

    if arguments.keep < 1:
        raise UserError(f"--keep is {arguments.keep}; it must be at least 1.")
    _check(arguments.serving)
    removed = operations.prune(str(arguments.serving), arguments.keep, _say)
    if arguments.json:
        console.show_json({"removed": removed})
        return
    names = ", ".join(map(str, removed)) or "nothing"
    console.show(f"Removed {names} from {arguments.serving}.")


def _copy(arguments: argparse.Namespace) -> None:
    _check(arguments.serving)
    copied_to = _copy_on(arguments.serving)
    if copied_to is None:
        raise UserError(
            f"Nothing is copied from {arguments.serving}: it holds no version, or the last run "
            "beside it had no release.copy_to."
        )
    if arguments.json:
        console.show_json({"copied_to": copied_to})
    else:
        console.show(f"Copy: {copied_to}")


def _copy_on(folder: Path) -> str | None:
    """Copies the version in service to where the last run did; None if it copied nowhere."""
    with console.quiet(Path(os.devnull)):  # TFX's other libraries have much to say, too
        from pipeline.release import mirror
        from pipeline.report import publish

    folder = folder.resolve()
    last_run = folder.parent.parent / publish.OUTCOME
    try:
        chosen = json.loads(last_run.read_bytes())["settings"]
        copy_to, beam_args = chosen.get(mirror.SETTING), chosen["beam.args"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(
            f"{last_run} is damaged, so whether {mirror.SETTING} is set cannot be read."
        ) from None
    return copy_to and mirror.copy(str(folder), copy_to, beam_args)


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
        raise UserError(f"There is no serving folder {folder}; give it with --serving DIR.")


def _lock(folder: Path) -> contextlib.AbstractContextManager[bool]:
    """Keeps runs and other commands from releasing meanwhile; they may go on with all else."""
    from pipeline.release import model_store

    return model_store.lock(str(folder), _say)


def _say(text: str) -> None:
    console.show(text, sys.stderr)


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

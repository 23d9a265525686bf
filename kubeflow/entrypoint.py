"""What a task's container runs: the plan of a run, nodes of the pipeline, or the report at its end.

    python -m kubeflow.entrypoint plan --run-id ID --output-root DIR --start FILE ...
    python -m kubeflow.entrypoint run Trainer --run-id ID --output-root DIR --data-root DIR ...
    python -m kubeflow.entrypoint report --run-id ID --artifact report FILE ...

Exit codes: 0 done or answered from the cache, 1 failed, 2 the user's to mend (settings, data), 143
told to stop; KFP's launcher, which starts this, makes 1 of each but 0. The last line of the log
says which, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubeflow import form, termination
from pipeline import settings
from pipeline.core import console, errors, paths, progress, run_folder
from pipeline.core.errors import UserError
from pipeline.data import layout, synthetic
from pipeline.report import outcome
from pipeline.settings.arguments import Parser

if TYPE_CHECKING:
    from kubeflow.tasks import Run

# Errors of a volume that no further attempt helps.
_FOR_GOOD = {errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the task and returns the exit code."""
    os.umask(0o022)  # Argo's executor hands on 0: everybody could change releases on the volume
    name = "Task"
    arguments = None
    begin = time.monotonic()
    try:
        with errors.stoppable():
            arguments = _parse(argv)
            name = _name(arguments)
            termination.note(f"{name} was cut off", again=True)
            _log_for_people()
            state, *clause = _run(arguments)
        code, seconds = errors.DONE, f"{time.monotonic() - begin:.1f} s"
        last = f"{name}: {state} in {seconds}{''.join(f': {each}' for each in clause if each)}."
    except UserError as error:
        code, last = errors.USER_ERROR, f"Error: {name} refused: {error}"
    except errors.Stopped:
        code, last = errors.STOPPED, f"{name}: told to stop; another attempt goes on from here."
    except Exception as error:
        logging.getLogger(__name__).exception("%s failed", name)
        sentence, code = errors.explain(error, name)
        last = f"Error: {sentence}"
    sys.stdout.flush()
    sys.stderr.flush()
    console.show(last)
    termination.note(last, again=code in (errors.FAILED, errors.STOPPED))
    return code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m kubeflow.entrypoint", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    plan = tasks.add_parser("plan", help="sees what there is to do")
    plan.add_argument("--start", type=Path, required=True, help="file for the stage to begin with")
    run = tasks.add_parser("run", help="runs one node, or several one after the other")
    run.add_argument("nodes", nargs="+", metavar="NODE", help="its id")
    report = tasks.add_parser("report", help="reports on the run")
    for each in (plan, run, report):
        each.add_argument("--run-id", required=True, help="the same for all tasks of a run")
        each.add_argument("--output-root", type=Path, required=True, help="on the volume")
        each.add_argument("--data-root", required=True, help="data folder; empty: built-in data")
        each.add_argument("--metadata", choices=["mysql", "postgresql", "sqlite"], required=True)
        each.add_argument("--metadata-tls", default="off", help="as the setting metadata.tls says")
        each.add_argument("--pinned", type=json.loads, default={}, help="settings, as JSON")
        each.add_argument("--set", action="append", default=[], dest="overrides")
        each.add_argument("--settings", default="", help="more settings, from the run form")
        each.add_argument(
            "--artifact", action="append", default=[], nargs=2, metavar=("KEY", "FILE")
        )
        each.add_argument("--executor-input", type=json.loads, help="from KFP")
    return parser.parse_args(argv)


def _name(arguments: argparse.Namespace) -> str:
    """As `kubeflow.compiler` calls the task."""
    if arguments.task != "run":
        return arguments.task.capitalize()
    return "To".join(dict.fromkeys((arguments.nodes[0], arguments.nodes[-1])))


def _log_for_people() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    handler = logging.StreamHandler()
    handler.setFormatter(console.PlainFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("pipeline").setLevel(logging.INFO)


def _run(arguments: argparse.Namespace) -> Sequence[str]:
    """How the task went, in a word, and perhaps what it came to, in a clause."""
    output_root = arguments.output_root
    try:
        _check_run_id(arguments.run_id)
        chosen = _settings(arguments)
        paths.check_no_pattern(output_root)
        paths.check(arguments.data_root)
        _make(output_root)
        # TensorFlow and TFX take seconds to load: not before the arguments are known to be good.
        from kubeflow import metadata

        connection = metadata.open_store(arguments.metadata, output_root, arguments.metadata_tls)
    except UserError as error:
        if arguments.task == "report":
            return _report_refusal(arguments, str(error))
        raise
    data_root = Path(arguments.data_root or output_root / "builtin-data")
    from kubeflow import results, tasks

    run = tasks.Run(arguments.run_id, chosen, data_root, output_root, connection)
    files = {key: Path(path) for key, path in arguments.artifact}
    if arguments.task == "plan":
        return _plan(run, arguments.start, generate=not arguments.data_root)
    if arguments.task == "run":
        state, clause, facts = tasks.run_nodes(run, arguments.nodes)
        results.write(arguments.executor_input, facts, files)
        return state, clause
    with progress.watched("Report"):
        clause, facts = tasks.report(run, files["report"])
    results.write(arguments.executor_input, facts, files)
    tasks.require_health(run)
    return "done", clause


def _check_run_id(run_id: str) -> None:
    # Servers know it only as a task's input: in a command line it arrives as it was written there.
    if "{{" in run_id:
        raise UserError(
            f"The run's id is {run_id!r}, which the server should have replaced by one of its own; "
            "compile the pipeline anew with python -m kubeflow compile."
        )


def _settings(arguments: argparse.Namespace) -> settings.Settings:
    chosen = settings.load(
        [],
        [
            *(f"{key}={json.dumps(value)}" for key, value in arguments.pinned.items()),
            *arguments.overrides,
            *form.overrides(arguments.settings),
        ],
        "the run's parameter",
    )
    form.check_nodes(arguments.pinned, chosen)
    return chosen


def _make(output_root: Path) -> None:
    """Makes the output folder; raises UserError if it cannot, or nothing can be written there."""
    try:
        output_root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_root).close()
    except PermissionError:
        raise UserError(
            f"User {os.getuid()} cannot write to the output folder {output_root}: the volume "
            "belongs to another user; `kubectl apply -k "
            "kubeflow/manifests/volume-owner` gives it to user 1000; then start again."
        ) from None
    except OSError as error:
        if error.errno not in _FOR_GOOD:
            raise  # another attempt may help
        raise UserError(f"Cannot make the output folder {output_root}: {error.strerror}.") from None


def _report_refusal(arguments: argparse.Namespace, sentence: str) -> Sequence[str]:
    """Reports that the run could not begin, where neither settings nor volume can be used."""
    from kubeflow import results
    from pipeline.report import html_page, publish

    files = {key: Path(path) for key, path in arguments.artifact}
    files["report"].parent.mkdir(parents=True, exist_ok=True)
    html_page.write(files["report"], outcome.Outcome(error=sentence), [], [])
    with contextlib.suppress(OSError, UserError):  # the volume may be what cannot be used
        publish.announce(None, arguments.output_root, sentence)
    results.write(arguments.executor_input, {"metrics": {"released": 0.0}}, files)
    return "done", f"the run was refused: {sentence.rstrip('.')}"


def _plan(run: Run, start: Path, generate: bool) -> Sequence[str]:
    from kubeflow import tasks

    notes = run.artifacts()
    notes.note_run_error("Plan was cut off; its log says why.")
    try:
        run_folder.require_own_results(run.output_root)
        if aside := tasks.set_aside_unknown(run):
            console.show(
                f"Note: the metadata store is new; the artifacts that it knows nothing of are in "
                f"{aside}."
            )
        run.settings.check_files()
        if generate:
            with progress.watched("Built-in data"):
                synthetic.generate(run.data_root)
        layout.check_layout(run.data_root, run.settings.data.spans)
        tasks.check_release(run)
        stage, clause = tasks.plan(run)
    except (Exception, errors.Stopped) as error:
        with contextlib.suppress(Exception):  # the store may be what failed
            notes.note_run_error(errors.explain(error, "Plan")[0])
        raise
    notes.note_run_error("")
    start.parent.mkdir(parents=True, exist_ok=True)
    start.write_text(stage, encoding="utf-8")
    return "done", clause


if __name__ == "__main__":
    # One pipe: of two, a container engine may read the last line before what was said earlier.
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    sys.exit(main())

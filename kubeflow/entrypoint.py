"""The program in a task's container: plans a run, runs nodes of the pipeline, or reports.

    python -m kubeflow.entrypoint plan --run-id ID --output-root DIR --start FILE ...
    python -m kubeflow.entrypoint run Trainer --run-id ID --output-root DIR --data-root DIR ...
    python -m kubeflow.entrypoint report --run-id ID --artifact report FILE ...

Exit codes: 0 done or cached, 1 failed, 2 bad settings or data, 143 stopped. KFP's launcher, which
starts this program, turns all but 0 into 1. The last line of the log says what happened, and why.
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
from pipeline.core import console, errors, paths, progress, run_folder, yaml_text
from pipeline.core.errors import CommandError, UserError
from pipeline.data import layout, synthetic
from pipeline.report import outcome
from pipeline.settings.arguments import Parser
from pipeline.settings.schema import Settings
from pipeline.settings.schema import load as load_settings

if TYPE_CHECKING:
    from kubeflow.tasks import Run

# Errors of a volume that another attempt cannot fix.
_PERMANENT = {errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the task and return the exit code."""
    os.umask(0o022)  # Argo's executor sets 0, which would let anyone change releases on the volume
    name, again = "Task", False
    begin = time.monotonic()
    try:
        with errors.stoppable():
            arguments = _parse(argv)
            name = _name(arguments)
            termination.note(f"{name} was interrupted", again=True)
            _configure_logging()
            state, *clause = _run(arguments)
        code, seconds = errors.DONE, f"{time.monotonic() - begin:.1f} s"
        last = f"{name}: {state} in {seconds}{''.join(f': {each}' for each in clause if each)}."
    except (UserError, CommandError) as error:
        sentence, code = errors.explain(error, name)
        last = f"Error: {name} failed: {sentence}"
    except errors.Stopped:
        code, last = errors.STOPPED, f"{name}: stopped; the next attempt resumes here."
        again = True
    except Exception as error:
        logging.getLogger(__name__).exception("%s failed", name)
        sentence, code = errors.explain(error, name)
        last, again = f"Error: {sentence}", True
    sys.stdout.flush()
    sys.stderr.flush()
    console.print_line(last)
    termination.note(last, again)
    return code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m kubeflow.entrypoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    plan = tasks.add_parser("plan", help="find out what the run has to do")
    plan.add_argument("--start", type=Path, required=True, help="file to write the first stage to")
    run = tasks.add_parser("run", help="run one or more nodes, one after the other")
    run.add_argument("nodes", nargs="+", metavar="NODE", help="id of a node")
    report = tasks.add_parser("report", help="report on the run")
    for task in (plan, run, report):
        task.add_argument("--run-id", required=True, help="id of the run")
        task.add_argument("--output-root", type=Path, required=True, help="folder on the volume")
        task.add_argument("--data-root", required=True, help="data folder; empty: built-in data")
        task.add_argument("--metadata", choices=["mysql", "postgresql", "sqlite"], required=True)
        task.add_argument("--metadata-tls", default="off", help="value of metadata.tls")
        task.add_argument("--pinned", type=json.loads, default={}, help="settings, as JSON")
        task.add_argument("--set", action="append", default=[], dest="overrides")
        task.add_argument("--settings", default="", help="more settings, from the run form")
        task.add_argument(
            "--artifact", action="append", default=[], nargs=2, metavar=("KEY", "FILE")
        )
        task.add_argument("--executor-input", type=json.loads, help="from KFP")
    return parser.parse_args(argv)


def _name(arguments: argparse.Namespace) -> str:
    """Return the name that `kubeflow.compiler` gives the task."""
    if arguments.task != "run":
        return str(arguments.task).capitalize()
    return "To".join(dict.fromkeys((arguments.nodes[0], arguments.nodes[-1])))


def _configure_logging() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    handler = logging.StreamHandler()
    handler.setFormatter(console.PlainFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("pipeline").setLevel(logging.INFO)


def _run(arguments: argparse.Namespace) -> Sequence[str]:
    """Run the task; return how it went, in a word, and optionally its result, in a clause."""
    output_root = arguments.output_root
    try:
        _check_run_id(arguments.run_id)
        settings = _settings(arguments)
        paths.check_no_pattern(output_root)
        paths.check(arguments.data_root)
        _make(output_root)
        # TensorFlow and TFX take seconds to load, so check the arguments first.
        from kubeflow import metadata

        connection = metadata.open_store(arguments.metadata, output_root, arguments.metadata_tls)
    except UserError as error:
        if arguments.task == "report":
            return _report_refusal(arguments, str(error))
        raise
    data_root = Path(arguments.data_root or output_root / "builtin-data")
    from kubeflow import results, tasks

    run = tasks.Run(arguments.run_id, settings, data_root, output_root, connection)
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
    # The server replaces this placeholder in inputs of tasks, but not in command lines.
    if "{{" in run_id:
        raise UserError(
            f"The server did not replace the placeholder {run_id!r} with the id of the run; "
            "compile the pipeline again with python -m kubeflow compile."
        )


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = load_settings(
        [],
        [
            *(f"{key}={yaml_text.line(value)}" for key, value in arguments.pinned.items()),
            *arguments.overrides,
            *form.overrides(arguments.settings),
        ],
        "the run's parameter",
    )
    form.check_nodes(arguments.pinned, settings)
    return settings


def _make(output_root: Path) -> None:
    """Create the output folder.

    Raises:
      UserError: if it cannot be created or written to.
    """
    try:
        output_root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_root).close()
    except PermissionError:
        raise UserError(
            f"User {os.getuid()} cannot write to the output folder {output_root}, because the "
            "volume belongs to another user. Run `kubectl apply -k "
            "kubeflow/manifests/volume-owner` to give it to user 1000, then start the run again."
        ) from None
    except OSError as error:
        if error.errno not in _PERMANENT:
            raise  # another attempt may help
        raise UserError(
            f"Cannot create the output folder {output_root} ({error.strerror}); change "
            "storage.output_root."
        ) from None


def _report_refusal(arguments: argparse.Namespace, sentence: str) -> Sequence[str]:
    """Report a run that could not start because its settings or its volume are unusable."""
    from kubeflow import results
    from pipeline.report import html_page, publish

    files = {key: Path(path) for key, path in arguments.artifact}
    files["report"].parent.mkdir(parents=True, exist_ok=True)
    html_page.write(files["report"], outcome.Outcome(error=sentence), [], [])
    with contextlib.suppress(OSError, UserError):  # the volume may be unusable
        publish.announce(None, arguments.output_root, sentence)
    results.write(arguments.executor_input, {"metrics": {"released": 0.0}}, files)
    return "done", f"the run could not start: {sentence.rstrip('.')}"


def _plan(run: Run, start: Path, generate: bool) -> Sequence[str]:
    from kubeflow import tasks

    artifacts = run.artifacts()
    artifacts.note_run_error("Plan was interrupted; see its log.")
    try:
        run_folder.require_own_results(run.output_root)
        if aside := tasks.move_orphaned_artifacts(run):
            console.print_line(
                f"Note: the metadata store is new; the artifacts of earlier runs are now in "
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
        with contextlib.suppress(Exception):  # the store itself may have failed
            artifacts.note_run_error(errors.explain(error, "Plan")[0])
        raise
    artifacts.note_run_error("")
    start.parent.mkdir(parents=True, exist_ok=True)
    start.write_text(stage, encoding="utf-8")
    return "done", clause


if __name__ == "__main__":
    # Use one pipe, because container engines may reorder lines of two.
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    sys.exit(main())

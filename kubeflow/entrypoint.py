"""What a task's container runs: one node of the pipeline, or the report at the end of a run.

    python -m kubeflow.entrypoint run Trainer --run-id ID --output-root DIR --data-root DIR ...
    python -m kubeflow.entrypoint report --html FILE --metrics FILE --executor-input JSON ...

Exit codes: 0 done or answered from the cache, 1 failed, 2 the user's to mend (settings, data), 143
told to stop. The last line of the log says which, and why.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kubeflow import form
from pipeline import builtin_data, dataset, errors, settings
from pipeline.arguments import Parser
from pipeline.errors import UserError

if TYPE_CHECKING:
    from kubeflow.tasks import Run

DONE, FAILED, USER_ERROR, STOPPED = 0, 1, 2, 128 + signal.SIGTERM


class Stopped(BaseException):
    """The task was told to stop.

    No Exception, so that nothing takes it for a failure of the node: TFX would delete the node's
    output and note it as failed. Like this, the next attempt finds the execution still running,
    and goes on with it.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the task and returns the exit code."""
    name = "Task"
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)
    try:
        arguments = _parse(argv)
        name = arguments.node if arguments.task == "run" else "Report"
        _log_for_people()
        code, last = _run(arguments)
        last = f"{name}: {last} in {time.monotonic() - begin:.1f} s."
    except UserError as error:
        code, last = USER_ERROR, f"{name} refused: {error}"
    except Stopped:
        code, last = STOPPED, f"{name}: told to stop; another attempt goes on from here."
    except Exception as error:
        logging.getLogger(__name__).exception("%s failed", name)
        code, last = FAILED, f"{name} failed: {errors.first_line(error)}."
    sys.stdout.flush()
    sys.stderr.flush()
    print(last, flush=True)
    return code


def _stop(*_: object) -> NoReturn:
    raise Stopped


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m kubeflow.entrypoint", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    node = tasks.add_parser("run", help="runs one node")
    node.add_argument("node", help="its id")
    report = tasks.add_parser("report", help="reports on the run")
    report.add_argument("--html", type=Path, required=True, help="file for the report")
    report.add_argument("--metrics", type=Path, required=True, help="file for the metrics")
    report.add_argument("--executor-input", type=json.loads, required=True, help="from KFP")
    for each in (node, report):
        each.add_argument("--run-id", required=True, help="the same for all tasks of a run")
        each.add_argument("--output-root", type=Path, required=True, help="on the volume")
        each.add_argument("--data-root", required=True, help="data folder; empty: built-in data")
        each.add_argument("--metadata", choices=["mysql", "sqlite"], required=True)
        each.add_argument("--pinned", type=json.loads, default={}, help="settings, as JSON")
        each.add_argument("--set", action="append", default=[], dest="overrides")
        each.add_argument("--settings", default="", help="more settings, from the run form")
    return parser.parse_args(argv)


def _log_for_people() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("pipeline").setLevel(logging.INFO)


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    chosen = settings.load(
        [],
        [
            *(f"{key}={json.dumps(value)}" for key, value in arguments.pinned.items()),
            *arguments.overrides,
            *form.overrides(arguments.settings),
        ],
    )
    form.check_nodes(arguments.pinned, chosen)
    output_root = arguments.output_root
    try:
        output_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the output folder {output_root}: {error.strerror}.") from None
    data_root = Path(arguments.data_root or output_root / "builtin-data")
    # TensorFlow and TFX take seconds to load: not before the arguments are known to be good.
    from kubeflow import metadata, tasks

    connection = metadata.connection(arguments.metadata, output_root)
    metadata.open_store(connection)
    run = tasks.Run(arguments.run_id, chosen, data_root, output_root, connection)
    if arguments.task == "report":
        return DONE, tasks.report(run, arguments.html, arguments.metrics, arguments.executor_input)
    return DONE, _run_node(run, arguments.node, generate=not arguments.data_root)


def _run_node(run: Run, node_id: str, generate: bool) -> str:
    from kubeflow import tasks

    if tasks.is_first(run, node_id):
        run.settings.check_files()
        if generate:
            builtin_data.generate(run.data_root)
        dataset.check_layout(run.data_root, run.settings.data.spans)
        tasks.check_copy(run)
    return tasks.run_node(run, node_id)


if __name__ == "__main__":
    # One pipe: of two, a container engine may read the last line before what was said earlier.
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    sys.exit(main())

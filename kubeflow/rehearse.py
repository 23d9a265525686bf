"""``python -m kubeflow rehearse``: the compiled pipeline on this machine, a container a task."""

from __future__ import annotations

import argparse
import datetime
import shutil
import uuid
from pathlib import Path
from typing import Any

from kubeflow import containers, form, orchestration, settings
from kubeflow.settings import KubeflowSettings
from pipeline.core import console, errors, run_folder, yaml_text
from pipeline.data import layout
from pipeline.settings import BUILTIN_CONFIG
from pipeline.settings.arguments import add_settings

_EPILOG = """\
The settings are those of python -m kubeflow compile. Nodes, GPUs and limits are left out.

exit codes:
  0  the run finished and its outcome is known, also when the gate said no
  1  a component failed
  2  bad arguments, settings or data, or no Docker
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--image", required=True, metavar="IMAGE", help="container image of all tasks, on Docker"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="data folder, which the containers cannot change; without it, built-in data is made",
    )
    parser.add_argument(
        "--output-root",
        type=Path,
        metavar="DIR",
        default=Path("output/rehearsal"),
        help="stands for the output folder on the volume (default: output/rehearsal)",
    )
    add_settings(parser, settings.describe)


def run(arguments: argparse.Namespace) -> int:
    """Compiles, runs container by container, and shows the verdict; returns the exit code.

    Raises:
      UserError: if anything that can be checked before is not as it must be.
    """
    files = arguments.config
    if arguments.data_root is None:
        files = [BUILTIN_CONFIG, *files]
    chosen = settings.load(files, arguments.overrides)
    if arguments.data_root is not None:
        layout.check_layout(arguments.data_root, chosen.data.spans)
    containers.check_environment(chosen)
    client = containers.connect(arguments.image)
    folder = run_folder.make(arguments.output_root)
    with run_folder.lock(folder):
        return _run(arguments, chosen, client, folder)


def _run(
    arguments: argparse.Namespace, chosen: KubeflowSettings, client: Any, output_root: Path
) -> int:
    log_file = output_root / "logs" / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log"
    with console.quiet(log_file) as terminal:
        console.say(terminal, f"Image: {arguments.image}  Log: {log_file}")
        # TFX takes seconds to load: not before the arguments are known to be good.
        from kubeflow import compiler
        from pipeline.report import publish

        publish.announce(chosen, output_root)
        compiled = compiler.compile_pipeline(chosen)
        kfp_root = output_root / "kfp"
        shutil.rmtree(kfp_root, ignore_errors=True)
        kfp_root.mkdir()
        tasks = containers.Containers(
            client,
            arguments.image,
            chosen,
            _mounts(chosen, output_root, arguments.data_root),
            kfp_root,
            lambda line: console.say(terminal, line),
        )
        orchestration.Orchestration(
            yaml_text.load_all(compiled)[0], f"rehearsal-{uuid.uuid4()}", kfp_root, tasks.run
        ).run(_values(chosen, arguments))
        _show(terminal, output_root / publish.OUTCOME, chosen.model.name)
    if tasks.failure is None:
        return errors.DONE
    console.complain(f"{tasks.failure} (details: {log_file})")
    refused = tasks.failure.code == errors.USER_ERROR
    return errors.USER_ERROR if refused else errors.FAILED


def _mounts(chosen: KubeflowSettings, output_root: Path, data_root: Path | None) -> list[Any]:
    volume = [containers.folder(output_root, chosen.storage.output_root)]
    if data_root is not None:
        volume.append(containers.folder(data_root.resolve(), _data_root(chosen), read_only=True))
    # Where a task's artifacts go, inside a container as outside.
    kfp_root = output_root / "kfp"
    return [*volume, containers.folder(kfp_root, str(kfp_root))]


def _data_root(chosen: KubeflowSettings) -> str:
    return chosen.storage.data_root or f"{chosen.storage.mount_path}/data"


def _values(chosen: KubeflowSettings, arguments: argparse.Namespace) -> dict[str, str]:
    data_root = _data_root(chosen) if arguments.data_root else ""
    images = dict.fromkeys((form.IMAGE, form.GPU_IMAGE), arguments.image)
    return {form.DATA_ROOT: data_root, **images}


def _show(terminal: Any, file: Path, model_name: str) -> None:
    from pipeline.report import outcome
    from pipeline.report import terminal as verdict

    files = {
        "outcome": file,
        "report": file.with_name("report.html"),
        "serving": file.parent / "serving" / model_name,
    }
    verdict.show(terminal, outcome.read(file), files)

"""``python -m kubeflow rehearse``: run the compiled pipeline in containers on this machine."""

from __future__ import annotations

import argparse
import datetime
import shutil
import uuid
from pathlib import Path

from docker import DockerClient, types
from rich.console import Console

from kubeflow import containers, form, orchestration
from kubeflow.settings import KubeflowSettings, describe
from kubeflow.settings import load as load_settings
from pipeline.core import console, errors, run_folder, yaml_text
from pipeline.data import layout
from pipeline.settings import BUILTIN_CONFIG
from pipeline.settings.arguments import add_settings

_EPILOG = """\
The settings are those of python -m kubeflow compile. Node pools, GPUs and limits have no effect.

exit codes:
  0  the run finished, whether or not the gate blessed the model
  1  a component failed
  2  bad arguments, settings or data, or no Docker
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--image", required=True, metavar="IMAGE", help="container image in Docker for all tasks"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="data folder, mounted read-only (default: generated built-in data)",
    )
    parser.add_argument(
        "--output-root",
        type=Path,
        metavar="DIR",
        default=Path("output/rehearsal"),
        help="output folder, in place of the one on the volume (default: output/rehearsal)",
    )
    add_settings(parser, describe)


def run(arguments: argparse.Namespace) -> int:
    """Compile the pipeline, run its containers, show the verdict, and return the exit code.

    Raises:
      UserError: if the arguments, the settings, the data or Docker cannot be used.
    """
    files = arguments.config
    if arguments.data_root is None:
        files = [BUILTIN_CONFIG, *files]
    settings = load_settings(files, arguments.overrides)
    if arguments.data_root is not None:
        layout.check_layout(arguments.data_root, settings.data.spans)
    containers.check_environment(settings)
    client = containers.connect(arguments.image)
    folder = run_folder.make(arguments.output_root)
    with run_folder.lock(folder):
        return _run(arguments, settings, client, folder)


def _run(
    arguments: argparse.Namespace,
    settings: KubeflowSettings,
    client: DockerClient,
    output_root: Path,
) -> int:
    log_file = output_root / "logs" / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log"
    with console.quiet(log_file) as terminal:
        console.print_line_to(terminal, f"Image: {arguments.image}  Log: {log_file}")
        # TFX takes seconds to load, so check the arguments first.
        from kubeflow import compiler
        from pipeline.report import publish

        publish.announce(settings, output_root)
        compiled = compiler.compile_pipeline(settings)
        kfp_root = output_root / "kfp"
        shutil.rmtree(kfp_root, ignore_errors=True)
        kfp_root.mkdir()
        tasks = containers.Containers(
            client,
            arguments.image,
            settings,
            _mounts(settings, output_root, arguments.data_root),
            kfp_root,
            lambda line: console.print_line_to(terminal, line),
        )
        orchestration.Orchestration(
            yaml_text.load_all(compiled)[0], f"rehearsal-{uuid.uuid4()}", kfp_root, tasks.run
        ).run(_values(settings, arguments))
        _show(terminal, output_root / publish.OUTCOME, settings.model.name)
    if tasks.failure is None:
        return errors.DONE
    console.print_error(f"{tasks.failure} (details: {log_file})")
    return errors.USER_ERROR if tasks.failure.code == errors.USER_ERROR else errors.FAILED


def _mounts(
    settings: KubeflowSettings, output_root: Path, data_root: Path | None
) -> list[types.Mount]:
    volume = [containers.folder(output_root, settings.storage.output_root)]
    if data_root is not None:
        volume.append(containers.folder(data_root.resolve(), _data_root(settings), read_only=True))
    # The folder for artifacts of tasks has the same path inside and outside of containers.
    kfp_root = output_root / "kfp"
    return [*volume, containers.folder(kfp_root, str(kfp_root))]


def _data_root(settings: KubeflowSettings) -> str:
    return settings.storage.data_root or f"{settings.storage.mount_path}/data"


def _values(settings: KubeflowSettings, arguments: argparse.Namespace) -> dict[str, str]:
    data_root = _data_root(settings) if arguments.data_root else ""
    images = dict.fromkeys((form.IMAGE, form.GPU_IMAGE), arguments.image)
    return {form.DATA_ROOT: data_root, **images}


def _show(terminal: Console, file: Path, model_name: str) -> None:
    from pipeline.report import outcome
    from pipeline.report import terminal as summary

    files = {
        "outcome": file,
        "report": file.with_name("report.html"),
        "serving": file.parent / "serving" / model_name,
    }
    summary.show(terminal, outcome.read(file), files)

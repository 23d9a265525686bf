"""``python -m kubeflow rehearse``: the compiled pipeline on this machine, a container a task."""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib.util
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import kfp
import yaml
from kfp import components, dsl, local

from kubeflow import containers, entrypoint, form, settings
from kubeflow.settings import KubeflowSettings
from pipeline import console, dataset, run_folder
from pipeline.arguments import add_settings
from pipeline.errors import UserError
from pipeline.settings import BUILTIN_CONFIG

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
    add_settings(parser)


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
        dataset.check_layout(arguments.data_root, chosen.data.spans)
    _check_kfp()
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
        from pipeline import publication

        publication.announce(chosen, output_root)
        compiled = compiler.compile_pipeline(chosen)
        tasks = containers.Containers(
            client,
            arguments.image,
            chosen,
            _mounts(chosen, output_root, arguments.data_root),
            lambda line: console.say(terminal, line),
        )
        kfp_root = output_root / "kfp"
        kfp_root.mkdir(exist_ok=True)
        _execute(compiled, tasks, kfp_root, _values(chosen, arguments))
        _show(terminal, output_root / publication.OUTCOME, chosen.model.name)
    if tasks.failure is None:
        return entrypoint.DONE
    console.complain(f"{tasks.failure} (details: {log_file})")
    refused = tasks.failure.code == entrypoint.USER_ERROR
    return entrypoint.USER_ERROR if refused else entrypoint.FAILED


def _check_kfp() -> None:
    if importlib.util.find_spec("kfp.local.pipeline_orchestrator") is None:
        raise UserError(
            f"kfp {kfp.__version__} of this stack cannot run pipelines on a machine; rehearse from "
            "the container image, as docs/kubeflow.md says, or on the current stack."
        )


def _mounts(chosen: KubeflowSettings, output_root: Path, data_root: Path | None) -> list[Any]:
    volume = [containers.folder(output_root, chosen.storage.output_root)]
    if data_root is not None:
        volume.append(containers.folder(data_root.resolve(), _data_root(chosen), read_only=True))
    # Where kfp expects a task's artifacts, inside a container as outside.
    kfp_root = output_root / "kfp"
    return [*volume, containers.folder(kfp_root, str(kfp_root))]


def _data_root(chosen: KubeflowSettings) -> str:
    return chosen.storage.data_root or f"{chosen.storage.mount_path}/data"


def _values(chosen: KubeflowSettings, arguments: argparse.Namespace) -> dict[str, str]:
    data_root = _data_root(chosen) if arguments.data_root else ""
    images = dict.fromkeys((form.IMAGE, form.GPU_IMAGE), arguments.image)
    return {form.DATA_ROOT: data_root, **images}


def _execute(
    compiled: str, tasks: containers.Containers, kfp_root: Path, values: Mapping[str, str]
) -> None:
    from kfp.local import docker_task_handler

    # kfp.local makes up another id for each pipeline that it runs.
    text = compiled.replace(dsl.PIPELINE_JOB_ID_PLACEHOLDER, f"rehearsal-{uuid.uuid4()}")
    local.init(local.DockerRunner(), pipeline_root=str(kfp_root), raise_on_error=False)
    with mock.patch.object(docker_task_handler, "run_docker_container", tasks.run):
        for part in _parts(next(yaml.safe_load_all(text))):
            components.load_component_from_text(yaml.safe_dump(part))(**values)


def _parts(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The pipeline without its last task, then with that alone.

    kfp.local does not run the task of an exit handler when another one failed.
    """
    tasks = spec["root"]["dag"]["tasks"]
    (last,) = (name for name, task in tasks.items() if "triggerPolicy" in task)
    for names in ([name for name in tasks if name != last], [last]):
        part = copy.deepcopy(dict(spec))
        part["root"]["dag"]["tasks"] = {name: dict(tasks[name]) for name in names}
        if last in names:
            for key in ("triggerPolicy", "dependentTasks"):
                del part["root"]["dag"]["tasks"][last][key]
        yield part


def _show(terminal: Any, outcome: Path, model_name: str) -> None:
    files = {
        "outcome": outcome,
        "report": outcome.with_name("report.html"),
        "serving": outcome.parent / "serving" / model_name,
    }
    console.verdict(terminal, json.loads(outcome.read_text(encoding="utf-8")), files)

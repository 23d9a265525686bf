"""Compiles the pipeline for Kubeflow Pipelines: one container task for each TFX node.

KFP schedules, shows and repeats the tasks; what a task does is up to TFX's launcher in
`kubeflow.entrypoint`, just as in a local run. The graph comes from TFX's intermediate
representation (IR) of the very `create_pipeline`.

The IR itself does not travel. A task makes it anew from the same settings, because the parameters
of the run form are settings too, and only known when a run begins; an IR made here could not take
them in.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl
from tfx.proto.orchestration import pipeline_pb2

from kubeflow import form, pods
from kubeflow.form import Parameter
from kubeflow.settings import KubeflowSettings
from kubeflow.tasks import HTML, METRICS
from pipeline import nodes
from pipeline import pipeline as tfx_pipeline

REPORT = "Report"  # the task that ends every run
_COMMAND = ["python", "-m", "kubeflow.entrypoint"]


class Node(NamedTuple):
    """A TFX node: its id, and the ids of those that must be done before it."""

    id: str
    upstream: list[str]


def compile_pipeline(settings: KubeflowSettings) -> str:
    """Compiles the pipeline.

    Returns:
      The YAML that Kubeflow Pipelines takes: the pipeline, then the platform document. It depends
      on nothing but the settings, the code and the version of kfp.

    Raises:
      UserError: if the settings name a component that the pipeline does not have.
    """
    graph = _graph(settings)
    there_if_asked_for = (tfx_pipeline.TUNER, tfx_pipeline.COPIER, REPORT)
    settings.check_components([*(node.id for node in graph), *there_if_asked_for])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(_pipeline(settings, graph), str(path))
        return path.read_text(encoding="utf-8")


def _graph(settings: KubeflowSettings) -> list[Node]:
    """The pipeline's nodes, each after those it depends on."""
    root = settings.storage.output_root
    ir = nodes.compile_pipeline(
        tfx_pipeline.create_pipeline(
            data_root=settings.storage.data_root,
            pipeline_root=f"{root}/artifacts",
            serving_dir=f"{root}/serving/{settings.model.name}",
            settings=settings,
        )
    )
    graph = [_node(node.pipeline_node) for node in ir.nodes]
    if settings.metadata.kind == "sqlite":
        # One writer at a time: file locks on a network volume are not to be relied on.
        graph = [
            Node(node.id, sorted({*node.upstream, *([graph[i - 1].id] if i else [])}))
            for i, node in enumerate(graph)
        ]
    return graph


def _node(node: pipeline_pb2.PipelineNode) -> Node:
    return Node(node.node_info.id, sorted(node.upstream_nodes))


def _pipeline(settings: KubeflowSettings, graph: Sequence[Node]) -> Any:
    parameters = form.parameters(settings)

    def body(*values: Any) -> None:
        inputs = dict(zip((p.name for p in parameters), values, strict=True))
        report = _task(settings, REPORT, parameters, inputs)
        with dsl.ExitHandler(report, name="train-and-release"):
            tasks: dict[str, dsl.PipelineTask] = {}
            for node in graph:
                tasks[node.id] = _task(settings, node.id, parameters, inputs)
                tasks[node.id].after(*(tasks[each] for each in node.upstream))

    body.__doc__ = "\n".join(
        [
            "Keeps an image-segmentation model fresh: ingest, validate, train, evaluate, release.",
            "",
            "Args:",
            *(f"  {p.name}: {p.help}" for p in parameters),
        ]
    )
    _sign(body, tfx_pipeline.NAME, parameters)
    return dsl.pipeline(name=tfx_pipeline.NAME)(body)


def _task(
    settings: KubeflowSettings,
    name: str,
    parameters: Sequence[Parameter],
    inputs: dict[str, Any],
) -> dsl.PipelineTask:
    pool = settings.pool(name)
    unused = form.IMAGE if pool and pool.count else form.GPU_IMAGE
    used = [parameter for parameter in parameters if parameter.name != unused]
    task = _component(settings, name, used)(**{p.name: inputs[p.name] for p in used})
    task.set_display_name(name)
    task.set_caching_options(False)  # TFX's own cache answers, and knows better
    task.set_retry(
        settings.retries_of(name),
        backoff_duration=f"{settings.retries.backoff_seconds}s",
        backoff_factor=2,
        backoff_max_duration=f"{settings.retries.backoff_max_seconds}s",
    )
    _set_resources(task, settings, name)
    for variable, value in pods.environment(pool).items():
        task.set_env_variable(variable, value)
    task.platform_config["kubernetes"] = pods.config(settings, name)
    return task


def _set_resources(task: dsl.PipelineTask, settings: KubeflowSettings, name: str) -> None:
    component, pool = settings.component(name), settings.pool(name)
    task.set_cpu_request(component.cpu)
    if component.cpu_limit is not None:
        task.set_cpu_limit(component.cpu_limit)
    task.set_memory_request(component.memory)
    task.set_memory_limit(component.memory_limit or component.memory)
    if pool is not None and pool.count:
        task.set_accelerator_type(pool.accelerator)
        task.set_accelerator_limit(pool.count)


def _component(
    settings: KubeflowSettings, name: str, parameters: Sequence[Parameter]
) -> Callable[..., dsl.PipelineTask]:
    outputs = [(HTML, dsl.Output[dsl.HTML]), (METRICS, dsl.Output[dsl.Metrics])]
    outputs = outputs if name == REPORT else []
    names = [*(p.name for p in parameters), *(key for key, _ in outputs)]
    image = form.GPU_IMAGE if form.GPU_IMAGE in {p.name for p in parameters} else form.IMAGE

    def body(*values: Any) -> dsl.ContainerSpec:
        inputs = dict(zip(names, values, strict=True))
        arguments = [
            *(["report"] if name == REPORT else ["run", name]),
            *("--run-id", dsl.PIPELINE_JOB_ID_PLACEHOLDER),
            *("--output-root", settings.storage.output_root),
            *("--metadata", settings.metadata.kind),
            *("--data-root", inputs[form.DATA_ROOT]),
            *("--pinned", json.dumps(form.pinned(settings), sort_keys=True)),
        ]
        for parameter in parameters:
            if parameter.key:
                arguments += ["--set", f"{parameter.key}={inputs[parameter.name]}"]
        arguments += ["--settings", inputs[form.SETTINGS]]
        if name == REPORT:
            for output in (HTML, METRICS):
                arguments += [f"--{output}", inputs[output].path]
            arguments += ["--executor-input", "{{$}}"]
        return dsl.ContainerSpec(image=str(inputs[image]), command=_COMMAND, args=arguments)

    _sign(body, _snake(name), parameters, outputs, defaults=False)
    return dsl.container_component(body)


def _sign(
    function: Callable[..., Any],
    name: str,
    parameters: Sequence[Parameter],
    outputs: Sequence[tuple[str, Any]] = (),
    defaults: bool = True,
) -> None:
    """Gives a function the name and signature that kfp reads a component's interface from."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__name__ = name
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(
                inspect.Parameter(
                    p.name,
                    kind,
                    annotation=p.type,
                    default=p.default if defaults else inspect.Parameter.empty,
                )
                for p in parameters
            ),
            *(inspect.Parameter(key, kind, annotation=type_) for key, type_ in outputs),
        ]
    )


def _snake(name: str) -> str:
    """``ExampleGen`` becomes ``example_gen``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

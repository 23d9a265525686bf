"""Compiles the pipeline for Kubeflow Pipelines: container tasks that run TFX's nodes.

KFP schedules, shows and repeats the tasks; what a task does is up to TFX's launcher in
`kubeflow.entrypoint`, just as in a local run. The graph comes from TFX's intermediate
representation (IR) of the very `create_pipeline`.

The IR itself does not travel. A task makes it anew from the same settings, because the parameters
of the run form are settings too, and only known when a run begins; an IR made here could not take
them in.

A run begins with the task `Plan`, which has TFX's cache answer what it can. What is left begins
with one of the stages (see `kubeflow.stages`); each of these has a part of the graph with all that
follows, and a condition. So nothing of a run in which nothing changed waits for a node with a GPU.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl
from tfx.proto.orchestration import pipeline_pb2

from kubeflow import form, pods, stages, tidying
from kubeflow.form import Parameter
from kubeflow.settings import KubeflowSettings
from pipeline.orchestration import launcher
from pipeline.orchestration import pipeline as tfx_pipeline

REPORT = "Report"  # the task that ends every run
RUN_ID = "run_id"  # an input of every task
WHOLE = "train-and-release"  # the part of the graph that the report waits for
_COMMAND = ["python", "-m", "kubeflow.entrypoint"]
# The artifacts of a node's task: key and type's name in kfp.dsl.
_ARTIFACTS = {
    "ExampleGen": {"examples": "Dataset"},
    "Transform": {"transformed_examples": "Dataset"},
    "Trainer": {"model": "Model"},
    "Evaluator": {"metrics": "Metrics", "confusion_matrix": "ClassificationMetrics"},
    "Pusher": {"release": "Model"},
    REPORT: {"report": "HTML", "metrics": "Metrics"},
}
# Nodes that always have a task of their own: with a GPU, or with a pod of the server that they try.
_ALONE = (tfx_pipeline.TUNER, "Trainer", tfx_pipeline.INFRA_VALIDATOR)


class Task(NamedTuple):
    """A task of the graph: its name, the TFX nodes it runs, and the tasks that it waits for."""

    name: str
    nodes: list[str]
    upstream: list[str]


def compile_pipeline(settings: KubeflowSettings) -> str:
    """Compiles the pipeline.

    Returns:
      The YAML that Kubeflow Pipelines takes: the pipeline, then the platform document. It depends
      on nothing but the settings, the code and the version of kfp.

    Raises:
      UserError: if the settings name a component that the pipeline does not have.
    """
    upstream = _upstream(settings)
    there_if_asked_for = (tfx_pipeline.TUNER, tfx_pipeline.INFRA_VALIDATOR, tfx_pipeline.COPIER)
    settings.check_components([stages.PLAN, *upstream, *there_if_asked_for, REPORT])
    pipeline, nodes_of = _pipeline(settings, upstream)
    _set_longest(pipeline.pipeline_spec, settings, nodes_of)
    tidying.tidy(pipeline.pipeline_spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text(encoding="utf-8")


def _upstream(settings: KubeflowSettings) -> dict[str, set[str]]:
    """The pipeline's nodes, each after those it depends on, with these."""
    root = settings.storage.output_root
    ir = launcher.compile_pipeline(
        tfx_pipeline.create_pipeline(
            data_root=settings.storage.data_root,
            pipeline_root=f"{root}/artifacts",
            serving_dir=f"{root}/serving/{settings.model.name}",
            settings=settings,
        )
    )
    return {node.node_info.id: set(node.upstream_nodes) for node in _nodes(ir)}


def _nodes(ir: pipeline_pb2.Pipeline) -> Iterator[pipeline_pb2.PipelineNode]:
    for each in ir.nodes:
        yield each.pipeline_node


def _tasks(settings: KubeflowSettings, upstream: dict[str, set[str]], stage: str) -> list[Task]:
    """The tasks that a run has which begins with a stage, each after those it depends on."""
    parts = stages.of(list(upstream))
    names = list(parts)
    groups = [
        group for name in names[names.index(stage) :] for group in _groups(settings, parts[name])
    ]
    task_of = {node: _name(group) for group in groups for node in group}
    tasks: list[Task] = []
    for group in groups:
        name = _name(group)
        waits = {task_of[each] for node in group for each in upstream[node] if each in task_of}
        if settings.metadata.kind == "sqlite" and tasks:
            # One writer at a time: file locks on a network volume are not to be relied on.
            waits |= {tasks[-1].name}
        tasks.append(Task(name, group, sorted(waits - {name})))
    return _reduced(tasks)


def _groups(settings: KubeflowSettings, node_ids: Sequence[str]) -> list[list[str]]:
    """Which nodes share a task: neighbours, unless one needs other nodes of the cluster."""
    groups: list[list[str]] = []
    joinable = False
    for node in node_ids:
        alone = node in _ALONE or settings.pool(node) is not None
        if settings.tasks == "grouped" and joinable and not alone:
            groups[-1].append(node)
        else:
            groups.append([node])
        joinable = not alone
    return groups


def _name(group: Sequence[str]) -> str:
    return group[0] if len(group) == 1 else f"{group[0]}To{group[-1]}"


def _reduced(tasks: Sequence[Task]) -> list[Task]:
    """The same tasks without the dependencies that follow from others, which clutter the graph."""
    behind: dict[str, set[str]] = {}  # all that a task waits for, at whatever distance
    reduced = []
    for task in tasks:
        further = set().union(*(behind[each] for each in task.upstream))
        reduced.append(
            task._replace(upstream=[each for each in task.upstream if each not in further])
        )
        behind[task.name] = further | set(task.upstream)
    return reduced


def _pipeline(
    settings: KubeflowSettings, upstream: dict[str, set[str]]
) -> tuple[Any, dict[str, list[str]]]:
    """The pipeline as kfp has it, and the nodes of each task."""
    parameters = form.parameters(settings)
    nodes_of: dict[str, list[str]] = {REPORT: [], stages.PLAN: []}

    def body(*values: Any) -> None:
        inputs = dict(zip((p.name for p in parameters), values, strict=True))
        report = _task(settings, Task(REPORT, [], []), parameters, inputs)
        with dsl.ExitHandler(report, name=WHOLE):
            plan = _task(settings, Task(stages.PLAN, [], []), parameters, inputs)
            for stage in stages.of(list(upstream)):
                with dsl.If(plan.outputs[stages.START] == stage, name=stages.TITLES[stage]):
                    made: dict[str, dsl.PipelineTask] = {}
                    for task in _tasks(settings, upstream, stage):
                        nodes_of[task.name] = task.nodes
                        made[task.name] = _task(settings, task, parameters, inputs)
                        made[task.name].after(*(made[each] for each in task.upstream))

    body.__doc__ = "\n".join(
        [
            "Keeps an image-segmentation model fresh: ingest, validate, train, evaluate, release.",
            "",
            "Args:",
            *(f"  {p.name}: {p.help}" for p in parameters),
        ]
    )
    _sign(body, tfx_pipeline.NAME, parameters)
    return dsl.pipeline(name=tfx_pipeline.NAME)(body), nodes_of


def _task(
    settings: KubeflowSettings,
    task: Task,
    parameters: Sequence[Parameter],
    inputs: dict[str, Any],
) -> dsl.PipelineTask:
    needs = settings.for_task(task.name, task.nodes)
    pool = needs.pool(task.name)
    unused = form.IMAGE if pool and pool.count else form.GPU_IMAGE
    used = [parameter for parameter in parameters if parameter.name != unused]
    made = _component(settings, task, used)(
        **{p.name: inputs[p.name] for p in used},
        # The server's driver knows this only as a task's input; in arguments it stays as it is.
        **{RUN_ID: dsl.PIPELINE_JOB_ID_PLACEHOLDER},
    )
    made.set_display_name(task.name)
    made.set_caching_options(False)  # TFX's own cache answers, and knows better
    made.set_retry(
        needs.retries_of(task.name),
        backoff_duration=f"{settings.retries.pause_seconds}s",
        backoff_factor=1,
    )
    _set_resources(made, needs, task.name)
    for variable, value in pods.environment(pool).items():
        made.set_env_variable(variable, value)
    made.platform_config["kubernetes"] = pods.config(needs, task.name)
    return made


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


def _set_longest(
    spec: Any, settings: KubeflowSettings, nodes_of: Mapping[str, Sequence[str]]
) -> None:
    """Sets the time for all attempts of each task.

    That is what Argo makes of KFP's longest pause: no attempt begins later, and none ends later.
    kfp itself allows an hour at most.
    """
    dags = [spec.root.dag, *(each.dag for each in spec.components.values())]
    for task in (task for dag in dags for task in dag.tasks.values()):
        if task.HasField("retry_policy"):
            name = task.task_info.name
            longest = settings.for_task(name, nodes_of[name]).longest_seconds(name)
            task.retry_policy.backoff_max_duration.seconds = longest


def _component(
    settings: KubeflowSettings, task: Task, parameters: Sequence[Parameter]
) -> Callable[..., dsl.PipelineTask]:
    artifacts = {
        key: getattr(dsl, kind)
        for node in (task.nodes or [task.name])
        for key, kind in _ARTIFACTS.get(node, {}).items()
    }
    outputs = [(key, dsl.Output[kind]) for key, kind in artifacts.items()]
    if task.name == stages.PLAN:
        outputs.append((stages.START, dsl.OutputPath(str)))
    given = [*parameters, Parameter(RUN_ID, str, None, "The same for all tasks of a run.")]
    names = [*(p.name for p in given), *(key for key, _ in outputs)]
    image = form.GPU_IMAGE if form.GPU_IMAGE in {p.name for p in parameters} else form.IMAGE

    def body(*values: Any) -> dsl.ContainerSpec:
        inputs = dict(zip(names, values, strict=True))
        arguments = [
            *(["run", *task.nodes] if task.nodes else [task.name.lower()]),
            *("--run-id", inputs[RUN_ID]),
            *("--output-root", settings.storage.output_root),
            *("--metadata", settings.metadata.kind),
            *(["--metadata-tls", settings.metadata.tls] if settings.metadata.tls != "off" else []),
            *("--data-root", inputs[form.DATA_ROOT]),
            *("--pinned", json.dumps(form.pinned(settings), sort_keys=True)),
        ]
        for parameter in parameters:
            if parameter.key:
                arguments += ["--set", f"{parameter.key}={inputs[parameter.name]}"]
        arguments += ["--settings", inputs[form.SETTINGS]]
        for key in artifacts:
            arguments += ["--artifact", key, inputs[key].path]
        if artifacts:
            arguments += ["--executor-input", "{{$}}"]
        if task.name == stages.PLAN:
            arguments += ["--start", inputs[stages.START]]
        return dsl.ContainerSpec(image=str(inputs[image]), command=_COMMAND, args=arguments)

    _sign(body, _snake(task.name), given, outputs, defaults=False)
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

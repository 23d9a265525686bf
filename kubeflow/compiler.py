"""Compile the pipeline for Kubeflow Pipelines: container tasks that run TFX's nodes.

KFP schedules, displays and retries the tasks. Inside a task, `kubeflow.entrypoint` runs TFX's
launcher, as a local run does. The graph comes from TFX's intermediate representation (IR) of the
same `create_pipeline`.

The IR is not part of the compiled file. Each task compiles it again from the settings, because
parameters of the run form are settings too, and their values are only known when a run starts.

A run starts with the task `Plan`, which takes what it can from TFX's cache. The rest starts with
one of the stages (see `kubeflow.stages`): the graph has a conditional part for each stage, with
everything that follows it. So if nothing changed, the run does not wait for a GPU node.
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

REPORT = "Report"  # the last task of every run
RUN_ID = "run_id"  # an input of every task
WHOLE = "train-and-release"  # the part of the graph that the report waits for
_COMMAND = ["python", "-m", "kubeflow.entrypoint"]
# Output artifacts of a node's task: key, and name of the type in kfp.dsl.
_ARTIFACTS = {
    "ExampleGen": {"examples": "Dataset"},
    "Transform": {"transformed_examples": "Dataset"},
    "Trainer": {"model": "Model"},
    "Evaluator": {"metrics": "Metrics", "confusion_matrix": "ClassificationMetrics"},
    "Pusher": {"release": "Model"},
    REPORT: {"report": "HTML", "metrics": "Metrics"},
}
# Nodes that always have their own task, because they use a GPU or start a model server.
_ALONE = (tfx_pipeline.TUNER, "Trainer", tfx_pipeline.INFRA_VALIDATOR)


class Task(NamedTuple):
    """A task of the graph: its name, the TFX nodes it runs, and the tasks it depends on."""

    name: str
    nodes: list[str]
    upstream: list[str]


def compile_pipeline(settings: KubeflowSettings) -> str:
    """Compile the pipeline.

    Returns:
      YAML with two documents, the pipeline and its platform configuration. It only depends on the
      settings, the code and the version of kfp.

    Raises:
      UserError: if the settings name an unknown component.
    """
    upstream = _upstream(settings)
    optional = (tfx_pipeline.TUNER, tfx_pipeline.INFRA_VALIDATOR, tfx_pipeline.COPIER)
    settings.check_components([stages.PLAN, *upstream, *optional, REPORT])
    pipeline, nodes_of = _pipeline(settings, upstream)
    _set_time_limits(pipeline.pipeline_spec, settings, nodes_of)
    tidying.tidy(pipeline.pipeline_spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text(encoding="utf-8")


def _upstream(settings: KubeflowSettings) -> dict[str, set[str]]:
    """Return the pipeline's nodes in topological order, each with the nodes it depends on."""
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
    """Return the tasks of a run that starts with a stage, in topological order."""
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
            # One task at a time, because file locks on network volumes are unreliable.
            waits |= {tasks[-1].name}
        tasks.append(Task(name, group, sorted(waits - {name})))
    return _reduced(tasks)


def _groups(settings: KubeflowSettings, node_ids: Sequence[str]) -> list[list[str]]:
    """Group the nodes that share a task: adjacent ones, unless one has a node pool."""
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
    """Remove dependencies that follow from others, which would clutter the graph."""
    ancestors: dict[str, set[str]] = {}
    reduced = []
    for task in tasks:
        implied = set().union(*(ancestors[each] for each in task.upstream))
        reduced.append(
            task._replace(upstream=[each for each in task.upstream if each not in implied])
        )
        ancestors[task.name] = implied | set(task.upstream)
    return reduced


def _pipeline(
    settings: KubeflowSettings, upstream: dict[str, set[str]]
) -> tuple[Any, dict[str, list[str]]]:
    """Build kfp's pipeline, and list the nodes of each task."""
    parameters = form.parameters(settings)
    nodes_of: dict[str, list[str]] = {REPORT: [], stages.PLAN: []}

    def body(*values: Any) -> None:
        inputs = dict(zip((p.name for p in parameters), values, strict=True))
        report = _task(settings, Task(REPORT, [], []), parameters, inputs)
        with dsl.ExitHandler(report, name=WHOLE):
            plan = _task(settings, Task(stages.PLAN, [], []), parameters, inputs)
            for stage in stages.of(list(upstream)):
                with dsl.If(plan.outputs[stages.START] == stage, name=stages.TITLES[stage]):
                    kfp_tasks: dict[str, dsl.PipelineTask] = {}
                    for task in _tasks(settings, upstream, stage):
                        nodes_of[task.name] = task.nodes
                        kfp_tasks[task.name] = _task(settings, task, parameters, inputs)
                        kfp_tasks[task.name].after(*(kfp_tasks[each] for each in task.upstream))

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
    kfp_task = _component(settings, task, used)(
        **{p.name: inputs[p.name] for p in used},
        # The server replaces this placeholder in inputs of tasks, but not in their arguments.
        **{RUN_ID: dsl.PIPELINE_JOB_ID_PLACEHOLDER},
    )
    kfp_task.set_display_name(task.name)
    kfp_task.set_caching_options(False)  # TFX has its own cache
    kfp_task.set_retry(
        needs.retries_of(task.name),
        backoff_duration=f"{settings.retries.pause_seconds}s",
        backoff_factor=1,
    )
    _set_resources(kfp_task, needs, task.name)
    for variable, value in pods.environment(pool).items():
        kfp_task.set_env_variable(variable, value)
    kfp_task.platform_config["kubernetes"] = pods.config(needs, task.name)
    return kfp_task


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


def _set_time_limits(
    spec: Any, settings: KubeflowSettings, nodes_of: Mapping[str, Sequence[str]]
) -> None:
    """Set the time limit for all attempts of each task together.

    The field is KFP's maximum pause between attempts, but Argo treats it as that limit: no attempt
    starts or ends later. It is set in the spec because kfp's functions allow an hour at most.
    """
    dags = [spec.root.dag, *(each.dag for each in spec.components.values())]
    for task in (task for dag in dags for task in dag.tasks.values()):
        if task.HasField("retry_policy"):
            name = task.task_info.name
            limit = settings.for_task(name, nodes_of[name]).max_seconds(name)
            task.retry_policy.backoff_max_duration.seconds = limit


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
    given = [*parameters, Parameter(RUN_ID, str, None, "Id of the run.")]
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
    component: Callable[..., dsl.PipelineTask] = dsl.container_component(body)
    return component


def _sign(
    function: Callable[..., Any],
    name: str,
    parameters: Sequence[Parameter],
    outputs: Sequence[tuple[str, Any]] = (),
    defaults: bool = True,
) -> None:
    """Set a function's name and signature, from which kfp derives a component's interface."""
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
    """Convert ``ExampleGen`` to ``example_gen``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

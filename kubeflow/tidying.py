"""Make the compiled graph readable in the UI: better names, no redundant outputs."""

from __future__ import annotations

from typing import Any


def tidy(spec: Any) -> None:
    """Name the sub-graphs (exit handlers, conditions) by their titles and drop their outputs.

    Args:
      spec: a PipelineSpec; sub-graphs with the same title keep kfp's numbered names.
    """
    dags = [spec.root.dag, *(each.dag for each in spec.components.values())]
    subgraphs = [
        (key, task.task_info.name)
        for dag in dags
        for key, task in dag.tasks.items()
        if spec.components[task.component_ref.name].HasField("dag")
    ]
    titles = [title for _, title in subgraphs]
    new = {key: title for key, title in subgraphs if titles.count(title) == 1}
    components: dict[str, str] = {}  # old name by new name
    for dag in dags:
        for task in dag.tasks.values():
            task.dependent_tasks[:] = sorted(new.get(each, each) for each in task.dependent_tasks)
        for key in [key for key in dag.tasks if key in new]:
            _move(dag.tasks, key, new[key])
            reference = dag.tasks[new[key]].component_ref
            components[f"comp-{new[key]}"] = reference.name
            reference.name = f"comp-{new[key]}"
    for name, old in components.items():  # last, because it invalidates the messages in `dags`
        _move(spec.components, old, name)
    # kfp repeats the metrics of all tasks as outputs of their sub-graphs, even for skipped tasks.
    for component in (spec.root, *spec.components.values()):
        if component.HasField("dag"):
            component.dag.ClearField("outputs")
            component.ClearField("output_definitions")


def _move(messages: Any, old: str, new: str) -> None:
    messages[new].CopyFrom(messages[old])
    del messages[old]

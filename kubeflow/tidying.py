"""The compiled graph as people read it on the web page: kfp numbers its parts, and adds to them."""

from __future__ import annotations

from typing import Any


def tidy(spec: Any) -> None:
    """Names the parts of a graph (exit handlers, conditions), and has them hand nothing on.

    Args:
      spec: a PipelineSpec; where two parts have the same name, both keep kfp's.
    """
    dags = [spec.root.dag, *(each.dag for each in spec.components.values())]
    found = [
        (key, task.task_info.name)
        for dag in dags
        for key, task in dag.tasks.items()
        if spec.components[task.component_ref.name].HasField("dag")
    ]
    names = [name for _, name in found]
    new = {key: name for key, name in found if names.count(name) == 1}
    former: dict[str, str] = {}
    for dag in dags:
        for task in dag.tasks.values():
            task.dependent_tasks[:] = sorted(new.get(each, each) for each in task.dependent_tasks)
        for key in [key for key in dag.tasks if key in new]:
            _move(dag.tasks, key, new[key])
            reference = dag.tasks[new[key]].component_ref
            former[f"comp-{new[key]}"] = reference.name
            reference.name = f"comp-{new[key]}"
    for name, before in former.items():  # last: it takes the messages above from their places
        _move(spec.components, before, name)
    # kfp has each part give the metrics of its tasks once more, also of those that are left out.
    for component in (spec.root, *spec.components.values()):
        if component.HasField("dag"):
            component.dag.ClearField("outputs")
            component.ClearField("output_definitions")


def _move(messages: Any, former: str, name: str) -> None:
    messages[name].CopyFrom(messages[former])
    del messages[former]

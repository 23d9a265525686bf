"""The run form: the parameters of the compiled pipeline, and how tasks receive them.

A parameter that is a setting of the run has its dotted key with underscores as name, and reaches
every task as ``--set KEY=VALUE``. What the form does not offer by name goes into `more_settings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kubeflow.settings import KubeflowSettings
from pipeline.core.errors import UserError
from pipeline.settings import Settings, loader

# Each a field; the web page shows their names, in alphabetical order, and no help.
DATA_ROOT, SETTINGS = "data_root", "more_settings"
IMAGE, GPU_IMAGE = "image_cpu", "image_gpu"
_OFFERED = (
    "train.epochs",
    "gate.pixel_accuracy",
    "gate.mean_iou",
    "gate.class_iou",
    "gate.max_drop",
)
_SEPARATOR = ";"
INFRA_VALIDATOR = "InfraValidator"
# The settings that decide whether the pipeline has a component.
_DECIDING = {
    "tune.trials": "Tuner",
    "release.copy_to": "Copier",
    "release.infra_validation": INFRA_VALIDATOR,
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One field of the run form."""

    name: str
    type: type
    default: Any
    help: str
    key: str | None = None  # the setting of the run that it gives


def parameters(settings: KubeflowSettings) -> list[Parameter]:
    """The fields of the run form, with the settings as their defaults."""
    values = settings.flat()
    infos = dict(loader.fields(Settings))
    offered = [
        Parameter(
            key.replace(".", "_"),
            type(values[key]),
            values[key],
            f"{key}: {infos[key].description}.",
            key,
        )
        for key in _OFFERED
    ]
    text = [
        (
            DATA_ROOT,
            settings.storage.data_root,
            "Data folder on the volume, with images/ and annotations/; empty: built-in data.",
        ),
        (
            SETTINGS,
            "",
            f"Any other settings of the run, KEY=VALUE each, separated by '{_SEPARATOR}'.",
        ),
        (IMAGE, settings.image.cpu, "Container image of the tasks without a GPU, with its tag."),
        (GPU_IMAGE, settings.image.gpu, "Container image of the tasks on GPUs, with its tag."),
    ]
    fields = {name: Parameter(name, str, default, help) for name, default, help in text}
    return [fields[DATA_ROOT], *offered, fields[SETTINGS], fields[IMAGE], fields[GPU_IMAGE]]


def pinned(settings: KubeflowSettings) -> dict[str, Any]:
    """The settings of the run that the form does not offer by name, by dotted key.

    They are written into every task, so that a newer image with other defaults changes nothing;
    only what belongs to a part that is off is not.
    """
    return {key: value for key, value in settings.effective().items() if key not in _OFFERED}


def check_nodes(pinned: Mapping[str, Any], chosen: Settings) -> None:
    """Refuses a run that needs other nodes than the pipeline was compiled with.

    Args:
      pinned: what `pinned` gave when the pipeline was compiled.
      chosen: the settings of the run.

    Raises:
      UserError: if the one has a node of `_DECIDING` and the other has none.
    """
    values, effective = chosen.flat(), chosen.effective()
    for key, node in _DECIDING.items():
        there = bool(pinned.get(key))
        if there != bool(effective.get(key)):
            article = "no" if not there else "an" if node[0] in "AEIOU" else "a"
            raise UserError(
                f"The run's parameter '{SETTINGS}' makes {key} {values[key]}, but the pipeline was "
                f"compiled with {article} {node}; compile it with that setting."
            )


def overrides(text: str) -> list[str]:
    """What `more_settings` in the form holds, one ``KEY=VALUE`` each.

    Raises:
      UserError: if a part is not KEY=VALUE.
    """
    parts = [part.strip() for part in text.split(_SEPARATOR) if part.strip()]
    for part in parts:
        if "=" not in part:
            raise UserError(
                f"The run's parameter '{SETTINGS}' holds {part!r}; it takes KEY=VALUE, separated "
                f"by '{_SEPARATOR}'."
            )
    return parts

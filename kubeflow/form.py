"""The run form: the parameters of the compiled pipeline, and how tasks receive them.

The parameter of a setting is named after its dotted key, with underscores, and reaches every task
as ``--set KEY=VALUE``. All other settings go into the parameter `more_settings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kubeflow.settings import KubeflowSettings
from pipeline.core.errors import UserError
from pipeline.settings import Settings, loader

# Fields of the form. The UI shows their names in alphabetical order, without help.
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
# Settings that decide whether the pipeline has a component.
_OPTIONAL_NODES = {
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
    key: str | None = None  # the setting that it overrides


def parameters(settings: KubeflowSettings) -> list[Parameter]:
    """Return the fields of the run form, with the settings as defaults."""
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
            f"Other settings, as KEY=VALUE, separated by '{_SEPARATOR}'.",
        ),
        (IMAGE, settings.image.cpu, "Container image for CPU tasks, with a tag."),
        (GPU_IMAGE, settings.image.gpu, "Container image for GPU tasks, with a tag."),
    ]
    fields = {name: Parameter(name, str, default, help) for name, default, help in text}
    return [fields[DATA_ROOT], *offered, fields[SETTINGS], fields[IMAGE], fields[GPU_IMAGE]]


def pinned(settings: KubeflowSettings) -> dict[str, Any]:
    """Return the settings that are not fields of the form, by dotted key.

    They are compiled into every task, so that a newer image with other defaults changes nothing.
    Settings of parts that are off are left out.
    """
    return {key: value for key, value in settings.effective().items() if key not in _OFFERED}


def check_nodes(pinned: Mapping[str, Any], settings: Settings) -> None:
    """Check that the run needs the same nodes as the compiled pipeline has.

    Args:
      pinned: what `pinned` returned when the pipeline was compiled.
      settings: settings of the run.

    Raises:
      UserError: if an optional node is in only one of the two.
    """
    values, effective = settings.flat(), settings.effective()
    for key, node in _OPTIONAL_NODES.items():
        is_compiled = bool(pinned.get(key))
        if is_compiled != bool(effective.get(key)):
            preposition = "with" if is_compiled else "without"
            raise UserError(
                f"The run's parameter '{SETTINGS}' sets {key} to {values[key]}, but the pipeline "
                f"was compiled {preposition} {node}; compile it again with that setting."
            )


def overrides(text: str) -> list[str]:
    """Split the value of `more_settings` into ``KEY=VALUE`` strings.

    Raises:
      UserError: if a part is not KEY=VALUE.
    """
    parts = [part.strip() for part in text.split(_SEPARATOR) if part.strip()]
    for part in parts:
        if "=" not in part:
            raise UserError(
                f"The run's parameter '{SETTINGS}' contains {part!r}; specify KEY=VALUE, separated "
                f"by '{_SEPARATOR}'."
            )
    return parts

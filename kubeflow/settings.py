"""Settings of the cluster in addition to those of the run: images, storage, metadata, node pools.

They come from the same YAML files and ``--set`` strings as `pipeline.settings`. All mistakes are
reported here, before anything is sent to a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from pipeline import settings as run_settings
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.settings import loader
from pipeline.settings.loader import Section

EXAMPLE_CONFIG = Path(__file__).with_name("configs") / "gke.yaml"

_MEMORY_UNITS: dict[str, int] = {"": 1, **{unit: 1000**i for i, unit in enumerate("KMGTP", 1)}}
_MEMORY_UNITS |= {f"{unit}i": 1024**i for i, unit in enumerate("KMGTP", 1)}

# Kubernetes' rules for names of objects, and for keys and values of labels.
_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_WORD = r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?"


def _matching(pattern: str, meaning: str) -> pydantic.AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {meaning}")
        return value

    return pydantic.AfterValidator(check)


Name = Annotated[
    str, _matching(rf"{_DNS}(\.{_DNS})*", "a name of lower-case letters, digits, '-' and '.'")
]
Key = Annotated[
    str, _matching(rf"({_DNS}(\.{_DNS})*/)?{_WORD}", "a label's key, such as example.com/kind")
]
Value = Annotated[
    str, _matching(rf"({_WORD})?", "a label's value: at most 63 letters, digits, '-', '_' and '.'")
]
ImageName = Annotated[
    str,
    _matching(
        r"[a-z0-9][^\s@]*:[\w][\w.-]{0,127}(@sha256:[0-9a-f]{64})?|[a-z0-9]\S*@sha256:[0-9a-f]{64}",
        "an image with its tag, such as registry.example/segmentation:1.0-cpu",
    ),
]
NO_DOCKER = (
    "release.infra_validation is docker, which pods on a cluster cannot use; set it to kubernetes "
    "or off."
)
_Path = pydantic.AfterValidator(paths.text_without_pattern)
Folder = Annotated[
    str, _matching(r"/\S*[^\s/]", "a folder on the volume, such as /mnt/data"), _Path
]
Count = Annotated[int, pydantic.Field(ge=0, strict=True)]


class Image(Section):
    cpu: ImageName = pydantic.Field(
        "segmentation-pipeline:cpu", description="container image for CPU tasks, with a tag"
    )
    gpu: ImageName = pydantic.Field(
        "segmentation-pipeline:gpu", description="container image for GPU tasks, with a tag"
    )


class Storage(Section):
    claim: Name = pydantic.Field(
        "segmentation", description="name of the ReadWriteMany volume claim mounted by every task"
    )
    mount_path: Folder = pydantic.Field(
        "/mnt/segmentation", description="mount path of the volume in the tasks"
    )
    output_root: Folder = pydantic.Field(
        "/mnt/segmentation/output",
        description="folder on the volume for artifacts, models, report and outcome",
    )
    data_root: Annotated[str, _Path] = pydantic.Field(
        "/mnt/segmentation/data",
        description="data folder on the volume (default value in the run form); empty: built-in "
        "data",
    )

    @pydantic.model_validator(mode="after")
    def _on_the_volume(self) -> Storage:
        for name in ("output_root", "data_root"):
            folder = getattr(self, name)
            if folder and not Path(folder).is_relative_to(self.mount_path):
                raise ValueError(
                    f"{name} {folder!r} is not on the volume; it must be below mount_path, "
                    f"{self.mount_path!r}"
                )
        return self


class Metadata(Section):
    kind: Literal["mysql", "postgresql", "sqlite"] = pydantic.Field(
        "mysql",
        description="metadata store: a MySQL or PostgreSQL server, or a file on the volume for "
        "trials",
    )
    secret: Name = pydantic.Field(
        "segmentation-metadata",
        description="name of the Secret with host, port, database, user and password of the "
        "server; with TLS also ca.crt, tls.crt and tls.key",
    )
    tls: Literal["off", "require", "verify-ca", "verify-full"] = pydantic.Field(
        "off",
        description="TLS to the server: require encrypts, verify-ca also verifies the server's "
        "certificate, verify-full also its host name",
    )

    @pydantic.field_validator("tls", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        return "off" if value is False else value  # in YAML, unquoted off is false

    @pydantic.model_validator(mode="after")
    def _files_need_no_tls(self) -> Metadata:
        if self.kind == "sqlite" and self.tls != "off":
            raise ValueError(f"tls is {self.tls}, but kind sqlite is a file; set tls to off")
        return self


class Retries(Section):
    count: Count = pydantic.Field(2, description="number of times to retry a failed task")
    on_spot: Count = pydantic.Field(
        8,
        description="number of times to retry a failed task on a spot pool, whose nodes can be "
        "preempted",
    )
    pause_seconds: int = pydantic.Field(60, ge=1, le=3600, description="pause before each retry")
    wait_minutes: int = pydantic.Field(
        60,
        ge=0,
        description="maximum time an attempt may wait for a node with enough free resources",
    )


class Toleration(Section):
    key: Key | None = pydantic.Field(None, description="key of the taint; none: any taint")
    operator: Literal["Exists", "Equal"] = pydantic.Field(
        "Exists", description="how the value is compared"
    )
    value: Value | None = pydantic.Field(None, description="value of the taint, for Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = pydantic.Field(
        None, description="effect of the taint; none: any effect"
    )
    seconds: Count | None = pydantic.Field(
        None, description="how long a NoExecute taint is tolerated; none: indefinitely"
    )

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("a toleration with the operator Exists takes no value; use Equal")
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError("a toleration with the operator Equal needs key and value")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("a toleration takes seconds only with the effect NoExecute")
        return self


class Pool(Section):
    accelerator: Key = pydantic.Field(
        "nvidia.com/gpu", description="resource name of the pool's accelerators"
    )
    count: Count = pydantic.Field(
        0, description="number of accelerators per task; 0 for a CPU pool"
    )
    node_selector: dict[Key, Value] = pydantic.Field(
        ..., min_length=1, description="labels of the pool's nodes"
    )
    tolerations: tuple[Toleration, ...] = pydantic.Field(
        (), description="taints of the pool's nodes that its tasks tolerate"
    )
    spot: bool = pydantic.Field(False, description="nodes can be preempted at any time")


class Component(Section):
    pool: str | None = pydantic.Field(
        None, description="node pool to run on; none: any node without accelerators"
    )
    cpu: str = pydantic.Field(
        "1",
        description="CPU request, such as 2, 0.5 or 500m; the defaults for cpu and memory depend "
        "on the component",
    )
    cpu_limit: str | None = pydantic.Field(None, description="CPU limit; none: no limit")
    memory: str = pydantic.Field("4Gi", description="memory requested: 4Gi, 500M")
    memory_limit: str | None = pydantic.Field(
        None, description="memory limit; none: the same as requested"
    )
    max_minutes: int = pydantic.Field(60, ge=1, description="time limit per attempt")
    retries: Count | None = pydantic.Field(
        None, description="number of retries; none: as in section retries"
    )

    @pydantic.field_validator("cpu", "cpu_limit", mode="before")
    @classmethod
    def _cpu(cls, value: object) -> object:
        text = str(value) if isinstance(value, int | float) else value
        if text is not None and not (
            isinstance(text, str) and re.fullmatch(r"\d+(\.\d+)?|\d+m", text) and cpus(text) > 0
        ):
            raise ValueError("must be CPUs, such as 2, 0.5 or 500m")
        return text

    @pydantic.field_validator("memory", "memory_limit", mode="before")
    @classmethod
    def _memory(cls, value: object) -> object:
        text = str(value) if isinstance(value, int | float) else value
        if text is not None and not (
            isinstance(text, str) and re.fullmatch(r"\d+([KMGTP]i?)?", text) and bytes_of(text) > 0
        ):
            raise ValueError("must be memory, such as 4Gi or 500M")
        return text

    @pydantic.model_validator(mode="after")
    def _limits_hold_requests(self) -> Component:
        if self.cpu_limit is not None and cpus(self.cpu_limit) < cpus(self.cpu):
            raise ValueError(f"cpu_limit {self.cpu_limit} is less than cpu {self.cpu}")
        if self.memory_limit is not None and bytes_of(self.memory_limit) < bytes_of(self.memory):
            raise ValueError(f"memory_limit {self.memory_limit} is less than memory {self.memory}")
        return self


# What each component was measured to need (benchmarks/component_needs.py,
# docs/reference/kubeflow_figures.md), plus headroom. Memory is also the limit, CPUs are not.
_SMALL = {"cpu": "250m", "memory": "1500Mi"}
_DATA = {"cpu": "1", "memory": "2Gi"}
_TRAINING = {"cpu": "1", "memory": "4Gi"}
NEEDS: Mapping[str, Mapping[str, str]] = {
    "ExampleGen": _DATA,
    "ImportSchemaGen": _SMALL,
    "StatisticsGen": _DATA,
    "ExampleValidator": _SMALL,
    "ReleasedData": _SMALL,
    "DriftValidator": _SMALL,
    "DataGate": _SMALL,
    "Transform": _DATA,
    "Tuner": _TRAINING,
    "Trainer": _TRAINING,
    "Champion": _SMALL,
    "Evaluator": {"cpu": "1", "memory": "3Gi"},
    "InfraValidator": _SMALL,
    "Pusher": {"cpu": "500m", "memory": "3Gi"},  # a second process smoke-tests the model
    "Copier": _SMALL,
    "Report": {"cpu": "500m", "memory": "2Gi"},
    "Plan": {"cpu": "500m", "memory": "2Gi"},
}


class KubeflowSettings(run_settings.Settings):
    """Settings of the run and of the cluster."""

    tasks: Literal["per_component", "grouped"] = pydantic.Field(
        "per_component",
        description="per_component: one task per component; grouped: adjacent components without "
        "a node pool of their own share a task",
    )
    image: Image = Image()
    storage: Storage = Storage()
    metadata: Metadata = Metadata()
    retries: Retries = Retries()
    pools: dict[Name, Pool] = pydantic.Field({}, description="node pools by name")
    components: dict[str, Component] = pydantic.Field({}, description="resources of each component")

    @pydantic.field_validator("components", mode="before")
    @classmethod
    def _default_to_measured_needs(cls, components: object) -> object:
        if not isinstance(components, Mapping):
            return components
        return {
            name: {**NEEDS.get(name, {}), **own} if isinstance(own, Mapping) else own
            for name, own in components.items()
        }

    @pydantic.model_validator(mode="after")
    def _pods_cannot_use_docker(self) -> KubeflowSettings:
        if self.release.infra_validation == "docker":
            raise ValueError(NO_DOCKER)
        return self

    @pydantic.model_validator(mode="after")
    def _pools_exist(self) -> KubeflowSettings:
        for name, component in self.components.items():
            if component.pool is not None and component.pool not in self.pools:
                raise ValueError(
                    f"components.{name}.pool is {component.pool!r}, which section 'pools' does not "
                    f"have; {loader.nearest(component.pool, list(self.pools))}"
                )
        return self

    def component(self, name: str) -> Component:
        """Return the resources of a component, by default those it was measured to need."""
        return self.components.get(name) or Component.model_validate(NEEDS.get(name, {}))

    def pool(self, name: str) -> Pool | None:
        """Return the node pool of a component, or None."""
        return self.pools.get(self.component(name).pool or "")

    def retries_of(self, name: str) -> int:
        """Return the number of retries of a component."""
        own, pool = self.component(name).retries, self.pool(name)
        if own is not None:
            return own
        return self.retries.on_spot if pool and pool.spot else self.retries.count

    def for_task(self, name: str, node_ids: Sequence[str]) -> KubeflowSettings:
        """Return these settings plus the resources of a task that several nodes share.

        Args:
          name: name of the task.
          node_ids: its nodes, which run one after the other; if there are several, none has a pool.
        """
        if len(node_ids) < 2:
            return self
        parts = [self.component(node_id) for node_id in node_ids]
        limits = [part.cpu_limit for part in parts]
        memory = [part.memory_limit or part.memory for part in parts]
        whole = Component(
            cpu=max((part.cpu for part in parts), key=cpus),
            cpu_limit=None if None in limits else max(filter(None, limits), key=cpus),
            memory=max((part.memory for part in parts), key=bytes_of),
            memory_limit=max(memory, key=bytes_of),
            max_minutes=sum(part.max_minutes for part in parts),
            retries=max(self.retries_of(node_id) for node_id in node_ids),
        )
        return self.model_copy(update={"components": {**self.components, name: whole}})

    def max_seconds(self, name: str) -> int:
        """Return the time limit of a component for all attempts, pauses and waits for nodes."""
        attempts, retries = self.retries_of(name) + 1, self.retries
        each = self.component(name).max_minutes + retries.wait_minutes
        return attempts * each * 60 + (attempts - 1) * retries.pause_seconds

    def accelerated_pools(self) -> Mapping[str, Pool]:
        """Return the pools whose nodes have accelerators."""
        return {name: pool for name, pool in self.pools.items() if pool.count}

    def check_components(self, known: Sequence[str]) -> None:
        """Check the names in section `components`.

        Raises:
          UserError: if a name is not among `known`.
        """
        for name in self.components:
            if name not in known:
                raise UserError(
                    f"Unknown component {name!r} in section 'components'; "
                    f"{loader.nearest(name, known)}"
                )


def cpus(text: str) -> float:
    """Parse a quantity of CPUs: ``500m`` is 0.5."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def bytes_of(text: str) -> int:
    """Parse a quantity of bytes: ``1Ki`` is 1024."""
    number = text.rstrip("KMGTPi")
    return int(number) * _MEMORY_UNITS[text[len(number) :]]


def load(files: Sequence[Path] = (), overrides: Sequence[str] = ()) -> KubeflowSettings:
    """Build the settings; see `pipeline.settings.loader.load`.

    Raises:
      UserError: if a file is unreadable, a key is unknown, or a value is invalid.
    """
    return loader.load(KubeflowSettings, files, overrides)


def describe() -> str:
    """List all settings, one per line: key, default, meaning."""
    return loader.describe(KubeflowSettings)

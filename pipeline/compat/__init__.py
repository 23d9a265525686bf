"""All code that depends on library internals, one module per library.

Each module says why it is needed and for which versions, and lists in `PARTS` what it relies on.
tests/test_compat.py fails if that changes in a new version. Importing a module changes nothing; its
functions and context managers do.
May import: `pipeline.core`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MODULES = (
    "pipeline.compat.beam_tfrecord",
    "pipeline.compat.kfp_client",
    "pipeline.compat.ml_metadata_postgresql",
    "pipeline.compat.tfx_infra_validator",
    "pipeline.compat.tfx_launcher",
    "pipeline.compat.tfx_statistics_gen",
    "pipeline.compat.tfx_transform",
)


@dataclass(frozen=True)
class Part:
    """A library internal that this code relies on.

    Attributes:
      module: the module that defines it.
      name: its name in the module, such as ``Launcher._prepare_execution``.
      parameters: names of its parameters, if it is overridden or called; None: it only has to
        exist.
    """

    module: str
    name: str
    parameters: tuple[str, ...] | None = None

    def fault(self) -> str | None:
        """Return what has changed, in a sentence; None if nothing has."""
        part: Any = importlib.import_module(self.module)
        for name in self.name.split("."):
            part = getattr(part, name, None)
            if part is None:
                return f"{self.module} no longer has {self.name}."
        if self.parameters is None:
            return None
        parameters = tuple(inspect.signature(part).parameters)
        if parameters == self.parameters:
            return None
        return f"{self.module}.{self.name} now takes {parameters}, not {self.parameters}."


def faults() -> Iterator[str]:
    """Yield a sentence for every part of a library that has changed."""
    for name in MODULES:
        module = importlib.import_module(name)
        for part in module.PARTS:
            if fault := part.fault():
                yield f"{name} must be adapted: {fault}"

"""The one room for surgery: each change to a private part of a library, one module a library.

A module here says why, for which versions, and in `PARTS` what it relies on; tests/test_compat.py
fails with a sentence when a new version no longer looks like that. Nothing is changed when a module
is imported: a function or context manager does it.
May import: `pipeline.core`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

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
    """A part of a library that is not public, and what is relied on.

    Attributes:
      module: that holds it.
      name: within that, such as ``Launcher._prepare_execution``.
      parameters: names of its parameters, where it is overridden or called; None: it need only be
        there.
    """

    module: str
    name: str
    parameters: tuple[str, ...] | None = None

    def fault(self) -> str | None:
        """What no longer is as it was, in a sentence; None if nothing."""
        found: object = importlib.import_module(self.module)
        for step in self.name.split("."):
            found = getattr(found, step, None)
            if found is None:
                return f"{self.module} has no {self.name} any more."
        if self.parameters is None:
            return None
        now = tuple(inspect.signature(found).parameters)  # type: ignore[arg-type]
        if now == self.parameters:
            return None
        return f"{self.module}.{self.name} takes {now} now, not {self.parameters}."


def faults() -> Iterator[str]:
    """What of the libraries no longer is as the modules here need it, a sentence each."""
    for name in MODULES:
        module = importlib.import_module(name)
        for part in module.PARTS:
            if fault := part.fault():
                yield f"{name} has to change: {fault}"

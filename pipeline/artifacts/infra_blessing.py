"""The InfraBlessing artifact: whether a model server can serve a candidate, and why not."""

from __future__ import annotations

from tfx import types

# Custom properties of the InfraBlessing artifact; the first is TFX's.
BLESSED = "blessed"
REASON = "reason"  # why a server cannot serve a model that the gate blessed


def verdict(blessing: types.Artifact) -> bool | None:
    """Whether a server can serve the model; None if the gate did not bless it."""
    if blessing.get_int_custom_property(BLESSED):
        return True
    return False if blessing.get_string_custom_property(REASON) else None

"""Base class and validators of the settings sections."""

from __future__ import annotations

import typing
from typing import Literal

import pydantic
from pydantic_core import PydanticCustomError

from pipeline.core import formatting
from pipeline.settings.loader import Section


class Values(Section):
    """A section without booleans: YAML's ``yes`` and ``true`` are errors, not the number 1."""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object, info: pydantic.ValidationInfo) -> object:
        if isinstance(value, bool):
            kind = cls.model_fields[info.field_name or ""].annotation
            if typing.get_origin(kind) is Literal:
                expected = formatting.listed([repr(each) for each in typing.get_args(kind)], "or")
                raise PydanticCustomError("literal_error", "it", {"expected": expected})
            raise ValueError("must not be true or false")
        return value


def off_is_text(value: object) -> object:
    """Undo YAML's reading of a plain ``off`` as false, for settings that have the value "off"."""
    return "off" if value is False else value

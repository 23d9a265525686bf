"""What sections of settings have in common."""

from __future__ import annotations

import typing
from typing import Any, Literal

import pydantic
from pydantic_core import PydanticCustomError

from pipeline.core import formatting
from pipeline.settings.loader import Section


class Values(Section):
    """None of these settings is a switch: ``yes`` and ``true`` are mistakes, not the number 1."""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        if isinstance(value, bool):
            kind = cls.model_fields[info.field_name or ""].annotation
            if typing.get_origin(kind) is Literal:
                expected = formatting.listed([repr(each) for each in typing.get_args(kind)], "or")
                raise PydanticCustomError("literal_error", "it", {"expected": expected})
            raise ValueError("it takes a value, not true or false")
        return value


def off_is_no_switch(value: Any) -> Any:
    """For settings that may be off: YAML reads a plain off as false."""
    return "off" if value is False else value

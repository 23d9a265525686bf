"""Workarounds for two bugs of ml-metadata 1.16 and 1.21 with PostgreSQL.

* Strings with a backslash fail. libpq escapes them as a literal that begins with E; ml-metadata
  strips its first and last character and puts the rest in quotes. TFX writes such strings, as JSON
  in JSON, so the backslash is replaced by another character in the store.
* Artifacts requested by id come in the order in which PostgreSQL last wrote them, but TFX pairs
  them with its ids by position: a cached Transform would return its cache as its examples. MySQL
  and SQLite return them in the order of ids, and so does this module.

`kubeflow.databases` works around a third bug, indexes that cannot hold long strings, in the
database itself.
"""

from __future__ import annotations

from typing import Any

import ml_metadata
from google.protobuf import descriptor, message
from ml_metadata.metadata_store import metadata_store

from pipeline.compat import Part

PARTS = (
    Part(
        "ml_metadata.metadata_store.metadata_store",
        "MetadataStore._call_method",
        ("self", "method_name", "request", "response"),
    ),
)

_BACKSLASH, _SUBSTITUTE = "\\", "\ue05c"  # in Unicode's private use area, so in no text
_Field = descriptor.FieldDescriptor
_LISTS = ("artifacts", "executions", "contexts")


def apply_workarounds() -> None:
    """Apply the workarounds to PostgreSQL stores that this process opens from now on."""
    ml_metadata.MetadataStore = _Store


class _Store(metadata_store.MetadataStore):
    def __init__(self, config: Any, *arguments: Any, **keywords: Any) -> None:
        fields = config.DESCRIPTOR.fields_by_name
        self._mended = "postgresql" in fields and config.HasField("postgresql")
        super().__init__(config, *arguments, **keywords)

    def _call_method(self, method_name: str, request: Any, response: Any) -> None:
        if self._mended:
            original, request = request, type(request)()
            request.CopyFrom(original)
            _replace(request, _BACKSLASH, _SUBSTITUTE)
        super()._call_method(method_name, request, response)
        if self._mended:
            _replace(response, _SUBSTITUTE, _BACKSLASH)
            _order(
                response, by_id="options" not in {field.name for field, _ in request.ListFields()}
            )


def _order(response: message.Message, by_id: bool) -> None:
    """Sort the lists in a response.

    Args:
      response: a response of ml-metadata.
      by_id: false if the request asked for another order. The steps of an event's path are always
        sorted.
    """
    for field, value in response.ListFields():
        if by_id and field.name in _LISTS:
            value.sort(key=lambda each: each.id)
        elif field.name == "events":
            for event in value:
                event.path.steps.sort(key=lambda step: step.HasField("index"))


def _replace(target: message.Message, old: str, new: str) -> None:
    """Replace a character in all strings of a message, including nested messages."""
    for field, value in target.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            _replace_in_map(value, field.message_type.fields_by_name["value"], old, new)
        elif field.type == _Field.TYPE_STRING:
            if isinstance(value, str):
                setattr(target, field.name, value.replace(old, new))
            else:
                value[:] = [each.replace(old, new) for each in value]
        elif field.type == _Field.TYPE_MESSAGE:
            for each in [value] if isinstance(value, message.Message) else value:
                _replace(each, old, new)


def _replace_in_map(values: Any, field: Any, old: str, new: str) -> None:
    for key in values:
        if field.type == _Field.TYPE_MESSAGE:
            _replace(values[key], old, new)
        elif field.type == _Field.TYPE_STRING:
            values[key] = values[key].replace(old, new)

"""What ml-metadata 1.16 and 1.21 get wrong with PostgreSQL, mended where this process calls them.

* A text with a backslash is refused. Of such a text libpq makes a literal that begins with E;
  ml-metadata cuts off its first and last character, and sends the rest between quotes. TFX writes
  such texts, as JSON within JSON. So the store holds another character in its place.
* Artifacts that are asked for by id come in the order in which PostgreSQL last wrote them. TFX
  takes them for those of its ids, one by one: a cached Transform would give its cache as its
  examples. MySQL and SQLite answer in the order of ids, and so do we.

A third fault, indexes that take no long texts, is mended in the database (`kubeflow.databases`).
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

_BACKSLASH, _IN_ITS_PLACE = "\\", "\ue05c"  # for private use: no text has it
_Field = descriptor.FieldDescriptor


_LISTS = ("artifacts", "executions", "contexts")


def mend() -> None:
    """Mends the stores on PostgreSQL that this process opens from here on, and no others."""
    ml_metadata.MetadataStore = _Store


class _Store(metadata_store.MetadataStore):  # type: ignore[misc]
    def __init__(self, config: Any, *arguments: Any, **keywords: Any) -> None:
        fields = config.DESCRIPTOR.fields_by_name
        self._mended = "postgresql" in fields and config.HasField("postgresql")
        super().__init__(config, *arguments, **keywords)

    def _call_method(self, method_name: str, request: Any, response: Any) -> None:
        if self._mended:
            whole, request = request, type(request)()
            request.CopyFrom(whole)
            _replace(request, _BACKSLASH, _IN_ITS_PLACE)
        super()._call_method(method_name, request, response)
        if self._mended:
            _replace(response, _IN_ITS_PLACE, _BACKSLASH)
            _order(
                response, by_id="options" not in {field.name for field, _ in request.ListFields()}
            )


def _order(response: message.Message, by_id: bool) -> None:
    """Orders what was found.

    Args:
      response: of ml-metadata.
      by_id: unless another order was asked for; the steps of an event's path have but one.
    """
    for field, value in response.ListFields():
        if by_id and field.name in _LISTS:
            value.sort(key=lambda each: each.id)
        elif field.name == "events":
            for event in value:
                event.path.steps.sort(key=lambda step: step.HasField("index"))


def _replace(of: message.Message, old: str, new: str) -> None:
    """Replaces a character in all strings of a message and of those within it."""
    for field, value in of.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            _replace_in_map(value, field.message_type.fields_by_name["value"], old, new)
        elif field.type == _Field.TYPE_STRING:
            if isinstance(value, str):
                setattr(of, field.name, value.replace(old, new))
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

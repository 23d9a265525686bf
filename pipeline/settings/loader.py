"""Loads typed settings from YAML files and ``KEY=VALUE`` strings; each error is one sentence.

A model is a tree of `Section`s whose leaves are the settings. A field may also be a ``dict[str,
SomeSection]``, whose keys are chosen by the user. Dotted keys name leaves: ``train.epochs``.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from pipeline.core import yaml_text
from pipeline.core.errors import UserError
from pipeline.settings import mistakes
from pipeline.settings.mistakes import shown


class Section(pydantic.BaseModel):
    """Settings that belong together: immutable, without unknown fields."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Section)


def load(
    model: type[Model],
    files: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    source: str = "--set",
) -> Model:
    """Build settings: defaults < files < overrides.

    Args:
      model: the model to build.
      files: YAML files, later ones win. Each has sections (``train:``) of keys (``epochs: 50``).
      overrides: ``KEY=VALUE`` strings, which win over files; VALUE is read as YAML.
      source: where the overrides come from, for errors.

    Raises:
      UserError: for an unreadable file, an unknown key, or a value that is not allowed.
    """
    nested: dict[str, Any] = {}
    origin: dict[tuple[str, ...], str] = {}
    typed: dict[tuple[str, ...], str] = {}
    for file in files:
        _merge(model, nested, _read_file(model, file), str(file), origin)
    for override in overrides:
        path, value = _read_override(model, override, source)
        typed[path] = override.partition("=")[2].strip()
        for name in reversed(path):
            value = {name: value}
        _merge(model, nested, value, source, origin)
    try:
        return model.model_validate(nested)
    except pydantic.ValidationError as error:
        raise UserError(_sentence(model, error, origin, typed)) from None


def fields(model: type[Section]) -> Iterator[tuple[str, pydantic.fields.FieldInfo]]:
    """Yield every setting with its dotted key; NAME stands for a key that the user chooses."""
    yield from _fields(model, ())


def flat(settings: Section, model: type[Section]) -> dict[str, Any]:
    """Return the settings by their dotted keys, as plain JSON values."""
    dumped = settings.model_dump(mode="json")
    result = {}
    for key, _ in fields(model):
        value = dumped
        for name in key.split("."):
            value = value[name]
        result[key] = value
    return result


def describe(model: type[Section]) -> str:
    """List the settings, one per line: key, default, meaning."""
    rows = [(key, _plain(info), info.description) for key, info in fields(model)]
    widths = [max(len(str(row[i])) for row in rows) for i in (0, 1)]
    return "\n".join(f"  {k:<{widths[0]}}  {d:<{widths[1]}}  {text}" for k, d, text in rows)


def nearest(name: str, known: Sequence[str]) -> str:
    """End an error about an unknown name: the name that was probably meant, or all known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(known) or 'none'}."


def _plain(info: pydantic.fields.FieldInfo) -> str:
    if info.is_required():
        return "(required)"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return str(list(value) if isinstance(value, tuple) else value)


def _child(annotation: Any) -> tuple[type[Section] | None, bool]:
    """Return the section in a field, if any, and whether the field is a dict of such sections."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, False
    if typing.get_origin(annotation) is dict:
        item = typing.get_args(annotation)[1]
        if isinstance(item, type) and issubclass(item, Section):
            return item, True
    return None, False


def _fields(
    model: type[Section], named: Sequence[str], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, pydantic.fields.FieldInfo]]:
    for name, info in model.model_fields.items():
        path = (*prefix, name)
        section, is_dict = _child(info.annotation)
        if is_dict:
            path += (named[len(path)] if len(named) > len(path) else "NAME",)
        if section is None:
            yield ".".join(path), info
        else:
            yield from _fields(section, named, path)


def _read_override(model: type[Section], override: str, source: str) -> tuple[tuple[str, ...], Any]:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"{source} takes KEY=VALUE, but got {shown(override)}.")
    path = tuple(key.strip().split("."))
    known = [k for k, _ in _fields(model, path)]
    if ".".join(path) not in known:
        raise _unknown(".".join(path), known, source)
    try:
        return path, yaml_text.load(text)
    except yaml_text.Malformed as error:
        raise UserError(
            f"{source} {'.'.join(path)} has the value {shown(text)}, which {error.what}."
        ) from None


def _read_file(model: type[Section], file: Path) -> Mapping[Any, Any]:
    try:
        content = yaml_text.load_file(file)
    except OSError as error:
        raise UserError(f"Cannot read the settings file {file}: {error.strerror}.") from None
    except yaml_text.Malformed as error:
        raise UserError(f"The settings file {file} {error}.") from None
    if content is not None and not isinstance(content, Mapping):
        example = next(iter(model.model_fields))
        raise UserError(f"The settings file {file} must contain sections such as '{example}:'.")
    return content or {}


def _merge(
    kind: Any,
    into: dict[str, Any],
    content: Mapping[Any, Any],
    where: str,
    origin: dict[tuple[str, ...], str],
    above: tuple[str, ...] = (),
) -> None:
    """Lay the content of a section, or of a dict of sections, over what is there already.

    Args:
      kind: the section, or the dict of sections.
      into: what earlier sources gave; changed.
      content: what this source gives.
      where: the name of this source.
      origin: the source of each value and section, by path; changed.
      above: path of the section.
    """
    section, is_dict = _child(kind)
    assert section is not None
    for key, value in content.items():
        name = str(key)
        path = (*above, name)
        info = section.model_fields.get(name)
        inner = section if is_dict else info and info.annotation
        if _child(inner)[0] is None or not isinstance(value, Mapping | None):
            into[name], origin[path] = value, where  # a setting, or what the model refuses
            continue
        below = into.setdefault(name, {})
        if isinstance(below, dict):  # else the model refuses what an earlier source has there
            origin[path] = where
            _merge(inner, below, value or {}, where, origin, path)


def _unknown(key: str, known: Sequence[str], where: str) -> UserError:
    if key in known:  # as --set takes it
        names = " and, indented below it, ".join(repr(f"{name}:") for name in key.split("."))
        return UserError(f"Unknown setting {shown(key)} in {where}; in a file, write {names}.")
    # `train.epoch` and plain `epochs` should both lead to `train.epochs`.
    key = key[:200]  # comparing longer keys takes long
    name = key.rpartition(".")[2]
    by_name = {k.rpartition(".")[2]: k for k in known}
    namesakes = [k for k in known if k.rpartition(".")[2] == name]
    close = (
        difflib.get_close_matches(key, namesakes, n=1, cutoff=0)
        or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        or [by_name[match] for match in difflib.get_close_matches(name, list(by_name), n=1)]
    )
    hint = f"did you mean '{close[0]}'?" if close else "--help-settings lists all settings."
    return UserError(f"Unknown setting {shown(key)} in {where}; {hint}")


def _sentence(
    model: type[Section],
    error: pydantic.ValidationError,
    origin: Mapping[tuple[str, ...], str],
    typed: Mapping[tuple[str, ...], str],
) -> str:
    # A misspelt name first: what is said to be missing may be there under that name.
    errors = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    first = errors[0]
    path, holder = _locate(model, [part for part in first["loc"] if part != "[key]"])
    key = ".".join(path)
    if not key:  # raised by a validator across sections, whose message is a whole sentence
        return first["msg"].removeprefix("Value error, ")
    source = next((origin[k] for k in _prefixes(path) if k in origin), None)
    if first["type"] == "extra_forbidden" and holder is not None:
        siblings = [".".join((*path[:-1], name)) for name in holder.model_fields]
        known = siblings + [each for each, _ in _fields(model, key.split("."))]
        return str(_unknown(key, known, source or "the settings"))
    if first["type"] == "missing":
        place = "in a file or with --set"
        if source:
            place = f"with {source}" if source.startswith("--") else f"in {source}"
        return f"Setting '{key}' is missing; set it {place}."
    where = f" (from {source})" if source else ""
    if isinstance(first["input"], Mapping) and first["type"] == "value_error":
        # Raised by a validator across the fields of a section, which may have several sources.
        inside = {origin[k] for k in origin if k[: len(path)] == tuple(path)}
        where = where if len(inside) < 2 else ""
        return f"Setting '{key}'{where}: {mistakes.meaning([first])}."
    # For a value of several allowed types, pydantic has an error for each type.
    kinds = [each for each in errors if each["loc"][:-1] == first["loc"][:-1]]
    if len(first["loc"]) == len(path) or not isinstance(first["loc"][-1], str):
        kinds = [first]
    given = first["input"]
    if isinstance(given, bool):
        given = typed.get(tuple(path), given)  # YAML reads yes as true
    what = "empty" if given is None else shown(given)
    sentence = f"Setting '{key}' is {what}{where}; {mistakes.meaning(kinds)}"
    return sentence + (_did_you_mean(first) or ".")


def _did_you_mean(error: Mapping[str, Any]) -> str:
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    options = error["ctx"]["expected"].replace(" or ", ", ").split(", ")
    close = difflib.get_close_matches(error["input"], [o.strip("'") for o in options], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _prefixes(path: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for end in range(len(path), 0, -1):
        yield tuple(path[:end])


def _locate(
    model: type[Section], location: Sequence[int | str]
) -> tuple[list[str], type[Section] | None]:
    """Return the path of the setting at pydantic's location, and the section it belongs to.

    Drops what follows a plain setting in the location, such as an index or a member of a union.
    """
    path: list[str] = []
    holder: type[Section] | None = model
    annotation: Any = model
    for part in location:
        section, is_dict = _child(annotation)
        if section is not None and not is_dict:
            path.append(str(part))
            holder = section
            info = section.model_fields.get(str(part))
            annotation = info.annotation if info else None
        elif is_dict:
            path.append(str(part))
            annotation = section
        elif typing.get_origin(annotation) is tuple and isinstance(part, int):
            annotation = typing.get_args(annotation)[0]
            if not (isinstance(annotation, type) and issubclass(annotation, Section)):
                break
            path.append(str(part))
        else:
            break
    return path, holder

"""All settings of a run, as one typed model: defaults < YAML file < ``--set KEY=VALUE``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from pipeline import models
from pipeline.errors import UserError

BUILTIN_CONFIG = Path(str(resources.files("pipeline") / "configs" / "builtin.yaml"))


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Section):
    max_quarantined: float = pydantic.Field(
        0.01, ge=0, le=1, description="share of faulty items that is tolerated; one item always is"
    )
    eval_share: float = pydantic.Field(
        0.1, gt=0, lt=0.5, description="share of the training ids that picks the best epoch"
    )
    test_share: float = pydantic.Field(
        0.1, gt=0, lt=0.5, description="share of the ids the gate judges, without a test.txt"
    )


class Transform(_Section):
    image_size: int = pydantic.Field(
        200, ge=8, le=2048, description="side of the square that photos are resized to, pixels"
    )


class Model(_Section):
    name: str = pydantic.Field(
        "encoder_decoder", description="architecture in pipeline/models/; names the serving folder"
    )


class Train(_Section):
    epochs: int = pydantic.Field(50, ge=1, description="most epochs to train")
    batch_size: int | Literal["auto"] = pydantic.Field(
        "auto", description="photos a step; auto: 64 on a GPU with 16 GB or more, else 16"
    )
    learning_rate: float = pydantic.Field(0.001, gt=0, description="step size of RMSprop")
    max_minutes: float | None = pydantic.Field(
        None, gt=0, description="stop in time to end within this many minutes of training"
    )
    seed: int = pydantic.Field(1, ge=0, description="of weights and shuffling")

    @pydantic.field_validator("batch_size")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1")
        return value


class Gate(_Section):
    pixel_accuracy: float = pydantic.Field(0.80, ge=0, le=1, description="least pixel accuracy")
    mean_iou: float = pydantic.Field(0.60, ge=0, le=1, description="least mean IoU")
    class_iou: float = pydantic.Field(0.35, ge=0, le=1, description="least IoU of every class")
    max_drop: float = pydantic.Field(
        0.01, ge=0, le=1, description="most that mean IoU may lie below the champion's"
    )
    slices: tuple[Literal["overall", "species", "breed"], ...] = pydantic.Field(
        ("overall",),
        min_length=1,
        description="where the bounds must hold: overall, and each species or breed",
    )


class Beam(_Section):
    runner: str = pydantic.Field("DirectRunner", min_length=1, description="Beam runner")
    args: tuple[str, ...] = pydantic.Field(
        (), description="further Beam options, --name=value each"
    )


class Settings(_Section):
    data: Data = Data()
    transform: Transform = Transform()
    model: Model = Model()
    train: Train = Train()
    gate: Gate = Gate()
    beam: Beam = Beam()

    @pydantic.model_validator(mode="after")
    def _model_takes_the_image_size(self) -> Settings:
        models.check_image_size(self.model.name, self.transform.image_size)
        return self

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted key, as plain JSON values."""
        dumped = self.model_dump(mode="json")
        return {key: dumped[section][name] for key, section, name, _ in _keys()}


def _keys() -> Iterator[tuple[str, str, str, pydantic.fields.FieldInfo]]:
    for section, field in Settings.model_fields.items():
        for name, info in field.annotation.model_fields.items():  # type: ignore[union-attr]
            yield f"{section}.{name}", section, name, info


def describe() -> str:
    """The list of settings for ``--help``: key, default, meaning; one a line."""
    rows = [(key, str(_plain(info.default)), info.description) for key, _, _, info in _keys()]
    widths = [max(len(str(row[i])) for row in rows) for i in (0, 1)]
    return "\n".join(f"  {k:<{widths[0]}}  {d:<{widths[1]}}  {text}" for k, d, text in rows)


def _plain(value: Any) -> Any:
    if value is None:
        return "none"
    return list(value) if isinstance(value, tuple) else value


def load(files: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Settings:
    """Builds the settings of a run.

    Args:
      files: YAML files, later ones win. Each holds sections (``train:``) of keys (``epochs: 50``).
      overrides: ``KEY=VALUE`` strings, stronger than any file; VALUE is read as YAML.

    Raises:
      UserError: for an unreadable file, an unknown key, or a value that is not allowed.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for file in files:
        for key, value in _read_file(file):
            values[key], origin[key] = value, str(file)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"--set takes KEY=VALUE, but got {override!r}.")
        key = key.strip()
        _check_key(key, "--set")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(
                f"--set {key} has the value {text!r}, which is not valid YAML."
            ) from None
        origin[key] = "--set"
    nested: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = value
    try:
        return Settings.model_validate(nested)
    except pydantic.ValidationError as error:
        raise UserError(_sentence(error, origin)) from None


def _read_file(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read the settings file {file}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"The settings file {file} is not valid YAML{where}.") from None
    if content is None:
        return
    if not isinstance(content, Mapping):
        raise UserError(f"The settings file {file} must hold sections such as 'train:'.")
    for section, entries in content.items():
        if section not in Settings.model_fields:
            _check_key(f"{section}.", str(file))
        if entries is None:
            continue
        if not isinstance(entries, Mapping):
            raise UserError(f"In {file}, '{section}' must hold keys such as '{_example(section)}'.")
        for name, value in entries.items():
            _check_key(f"{section}.{name}", str(file))
            yield f"{section}.{name}", value


def _example(section: str) -> str:
    return next(name for _, s, name, _ in _keys() if s == section) + ":"


def _check_key(key: str, where: str) -> None:
    known = [k for k, *_ in _keys()]
    if key in known:
        return
    if key.endswith("."):
        key, known = key[:-1], list(Settings.model_fields)
    # `train.epoch` and plain `epochs` should both lead to `train.epochs`.
    by_name = {k.rpartition(".")[2]: k for k in known}
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or [
        by_name[match]
        for match in difflib.get_close_matches(key.rpartition(".")[2], list(by_name), n=1)
    ]
    hint = f"did you mean '{close[0]}'?" if close else "--help lists all settings."
    raise UserError(f"Unknown setting {key!r} in {where}; {hint}")


def _sentence(error: pydantic.ValidationError, origin: Mapping[str, str]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"][:2])
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # raised by a check across settings, which is a sentence of its own
        return message
    where = f" (from {origin[key]})" if key in origin else ""
    return f"Setting '{key}' is {first['input']!r}{where}; {_lower_first(message)}."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

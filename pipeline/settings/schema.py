"""The settings of a run, as one typed model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pydantic

from pipeline import models
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.file_formats import NAMES, OPSET, OPSETS, check_packages
from pipeline.settings import loader
from pipeline.settings.loader import Section
from pipeline.settings.training import Model, Train, Tune
from pipeline.settings.values import Values, off_is_text

CONFIGS = Path(str(resources.files("pipeline.settings") / "configs"))
BUILTIN_CONFIG = CONFIGS / "builtin.yaml"

OneClassMasks = Literal["keep", "set_aside"]
Exif = Literal["as_stored", "apply"]
ExifMasks = Literal["upright", "as_stored"]
FormatName = Literal["onnx", "onnx_int8", "litert", "litert_int8", "openvino", "openvino_int8"]


class Data(Values):
    max_quarantined: float = pydantic.Field(
        0.01,
        ge=0,
        le=1,
        description="maximum share of quarantined photos; unless it is 0, one is always tolerated",
    )
    eval_share: float = pydantic.Field(
        0.1,
        gt=0,
        lt=0.5,
        description="share of the training photos held out to pick the best epoch",
    )
    test_share: float = pydantic.Field(
        0.1,
        gt=0,
        lt=0.5,
        description="share of the photos held out for the gate, if there is no test.txt",
    )
    unlisted: Literal["leave_out", "use"] = pydantic.Field(
        "leave_out", description="leave_out or use photos that are not listed in annotations/"
    )
    one_class_masks: OneClassMasks = pydantic.Field(
        "keep",
        description="keep photos whose mask has a single class, or quarantine them (set_aside)",
    )
    exif: Exif = pydantic.Field(
        "as_stored", description="use photos as_stored, or apply their EXIF orientation"
    )
    exif_masks: ExifMasks = pydantic.Field(
        "upright",
        description="with data.exif=apply: masks are upright already, or rotated like the photo "
        "(as_stored)",
    )
    spans: int = pydantic.Field(
        1, ge=1, description="number of most recent spans to use, if the data has spans"
    )
    breeds: tuple[str, ...] = pydantic.Field(
        (), description="breeds allowed in the data; empty: all"
    )
    drift: Literal["warn", "stop", "off"] = pydantic.Field(
        "warn",
        description="warn or stop when the photos have drifted from the last release's data, or "
        "off",
    )
    drift_bound: float = pydantic.Field(
        0.3,
        gt=0,
        le=1,
        description="maximum distance of a feature's distribution from the last release's data",
    )

    _off = pydantic.field_validator("drift", mode="before")(off_is_text)


class Transform(Values):
    image_size: int = pydantic.Field(
        200, ge=8, le=2048, description="side of the square that photos are resized to, in pixels"
    )


class Gate(Values):
    pixel_accuracy: float = pydantic.Field(0.80, ge=0, le=1, description="minimum pixel accuracy")
    mean_iou: float = pydantic.Field(0.60, ge=0, le=1, description="minimum mean IoU")
    class_iou: float = pydantic.Field(0.35, ge=0, le=1, description="minimum IoU of each class")
    max_drop: float = pydantic.Field(
        0.01, ge=0, le=1, description="maximum drop in mean IoU below the champion"
    )
    max_drop_slice: float = pydantic.Field(
        0.05,
        ge=0,
        le=1,
        description="maximum drop in mean IoU below the champion on any one species or breed",
    )
    min_examples: int = pydantic.Field(
        20,
        ge=1,
        description="minimum number of test photos for a species or breed to be judged on its own",
    )
    boundary_iou: float | None = pydantic.Field(
        None, ge=0, le=1, description="minimum boundary IoU"
    )
    calibration_error: float | None = pydantic.Field(
        None, ge=0, le=1, description="maximum expected calibration error over pixels"
    )
    iou_floor: float = pydantic.Field(
        0.5, ge=0, le=1, description="mean IoU below which a single photo counts as failed"
    )
    images_below_floor: float | None = pydantic.Field(
        None, ge=0, le=1, description="maximum share of photos below gate.iou_floor"
    )
    slices: tuple[Literal["overall", "species", "breed"], ...] = pydantic.Field(
        ("overall",),
        min_length=1,
        description="slices that must meet the thresholds: overall, species, breed",
    )

    @pydantic.field_validator("slices")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a slice twice")
        return value


class Release(Values):
    copy_to: str | None = pydantic.Field(
        None,
        description="copy each release to this folder: gs://bucket/models, or an absolute path",
    )
    infra_validation: Literal["off", "docker", "kubernetes"] = pydantic.Field(
        "off",
        description="where to test a blessed model on a model server before release, or off",
    )
    infra_image: str = pydantic.Field(
        "tensorflow/serving:2.20.0",
        description="TensorFlow Serving image for that test, with a tag or digest",
    )

    _off = pydantic.field_validator("infra_validation", mode="before")(off_is_text)

    @pydantic.field_validator("infra_image")
    @classmethod
    def _is_pinned(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][^\s@]*(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})", value):
            raise ValueError(
                "must be an image with a tag or digest, such as tensorflow/serving:2.20.0"
            )
        return value

    formats: tuple[FormatName, ...] = pydantic.Field(
        (), description=f"additional formats to export with each release: {', '.join(NAMES)}"
    )
    onnx_opset: int = pydantic.Field(
        OPSET,
        ge=OPSETS[0],
        le=OPSETS[-1],
        description="ONNX opset version of exported ONNX files",
    )

    @pydantic.field_validator("formats")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a format twice")
        return value

    @pydantic.field_validator("copy_to")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if "://" not in value and not Path(value).is_absolute():
            raise ValueError("must start with a scheme, such as gs://, or with /")
        return paths.text_without_pattern(value)


class Beam(Values):
    runner: str = pydantic.Field("DirectRunner", min_length=1, description="Beam runner")
    args: tuple[str, ...] = pydantic.Field(
        (), description="additional Beam options, each as --name=value"
    )

    @pydantic.field_validator("args")
    @classmethod
    def _are_options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not argument.startswith("--") for argument in value):
            raise ValueError("every option must start with --")
        return value


class Settings(Section):
    data: Data = Data()
    transform: Transform = Transform()
    model: Model = Model()
    tune: Tune = Tune()
    train: Train = Train()
    gate: Gate = Gate()
    release: Release = Release()
    beam: Beam = Beam()

    @pydantic.model_validator(mode="after")
    def _image_size_fits_model(self) -> Settings:
        models.check_image_size(self.model.name, self.transform.image_size)
        return self

    @pydantic.model_validator(mode="after")
    def _width_fits_model(self) -> Settings:
        models.check_width(self.model.name, self.model.width)
        return self

    @pydantic.model_validator(mode="after")
    def _trials_start_from_scratch(self) -> Settings:
        if self.tune.trials and self.train.start_from == "champion":
            raise ValueError(
                f"tune.trials is {self.tune.trials}, but train.start_from is champion; trials "
                "start from scratch, so set tune.trials=0 or train.start_from=scratch."
            )
        return self

    @pydantic.model_validator(mode="after")
    def _encoder_settings_fit_model(self) -> Settings:
        if self.model.encoder_weights or self.train.freeze_epochs:
            models.check_pretrained(self.model.name)
        return self

    def check_files(self) -> None:
        """Raise UserError if this machine lacks a file or package that the settings need."""
        weights = self.model.encoder_weights
        if self.release.copy_to is not None:
            paths.check_no_pattern(self.release.copy_to)
        if weights not in (None, "imagenet"):
            paths.check(str(weights))
            if not Path(str(weights)).is_file():
                raise UserError(
                    f"Setting 'model.encoder_weights' is {weights}, but there is no such file."
                )
        for name in self.release.formats:
            check_packages(name)

    def flat(self) -> dict[str, Any]:
        """Return every setting by its dotted key, as plain JSON values."""
        return loader.flat(self, Settings)

    def effective(self) -> dict[str, Any]:
        """Return `flat` without unused settings, so that those change no cache key."""
        unused = []
        if self.release.infra_validation == "off":
            unused.append("release.infra_")
        if not self.release.formats:
            unused += ["release.formats", "release.onnx_opset"]
        flat = self.flat().items()
        return {key: value for key, value in flat if not key.startswith(tuple(unused))}


def gate_of(flat: Mapping[str, Any]) -> Gate:
    """Rebuild the section ``gate`` from settings saved as `Settings.flat`."""
    section = "gate."
    return Gate(**{k.removeprefix(section): v for k, v in flat.items() if k.startswith(section)})


def describe() -> str:
    """List the settings, one per line: key, default, meaning."""
    return loader.describe(Settings)


def load(
    files: Sequence[Path] = (), overrides: Sequence[str] = (), source: str = "--set"
) -> Settings:
    """Build the settings of a run; see `loader.load`.

    Raises:
      UserError: for an unreadable file, an unknown key, or a value that is not allowed.
    """
    return loader.load(Settings, files, overrides, source)

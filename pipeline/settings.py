"""All settings of a run, as one typed model: defaults < YAML file < ``--set KEY=VALUE``."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic_core import PydanticCustomError

from pipeline import config, models, paths, wording
from pipeline.config import Section
from pipeline.errors import UserError
from pipeline.formats import NAMES, OPSET, OPSETS, check_packages

CONFIGS = Path(str(resources.files("pipeline") / "configs"))
BUILTIN_CONFIG = CONFIGS / "builtin.yaml"

OneClassMasks = Literal["keep", "set_aside"]
Exif = Literal["as_stored", "apply"]
ExifMasks = Literal["upright", "as_stored"]
LossName = Literal["cross_entropy", "dice_cross_entropy"]
FormatName = Literal["onnx", "onnx_int8", "litert", "litert_int8", "openvino", "openvino_int8"]
OptimizerName = Literal["rmsprop", "adamw"]

# Of settings that the Tuner tries values of.
Rate = Annotated[float, pydantic.Field(gt=0)]
Strength = Annotated[float, pydantic.Field(ge=0, le=1)]
Width = Annotated[float, pydantic.Field(gt=0, le=8)]


class _Values(Section):
    """None of these settings is a switch: ``yes`` and ``true`` are mistakes, not the number 1."""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        if isinstance(value, bool):
            kind = cls.model_fields[info.field_name or ""].annotation
            if typing.get_origin(kind) is Literal:
                expected = wording.listed([repr(each) for each in typing.get_args(kind)], "or")
                raise PydanticCustomError("literal_error", "it", {"expected": expected})
            raise ValueError("it takes a value, not true or false")
        return value


class Data(_Values):
    max_quarantined: float = pydantic.Field(
        0.01,
        ge=0,
        le=1,
        description="share of faulty items that is tolerated; above 0, one item always is",
    )
    eval_share: float = pydantic.Field(
        0.1, gt=0, lt=0.5, description="share of the training ids that picks the best epoch"
    )
    test_share: float = pydantic.Field(
        0.1, gt=0, lt=0.5, description="share of the ids the gate judges, without a test.txt"
    )
    unlisted: Literal["leave_out", "use"] = pydantic.Field(
        "leave_out", description="leave_out or use ids that are on none of annotations/*.txt"
    )
    one_class_masks: OneClassMasks = pydantic.Field(
        "keep", description="keep or set_aside items whose mask holds one class alone"
    )
    exif: Exif = pydantic.Field(
        "as_stored", description="use photos as_stored, or apply the EXIF orientation"
    )
    exif_masks: ExifMasks = pydantic.Field(
        "upright",
        description="with data.exif=apply: masks are upright already, or turned too (as_stored)",
    )
    spans: int = pydantic.Field(
        1, ge=1, description="how many of the newest spans are taken, where the data has spans"
    )
    breeds: tuple[str, ...] = pydantic.Field(
        (), description="breeds that may occur; empty: any, also new ones"
    )
    drift: Literal["warn", "stop", "off"] = pydantic.Field(
        "warn", description="warn, or stop, if photos differ much from the last release's; or off"
    )
    drift_bound: float = pydantic.Field(
        0.3, gt=0, le=1, description="most distance of a feature from the last release's data"
    )

    @pydantic.field_validator("drift", mode="before")
    @classmethod
    def _off_is_no_switch(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a plain off as false


class Transform(_Values):
    image_size: int = pydantic.Field(
        200, ge=8, le=2048, description="side of the square that photos are resized to, pixels"
    )


class Model(_Values):
    name: str = pydantic.Field(
        "xception_unet", description="architecture in pipeline/models/; names the serving folder"
    )
    encoder_weights: str | None = pydantic.Field(
        None, min_length=1, description="of a pretrained encoder: imagenet, or a weights file"
    )
    width: Width = pydantic.Field(
        1, description="what the channels of its layers are multiplied by"
    )


class Train(_Values):
    epochs: int = pydantic.Field(50, ge=1, description="most epochs to train")
    batch_size: int | Literal["auto"] = pydantic.Field(
        "auto", description="photos a step; auto: 64 for each GPU with 16 GB or more, else 16"
    )
    loss: LossName = pydantic.Field(
        "dice_cross_entropy", description="cross_entropy, or dice_cross_entropy: their sum"
    )
    label_smoothing: float = pydantic.Field(
        0, ge=0, lt=1, description="share of the target that is spread over all classes"
    )
    class_balance: float = pydantic.Field(
        0, ge=0, le=1, description="0 weighs all pixels alike, 1 all classes"
    )
    optimizer: OptimizerName = pydantic.Field("adamw", description="adamw or rmsprop")
    learning_rate: Rate = pydantic.Field(0.002, description="highest step size")
    schedule: Literal["constant", "cosine"] = pydantic.Field(
        "cosine", description="course of the step size; cosine: warm-up, then down to 0"
    )
    warmup: float = pydantic.Field(
        0.05, ge=0, lt=1, description="share of training in which a cosine's step size rises"
    )
    weight_decay: float = pydantic.Field(0.01, ge=0, description="of adamw")
    clip_norm: float | None = pydantic.Field(1, gt=0, description="longest gradient")
    ema: float | None = pydantic.Field(
        None, gt=0, lt=1, description="momentum of a running mean of the weights, which is kept"
    )
    augmentation: Strength = pydantic.Field(
        0.5, description="strength of flips, crops, turns and colour; 0: none"
    )
    best_epoch_by: Literal["val_loss", "val_accuracy", "val_mean_iou"] = pydantic.Field(
        "val_mean_iou", description="which epoch is kept: lowest val_loss, or highest of the others"
    )
    patience: int | None = pydantic.Field(
        None, ge=1, description="stop after this many epochs without a better one"
    )
    freeze_epochs: int = pydantic.Field(
        0, ge=0, description="first epochs, in which a pretrained encoder stays as it is"
    )
    start_from: Literal["scratch", "champion"] = pydantic.Field(
        "scratch", description="scratch, or champion: the weights of the newest release"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = pydantic.Field(
        "auto", description="of the layers; auto: half on GPUs that have it in hardware"
    )
    max_minutes: float | None = pydantic.Field(
        None, gt=0, description="train no longer than this, but at least one epoch"
    )
    seed: int = pydantic.Field(
        1, ge=0, lt=2**32, description="of weights, shuffling and augmentation"
    )

    @pydantic.field_validator("batch_size")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1")
        return value

    @pydantic.model_validator(mode="after")
    def _decay_is_adamws(self) -> Train:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(
                f"train.weight_decay is {self.weight_decay}, but train.optimizer "
                f"{self.optimizer} has none; set it to 0 or take adamw."
            )
        return self


class Tune(_Values):
    trials: int = pydantic.Field(
        0, ge=0, description="trainings that look for settings before the one that counts; 0: none"
    )
    trial_epochs: int = pydantic.Field(10, ge=1, description="most epochs of a trial")
    learning_rates: tuple[Rate, ...] = pydantic.Field(
        (0.0005, 0.008),
        min_length=2,
        max_length=2,
        description="least and highest train.learning_rate that is tried",
    )
    augmentations: tuple[Strength, ...] = pydantic.Field(
        (0, 1),
        min_length=2,
        max_length=2,
        description="least and highest train.augmentation that is tried",
    )
    widths: tuple[Width, ...] = pydantic.Field(
        (0.5, 0.75, 1, 1.5),
        min_length=1,
        description="each model.width that is tried, with models that have more than one",
    )

    @pydantic.field_validator("learning_rates", "augmentations")
    @classmethod
    def _least_first(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[0] > value[1]:
            raise ValueError("must begin with the least")
        return value


class Gate(_Values):
    pixel_accuracy: float = pydantic.Field(0.80, ge=0, le=1, description="least pixel accuracy")
    mean_iou: float = pydantic.Field(0.60, ge=0, le=1, description="least mean IoU")
    class_iou: float = pydantic.Field(0.35, ge=0, le=1, description="least IoU of every class")
    max_drop: float = pydantic.Field(
        0.01, ge=0, le=1, description="most that mean IoU may lie below the champion's"
    )
    max_drop_slice: float = pydantic.Field(
        0.05, ge=0, le=1, description="most that it may lie below on one species or breed"
    )
    min_examples: int = pydantic.Field(
        20, ge=1, description="test photos that a species or breed needs, to be judged by itself"
    )
    boundary_iou: float | None = pydantic.Field(None, ge=0, le=1, description="least boundary IoU")
    calibration_error: float | None = pydantic.Field(
        None, ge=0, le=1, description="most expected calibration error of the pixels"
    )
    iou_floor: float = pydantic.Field(
        0.5, ge=0, le=1, description="mean IoU that counts one photo as failed if it is below"
    )
    images_below_floor: float | None = pydantic.Field(
        None, ge=0, le=1, description="most share of photos below gate.iou_floor"
    )
    slices: tuple[Literal["overall", "species", "breed"], ...] = pydantic.Field(
        ("overall",),
        min_length=1,
        description="where the bounds must hold: overall, and each species or breed",
    )

    @pydantic.field_validator("slices")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a slice twice")
        return value


class Release(_Values):
    copy_to: str | None = pydantic.Field(
        None,
        description="folder that gets a copy of each release: gs://bucket/models, or a plain path",
    )
    infra_validation: Literal["off", "docker", "kubernetes"] = pydantic.Field(
        "off",
        description="where a model server tries a blessed model before its release; or off",
    )
    infra_image: str = pydantic.Field(
        "tensorflow/serving:2.20.0",
        description="container image of that TensorFlow Serving, with its tag or digest",
    )

    @pydantic.field_validator("infra_validation", mode="before")
    @classmethod
    def _off_is_no_switch(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a plain off as false

    @pydantic.field_validator("infra_image")
    @classmethod
    def _is_pinned(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][^\s@]*(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})", value):
            raise ValueError(
                "must be an image with its tag or its digest, such as tensorflow/serving:2.20.0"
            )
        return value

    formats: tuple[FormatName, ...] = pydantic.Field(
        (), description=f"files beside each release's SavedModel: {', '.join(NAMES)}"
    )
    onnx_opset: int = pydantic.Field(
        OPSET,
        ge=OPSETS[0],
        le=OPSETS[-1],
        description="version of ONNX's operations in such files",
    )

    @pydantic.field_validator("formats")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a format twice")
        return value

    @pydantic.field_validator("copy_to")
    @classmethod
    def _is_found_from_anywhere(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if "://" not in value and not Path(value).is_absolute():
            raise ValueError("must begin with a scheme, such as gs://, or with /")
        return paths.text_without_pattern(value)


class Beam(_Values):
    runner: str = pydantic.Field("DirectRunner", min_length=1, description="Beam runner")
    args: tuple[str, ...] = pydantic.Field(
        (), description="further Beam options, --name=value each"
    )

    @pydantic.field_validator("args")
    @classmethod
    def _are_options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not argument.startswith("--") for argument in value):
            raise ValueError("every option must begin with --")
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
    def _model_takes_the_image_size(self) -> Settings:
        models.check_image_size(self.model.name, self.transform.image_size)
        return self

    @pydantic.model_validator(mode="after")
    def _model_has_the_width(self) -> Settings:
        models.check_width(self.model.name, self.model.width)
        return self

    @pydantic.model_validator(mode="after")
    def _trials_start_from_scratch(self) -> Settings:
        if self.tune.trials and self.train.start_from == "champion":
            raise ValueError(
                f"tune.trials is {self.tune.trials}, but train.start_from is champion; trials "
                "start from scratch and say nothing about one that goes on: set one of them back."
            )
        return self

    @pydantic.model_validator(mode="after")
    def _model_has_an_encoder(self) -> Settings:
        if self.model.encoder_weights or self.train.freeze_epochs:
            models.check_pretrained(self.model.name)
        return self

    def check_files(self) -> None:
        """Raises UserError if a file or package that is named is not here, where the run is."""
        weights = self.model.encoder_weights
        if self.release.copy_to is not None:
            paths.check_no_pattern(self.release.copy_to)
        if weights not in (None, "imagenet"):
            paths.check(str(weights))
            if not Path(str(weights)).is_file():
                raise UserError(
                    f"Setting 'model.encoder_weights' names {weights}, which is no file."
                )
        for name in self.release.formats:
            check_packages(name)

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted key, as plain JSON values."""
        return config.flat(self, Settings)

    def effective(self) -> dict[str, Any]:
        """The same without those of a part that is off, which then changes no cache key."""
        idle = []
        if self.release.infra_validation == "off":
            idle.append("release.infra_")
        if not self.release.formats:
            idle += ["release.formats", "release.onnx_opset"]
        flat = self.flat().items()
        return {key: value for key, value in flat if not key.startswith(tuple(idle))}


def gate_of(flat: Mapping[str, Any]) -> Gate:
    """The section ``gate`` of settings that were kept as `Settings.flat` gives them."""
    section = "gate."
    return Gate(**{k.removeprefix(section): v for k, v in flat.items() if k.startswith(section)})


def describe() -> str:
    """The list of settings for ``--help``: key, default, meaning; one a line."""
    return config.describe(Settings)


def load(
    files: Sequence[Path] = (), overrides: Sequence[str] = (), giver: str = "--set"
) -> Settings:
    """Builds the settings of a run: see `config.load`.

    Raises:
      UserError: for an unreadable file, an unknown key, or a value that is not allowed.
    """
    return config.load(Settings, files, overrides, giver)

"""The settings sections ``model``, ``train`` and ``tune``."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from pipeline.settings.values import Values

LossName = Literal["cross_entropy", "dice_cross_entropy"]
OptimizerName = Literal["rmsprop", "adamw"]

# Types of the settings that the Tuner searches.
Rate = Annotated[float, pydantic.Field(gt=0)]
Strength = Annotated[float, pydantic.Field(ge=0, le=1)]
Width = Annotated[float, pydantic.Field(gt=0, le=8)]


class Model(Values):
    name: str = pydantic.Field(
        "xception_unet",
        description="model architecture, a module in pipeline/models/; also names the serving "
        "folder",
    )
    encoder_weights: str | None = pydantic.Field(
        None,
        min_length=1,
        description="weights of a pretrained encoder: imagenet, or a weights file",
    )
    width: Width = pydantic.Field(
        1, description="multiplier for the number of channels in each layer"
    )


class Train(Values):
    epochs: int = pydantic.Field(50, ge=1, description="maximum number of epochs")
    batch_size: int | Literal["auto"] = pydantic.Field(
        "auto", description="photos per step; auto: 64 per GPU with at least 16 GB, otherwise 16"
    )
    loss: LossName = pydantic.Field(
        "dice_cross_entropy",
        description="loss function: cross_entropy, or dice_cross_entropy (cross-entropy plus Dice)",
    )
    label_smoothing: float = pydantic.Field(
        0,
        ge=0,
        lt=1,
        description="label smoothing: fraction of the target probability spread over all classes",
    )
    class_balance: float = pydantic.Field(
        0,
        ge=0,
        le=1,
        description="class weighting: 0 weights all pixels equally, 1 all classes equally",
    )
    optimizer: OptimizerName = pydantic.Field("adamw", description="optimizer: adamw or rmsprop")
    learning_rate: Rate = pydantic.Field(0.002, description="peak learning rate")
    schedule: Literal["constant", "cosine"] = pydantic.Field(
        "cosine",
        description="learning rate schedule: constant, or cosine decay to 0 after a warm-up",
    )
    warmup: float = pydantic.Field(
        0.05,
        ge=0,
        lt=1,
        description="fraction of training used for the warm-up of the cosine schedule",
    )
    weight_decay: float = pydantic.Field(0.01, ge=0, description="weight decay, with adamw")
    clip_norm: float | None = pydantic.Field(
        1, gt=0, description="clip the global gradient norm to this value"
    )
    ema: float | None = pydantic.Field(
        None,
        gt=0,
        lt=1,
        description="momentum of an exponential moving average of the weights; the average is "
        "exported",
    )
    augmentation: Strength = pydantic.Field(
        0.5, description="strength of data augmentation, from 0 (none) to 1"
    )
    best_epoch_by: Literal["val_loss", "val_accuracy", "val_mean_iou"] = pydantic.Field(
        "val_mean_iou",
        description="metric that picks the epoch to keep: lowest val_loss, or highest of the "
        "others",
    )
    patience: int | None = pydantic.Field(
        None, ge=1, description="stop after this many epochs without improvement"
    )
    freeze_epochs: int = pydantic.Field(
        0, ge=0, description="number of initial epochs with a frozen pretrained encoder"
    )
    start_from: Literal["scratch", "champion"] = pydantic.Field(
        "scratch",
        description="initial weights: random (scratch), or those of the model in service "
        "(champion)",
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = pydantic.Field(
        "auto", description="numeric precision; auto: mixed precision on GPUs that support it"
    )
    max_minutes: float | None = pydantic.Field(
        None, gt=0, description="maximum training time; at least one epoch is trained"
    )
    seed: int = pydantic.Field(
        1, ge=0, lt=2**32, description="random seed for weights, shuffling and augmentation"
    )

    @pydantic.field_validator("batch_size")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1")
        return value

    @pydantic.model_validator(mode="after")
    def _decay_needs_adamw(self) -> Train:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(
                f"train.weight_decay is {self.weight_decay}, but only train.optimizer=adamw uses "
                "it; set train.weight_decay=0 or train.optimizer=adamw."
            )
        return self


class Tune(Values):
    trials: int = pydantic.Field(
        0, ge=0, description="number of hyperparameter trials before training; 0: no tuning"
    )
    trial_epochs: int = pydantic.Field(10, ge=1, description="maximum number of epochs per trial")
    learning_rates: tuple[Rate, ...] = pydantic.Field(
        (0.0005, 0.008),
        min_length=2,
        max_length=2,
        description="search range for train.learning_rate",
    )
    augmentations: tuple[Strength, ...] = pydantic.Field(
        (0, 1),
        min_length=2,
        max_length=2,
        description="search range for train.augmentation",
    )
    widths: tuple[Width, ...] = pydantic.Field(
        (0.5, 0.75, 1, 1.5),
        min_length=1,
        description="values of model.width to try, for models that can be scaled",
    )

    @pydantic.field_validator("learning_rates", "augmentations")
    @classmethod
    def _is_ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[0] > value[1]:
            raise ValueError("must start with the lower bound")
        return value

"""The pipeline from a data folder to a released model, independent of any runner."""

# `from tfx import v1` would load every Google Cloud client, which takes longer than TensorFlow.
from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import components as tfx_components
from tfx.components.distribution_validator.component import DistributionValidator
from tfx.dsl.compiler import constants
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2, transform_pb2
from tfx.types import Channel, standard_artifacts

from components.champion import ChampionStrategy, ReleasedDataStrategy
from components.copier import ReleaseCopier
from components.data_gate import CLASS_SETTINGS, DataGate
from components.evaluator import PhotoEvaluator
from components.example_gen import PetExampleGen
from components.infra_validator import BlessedModelValidator
from components.pusher import ReleasePusher
from components.schema_gen import CuratedSchemaGen
from components.statistics_gen import PhotoStatisticsGen
from components.trainer import ResumableTrainer
from components.transform import PhotoTransform
from components.tuner import ResumableTuner
from pipeline import models
from pipeline.artifacts import pushed_model
from pipeline.core import code, features, file_formats
from pipeline.data import drift
from pipeline.evaluation import gate
from pipeline.release import infra_validation, mirror
from pipeline.settings import Beam, Settings, Train

NAME = "segmentation"
# Optional nodes.
TUNER, COPIER, INFRA_VALIDATOR = "Tuner", mirror.NODE, infra_validation.NODE
SCHEMA_DIR = str(resources.files("schemas"))

# In newer Beams, DirectRunner first tries to download the Prism runner, which can take minutes
# behind a firewall. FnApiRunner is what it falls back to, and what it is in older Beams.
_RUNNERS = {"DirectRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner"}

# Entry points of the code that determines a component's output; see `pipeline.core.code`. That of
# the Evaluator is in `gate.eval_config`. ImportSchemaGen's parameter is what it writes.
_INGEST_CODE = ("components.example_gen",)
_STATISTICS_CODE = ("components.statistics_gen",)
_DATA_GATE_CODE = ("components.data_gate",)
_TRANSFORM_CODE = ("components.transform", "pipeline.data.preprocessing")
_TUNE_CODE = ("components.tuner", "pipeline.training.tuning")
_TRAIN_CODE = ("components.trainer", "pipeline.training.trainer")
_INFRA_CODE = ("components.infra_validator", "pipeline.release.infra_validation")
_RELEASE_CODE = (
    "components.pusher",
    "pipeline.release.model_store",
    *(file_formats.Format(name).module for name in file_formats.FAMILIES),
)


def beam_arguments(beam: Beam) -> list[str]:
    """Return Beam's command-line options for the settings `beam`.

    In a checkout they include its setup.py, so that remote workers can install this package. That
    also keeps TFX from building a package of itself for each component, which takes seconds.
    Workers from a container image have the package already.
    """
    setup_file = code.ROOT / "setup.py"
    from_image = any(argument.startswith("--sdk_container_image=") for argument in beam.args)
    package = [f"--setup_file={setup_file}"] if setup_file.exists() and not from_image else []
    return [f"--runner={_RUNNERS.get(beam.runner, beam.runner)}", *package, *beam.args]


def _tuner(settings: Settings, transform: PhotoTransform) -> ResumableTuner:
    # Trials have their own length, so the length of the training must not affect their cache key.
    train = settings.train.model_copy(
        update={"epochs": settings.tune.trial_epochs, "max_minutes": None}
    )
    tuner: ResumableTuner = ResumableTuner(
        examples=transform.outputs["transformed_examples"],
        tuner_fn="pipeline.training.tuning.tuner_fn",
        train_args=trainer_pb2.TrainArgs(splits=[features.TRAIN]),
        eval_args=trainer_pb2.EvalArgs(splits=[features.EVAL]),
        custom_config={
            **_training_config(settings, train, _TUNE_CODE),
            "tune": settings.tune.model_dump(mode="json"),
        },
    ).with_id(TUNER)
    return tuner


def _copier(settings: Settings, serving_dir: str, release: ReleasePusher) -> BaseComponent:
    copier = ReleaseCopier(
        serving_dir=serving_dir,
        copy_to=settings.release.copy_to,
        beam_args=json.dumps(settings.beam.args),
        # The run id is a parameter so that the Copier is never cached. The Pusher may be cached
        # from a run whose copy was interrupted, a rollback releases without a Pusher, and the copy
        # itself may have changed.
        run_id=RuntimeParameter(name=constants.PIPELINE_RUN_ID_PARAMETER_NAME, ptype=str),
    ).with_id(COPIER)
    copier.add_upstream_node(release)
    return copier


def _training_config(settings: Settings, train: Train, entries: Sequence[str]) -> dict[str, Any]:
    """Return everything but the data that training depends on."""
    sources = models.sources(settings.model.name)
    return {
        "model": settings.model.model_dump(mode="json"),
        # A digest, because the file's content can change under the same name.
        "encoder_weights": code.digest(settings.model.encoder_weights),
        "image_size": settings.transform.image_size,
        "exif": settings.data.exif,
        "train": train.model_dump(mode="json"),
        "code": code.fingerprint(*entries, *sources),
    }


def code_of(settings: Settings) -> str:
    """Return the fingerprint of the code and the libraries that produce a model."""
    return code.fingerprint(
        *_INGEST_CODE, *_TRANSFORM_CODE, *_TRAIN_CODE, *models.sources(settings.model.name)
    )


def create_pipeline(
    *,
    data_root: str,
    pipeline_root: str,
    serving_dir: str,
    settings: Settings,
    metadata_connection_config: metadata_store_pb2.ConnectionConfig | None = None,
    beam_pipeline_args: Sequence[str] = (),
) -> Pipeline:
    """Build the pipeline.

    Args:
      data_root: data folder in a layout that `pipeline.data.layout` supports.
      pipeline_root: folder for artifacts.
      serving_dir: the serving folder of the model; each release is a version in it.
      settings: of the run.
      metadata_connection_config: connection to the metadata store, for runners that need it here.
      beam_pipeline_args: command-line options for Beam.
    """
    example_gen = PetExampleGen(
        data_root, settings.data, code=code.fingerprint(*_INGEST_CODE)
    ).with_id("ExampleGen")
    schema_gen = CuratedSchemaGen(f"{SCHEMA_DIR}/pets.pbtxt", settings.data.breeds).with_id(
        "ImportSchemaGen"
    )
    statistics_gen = PhotoStatisticsGen(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        code=code.fingerprint(*_STATISTICS_CODE),
    ).with_id("StatisticsGen")
    example_validator = tfx_components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    released_data = Resolver(
        strategy_class=ReleasedDataStrategy,
        config={"serving_dir": serving_dir},
        statistics=statistics_gen.outputs["statistics"],
        released=Channel(type=standard_artifacts.ExampleStatistics),
        pushed_model=Channel(type=standard_artifacts.PushedModel),
    ).with_id("ReleasedData")
    drift_validator = DistributionValidator(
        statistics=statistics_gen.outputs["statistics"],
        baseline_statistics=released_data.outputs["released"].as_optional(),
        config=drift.config(settings.data),
        include_split_pairs=[drift.SPLIT_PAIR],
    ).with_id("DriftValidator")
    data_gate = DataGate(
        examples=example_gen.outputs["examples"],
        statistics=statistics_gen.outputs["statistics"],
        anomalies=example_validator.outputs["anomalies"],
        drift=drift_validator.outputs["anomalies"],
        max_quarantined=settings.data.max_quarantined,
        on_drift=settings.data.drift,
        gate=settings.gate.model_dump_json(include=CLASS_SETTINGS),
        code=code.fingerprint(*_DATA_GATE_CODE),
    )
    transform = PhotoTransform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="pipeline.data.preprocessing.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(
            analyze=[features.TRAIN], transform=[features.TRAIN, features.EVAL]
        ),
        custom_config={
            "image_size": settings.transform.image_size,
            "exif": settings.data.exif,
            "exif_masks": settings.data.exif_masks,
            "code": code.fingerprint(*_TRANSFORM_CODE),
        },
        # Statistics of packed pixels are useless.
        disable_statistics=True,
    ).with_id("Transform")
    transform.add_upstream_node(data_gate)
    tuner = _tuner(settings, transform) if settings.tune.trials else None
    hyperparameters = tuner.outputs["best_hyperparameters"] if tuner else None
    trainer = ResumableTrainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        hyperparameters=hyperparameters,
        run_fn="pipeline.training.trainer.run_fn",
        train_args=trainer_pb2.TrainArgs(splits=[features.TRAIN]),
        eval_args=trainer_pb2.EvalArgs(splits=[features.EVAL]),
        custom_config={
            **_training_config(settings, settings.train, _TRAIN_CODE),
            # The folder, not the version: a new release alone must not trigger another training.
            **({"serving_dir": serving_dir} if settings.train.start_from == "champion" else {}),
        },
    ).with_id("Trainer")
    champion = Resolver(
        strategy_class=ChampionStrategy,
        config={"serving_dir": serving_dir},
        candidate=trainer.outputs["model"],
        model=Channel(type=standard_artifacts.Model),
        pushed_model=Channel(type=standard_artifacts.PushedModel),
        withdrawn=Channel(type=standard_artifacts.PushedModel),
    ).with_id("Champion")
    evaluator = PhotoEvaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=champion.outputs["model"],
        schema=schema_gen.outputs["schema"],
        eval_config=gate.eval_config(settings.gate),
        example_splits=[features.TEST],
    ).with_id("Evaluator")
    infra_validator = None
    if settings.release.infra_validation != "off":
        infra_validator = BlessedModelValidator(
            model=trainer.outputs["model"],
            model_blessing=evaluator.outputs["blessing"],
            examples=example_gen.outputs["examples"],
            serving_spec=infra_validation.serving_spec(settings.release),
            validation_spec=infra_validation.validation_spec(),
            request_spec=infra_validation.request_spec(),
            code=code.fingerprint(*_INFRA_CODE),
        ).with_id(INFRA_VALIDATOR)
    release = ReleasePusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"] if infra_validator else None,
        replaces=champion.outputs["pushed_model"],
        withdrawn=champion.outputs["withdrawn"],
        evaluation=evaluator.outputs["evaluation"],
        statistics=statistics_gen.outputs["statistics"],
        examples=example_gen.outputs["examples"],
        hyperparameters=hyperparameters,
        serving_dir=serving_dir,
        record={
            pushed_model.DATA_ROOT: data_root,
            "settings": {
                key: value
                for key, value in settings.effective().items()
                if not key.startswith("beam.")  # where the work is done does not change the result
            },
            "code": code_of(settings),
        },
        code=code.fingerprint(*_RELEASE_CODE),
    ).with_id("Pusher")
    return Pipeline(
        pipeline_name=NAME,
        pipeline_root=pipeline_root,
        components=[
            example_gen,
            schema_gen,
            statistics_gen,
            example_validator,
            released_data,
            drift_validator,
            data_gate,
            transform,
            *([tuner] if tuner else []),
            trainer,
            champion,
            evaluator,
            *([infra_validator] if infra_validator else []),
            release,
            *([_copier(settings, serving_dir, release)] if settings.release.copy_to else []),
        ],
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=list(beam_pipeline_args),
    )

"""Pusher: releases a blessed model into the serving folder.

TFX's Pusher copies straight into the serving folder, where a server may see half a version, and
pushes unchanged models again. `pipeline.release.operations.release` does neither.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tfx import types
from tfx.components.pusher import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import (
    artifact_utils,
    component_spec,
    standard_artifacts,
    standard_component_specs,
)
from tfx.utils import json_utils, proto_utils

from pipeline.artifacts import data_checks, infra_blessing, ingestion, pushed_model, tuning_results
from pipeline.core import code, features, file_formats
from pipeline.evaluation import gate
from pipeline.release import model_store, operations
from pipeline.settings import gate_of

_WITHDRAWN = (
    "This model was withdrawn by a rollback, so no run releases it again; only "
    "`python -m pipeline releases rollback` does."
)
_NOT_COMPARED = (
    "Version {newest} was released during this run, so the candidate was not compared with it; the "
    "next run compares them."
)
_NOT_BETTER = (
    "This model was in service before and was replaced; its mean IoU of {candidate:.4f} does not "
    "beat the {champion:.4f} of version {newest}, which stays in service."
)


class Executor(executor.Executor):
    """Releases the model if it is blessed, and records the result on the output."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            for verdict in input_dict.get(standard_component_specs.INFRA_BLESSING_KEY, []):
                if reason := verdict.get_string_custom_property(infra_blessing.REASON):
                    pushed.set_string_custom_property(pushed_model.REFUSED, reason)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(
            exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination
        )
        folder = destination.filesystem.base_directory
        with model_store.lock(folder):  # nothing may change between the checks and the release
            self._release(input_dict, pushed, exec_properties, folder)

    def _release(
        self,
        input_dict: dict[str, list[types.Artifact]],
        pushed: types.Artifact,
        exec_properties: dict[str, Any],
        folder: str,
    ) -> None:
        model = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        path = self.GetModelPath(input_dict)
        if refused := _refusal(path, folder, input_dict):
            self._MarkNotPushed(pushed)
            pushed.set_string_custom_property(pushed_model.REFUSED, refused)
            pushed.set_int_custom_property(pushed_model.FOR_NOW, 1)
            return
        for best in input_dict.get(standard_component_specs.HYPERPARAMETERS_KEY, []):
            config["settings"] |= tuning_results.read_best(best)
        before = model_store.versions(folder)
        fault = before and _fault(folder, before[-1])
        formats = file_formats.wanted(config["settings"])

        def convert(version_path: str, record: dict[str, Any]) -> dict[str, Any]:
            from pipeline.conversion import converter  # needs optional packages

            return converter.make_all(
                formats, version_path, record, record[pushed_model.EXAMPLES_URI]
            )

        version = operations.release(
            path,
            folder,
            formats,
            convert,
            model_uri=model.uri,
            **config,
            **_facts(input_dict, config["settings"]),
        )
        self._MarkPushed(pushed, f"{folder.rstrip('/')}/{version}", str(version))
        pushed.set_int_custom_property(pushed_model.MADE, int(version not in before))
        if before and version not in before:
            pushed.set_int_custom_property(pushed_model.REPLACED, before[-1])
            if fault:
                pushed.set_string_custom_property(pushed_model.FAULT, fault)
        pushed.set_int_custom_property(pushed_model.MODEL_ID, model.id)
        (statistics,) = input_dict["statistics"]
        pushed.set_int_custom_property(pushed_model.STATISTICS_ID, statistics.id)


def _refusal(path: str, folder: str, inputs: dict[str, list[types.Artifact]]) -> str | None:
    """Return why a blessed model is not released, in a sentence; None if it is."""
    if model_store.is_among(path, model_store.withdrawn(folder)):
        return _WITHDRAWN
    newest = max(model_store.versions(folder), default=None)
    if newest is None or model_store.model_of(folder, newest) == model_store.identify(path):
        return None
    compared = [
        int(c.get_string_custom_property(pushed_model.VERSION)) for c in inputs.get("replaces", [])
    ]
    if not any(model_store.same_model(folder, version, newest) for version in compared):
        repaired = model_store.record(folder, newest).get("repaired")
        if repaired and model_store.model_of(folder, repaired) == model_store.identify(path):
            return None
        return _NOT_COMPARED.format(newest=newest)
    (evaluated,) = inputs["evaluation"]
    values = gate.read_comparison(evaluated.uri)
    replaced = model_store.is_among(path, model_store.replaced(folder))
    if replaced and values and values[0] <= values[1] and not _fault(folder, newest):
        return _NOT_BETTER.format(newest=newest, candidate=values[0], champion=values[1])
    return None


def _fault(folder: str, version: int) -> str | None:
    """Return what is wrong with a version or its record, in one clause; None if nothing."""
    if fault := model_store.damage(folder, version) or model_store.lost_record(folder, version):
        return fault
    return None if model_store.is_recorded(folder, version) else "its record is incomplete"


def _facts(inputs: dict[str, list[types.Artifact]], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about the run for the release record."""
    (evaluated,), (statistics,), (examples,) = (
        inputs[key] for key in ("evaluation", "statistics", "examples")
    )
    return {
        pushed_model.CLASSES: list(features.CLASS_NAMES),
        pushed_model.STATISTICS_URI: statistics.uri,
        pushed_model.EXAMPLES_URI: examples.uri,
        "data": {
            "splits": data_checks.count_examples(statistics),
            "quarantined": len(ingestion.read_quarantine(examples.uri)),
        },
        "metrics": gate.read_metrics(evaluated.uri),
        "gate": gate.read_gate(evaluated.uri, gate_of(settings)),
        "versions": code.versions(),
    }


class _Spec(standard_component_specs.PusherSpec):
    PARAMETERS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.PusherSpec.PARAMETERS,
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.PusherSpec.INPUTS,
        "replaces": component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel, optional=True
        ),
        "withdrawn": component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel, optional=True
        ),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        standard_component_specs.HYPERPARAMETERS_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.HyperParameters, optional=True
        ),
    }


class ReleasePusher(component.Pusher):
    """TFX's Pusher with the executor above and more inputs.

    `replaces` and `withdrawn` are part of the cache key, so that going back and forth between two
    models is a new release each time. Without them, releasing a model that has been replaced since
    would be a cache hit. The other inputs are for the release record.
    """

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel | None = None,
        replaces: types.BaseChannel,
        withdrawn: types.BaseChannel,
        evaluation: types.BaseChannel,
        statistics: types.BaseChannel,
        examples: types.BaseChannel,
        hyperparameters: types.BaseChannel | None = None,
        serving_dir: str,
        record: dict[str, Any],
        code: str,
    ):
        """Create the component.

        Args:
          model: the candidate.
          model_blessing: the Evaluator's verdict on it.
          infra_blessing: the InfraValidator's verdict, if it is enabled.
          replaces: the PushedModel of the champion, if there is one.
          withdrawn: the last PushedModel, if it is withdrawn.
          evaluation: the Evaluator's output on the candidate.
          statistics: statistics of the examples.
          examples: ExampleGen's output, with the quarantine.
          hyperparameters: from the Tuner; they replace settings in the record.
          serving_dir: the serving folder of the model.
          record: additional JSON values for the release record; must contain
            pushed_model.DATA_ROOT, and "settings" by dotted key.
          code: fingerprint of the component's code.
        """
        super(component.Pusher, self).__init__(
            spec=_Spec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                replaces=replaces,
                withdrawn=withdrawn,
                evaluation=evaluation,
                statistics=statistics,
                examples=examples,
                hyperparameters=hyperparameters,
                push_destination=pusher_pb2.PushDestination(
                    filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_dir)
                ),
                custom_config=json_utils.dumps(record),
                code=code,
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )

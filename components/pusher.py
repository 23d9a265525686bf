"""Pusher: releases a blessed model into the serving folder.

TFX's own Pusher copies into the final folder, where a server may see half a version, and pushes an
unchanged model again; `pipeline.serving.release` does neither.
"""

from __future__ import annotations

from typing import Any, ClassVar

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx import types
from tfx.components.pusher import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import (
    artifact_utils,
    component_spec,
    standard_artifacts,
    standard_component_specs,
)
from tfx.utils import json_utils, proto_utils

from pipeline import serving

# Custom properties of the PushedModel artifact; all but the last are TFX's.
PUSHED, VERSION, DESTINATION = "pushed", "pushed_version", "pushed_destination"
MODEL_ID = "model_id"
DATA_ROOT = "data_root"  # in the release record


class Executor(executor.Executor):
    """Releases the model if it is blessed, and notes on the output what became of it."""

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
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(
            exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination
        )
        folder = destination.filesystem.base_directory
        model = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        version = serving.release(
            self.GetModelPath(input_dict),
            folder,
            model_uri=model.uri,
            data_root=config[DATA_ROOT],
        )
        self._MarkPushed(pushed, f"{folder.rstrip('/')}/{version}", str(version))
        pushed.set_int_custom_property(MODEL_ID, model.id)


def forget_missing(connection: mlmd_pb2.ConnectionConfig) -> None:
    """Marks releases as deleted in ML Metadata whose version is gone from the serving folder.

    To be called before a run: else the cache answers that a model was released which is not there.
    """
    store = mlmd.MetadataStore(connection)
    if "PushedModel" not in {known.name for known in store.get_artifact_types()}:
        return
    gone = []
    for release in store.get_artifacts_by_type("PushedModel"):
        destination = release.custom_properties[DESTINATION].string_value
        live = release.state == mlmd_pb2.Artifact.LIVE
        if live and destination and not fileio.exists(destination):
            release.state = mlmd_pb2.Artifact.DELETED
            gone.append(release)
    store.put_artifacts(gone)


class _Spec(standard_component_specs.PusherSpec):
    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.PusherSpec.INPUTS,
        "replaces": component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel, optional=True
        ),
    }


class ReleasePusher(component.Pusher):
    """TFX's Pusher with the executor above and one more input, the release that is replaced.

    The input makes going back and forth between two models a new release each time: without it the
    cache would answer that a model which has been replaced since was released already.
    """

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        replaces: types.BaseChannel,
        serving_dir: str,
        data_root: str,
    ):
        """Creates the component.

        Args:
          model: the candidate.
          model_blessing: Evaluator's verdict on it.
          replaces: the PushedModel of the champion, if there is one.
          serving_dir: the serving folder of the model.
          data_root: where the model's data came from, for the release record.
        """
        super(component.Pusher, self).__init__(
            spec=_Spec(
                model=model,
                model_blessing=model_blessing,
                replaces=replaces,
                push_destination=pusher_pb2.PushDestination(
                    filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_dir)
                ),
                custom_config=json_utils.dumps({DATA_ROOT: data_root}),
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )

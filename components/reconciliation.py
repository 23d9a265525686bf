"""Brings ML Metadata in line with a serving folder, which people change between runs."""

from __future__ import annotations

import os
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import Artifact, standard_artifacts

from components import pusher
from pipeline import serving

_RELEASE, _FOUND = "PushedModel", "Released"  # an artifact type, an execution type

_Records = dict[str, dict[str, Any]]  # of `serving.history`, by the folder of the version


def reconcile(
    connection: mlmd_pb2.ConnectionConfig, folder: str, pipeline_name: str, pipeline_root: str
) -> None:
    """Notes in ML Metadata which versions a serving folder holds, and what was rolled back.

    To be called before a run: else the cache answers that a model was released which is not there,
    and a candidate meets a champion that is not the model in service: because a rollback took it
    out, or because the version in service is not known (the run that released it was killed before
    it could note that, or the metadata store was lost).

    Args:
      connection: to the metadata store.
      folder: the serving folder of the run's model.
      pipeline_name: of the pipeline whose releases these are.
      pipeline_root: where its artifacts are.
    """
    records = {
        f"{folder.rstrip('/')}/{record['version']}": record for record in serving.history(folder)
    }
    with metadata.Metadata(connection) as handle:
        store = handle.store
        _forget_missing(store)
        known = _live(store)
        for destination in [each for each in records if each not in known]:
            context = context_lib.register_context_if_not_exists(
                handle, context_type_name="pipeline", context_name=pipeline_name
            )
            _note_release(store, context, destination, records[destination], pipeline_root)
        _note_withdrawn(store, records)


def _destination(release: mlmd_pb2.Artifact) -> str:
    return release.custom_properties[pusher.DESTINATION].string_value


def _live(store: mlmd.MetadataStore) -> set[str]:
    """The folders of the versions that are known."""
    releases = store.get_artifacts_by_type(_RELEASE)
    return {_destination(each) for each in releases if each.state == mlmd_pb2.Artifact.LIVE}


def _forget_missing(store: mlmd.MetadataStore) -> None:
    gone = []
    for release in store.get_artifacts_by_type(_RELEASE):
        live = release.state == mlmd_pb2.Artifact.LIVE
        if live and _destination(release) and not fileio.exists(_destination(release)):
            release.state = mlmd_pb2.Artifact.DELETED
            gone.append(release)
    store.put_artifacts(gone)


def _note_release(
    store: mlmd.MetadataStore,
    context: mlmd_pb2.Context,
    destination: str,
    record: dict[str, Any],
    pipeline_root: str,
) -> None:
    """Adds the release of a version, and its model where the store does not know that either."""
    version = str(record["version"])
    root = os.path.join(pipeline_root, _FOUND)
    model_id = _id_of(store, standard_artifacts.Model, record.get("model_uri"))
    if model_id is None:
        # The Champion brings the model back to this place from the version, when it is needed.
        model = standard_artifacts.Model()
        model.uri = os.path.join(root, "model", version)
        model_id = _publish(store, context, "model", model)
    release = standard_artifacts.PushedModel()
    release.uri = os.path.join(root, "pushed_model", version)
    release.set_int_custom_property(pusher.PUSHED, 1)
    release.set_string_custom_property(pusher.VERSION, version)
    release.set_string_custom_property(pusher.DESTINATION, destination)
    release.set_int_custom_property(pusher.MODEL_ID, model_id)
    statistics = record.get(pusher.STATISTICS_URI)
    statistics_id = _id_of(store, standard_artifacts.ExampleStatistics, statistics)
    if statistics_id is not None:
        release.set_int_custom_property(pusher.STATISTICS_ID, statistics_id)
    _publish(store, context, "pushed_model", release)


def _id_of(store: mlmd.MetadataStore, kind: type[Artifact], uri: str | None) -> int | None:
    if uri is None:
        return None
    return next((a.id for a in store.get_artifacts_by_type(kind.TYPE_NAME) if a.uri == uri), None)


def _publish(
    store: mlmd.MetadataStore, context: mlmd_pb2.Context, key: str, artifact: Artifact
) -> int:
    """Puts an artifact into the store, as the output of an execution; returns its id."""
    type_id = store.put_execution_type(mlmd_pb2.ExecutionType(name=_FOUND))
    execution = mlmd_pb2.Execution(type_id=type_id, last_known_state=mlmd_pb2.Execution.COMPLETE)
    raw = artifact.mlmd_artifact
    raw.type_id = store.put_artifact_type(artifact.artifact_type)
    raw.state = mlmd_pb2.Artifact.LIVE
    step = mlmd_pb2.Event.Path.Step
    path = mlmd_pb2.Event.Path(steps=[step(key=key), step(index=0)])
    event = mlmd_pb2.Event(type=mlmd_pb2.Event.OUTPUT, path=path)
    _, (artifact_id,), _ = store.put_execution(execution, [(raw, event)], [context])
    return artifact_id


def _note_withdrawn(store: mlmd.MetadataStore, records: _Records) -> None:
    changed = []
    for release in store.get_artifacts_by_type(_RELEASE):
        noted = release.custom_properties[pusher.WITHDRAWN].int_value == 1
        if _destination(release) not in records:
            continue
        withdrawn = records[_destination(release)]["status"] == serving.WITHDRAWN
        if withdrawn != noted:
            release.custom_properties[pusher.WITHDRAWN].int_value = int(withdrawn)
            changed.append(release)
    store.put_artifacts(changed)

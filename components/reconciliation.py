"""Brings ML Metadata in line with a serving folder, which people change between runs."""

from __future__ import annotations

from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.dsl.io import fileio

from components import pusher
from pipeline import serving

_RELEASE, _ROLLBACK, _OUTPUT = "PushedModel", "Rollback", "pushed_model"

_Records = dict[str, dict[str, Any]]  # of `serving.history`, by the folder of the version


def reconcile(connection: mlmd_pb2.ConnectionConfig, folder: str, pipeline_name: str) -> None:
    """Notes in ML Metadata which versions were deleted and what was rolled back.

    To be called before a run: else the cache answers that a model was released which is not there,
    and a candidate meets a champion that was taken out of service.

    Args:
      connection: to the metadata store.
      folder: the serving folder of the run's model.
      pipeline_name: of the pipeline whose releases these are.
    """
    store = mlmd.MetadataStore(connection)
    if _RELEASE not in {known.name for known in store.get_artifact_types()}:
        return
    records = {
        f"{folder.rstrip('/')}/{record['version']}": record for record in serving.history(folder)
    }
    _forget_missing(store)
    _note_rollbacks(store, records, pipeline_name)
    _note_withdrawn(store, records)


def _forget_missing(store: mlmd.MetadataStore) -> None:
    gone = []
    for release in store.get_artifacts_by_type(_RELEASE):
        destination = release.custom_properties[pusher.DESTINATION].string_value
        live = release.state == mlmd_pb2.Artifact.LIVE
        if live and destination and not fileio.exists(destination):
            release.state = mlmd_pb2.Artifact.DELETED
            gone.append(release)
    store.put_artifacts(gone)


def _note_rollbacks(store: mlmd.MetadataStore, records: _Records, pipeline_name: str) -> None:
    """Adds the releases that a rollback made: each is a later one of a model that is known."""
    context = store.get_context_by_type_and_name("pipeline", pipeline_name)
    known = {
        artifact.custom_properties[pusher.DESTINATION].string_value: artifact
        for artifact in store.get_artifacts_by_type(_RELEASE)
    }
    models = {artifact.uri: artifact.id for artifact in store.get_artifacts_by_type("Model")}
    by_model = {a.custom_properties[pusher.MODEL_ID].int_value: a for a in known.values()}
    for destination, record in records.items():
        original = by_model.get(models.get(record.get("model_uri")))
        if "rollback" not in record or destination in known or original is None:
            continue
        release = mlmd_pb2.Artifact()
        release.CopyFrom(original)
        release.ClearField("id")
        release.state = mlmd_pb2.Artifact.LIVE
        release.custom_properties[pusher.DESTINATION].string_value = destination
        release.custom_properties[pusher.VERSION].string_value = str(record["version"])
        _publish(store, context, release)


def _publish(
    store: mlmd.MetadataStore, context: mlmd_pb2.Context, release: mlmd_pb2.Artifact
) -> None:
    type_id = store.put_execution_type(mlmd_pb2.ExecutionType(name=_ROLLBACK))
    execution = mlmd_pb2.Execution(type_id=type_id, last_known_state=mlmd_pb2.Execution.COMPLETE)
    step = mlmd_pb2.Event.Path.Step
    path = mlmd_pb2.Event.Path(steps=[step(key=_OUTPUT), step(index=0)])
    event = mlmd_pb2.Event(type=mlmd_pb2.Event.OUTPUT, path=path)
    store.put_execution(execution, [(release, event)], [context])


def _note_withdrawn(store: mlmd.MetadataStore, records: _Records) -> None:
    changed = []
    for release in store.get_artifacts_by_type(_RELEASE):
        destination = release.custom_properties[pusher.DESTINATION].string_value
        noted = release.custom_properties[pusher.WITHDRAWN].int_value == 1
        if destination not in records:
            continue
        withdrawn = records[destination]["status"] == serving.WITHDRAWN
        if withdrawn != noted:
            release.custom_properties[pusher.WITHDRAWN].int_value = int(withdrawn)
            changed.append(release)
    store.put_artifacts(changed)

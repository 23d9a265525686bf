"""Bring ML Metadata in line with a serving folder, which people change between runs."""

from __future__ import annotations

import os
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import Artifact, standard_artifacts
from tfx.utils import path_utils

from pipeline.artifacts import pushed_model
from pipeline.release import model_store

_RELEASE, _REGISTERED = "PushedModel", "Released"  # artifact type, execution type

_Records = dict[str, dict[str, Any]]  # of `model_store.history`, by the folder of the version


def is_due(ir: pipeline_pb2.Pipeline, node_id: str) -> bool:
    """Whether `reconcile` has to run before a node: the first one, and the Champion.

    The Champion because people and other runs may release while this one trains.
    """
    return node_id in (ir.nodes[0].pipeline_node.node_info.id, "Champion")


def reconcile(
    connection: mlmd_pb2.ConnectionConfig, folder: str, pipeline_name: str, pipeline_root: str
) -> None:
    """Record in ML Metadata which versions a serving folder has, and which are withdrawn.

    Call it before each node that `is_due`. Otherwise the cache could claim that a deleted release
    still exists, and the candidate could be compared with a model that is not in service: one that
    was rolled back, or one older than a version the store has no record of (its run was killed
    before recording it, or the store was lost).

    Args:
      connection: to the metadata store.
      folder: the serving folder of the model.
      pipeline_name: name of the pipeline that made the releases.
      pipeline_root: its folder for artifacts.
    """
    folder = folder.rstrip("/")
    records = {
        model_store.path(folder, record["version"]): record
        for record in model_store.history(folder)
    }
    broken = [
        version
        for version in model_store.versions(folder)[-1:]
        if model_store.damage(folder, version)
        or not model_store.record(folder, version)
        or not model_store.is_recorded(folder, version)
    ]
    with metadata.Metadata(connection) as handle:
        store = handle.store
        _forget_missing(store, folder, broken)
        recorded = _live(store)
        for destination in [each for each in records if each not in recorded]:
            context = context_lib.register_context_if_not_exists(
                handle, context_type_name="pipeline", context_name=pipeline_name
            )
            _note_release(store, context, destination, records[destination], pipeline_root)
        _note_withdrawn(store, records)


def _destination(release: mlmd_pb2.Artifact) -> str:
    # Reading a missing key would add it without a value, which crashes the store.
    values = release.custom_properties
    if pushed_model.DESTINATION not in values:
        return ""
    return str(values[pushed_model.DESTINATION].string_value)


def _live(store: mlmd.MetadataStore) -> set[str]:
    """Return the folders of all versions that the store records as live."""
    releases = store.get_artifacts_by_type(_RELEASE)
    return {_destination(each) for each in releases if each.state == mlmd_pb2.Artifact.LIVE}


def _forget_missing(store: mlmd.MetadataStore, folder: str, broken: list[int]) -> None:
    """Mark releases as deleted if their version is missing or broken.

    The cache ignores deleted artifacts, so a run in which nothing changed releases the model again.
    That includes every release whose model a broken version contains. The broken version itself
    stays on record, registered by this module. A refusal that depended on the state of the folder
    is deleted too, so that the Pusher decides again.
    """

    def is_broken(path: str) -> bool:
        parent, name = os.path.split(path)
        return parent == folder and any(
            model_store.same_model(folder, int(name), version) for version in broken
        )

    gone = []
    for release in store.get_artifacts_by_type(_RELEASE):
        if release.state != mlmd_pb2.Artifact.LIVE:
            continue
        path = _destination(release)
        lost = path and not fileio.exists(path)
        damaged = not lost and f"/{_REGISTERED}/" not in release.uri and is_broken(path)
        if lost or damaged or pushed_model.FOR_NOW in release.custom_properties:
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
    """Register the release of a version, and its model if the store does not have it either."""
    version = str(record["version"])
    root = os.path.join(pipeline_root, _REGISTERED)
    uri = record.get("model_uri")
    model_id = _id_of(store, standard_artifacts.Model, uri)
    folder = os.path.dirname(destination)
    same = [record["version"], record.get("repaired", record["version"])]
    models = [model_store.model_of(folder, version) for version in same]
    if uri and model_id is not None and not _holds(uri, models):
        model_id = None  # the record is from another store, in which the URI meant another model
    if model_id is None:
        # The Champion copies the model from the version to this URI when it needs it.
        model = standard_artifacts.Model()
        model.uri = os.path.join(root, "model", version)
        model_id = _publish(store, context, "model", model)
    release = standard_artifacts.PushedModel()
    release.uri = os.path.join(root, "pushed_model", version)
    release.set_int_custom_property(pushed_model.PUSHED, 1)
    release.set_string_custom_property(pushed_model.VERSION, version)
    release.set_string_custom_property(pushed_model.DESTINATION, destination)
    release.set_int_custom_property(pushed_model.MODEL_ID, model_id)
    statistics = record.get(pushed_model.STATISTICS_URI)
    statistics_id = _id_of(store, standard_artifacts.ExampleStatistics, statistics)
    if statistics_id is not None:
        release.set_int_custom_property(pushed_model.STATISTICS_ID, statistics_id)
    _publish(store, context, "pushed_model", release)


def _holds(model_uri: str, models: list[str]) -> bool:
    """Whether a Model artifact contains one of these models, or is gone."""
    path = path_utils.serving_model_path(model_uri)
    return not fileio.exists(path) or model_store.identify(path) in models


def _id_of(store: mlmd.MetadataStore, kind: type[Artifact], uri: str | None) -> int | None:
    if uri is None:
        return None
    return next((a.id for a in store.get_artifacts_by_type(kind.TYPE_NAME) if a.uri == uri), None)


def _publish(
    store: mlmd.MetadataStore, context: mlmd_pb2.Context, key: str, artifact: Artifact
) -> int:
    """Store an artifact as the output of an execution and return its id."""
    type_id = store.put_execution_type(mlmd_pb2.ExecutionType(name=_REGISTERED))
    execution = mlmd_pb2.Execution(type_id=type_id, last_known_state=mlmd_pb2.Execution.COMPLETE)
    raw = artifact.mlmd_artifact
    raw.type_id = store.put_artifact_type(artifact.artifact_type)
    raw.state = mlmd_pb2.Artifact.LIVE
    step = mlmd_pb2.Event.Path.Step
    path = mlmd_pb2.Event.Path(steps=[step(key=key), step(index=0)])
    event = mlmd_pb2.Event(type=mlmd_pb2.Event.OUTPUT, path=path)
    _, artifact_ids, _ = store.put_execution(execution, [(raw, event)], [context])
    return int(artifact_ids[0])


def _note_withdrawn(store: mlmd.MetadataStore, records: _Records) -> None:
    changed = []
    for release in store.get_artifacts_by_type(_RELEASE):
        if _destination(release) not in records:
            continue
        noted = release.custom_properties[pushed_model.WITHDRAWN].int_value == 1
        withdrawn = records[_destination(release)]["status"] == model_store.WITHDRAWN
        if withdrawn != noted:
            release.custom_properties[pushed_model.WITHDRAWN].int_value = int(withdrawn)
            changed.append(release)
    store.put_artifacts(changed)

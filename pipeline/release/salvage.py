"""Recover a version that lost its record or files, from other versions or the Trainer's output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from pipeline.core import run_folder
from pipeline.release import model_store
from pipeline.saved_model import contract


def find(folder: str, version: int) -> tuple[str | None, dict[str, Any]]:
    """Searches for an intact copy of a version's model, and for its record.

    A lost record is taken from another version of the same model, such as one that a rollback made.
    If there is none, the result has only what the Trainer's output and the model itself contain,
    and is marked ``incomplete``. Without a record, only byte-identical files identify a model.

    Args:
      folder: the serving folder.
      version: one of its versions.

    Returns:
      An intact SavedModel, which may be the version's own folder, or None; and the readable part of
      the record.
    """
    own, record = model_store.path(folder, version), model_store.record(folder, version)
    if record and not record.get("incomplete"):
        return _intact_model(folder, version, record), record
    if contract.incompatibility(own):
        return _intact_model(folder, version, record), record
    described = model_store.is_described(folder, version)
    for other in reversed(model_store.versions(folder)):
        path, other_record = model_store.path(folder, other), model_store.record(folder, other)
        if other == version or not other_record or other_record.get("incomplete"):
            continue
        if not model_store.damage(folder, other) and _same_files(own, path):
            return own if described else path, other_record
    partial = {**_classes(own), **record, "incomplete": True}
    for uri in _trained_models(folder):
        path = path_utils.serving_model_path(uri)
        if not contract.incompatibility(path) and _same_files(own, path):
            return own if described else path, {**partial, **_classes(path), "model_uri": uri}
    return own if described else None, partial


def matches_record(path: str, record: Mapping[str, Any]) -> bool:
    """Whether a SavedModel is the model of a record; True if the record does not identify one."""
    if "identity" in record:
        identity: str = record["identity"]
        return model_store.identify(path) == identity
    return record.get("digest") in (None, model_store.digest(path))


def _intact_model(folder: str, version: int, record: Mapping[str, Any]) -> str | None:
    """An intact SavedModel of a record's model, preferably the version's own; None without one."""
    own = model_store.path(folder, version)
    if record and not model_store.damage(folder, version):
        return own
    if not (record.get("identity") or record.get("digest")):
        return None
    trained: str | None = record.get("model_uri")
    paths: list[str] = [path_utils.serving_model_path(trained)] if trained else []
    others = [model_store.path(folder, other) for other in reversed(model_store.versions(folder))]
    paths += [path for path in others if path != own]
    for path in paths:
        if (
            fileio.exists(path)
            and not contract.incompatibility(path)
            and matches_record(path, record)
        ):
            return path
    return None


def _same_files(one: str, other: str) -> bool:
    """Whether two SavedModels have byte-identical graphs and weights."""
    try:
        return _file_digests(one) == _file_digests(other)
    except (OSError, tf.errors.OpError):
        return False


def _file_digests(model_path: str) -> dict[str, str]:
    folder = os.path.join(model_path, "variables")
    names = [os.path.join("variables", name) for name in fileio.listdir(folder)]
    return {
        name: model_store.file_digest(os.path.join(model_path, name))
        for name in ["saved_model.pb", *names]
    }


def _classes(model_path: str) -> dict[str, Any]:
    classes = contract.read_facts(model_path).get(contract.CLASSES)
    return {contract.CLASSES: classes} if classes else {}


def _trained_models(folder: str) -> Iterator[str]:
    """URIs of the models in all known Trainer output folders."""
    uris = [
        model_store.record(folder, version).get("model_uri")
        for version in model_store.versions(folder)
    ]
    roots = {os.path.dirname(uri.rstrip("/")) for uri in uris if uri}
    output = os.path.dirname(os.path.dirname(folder.rstrip("/")))
    roots.add(os.path.join(output, run_folder.ARTIFACTS, "Trainer", "model"))
    for root in sorted(roots):
        for name in sorted(fileio.listdir(root), reverse=True) if fileio.isdir(root) else []:
            yield os.path.join(root, name.rstrip("/"))

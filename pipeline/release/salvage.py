"""What is left of a version that lost its record or files: in other versions, at the Trainer."""

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
    """Looks for the model of a version, and for its record.

    A record that is lost is looked for in other versions of the same model, such as those that a
    rollback made; else it begins with what the Trainer's output and the model itself say, and is
    marked as ``incomplete``. Without a record, a model is known by its files alone.

    Args:
      folder: the serving folder.
      version: one of its versions.

    Returns:
      A sound SavedModel of the version, which may be its own folder, or None; and its record, as
      far as it was found.
    """
    there, known = model_store.path(folder, version), model_store.record(folder, version)
    if known and not known.get("incomplete"):
        return _model(folder, version, known), known
    if contract.misfit(there):
        return _model(folder, version, known), known
    described = model_store.is_described(folder, version)
    for other in reversed(model_store.versions(folder)):
        path, record = model_store.path(folder, other), model_store.record(folder, other)
        if other == version or not record or record.get("incomplete"):
            continue
        if not model_store.damage(folder, other) and _is_same(there, path):
            return there if described else path, record
    begun = {**_classes(there), **known, "incomplete": True}
    for uri in _trained(folder):
        path = path_utils.serving_model_path(uri)
        if not contract.misfit(path) and _is_same(there, path):
            return there if described else path, {**begun, **_classes(path), "model_uri": uri}
    return there if described else None, begun


def is_known_as(path: str, record: Mapping[str, Any]) -> bool:
    """Whether a SavedModel is the one that a record speaks of, as far as that says."""
    if "identity" in record:
        return model_store.identify(path) == record["identity"]
    return record.get("digest") in (None, model_store.digest(path))


def _model(folder: str, version: int, record: Mapping[str, Any]) -> str | None:
    """A sound SavedModel of the model that a record speaks of, the version's own if it can be."""
    there = model_store.path(folder, version)
    if record and not model_store.damage(folder, version):
        return there
    if not (record.get("identity") or record.get("digest")):
        return None
    others = [model_store.path(folder, other) for other in reversed(model_store.versions(folder))]
    trained = record.get("model_uri")
    places = [path_utils.serving_model_path(trained)] if trained else []
    for path in places + [other for other in others if other != there]:
        if fileio.exists(path) and not contract.misfit(path) and is_known_as(path, record):
            return path
    return None


def _is_same(one: str, other: str) -> bool:
    """Whether two SavedModels have the same graph and weights, byte by byte."""
    try:
        return _weights(one) == _weights(other)
    except (OSError, tf.errors.OpError):
        return False


def _weights(model_path: str) -> dict[str, str]:
    """Digests of the files that the model consists of."""
    folder = os.path.join(model_path, "variables")
    names = [os.path.join("variables", name) for name in fileio.listdir(folder)]
    return {
        name: model_store.file_digest(os.path.join(model_path, name))
        for name in ["saved_model.pb", *names]
    }


def _classes(model_path: str) -> dict[str, Any]:
    said = contract.read_facts(model_path).get(contract.CLASSES)
    return {contract.CLASSES: said} if said else {}


def _trained(folder: str) -> Iterator[str]:
    """URIs of the models that Trainers left, as far as it is known where that is."""
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

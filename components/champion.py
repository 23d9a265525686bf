"""Resolves the champion, the model in service, and its data, to compare the candidate with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from pipeline.artifacts import comparison, pushed_model
from pipeline.release import model_store, operations, salvage
from pipeline.saved_model import contract


class ChampionStrategy(resolver.ResolverStrategy):
    """Resolves the released model that a candidate would replace.

    Takes the channels ``candidate`` (one Model), ``model``, ``pushed_model`` and ``withdrawn`` (all
    artifacts of the pipeline), and considers the releases in one serving folder.

    * ``model`` and ``pushed_model``: the last release of another model than the candidate that is
      not withdrawn, or nothing. If the candidate itself is in service, that is the model it was
      compared with when it was released, so a run without changes is a cache hit.
    * ``withdrawn``: the last release of another model, if it is withdrawn.

    A champion that can no longer be evaluated (see `comparison.incompatibility`) is only in
    ``pushed_model``, and the candidate only has to meet the absolute thresholds. If the champion is
    damaged beyond repair, the newest older release that is not withdrawn and can be evaluated takes
    its place: it is in ``model``, and in ``pushed_model`` after the champion.
    """

    def __init__(self, serving_dir: str):
        """Create the strategy for the serving folder that the candidate would be released to."""
        self._serving_dir = serving_dir

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        # A model that was trained again is another artifact with the same identity.
        same_models = {
            model_store.identify(path_utils.serving_model_path(artifact.uri))
            for artifact in input_dict["candidate"]
        } - {""}
        others = [
            release
            for release in _releases(input_dict["pushed_model"], self._serving_dir)
            if release.get_int_custom_property(pushed_model.MODEL_ID) in models.keys() - candidates
            and model_store.model_of(*pushed_model.place(release)) not in same_models
        ]
        valid = [release for release in others if not _is_withdrawn(release)]
        opponent = next(_evaluable(valid, models), None)
        return {
            **input_dict,
            "model": [models[opponent.get_int_custom_property(pushed_model.MODEL_ID)]]
            if opponent
            else [],
            "pushed_model": valid[:1] + [r for r in valid[1:] if r is opponent],
            "withdrawn": [release for release in others[:1] if _is_withdrawn(release)],
        }


def _evaluable(
    releases: list[types.Artifact], models: dict[int, types.Artifact]
) -> Iterator[types.Artifact]:
    """Yield the releases that can be evaluated, down to the newest one that is not damaged."""
    for release in releases:
        model = models[release.get_int_custom_property(pushed_model.MODEL_ID)]
        _restore(model, release)
        if not comparison.incompatibility(release, path_utils.serving_model_path(model.uri)):
            yield release
        if comparison.classes_differ(release) or not model_store.damage(
            *pushed_model.place(release)
        ):
            return


class ReleasedDataStrategy(resolver.ResolverStrategy):
    """Resolves the data of the model in service, to compare today's data with.

    Takes the channels ``statistics`` (one ExampleStatistics, today's), ``released`` and
    ``pushed_model`` (all artifacts of the pipeline), and considers the releases in one serving
    folder. Leaves in ``released`` and ``pushed_model`` the last release with other data that is not
    withdrawn, or nothing. A release with the same data does not count, so a run without changes is
    compared with the same data as before, and is a cache hit.
    """

    def __init__(self, serving_dir: str):
        """Create the strategy for the serving folder of the model."""
        self._serving_dir = serving_dir

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        today = {artifact.id for artifact in input_dict["statistics"]}
        # Deleted statistics cannot be compared with.
        existing = {a.id: a for a in input_dict["released"] if fileio.exists(a.uri)}
        latest = [
            release
            for release in _releases(input_dict["pushed_model"], self._serving_dir)
            if not _is_withdrawn(release) and _statistics(release) not in today
        ][:1]
        released = [existing[_statistics(r)] for r in latest if _statistics(r) in existing]
        return {**input_dict, "released": released, "pushed_model": latest if released else []}


def _releases(pushed: list[types.Artifact], folder: str) -> list[types.Artifact]:
    """Return the artifacts that are releases to this folder, the newest version first."""
    releases = [
        each
        for each in pushed
        if each.get_int_custom_property(pushed_model.PUSHED)
        and os.path.dirname(pushed_model.destination(each)) == folder.rstrip("/")
    ]
    return sorted(
        releases,
        key=lambda each: (int(each.get_string_custom_property(pushed_model.VERSION)), each.id),
        reverse=True,
    )


def _statistics(release: types.Artifact) -> int:
    return int(release.get_int_custom_property(pushed_model.STATISTICS_ID))


def _is_withdrawn(release: types.Artifact) -> bool:
    return int(release.get_int_custom_property(pushed_model.WITHDRAWN)) == 1


def _restore(model: types.Artifact, release: types.Artifact) -> None:
    """Restore a champion's SavedModel that was deleted or damaged.

    Copies it from the released version, even if that lost its record or other files, or from where
    a repair of the version would copy it.
    """
    path, (folder, version) = path_utils.serving_model_path(model.uri), pushed_model.place(release)
    with model_store.lock(folder):  # another run may be restoring it, too
        model, source = model_store.model_of(folder, version), model_store.path(folder, version)
        if not contract.incompatibility(path) and model_store.identify(path) == model:
            return
        if not contract.incompatibility(source) and model_store.identify(source) == model:
            operations.recover(folder, version, path)
        elif copy := salvage.find(folder, version)[0]:
            operations.recover(folder, version, path, copy)

"""The champion: the model in service, which a candidate and its data have to stand up to."""

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
    """Resolves the released model that a candidate replaces.

    Takes the channels ``candidate`` (one Model), ``model``, ``pushed_model`` and ``withdrawn`` (all
    of the pipeline's), and looks at the releases in one serving folder. Leaves in ``model`` and
    ``pushed_model`` the last one of another model than the candidate that no rollback took out of
    service, or nothing. If the candidate is in service already, that is the model it was compared
    with when it was released, so that a run in which nothing changed is compared with the same
    model again, and is a cache hit.
    Leaves in ``withdrawn`` the last release of another model, if a rollback took that one back.
    A champion that cannot be judged any more (see `misfit`) is in ``pushed_model`` alone, and the
    candidate has to hold the absolute bounds only. If that is because it is damaged, and cannot be
    brought back, the newest older one that is not withdrawn and can be judged stands in for it: it
    is in ``model``, and in ``pushed_model`` beside the champion.
    """

    def __init__(self, serving_dir: str):
        """Takes the serving folder that the candidate would be released to."""
        self._serving_dir = serving_dir

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        # Trained anew, the same model is another artifact.
        same = {
            model_store.identify(path_utils.serving_model_path(artifact.uri))
            for artifact in input_dict["candidate"]
        } - {""}
        others = [
            release
            for release in _releases(input_dict["pushed_model"], self._serving_dir)
            if release.get_int_custom_property(pushed_model.MODEL_ID) in models.keys() - candidates
            and model_store.model_of(*pushed_model.place(release)) not in same
        ]
        standing = [release for release in others if not _is_withdrawn(release)]
        judged = next(_judged(standing, models), None)
        return {
            **input_dict,
            "model": [models[judged.get_int_custom_property(pushed_model.MODEL_ID)]]
            if judged
            else [],
            "pushed_model": standing[:1] + [r for r in standing[1:] if r is judged],
            "withdrawn": [release for release in others[:1] if _is_withdrawn(release)],
        }


def _judged(
    standing: list[types.Artifact], models: dict[int, types.Artifact]
) -> Iterator[types.Artifact]:
    """The releases that can be judged, of those up to the newest that is not damaged."""
    for release in standing:
        model = models[release.get_int_custom_property(pushed_model.MODEL_ID)]
        _restore(model, release)
        if not comparison.misfit(release, path_utils.serving_model_path(model.uri)):
            yield release
        if comparison.classes_differ(release) or not model_store.damage(
            *pushed_model.place(release)
        ):
            return


class ReleasedDataStrategy(resolver.ResolverStrategy):
    """Resolves what today's data is compared with: the data of the model in service.

    Takes the channels ``statistics`` (one ExampleStatistics, today's), ``released`` and
    ``pushed_model`` (all of the pipeline's), and looks at the releases in one serving folder.
    Leaves in ``released`` and ``pushed_model`` the last one of other data that no rollback took out
    of service, or nothing. Other data: so that a run in which nothing changed is compared with the
    same data again, and is a cache hit.
    """

    def __init__(self, serving_dir: str):
        """Takes the serving folder of the model."""
        self._serving_dir = serving_dir

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        today = {artifact.id for artifact in input_dict["statistics"]}
        # What somebody cleaned away cannot be compared with.
        known = {a.id: a for a in input_dict["released"] if fileio.exists(a.uri)}
        standing = [
            release
            for release in _releases(input_dict["pushed_model"], self._serving_dir)
            if not _is_withdrawn(release) and _statistics(release) not in today
        ][:1]
        found = [known[_statistics(r)] for r in standing if _statistics(r) in known]
        return {**input_dict, "released": found, "pushed_model": standing if found else []}


def _releases(pushed: list[types.Artifact], folder: str) -> list[types.Artifact]:
    """Those that really were releases to this folder, the newest version first."""
    here = [
        each
        for each in pushed
        if each.get_int_custom_property(pushed_model.PUSHED)
        and os.path.dirname(pushed_model.destination(each)) == folder.rstrip("/")
    ]
    return sorted(
        here,
        key=lambda each: (int(each.get_string_custom_property(pushed_model.VERSION)), each.id),
        reverse=True,
    )


def _statistics(release: types.Artifact) -> int:
    return release.get_int_custom_property(pushed_model.STATISTICS_ID)


def _is_withdrawn(release: types.Artifact) -> bool:
    return release.get_int_custom_property(pushed_model.WITHDRAWN) == 1


def _restore(model: types.Artifact, release: types.Artifact) -> None:
    """Brings back a champion's SavedModel that was cleaned away or damaged.

    From its version, which may have lost its record or a file beside the model, or from wherever
    else a repair of the version would take it.
    """
    path, (folder, version) = path_utils.serving_model_path(model.uri), pushed_model.place(release)
    with model_store.lock(folder):  # another run may be at the same
        model, source = model_store.model_of(folder, version), model_store.path(folder, version)
        if not contract.misfit(path) and model_store.identify(path) == model:
            return
        if not contract.misfit(source) and model_store.identify(source) == model:
            operations.recover(folder, version, path)
        elif found := salvage.find(folder, version)[0]:
            operations.recover(folder, version, path, found)

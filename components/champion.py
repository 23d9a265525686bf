"""The champion: the model in service, which a candidate has to stand up to."""

from __future__ import annotations

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from components import pusher
from pipeline import serving


class ChampionStrategy(resolver.ResolverStrategy):
    """Resolves the released model that a candidate replaces.

    Takes the channels ``candidate`` (one Model), ``model``, ``pushed_model`` and ``withdrawn`` (all
    of the pipeline's). Leaves in ``model`` and ``pushed_model`` the last release of another model
    than the candidate that no rollback took out of service, or nothing. If the candidate is in
    service already, that is the model it was compared with when it was released, so that a run in
    which nothing changed is compared with the same model again, and is a cache hit.
    Leaves in ``withdrawn`` the last release of another model, if a rollback took that one back.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        releases = sorted(
            input_dict["pushed_model"], key=lambda artifact: artifact.id, reverse=True
        )
        others = [
            release
            for release in releases
            if release.get_int_custom_property(pusher.PUSHED)
            and release.get_int_custom_property(pusher.MODEL_ID) in models.keys() - candidates
        ]
        standing = [release for release in others if not _is_withdrawn(release)][:1]
        champions = [models[r.get_int_custom_property(pusher.MODEL_ID)] for r in standing]
        for model, release in zip(champions, standing, strict=True):
            _restore(model, release)
        return {
            **input_dict,
            "model": champions,
            "pushed_model": standing,
            "withdrawn": [release for release in others[:1] if _is_withdrawn(release)],
        }


def _is_withdrawn(release: types.Artifact) -> bool:
    return release.get_int_custom_property(pusher.WITHDRAWN) == 1


def _restore(model: types.Artifact, release: types.Artifact) -> None:
    """Brings back a champion's SavedModel that somebody cleaned away, from its released version."""
    path = path_utils.serving_model_path(model.uri)
    released = release.get_string_custom_property(pusher.DESTINATION)
    if not fileio.exists(path) and fileio.exists(released):
        serving.recover(released, path)

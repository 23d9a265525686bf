"""The champion: the model in service, which a candidate and its data have to stand up to."""

from __future__ import annotations

import os
from typing import Any

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from components import pusher
from pipeline import contract, features, serving


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
    candidate has to hold the absolute bounds only.
    """

    def __init__(self, serving_dir: str):
        """Takes the serving folder that the candidate would be released to."""
        self._serving_dir = serving_dir

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        others = [
            release
            for release in _releases(input_dict["pushed_model"], self._serving_dir)
            if release.get_int_custom_property(pusher.MODEL_ID) in models.keys() - candidates
        ]
        standing = [release for release in others if not _is_withdrawn(release)][:1]
        champions = [models[r.get_int_custom_property(pusher.MODEL_ID)] for r in standing]
        for model, release in zip(champions, standing, strict=True):
            _restore(model, release)
        return {
            **input_dict,
            "model": [
                model
                for model, release in zip(champions, standing, strict=True)
                if not misfit(release)
            ],
            "pushed_model": standing,
            "withdrawn": [release for release in others[:1] if _is_withdrawn(release)],
        }


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
        if each.get_int_custom_property(pusher.PUSHED)
        and os.path.dirname(_destination(each)) == folder.rstrip("/")
    ]
    return sorted(
        here,
        key=lambda each: (int(each.get_string_custom_property(pusher.VERSION)), each.id),
        reverse=True,
    )


def _destination(release: types.Artifact) -> str:
    return release.get_string_custom_property(pusher.DESTINATION)


def _statistics(release: types.Artifact) -> int:
    return release.get_int_custom_property(pusher.STATISTICS_ID)


def misfit(release: types.Artifact) -> str | None:
    """Why a candidate cannot be compared with a released model, in one clause; None if it can.

    Args:
      release: a PushedModel artifact of the version, which exists.
    """
    path = _destination(release)
    known = _record(path).get(pusher.CLASSES)
    if known and known != list(features.CLASS_NAMES):
        return f"its classes are {', '.join(known)}, not {', '.join(features.CLASS_NAMES)}"
    return contract.misfit(path)


def note(release: types.Artifact, candidate_path: str | None) -> str | None:
    """What people must know of the comparison with a champion, in one sentence, if anything.

    Args:
      release: the champion's PushedModel artifact.
      candidate_path: the candidate's SavedModel, where there is one.
    """
    version = release.get_string_custom_property(pusher.VERSION)
    fault = misfit(release)
    if fault:
        return (
            f"Version {version} could not be compared with, since {fault}; the candidate had to "
            "hold the absolute bounds alone."
        )
    if candidate_path is None:
        return None
    sizes = [contract.mask_size(path) for path in (_destination(release), candidate_path)]
    if sizes[0] == sizes[1]:
        return None
    return (
        f"Version {version} makes masks of {sizes[0]}x{sizes[0]} pixels, the candidate of "
        f"{sizes[1]}x{sizes[1]}; each was judged at its own size."
    )


def _record(version_path: str) -> dict[str, Any]:
    folder, version = os.path.split(version_path)
    return serving.record(folder, int(version))


def _is_withdrawn(release: types.Artifact) -> bool:
    return release.get_int_custom_property(pusher.WITHDRAWN) == 1


def _restore(model: types.Artifact, release: types.Artifact) -> None:
    """Brings back a champion's SavedModel that was cleaned away or damaged, from its version."""
    path = path_utils.serving_model_path(model.uri)
    released = _destination(release)
    if contract.misfit(path) and not contract.misfit(released):
        if fileio.exists(path):
            fileio.rmtree(path)
        serving.recover(released, path)

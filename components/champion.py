"""The champion: the model in service, which a candidate and its data have to stand up to."""

from __future__ import annotations

import os
from collections.abc import Iterator

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from components import pusher
from pipeline import contract, features, releasing, salvage, serving


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
            serving.identify(path_utils.serving_model_path(artifact.uri))
            for artifact in input_dict["candidate"]
        } - {""}
        others = [
            release
            for release in _releases(input_dict["pushed_model"], self._serving_dir)
            if release.get_int_custom_property(pusher.MODEL_ID) in models.keys() - candidates
            and serving.model_of(*_place(release)) not in same
        ]
        standing = [release for release in others if not _is_withdrawn(release)]
        judged = next(_judged(standing, models), None)
        return {
            **input_dict,
            "model": [models[judged.get_int_custom_property(pusher.MODEL_ID)]] if judged else [],
            "pushed_model": standing[:1] + [r for r in standing[1:] if r is judged],
            "withdrawn": [release for release in others[:1] if _is_withdrawn(release)],
        }


def _judged(
    standing: list[types.Artifact], models: dict[int, types.Artifact]
) -> Iterator[types.Artifact]:
    """The releases that can be judged, of those up to the newest that is not damaged."""
    for release in standing:
        model = models[release.get_int_custom_property(pusher.MODEL_ID)]
        _restore(model, release)
        if not misfit(release, path_utils.serving_model_path(model.uri)):
            yield release
        if _classes_differ(release) or not serving.damage(*_place(release)):
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


def misfit(release: types.Artifact, model_path: str) -> str | None:
    """Why a candidate cannot be compared with a released model, in one clause; None if it can.

    Args:
      release: a PushedModel artifact of the version, which exists.
      model_path: the SavedModel that it was made from, and which is judged.
    """
    return _classes_differ(release) or contract.misfit(model_path)


def note(
    release: types.Artifact,
    model_path: str | None,
    candidate_path: str | None,
    stand_in: types.Artifact | None = None,
) -> str | None:
    """What people must know of the comparison with a champion, in one sentence, if anything.

    Args:
      release: the champion's PushedModel artifact.
      model_path: the SavedModel that it was made from; None if that could not be judged.
      candidate_path: the candidate's SavedModel, where there is one.
      stand_in: the release that `model_path` is of, if that is not the champion's.
    """
    version = release.get_string_custom_property(pusher.VERSION)
    if model_path is None or stand_in is not None:
        fault = (
            _classes_differ(release)
            or contract.misfit(_destination(release))
            or serving.damage(*_place(release))
            or "its model is lost"
        )
        if stand_in is not None:
            older = stand_in.get_string_custom_property(pusher.VERSION)
            more = note(stand_in, model_path, candidate_path)
            return (
                f"Version {version} could not be compared with, since {fault}; the candidate was "
                f"compared with version {older}, the newest one before it that is sound."
            ) + (f" {more}" if more else "")
        return (
            f"Version {version} could not be compared with, since {fault}; the candidate had to "
            "hold the absolute bounds alone."
        )
    unservable = contract.unservable(model_path)
    if unservable:
        return f"Version {version} was compared with in Python, but {unservable}."
    if candidate_path is None:
        return None
    both = (model_path, candidate_path)
    sizes, exif = [contract.mask_size(path) for path in both], [contract.exif(p) for p in both]
    if sizes[0] != sizes[1]:
        return (
            f"Version {version} makes masks of {sizes[0]}x{sizes[0]} pixels, the candidate of "
            f"{sizes[1]}x{sizes[1]}; each was judged at its own size."
        )
    if exif[0] != exif[1]:
        return (
            f"Version {version} was trained with data.exif={exif[0]}, the candidate with "
            f"data.exif={exif[1]}; each was judged on photos and masks as it takes them."
        )
    return None


def _classes_differ(release: types.Artifact) -> str | None:
    known = serving.record(*_place(release)).get(pusher.CLASSES)
    if not known or known == list(features.CLASS_NAMES):
        return None
    return f"its classes are {', '.join(known)}, not {', '.join(features.CLASS_NAMES)}"


def _place(release: types.Artifact) -> tuple[str, int]:
    """Serving folder and number of a released version."""
    folder, version = os.path.split(_destination(release))
    return folder, int(version)


def _is_withdrawn(release: types.Artifact) -> bool:
    return release.get_int_custom_property(pusher.WITHDRAWN) == 1


def _restore(model: types.Artifact, release: types.Artifact) -> None:
    """Brings back a champion's SavedModel that was cleaned away or damaged.

    From its version, which may have lost its record or a file beside the model, or from wherever
    else a repair of the version would take it.
    """
    path, (folder, version) = path_utils.serving_model_path(model.uri), _place(release)
    with serving.lock(folder):  # another run may be at the same
        model, source = serving.model_of(folder, version), serving.path(folder, version)
        if not contract.misfit(path) and serving.identify(path) == model:
            return
        if not contract.misfit(source) and serving.identify(source) == model:
            releasing.recover(folder, version, path)
        elif found := salvage.find(folder, version)[0]:
            releasing.recover(folder, version, path, found)

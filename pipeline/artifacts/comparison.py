"""The comparison with a champion: whether it can be made, and what people must know of it."""

from __future__ import annotations

from tfx import types

from pipeline.artifacts import pushed_model
from pipeline.core import features
from pipeline.release import model_store
from pipeline.saved_model import contract


def misfit(release: types.Artifact, model_path: str) -> str | None:
    """Why a candidate cannot be compared with a released model, in one clause; None if it can.

    Args:
      release: a PushedModel artifact of the version, which exists.
      model_path: the SavedModel that it was made from, and which is judged.
    """
    return classes_differ(release) or contract.misfit(model_path)


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
    version = release.get_string_custom_property(pushed_model.VERSION)
    if model_path is None or stand_in is not None:
        fault = (
            classes_differ(release)
            or contract.misfit(pushed_model.destination(release))
            or model_store.damage(*pushed_model.place(release))
            or "its model is lost"
        )
        if stand_in is not None:
            older = stand_in.get_string_custom_property(pushed_model.VERSION)
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


def classes_differ(release: types.Artifact) -> str | None:
    """Why a released model has other classes than a candidate, in one clause; None if not."""
    known = model_store.record(*pushed_model.place(release)).get(pushed_model.CLASSES)
    if not known or known == list(features.CLASS_NAMES):
        return None
    return f"its classes are {', '.join(known)}, not {', '.join(features.CLASS_NAMES)}"

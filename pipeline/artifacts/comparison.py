"""The comparison with the champion: whether it is possible, and what users should know about it."""

from __future__ import annotations

from tfx import types

from pipeline.artifacts import pushed_model
from pipeline.core import features
from pipeline.release import model_store
from pipeline.saved_model import contract


def incompatibility(release: types.Artifact, model_path: str) -> str | None:
    """Why a candidate cannot be compared with a released model, in one clause; None if it can.

    Args:
      release: the PushedModel artifact of an existing version.
      model_path: the SavedModel that the version was made from, which Evaluator runs.
    """
    return classes_differ(release) or contract.incompatibility(model_path)


def note(
    release: types.Artifact,
    model_path: str | None,
    candidate_path: str | None,
    stand_in: types.Artifact | None = None,
) -> str | None:
    """What users should know about the comparison with the champion, in one or two sentences.

    Args:
      release: the champion's PushedModel artifact.
      model_path: the SavedModel that was evaluated as the champion; None if there was none.
      candidate_path: the candidate's SavedModel; None if there is none.
      stand_in: the release that ``model_path`` belongs to, if it is not the champion's.

    Returns:
      The note; None if the comparison was an ordinary one.
    """
    version = release.get_string_custom_property(pushed_model.VERSION)
    if model_path is None or stand_in is not None:
        fault = (
            classes_differ(release)
            or contract.incompatibility(pushed_model.destination(release))
            or model_store.damage(*pushed_model.place(release))
            or "its model is lost"
        )
        reason = f"Version {version} could not be used for the comparison, because {fault}."
        if stand_in is None:
            return f"{reason} Only the absolute thresholds applied to the candidate."
        older = stand_in.get_string_custom_property(pushed_model.VERSION)
        more = note(stand_in, model_path, candidate_path)
        return (
            f"{reason} The candidate was compared with version {older} instead, the newest intact "
            "version before it."
        ) + (f" {more}" if more else "")
    unservable = contract.unservable(model_path)
    if unservable:
        return f"Version {version} was evaluated in Python, but {unservable}."
    if candidate_path is None:
        return None
    both = (model_path, candidate_path)
    sizes, exif = [contract.mask_size(path) for path in both], [contract.exif(p) for p in both]
    if sizes[0] != sizes[1]:
        return (
            f"Version {version} makes masks of {sizes[0]}x{sizes[0]} pixels, the candidate makes "
            f"masks of {sizes[1]}x{sizes[1]} pixels. Each was evaluated at its own size."
        )
    if exif[0] != exif[1]:
        return (
            f"Version {version} was trained with data.exif={exif[0]}, the candidate with "
            f"data.exif={exif[1]}. Each was evaluated with its own setting."
        )
    return None


def classes_differ(release: types.Artifact) -> str | None:
    """How the classes of a released model differ from a candidate's, in one clause; None if not."""
    classes = model_store.record(*pushed_model.place(release)).get(pushed_model.CLASSES)
    if not classes or classes == list(features.CLASS_NAMES):
        return None
    return f"its classes are {', '.join(classes)}, not {', '.join(features.CLASS_NAMES)}"

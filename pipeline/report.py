"""The report of a run for people: one HTML page that needs no network, script or other file.

``outcome`` is the content of ``latest_run.json``; whatever a run did not get to may be missing from
it. The page is laid out in ``templates/report.html.j2``; this module says what stands in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from pipeline import charts, console, features, images, release_copy, wording

# What a table or list shows at most; latest_run.json has the rest.
MOST_REASONS = 6
MOST_QUARANTINED = 200
# Longest side of a gallery picture, pixels: two dozen photos make about one megabyte.
GALLERY_SIDE = 256


@dataclass(frozen=True)
class GalleryItem:
    """One test photo for the gallery; the arrays have one height and width."""

    id: str
    breed: str
    photo: images.Pixels  # uint8 [h, w, 3]
    truth: images.Pixels  # class ids, uint8 [h, w]
    prediction: images.Pixels  # class ids, uint8 [h, w]
    pixel_accuracy: float
    mean_iou: float
    group: str = ""  # worst, middle or best, where they are told apart
    champion: images.Pixels | None = None  # its prediction, if there is one; as the others
    champion_mean_iou: float | None = None


def render(
    outcome: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    gallery: Sequence[GalleryItem],
) -> str:
    """Makes the page.

    Args:
      outcome: as in ``latest_run.json``; numbers may be None or NaN, parts may be missing.
      history: a row an epoch: ``epoch``, ``best`` (1 on the epoch whose weights were kept),
        ``seconds``, and any measure with its ``val_`` twin; may be empty.
      gallery: test photos; may be empty.

    Returns:
      HTML that refers to nothing outside itself.

    Raises:
      ValueError: if a gallery mask does not fit its photo or holds a value that is no class id.
    """
    data = outcome.get("data") or {}
    quarantined, notes = data.get("quarantined") or [], data.get("notes") or []
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # No name breaks a line or turns the direction of writing; ready HTML stays as it is.
        finalize=lambda value: console.plain(value) if type(value) is str else value,
    )
    environment.filters.update(number=wording.number, duration=wording.duration)
    return environment.get_template("report.html.j2").render(
        verdict=verdict(outcome),
        facts=_facts(outcome),
        gate=_gate_rows(outcome),
        metrics=_metric_tables(outcome.get("metrics") or {}),
        tuning=_tuning(outcome),
        charts=charts.of_history(history),
        confusion=_confusion_rows(outcome.get("confusion") or {}),
        gallery=[_gallery_view(item) for item in gallery],
        filters=_filters(gallery),
        legend=[
            *zip(features.CLASS_NAMES, map(images.hex_colour, images.COLOURS), strict=True),
            ("wrong, in the difference", images.hex_colour(images.WRONG)),
        ],
        splits=data.get("splits") or {},
        quarantined=quarantined[:MOST_QUARANTINED],
        quarantined_count=len(quarantined),
        notes=notes[:MOST_QUARANTINED],
        notes_count=len(notes),
        hints=data.get("hints") or [],
        spans=data.get("spans") or [],
        unlisted=data.get("unlisted") or [],
        drift=data.get("drift") or {},
        components=_components(outcome),
        settings=_flat(outcome.get("settings")),
        versions=_flat(outcome.get("versions")),
    )


def write(
    path: Path,
    outcome: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    gallery: Sequence[GalleryItem],
) -> None:
    """Renders the page into a file, which a reader sees whole or not at all.

    Raises:
      OSError: if it cannot be written.
      ValueError: as `render`.
    """
    page = render(outcome, history, gallery)
    images.write_atomically(path, page.encode("utf-8", errors="replace"))


def verdict(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a run, for people.

    Args:
      outcome: as in ``latest_run.json``.

    Returns:
      ``kind`` (good, warn or bad), ``title``, ``reasons`` (sentences) and ``note`` (what is in
      service now, and what is to be known of the champion).
    """
    found = _verdict(outcome)
    about_champion = (outcome.get("champion") or {}).get("note")
    if about_champion:
        found["note"] = f"{found['note']} {about_champion}"
    return found


def _verdict(outcome: Mapping[str, Any]) -> dict[str, Any]:
    status = outcome.get("status")
    champion = (outcome.get("champion") or {}).get("version")
    replaced, in_service = outcome.get("replaced"), outcome.get("in_service")
    stays = (
        f"Version {in_service} stays in service." if in_service else "No version is in service yet."
    )
    if status == "pushed":
        version = outcome.get("pushed_version")
        states = {
            c.get("state")
            for c in outcome.get("components") or []
            if c.get("id") != release_copy.NODE  # which always looks for itself
        }
        title = f"Released version {version}"
        if not outcome.get("new_version"):
            title = f"Version {version} stays in service"
            note = (
                "Nothing has changed since the run that released it."
                if states == {"cached"}
                else "This run came to the model that it holds already."
            )
        elif replaced:
            note = f"It replaces version {replaced['version']}."
            if fault := replaced.get("fault"):
                note = f"{note.rstrip('.')}, which was broken: {fault}."
        elif champion:
            note = f"It replaces version {champion}."
        else:
            note = "It is the first version; there was no champion to compare it with."
        return {"kind": "good", "title": title, "reasons": [], "note": note}
    if outcome.get("refused"):
        unserved = outcome.get("infra_blessed") is False
        title = f"Not released: {'no server could serve it' if unserved else 'withdrawn'}"
        return {"kind": "warn", "title": title, "reasons": [outcome["refused"]], "note": stays}
    if status == "not_blessed":
        rows = _gate_rows(outcome)
        missed = [row for row in rows if not row["held"]]
        title = f"Not released: {len(missed)} of {len(rows)} thresholds missed"
        reasons = [row["reason"] for row in missed[:MOST_REASONS]]
        if len(missed) > MOST_REASONS:
            reasons.append(f"and {len(missed) - MOST_REASONS} more, see the thresholds below")
        return {"kind": "warn", "title": title, "reasons": reasons, "note": stays}
    failed = [c.get("id") for c in outcome.get("components") or [] if c.get("state") == "failed"]
    error = outcome.get("error") or (
        f"{', '.join(map(str, failed))} did not finish; its log says why."
        if failed
        else "the run did not finish."
    )
    note = stays if in_service else "Nothing was released."
    return {"kind": "bad", "title": f"Failed: {error}", "reasons": [], "note": note}


def _facts(outcome: Mapping[str, Any]) -> list[tuple[str, str]]:
    seconds = outcome.get("seconds")
    facts = {
        "Model": outcome.get("model_name"),
        "Started": wording.moment(outcome.get("started")),
        "Took": None if seconds is None else wording.duration(seconds),
        "Serving folder": outcome.get("serving_dir"),
        "Copied to": outcome.get("copied_to"),
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def _gate_rows(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The thresholds, missed ones first, each with its sentence."""
    rows = []
    for row in outcome.get("gate") or []:
        change, at_most = (row.get("kind") == kind for kind in ("change", "at_most"))
        kind = "at most" if at_most else "at least"
        value, bound = wording.pair(row.get("value"), row.get("bound"), signed=change)
        name, where = wording.label(row.get("metric")), wording.slice_label(row.get("slice"))
        if change:
            both = [wording.number(row[key]) for key in ("candidate", "champion") if key in row]
            compared = f" ({' instead of '.join(both)})" if len(both) == 2 else ""
            reason = (
                f"{name} ({where}) against the champion: {value}{compared},"
                f" at least {bound} is allowed"
            )
        else:
            required = "allowed" if at_most else "required"
            why = row.get("reason")
            reason = f"{name} ({where}): {value}, {kind} {bound} is {required}"
            reason += f" ({why})" if why else ""
            kind += f"; {why}" if why else ""
        rows.append(
            {
                "metric": name,
                "slice": where,
                "value": value,
                "bound": bound,
                "kind": f"against champion{compared}" if change else kind,
                "held": bool(row.get("held")),
                "reason": reason,
            }
        )
    return sorted(rows, key=lambda row: row["held"])


def _metric_tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Overall figures, and a table for each feature that slices are of, lowest mean IoU first."""
    flat = {name: _flat(_worded(values)) for name, values in metrics.items() if values}
    overall = flat.pop(wording.OVERALL, {})
    columns = list(dict.fromkeys([*overall, *(key for row in flat.values() for key in row)]))
    tables: dict[str, list[tuple[str, list[Any], float]]] = {}
    for name, row in flat.items():
        feature, _, value = name.partition("=")
        worth = row.get("mean_iou")
        share = worth if isinstance(worth, int | float) and math.isfinite(worth) else 0.0
        cells = [row.get(column) for column in columns]
        tables.setdefault(feature, []).append((value or feature, cells, share))
    return {
        "overall": [(wording.label(name), value) for name, value in overall.items()],
        "columns": [wording.label(column) for column in columns],
        "bar": columns.index("mean_iou") if "mean_iou" in columns else None,
        "tables": [
            (wording.label(feature), sorted(rows, key=lambda row: row[2]))
            for feature, rows in sorted(tables.items(), key=lambda item: len(item[1]))
        ],
    }


def _worded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with their interval, a pair of numbers or None, as people write it."""
    key = "mean_iou_interval"
    if key not in values:
        return dict(values)
    interval = values[key]
    text = " to ".join(map(wording.number, interval)) if interval else "none"
    return {name: text if name == key else value for name, value in values.items()}


def _tuning(outcome: Mapping[str, Any]) -> dict[str, Any] | None:
    """The trials of the Tuner, best first; None without any."""
    trials = (outcome.get("tuning") or {}).get("trials") or []
    if not trials:
        return None
    names = [name for name in trials[0] if name not in ("trial", "score")]
    ranked = sorted(trials, key=lambda row: row["score"], reverse=True)
    return {
        "names": names,
        "rows": [(row["trial"], row["score"], [row.get(name) for name in names]) for row in ranked],
    }


def _components(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    components = outcome.get("components") or []
    longest = max((c.get("seconds") or 0 for c in components), default=0) or 1
    return [
        {
            "id": c.get("id"),
            "state": c.get("state"),
            "seconds": c.get("seconds"),
            "share": (c.get("seconds") or 0) / longest,
        }
        for c in components
    ]


def _confusion_rows(
    confusion: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[Any, Any]]]]:
    """For each true class the pixels predicted as each class, and their share of the true ones."""
    rows = []
    for true, predicted in confusion.items():
        whole = sum(count or 0 for count in predicted.values())
        rows.append((true, [(n, n / whole if n and whole else 0.0) for n in predicted.values()]))
    return rows


def _filters(gallery: Sequence[GalleryItem]) -> dict[str, Any]:
    """What the gallery can be narrowed to, and which pairs of these leave nothing."""
    groups = list(dict.fromkeys(item.group for item in gallery if item.group))
    breeds = sorted({item.breed for item in gallery})
    shown = {(item.group, item.breed) for item in gallery}
    return {
        "groups": groups,
        "breeds": breeds,
        "empty": [
            (i, j)
            for i, group in enumerate(groups)
            for j, breed in enumerate(breeds)
            if (group, breed) not in shown
        ],
    }


def _gallery_view(item: GalleryItem) -> dict[str, Any]:
    height, width = item.photo.shape[:2]
    scale = min(1.0, GALLERY_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def shrink(pixels: images.Pixels, how: Image.Resampling) -> images.Pixels:
        return np.asarray(Image.fromarray(pixels).resize(size, how))

    photo = shrink(item.photo, Image.Resampling.LANCZOS)
    truth = shrink(item.truth, Image.Resampling.NEAREST)
    prediction = shrink(item.prediction, Image.Resampling.NEAREST)
    masks = [("Truth", truth), ("Prediction", prediction)]
    if item.champion is not None:
        masks.append(("Champion", shrink(item.champion, Image.Resampling.NEAREST)))
    wrong = images.difference(photo, truth, prediction)
    return {
        "id": item.id,
        "breed": item.breed,
        "group": item.group,
        "champion_mean_iou": item.champion_mean_iou,
        "pixel_accuracy": item.pixel_accuracy,
        "mean_iou": item.mean_iou,
        "size": size,
        "pictures": [
            ("Photo", images.data_uri(photo, "WEBP", quality=80)),
            *(
                (name, images.data_uri(images.colour_mask(mask), "WEBP", lossless=True))
                for name, mask in masks
            ),
            ("Difference", images.data_uri(wrong, "WEBP", quality=80)),
            ("Overlay", images.data_uri(images.overlay(photo, prediction), "WEBP", quality=80)),
        ],
    }


def _flat(values: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """Joins the keys of nested mappings with a dot; lists become JSON."""
    flat: dict[str, Any] = {}
    for key, value in (values or {}).items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return flat

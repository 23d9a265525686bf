"""The HTML report of a run: one page that works offline, without scripts or other files.

This module prepares the content; ``templates/report.html.j2`` has the layout.
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

from pipeline.core import console, features, files, formatting, images
from pipeline.release import mirror
from pipeline.report import charts
from pipeline.report.outcome import NOT_BLESSED, PUSHED, Component, Outcome, Threshold

# Maximum numbers of rows; latest_run.json has the rest.
MOST_REASONS = 6
MOST_QUARANTINED = 200
# Longest side of a gallery picture in pixels: 24 photos take about one megabyte.
GALLERY_SIDE = 256


@dataclass(frozen=True)
class GalleryItem:
    """One test photo of the gallery; all arrays have the same height and width."""

    id: str
    breed: str
    photo: images.Pixels  # uint8 [h, w, 3]
    truth: images.Pixels  # class ids, uint8 [h, w]
    prediction: images.Pixels  # class ids, uint8 [h, w]
    pixel_accuracy: float
    mean_iou: float
    group: str = ""  # worst, middle or best; empty without groups
    champion: images.Pixels | None = None  # the champion's prediction, uint8 [h, w]
    champion_mean_iou: float | None = None


def render(
    outcome: Outcome,
    history: Sequence[Mapping[str, float]],
    gallery: Sequence[GalleryItem],
) -> str:
    """Render the page.

    Args:
      outcome: of the run.
      history: one row per epoch: ``epoch``, ``best`` (1 for the epoch whose weights were kept),
        ``seconds``, and any measure with its ``val_`` counterpart; may be empty.
      gallery: test photos; may be empty.

    Returns:
      HTML without external references.

    Raises:
      ValueError: if a gallery mask does not fit its photo or has a value that is not a class id.
    """
    data = outcome.data
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # Names must not break lines or change the text direction; Markup stays as it is.
        finalize=lambda value: console.plain(value) if type(value) is str else value,
    )
    environment.filters.update(number=formatting.number, duration=formatting.duration)
    return environment.get_template("report.html.j2").render(
        verdict=verdict(outcome),
        facts=_facts(outcome),
        gate=_gate_rows(outcome.gate),
        metrics=_metric_tables(outcome.metrics),
        tuning=_tuning(outcome.tuning.trials),
        charts=charts.of_history(history),
        confusion=_confusion_rows(outcome.confusion),
        gallery=[_gallery_view(item) for item in gallery],
        filters=_filters(gallery),
        legend=[
            *zip(features.CLASS_NAMES, map(images.hex_colour, images.COLOURS), strict=True),
            ("wrong (in the difference picture)", images.hex_colour(images.WRONG)),
        ],
        splits=data.splits,
        quarantined=data.quarantined[:MOST_QUARANTINED],
        quarantined_count=len(data.quarantined),
        notes=data.notes[:MOST_QUARANTINED],
        notes_count=len(data.notes),
        hints=data.hints,
        spans=data.spans,
        unlisted=data.unlisted,
        drift=data.drift,
        components=_components(outcome.components),
        settings=_flat(outcome.settings),
        versions=_flat(outcome.versions),
    )


def write(
    path: Path,
    outcome: Outcome,
    history: Sequence[Mapping[str, float]],
    gallery: Sequence[GalleryItem],
) -> None:
    """Render the page and write it atomically.

    Raises:
      OSError: if the file cannot be written.
      ValueError: as `render`.
    """
    page = render(outcome, history, gallery)
    files.write_atomically(path, page.encode("utf-8", errors="replace"))


def verdict(outcome: Outcome) -> dict[str, Any]:
    """Describe the outcome of a run.

    Args:
      outcome: of the run.

    Returns:
      ``kind`` (good, warn or bad), ``title``, ``reasons`` (sentences) and ``note`` (what is in
      service now, and any caveat about the comparison with the champion).
    """
    result = _verdict(outcome)
    if outcome.champion and outcome.champion.note:
        result["note"] = f"{result['note']} {outcome.champion.note}"
    return result


def _verdict(outcome: Outcome) -> dict[str, Any]:
    in_service = outcome.in_service
    stays = (
        f"Version {in_service} stays in service." if in_service else "No version is in service yet."
    )
    if outcome.status == PUSHED:
        title, note = _release(outcome)
        return {"kind": "good", "title": title, "reasons": [], "note": note}
    if outcome.refused:
        unserved = outcome.infra_blessed is False
        title = f"Not released: {'no server could serve it' if unserved else 'withdrawn'}"
        return {"kind": "warn", "title": title, "reasons": [outcome.refused], "note": stays}
    if outcome.status == NOT_BLESSED:
        rows = _gate_rows(outcome.gate)
        missed = [row for row in rows if not row["held"]]
        title = f"Not released: {len(missed)} of {len(rows)} thresholds missed"
        reasons = [row["reason"] for row in missed[:MOST_REASONS]]
        if len(missed) > MOST_REASONS:
            reasons.append(f"and {len(missed) - MOST_REASONS} more; see the thresholds below")
        return {"kind": "warn", "title": title, "reasons": reasons, "note": stays}
    failed = [each.id for each in outcome.components if each.state == "failed"]
    error = outcome.error or (
        f"{', '.join(failed)} did not finish; see its log." if failed else "the run did not finish."
    )
    note = stays if in_service else "Nothing was released."
    return {"kind": "bad", "title": f"Failed: {error}", "reasons": [], "note": note}


def _release(outcome: Outcome) -> tuple[str, str]:
    """Return the title and the note for a model that is in service."""
    version, replaced = outcome.pushed_version, outcome.replaced
    if not outcome.new_version:
        # The Copier is never cached.
        states = {each.state for each in outcome.components if each.id != mirror.NODE}
        return f"Version {version} stays in service", (
            "Nothing has changed since the run that released it."
            if states == {"cached"}
            else "This run produced the same model."
        )
    if replaced:
        broken = f", which was broken: {replaced.fault}" if replaced.fault else ""
        note = f"It replaces version {replaced.version}{broken}."
    elif outcome.champion:
        note = f"It replaces version {outcome.champion.version}."
    else:
        note = "This is the first version, so there was no champion to compare it with."
    return f"Released version {version}", note


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    seconds = outcome.seconds
    facts = {
        "Model": outcome.model_name,
        "Started": formatting.moment(outcome.started),
        "Duration": None if seconds is None else formatting.duration(seconds),
        "Serving folder": outcome.serving_dir,
        "Copied to": outcome.copied_to,
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def _gate_rows(gate: Sequence[Threshold]) -> list[dict[str, Any]]:
    """Build the rows of the thresholds, missed ones first, each with a sentence for it."""
    rows = []
    for row in gate:
        change = row.kind == "change"
        kind = "at most" if row.kind == "at_most" else "at least"
        value, bound = formatting.pair(row.value, row.bound, signed=change)
        name, where = formatting.label(row.metric), formatting.slice_label(row.slice)
        if change:
            both = [formatting.number(each) for each in (row.candidate, row.champion)]
            has_values = row.candidate is not None or row.champion is not None
            compared = f" ({' vs '.join(both)})" if has_values else ""
            kind = f"change against the champion{compared}"
            reason = (
                f"{name} ({where}), change against the champion: {value}{compared};"
                f" at least {bound} is required"
            )
        else:
            required = "allowed" if row.kind == "at_most" else "required"
            reason = f"{name} ({where}) is {value}; {kind} {bound} is {required}"
            reason += f" ({row.reason})" if row.reason else ""
            kind += f"; {row.reason}" if row.reason else ""
        rows.append(
            {
                "metric": name,
                "slice": where,
                "value": value,
                "bound": bound,
                "kind": kind,
                "held": row.held,
                "reason": reason,
            }
        )
    return sorted(rows, key=lambda row: row["held"])


def _metric_tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Split the metrics into overall values and one table per slicing feature.

    Rows of a table come lowest mean IoU first.
    """
    flat = {name: _flat(_worded(values)) for name, values in metrics.items() if values}
    overall = flat.pop(features.OVERALL, {})
    columns = list(dict.fromkeys([*overall, *(key for row in flat.values() for key in row)]))
    tables: dict[str, list[tuple[str, list[Any], float]]] = {}
    for name, row in flat.items():
        feature, _, value = name.partition("=")
        iou = row.get("mean_iou")
        share = iou if isinstance(iou, int | float) and math.isfinite(iou) else 0.0
        cells = [row.get(column) for column in columns]
        tables.setdefault(feature, []).append((value or feature, cells, share))
    return {
        "overall": [(formatting.label(name), value) for name, value in overall.items()],
        "columns": [formatting.label(column) for column in columns],
        "bar": columns.index("mean_iou") if "mean_iou" in columns else None,
        "tables": [
            (formatting.label(feature), sorted(rows, key=lambda row: row[2]))
            for feature, rows in sorted(tables.items(), key=lambda item: len(item[1]))
        ],
    }


def _worded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the interval of the mean IoU, two numbers or None, by text."""
    key = "mean_iou_interval"
    if key not in values:
        return dict(values)
    interval = values[key]
    text = " to ".join(map(formatting.number, interval)) if interval else "none"
    return {name: text if name == key else value for name, value in values.items()}


def _tuning(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Build the table of the Tuner's trials, best first; None without trials."""
    if not trials:
        return None
    names = [name for name in trials[0] if name not in ("trial", "score")]
    ranked = sorted(trials, key=lambda row: row["score"], reverse=True)
    return {
        "names": names,
        "rows": [(row["trial"], row["score"], [row.get(name) for name in names]) for row in ranked],
    }


def _components(components: Sequence[Component]) -> list[dict[str, Any]]:
    longest = max((each.seconds or 0 for each in components), default=0) or 1
    return [
        {
            "id": each.id,
            "state": each.state,
            "seconds": each.seconds,
            "share": (each.seconds or 0) / longest,
        }
        for each in components
    ]


def _confusion_rows(
    confusion: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[Any, Any]]]]:
    """Build the confusion matrix: pixels by true and predicted class, and fractions of each row."""
    rows = []
    for true, predicted in confusion.items():
        total = sum(count or 0 for count in predicted.values())
        rows.append((true, [(n, n / total if n and total else 0.0) for n in predicted.values()]))
    return rows


def _filters(gallery: Sequence[GalleryItem]) -> dict[str, Any]:
    """Collect the gallery's filters, and the pairs of options that match no photo."""
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

    def shrink(pixels: images.Pixels, resampling: Image.Resampling) -> images.Pixels:
        return np.asarray(Image.fromarray(pixels).resize(size, resampling))

    photo = shrink(item.photo, Image.Resampling.LANCZOS)
    truth = shrink(item.truth, Image.Resampling.NEAREST)
    prediction = shrink(item.prediction, Image.Resampling.NEAREST)
    masks = [("Ground truth", truth), ("Prediction", prediction)]
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
    """Flatten nested mappings to dotted keys; lists become JSON."""
    flat: dict[str, Any] = {}
    for key, value in (values or {}).items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return flat

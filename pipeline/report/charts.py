"""Learning curves of the report, as inline SVG for light and dark pages."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.core import formatting

_NOT_PLOTTED = {"epoch", "seconds", "best"}
# Placeholder for `currentColor`, which matplotlib does not support.
_TEXT_COLOUR = "#010203"
# Readable on white and on near-black, and distinct for colour-blind readers.
_LINE_STYLES = {"train": ("#d9730d", "--"), "eval": ("#2f86d6", "-")}


def of_history(history: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Draw one chart per measure with its ``val_`` counterpart, the loss first.

    Args:
      history: one row per epoch, as in `html_page.render`.

    Returns:
      ``title``, ``alt`` (a sentence that describes the curves) and ``svg`` of each chart.
    """
    names = dict.fromkeys(key for row in history for key in row)
    measures = [n for n in names if n not in _NOT_PLOTTED and not n.startswith("val_")]
    charts = []
    for measure in sorted(measures, key=lambda name: name != "loss"):
        lines = {
            series: [_as_float(row.get(key)) for row in history]
            for series, key in (("train", measure), ("eval", f"val_{measure}"))
            if key in names
        }
        if any(math.isfinite(y) for line in lines.values() for y in line):
            charts.append(_chart(measure, lines, history))
    return charts


def _chart(
    measure: str, lines: Mapping[str, list[float]], history: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    epochs = [_as_float(row.get("epoch", i + 1)) for i, row in enumerate(history)]
    best = [epoch for epoch, row in zip(epochs, history, strict=True) if row.get("best")][-1:]
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": measure, "font.size": 12}
    style |= {key: _TEXT_COLOUR for key in ("text.color", "axes.labelcolor", "axes.edgecolor")}
    style |= {key: _TEXT_COLOUR for key in ("xtick.color", "ytick.color", "grid.color")}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        axes = figure.subplots()
        for series, values in lines.items():
            colour, dashes = _LINE_STYLES[series]
            marker = "o" if len(values) < 3 else None
            axes.plot(epochs, values, color=colour, ls=dashes, lw=2, marker=marker, label=series)
        for epoch in best:
            axes.axvline(
                epoch, color=_TEXT_COLOUR, alpha=0.7, lw=1.5, ls=":", label=f"kept: {epoch:g}"
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.15)
        axes.legend(frameon=False)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    ends = "; ".join(
        f"{series} from {formatting.number(values[0])} to {formatting.number(values[-1])}"
        for series, values in lines.items()
    )
    kept = f"; kept epoch {best[0]:g}" if best else ""
    return {
        "title": formatting.label(measure),
        "alt": f"{formatting.label(measure)} over {len(epochs)} epochs: {ends}{kept}.",
        "svg": markupsafe.Markup(_inline_svg(buffer.getvalue(), measure)),
    }


def _inline_svg(document: str, name: str) -> str:
    """Prepare matplotlib's SVG for inlining: use the page's text colour and make ids unique."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1).replace(_TEXT_COLOUR, "currentColor")


def _as_float(value: Any) -> float:
    return math.nan if value is None else float(value)

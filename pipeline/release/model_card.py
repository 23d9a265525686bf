"""The model card of a release: intended use, training data, metrics, gate results.

The sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

import html as escaping
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markdown_it

from pipeline.core import console, features

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border: 1px solid #8888; padding: .2rem .6rem; text-align: left; }}</style></head>
<body>
{body}</body></html>
"""


def markdown(record: Mapping[str, Any]) -> str:
    """Renders the model card as Markdown.

    Args:
      record: the release record; sections without data are left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, cell=_cell)
    settings = record.get("settings", {})
    metrics = {name: _numbers(values) for name, values in record.get("metrics", {}).items()}
    return environment.get_template("model_card.md.j2").render(
        {
            **record,
            "model": settings.get("model.name", "segmentation"),
            "classes": features.CLASS_NAMES,
            "settings": settings,
            "versions": record.get("versions", {}),
            "metrics": metrics,
            "columns": list(dict.fromkeys(name for row in metrics.values() for name in row)),
        }
    )


def html(card: str) -> str:
    """Renders a Markdown card as one self-contained HTML page that loads nothing.

    HTML in the card is shown as text.
    """
    title = re.sub(r"\\(.)", r"\1", card.partition("\n")[0].lstrip("# "))
    body = markdown_it.MarkdownIt("js-default").render(card)
    return _PAGE.format(title=escaping.escape(title), body=body)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens the per-class metrics into names such as ``iou pet``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping):
            flat |= {f"{label} {part}": number for part, number in value.items()}
        else:
            flat[label] = value
    return flat


def _number(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_number, value))
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.3f}"
    return "none" if value is None or isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """Text on one line, with everything escaped that Markdown or GitHub would take for markup."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#&~@$])", r"\\\1", console.plain(text))
    # Markdown also turns bare addresses into links.
    return re.sub(r":(?=//)|(?<=www)\.|(?<=mailto):", r"\\\g<0>", escaped, flags=re.IGNORECASE)

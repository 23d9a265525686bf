"""A notebook as a page: its text, and its code as blocks."""

from __future__ import annotations

import json
from pathlib import Path


def page(path: Path) -> str:
    """The Markdown of a notebook; its outputs are left out."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"]).strip()
        if text:
            parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join(parts) + "\n"

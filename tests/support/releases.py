"""Releases that are mere files, for tests of the serving folder."""

from __future__ import annotations

from pathlib import Path


def visible(folder: Path) -> list[str]:
    """What a serving root holds beside its locks."""
    locks = (".lock-", ".copying-")
    return [path.name for path in folder.iterdir() if not path.name.startswith(locks)]


def make_model(path: Path, weights: str = "w") -> str:
    (path / "variables").mkdir(parents=True, exist_ok=True)
    (path / "saved_model.pb").write_text("graph")
    (path / "variables" / "variables.index").write_text(weights)
    return str(path)

"""Releases that are mere files, for tests of the serving folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import Run


def visible(folder: Path) -> list[str]:
    """What a serving root holds beside its locks."""
    locks = (".lock-", ".copying-")
    return [path.name for path in folder.iterdir() if not path.name.startswith(locks)]


def make_model(path: Path, weights: str = "w") -> str:
    (path / "variables").mkdir(parents=True, exist_ok=True)
    (path / "saved_model.pb").write_text("graph")
    (path / "variables" / "variables.index").write_text(weights)
    return str(path)


def accept_any_model(
    patch: pytest.MonkeyPatch, check: Callable[[str], None] = lambda model_path: None
) -> None:
    """Lets mere files be released: they pass for a model, and `check` is their smoke test."""
    from pipeline.saved_model import contract, smoke_test

    patch.setattr(smoke_test, "check", check)
    for look in ("incompatibility", "unservable"):
        patch.setattr(contract, look, lambda path: None)


def listed(run: Run, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The entries of ``releases list --json``."""
    capsys.readouterr()
    assert run.releases("list", "--json") == 0
    entries: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return entries

"""The notebook opens a run and shows it."""

from __future__ import annotations

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.support.runs import ROOT, Run

NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_what_they_showed(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_shows_a_run(small_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = NOTEBOOKS
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(small_run.output_root.parent)}},
    )
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(output["text"] for output in shown if output["output_type"] == "stream")
    assert "pushed: xception_unet_s" in text
    assert not [output for output in shown if output["output_type"] == "error"]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 2  # the curves, and the worst photos

"""``latest_run.json`` as scripts read it: its published schema, and what a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core import ownership
from pipeline.report import outcome
from pipeline.report.outcome import Outcome
from tests.support.runs import ROOT, Run

SCHEMA = ROOT / "docs" / "latest_run.schema.json"
HOW = (
    "; write it anew with: python -c 'import json; from pipeline.report.outcome import Outcome; "
    "print(json.dumps(Outcome.model_json_schema(), indent=1))' > docs/latest_run.schema.json"
)


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == Outcome.model_json_schema(), SCHEMA.name + HOW


def test_every_field_is_described_or_has_a_name_of_its_own_kind() -> None:
    plain = {"status", "replaced", "champion", "gate", "data", "components", "tuning"}
    plain |= {"run_id", "model_name", "data_root", "serving_dir", "infra_blessed"}
    fields = Outcome.model_fields
    assert [name for name in fields if not fields[name].description and name not in plain] == []


def test_what_a_run_leaves_is_read_back_as_it_was(small_run: Run, tmp_path: Path) -> None:
    file = small_run.output_root / "latest_run.json"
    read = outcome.read(file)
    assert read.format == outcome.FORMAT
    assert read.status == small_run.outcome["status"]
    outcome.write(tmp_path / "again.json", read)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(file.read_text())


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    path = tmp_path / "latest_run.json"
    outcome.write(path, Outcome(seconds=float("nan"), metrics={"overall": {"x": float("inf")}}))
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    assert outcome.read(path).seconds is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "other"}'])
def test_a_damaged_file_is_a_value_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "latest_run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="validation error"):
        outcome.read(path)


def test_a_run_knows_the_file_for_its_own(tmp_path: Path) -> None:
    path = tmp_path / "latest_run.json"
    outcome.write(path, Outcome())
    ownership.require_own_results(path, tmp_path / "report.html")

"""Versions of a time when no server could run them: named, and written anew from their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pipeline.cli import predict, releases
from pipeline.inference import segmenter
from pipeline.saved_model import contract, export, smoke_test, warmup
from tests.support.releases import listed, visible
from tests.support.runs import Run, run_locally

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


class _OldModule(export.SegmentationModule):
    """Tracks the Keras model, as exports did until November 2026, and has three signatures."""

    def __init__(self, model: Any, *others: Any) -> None:
        super().__init__(model, *others)
        del self.weights
        self.model = model

    def signatures(self) -> dict[str, Any]:
        signatures = super().signatures()
        del signatures[contract.SERVE_PNG]
        return signatures


@pytest.fixture
def old(untrained: None, small_data: Path, tmp_path: Path) -> Run:
    """A run whose release no server can run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "SegmentationModule", _OldModule)
        patch.setattr(warmup, "write", lambda path: None)
        patch.setattr(contract, "unservable", lambda path: None)
        patch.setattr(smoke_test, "check", lambda path: None)
        return run_locally(small_data, tmp_path / "output")


def photos(run: Run) -> list[bytes]:
    return [path.read_bytes() for path in sorted((run.data_root / "images").iterdir())[:3]]


def test_a_version_no_server_can_run_is_named_and_repaired(
    old: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path, version = old.released(), str(old.outcome["pushed_version"])
    serving = ["--serving", str(old.serving_dir)]
    assert "Could not find variable" in str(smoke_test.fault(str(path)))
    assert "no server can run it" in listed(old, capsys)[0]["fault"]
    assert releases.main(["list", *serving]) == 0
    assert (
        f"releases repair {version} --serving {old.serving_dir}` fixes it"
        in capsys.readouterr().out
    )
    out = path.parent.parent.parent / "masks"
    photo = next((old.data_root / "images").iterdir())
    assert predict.main(["--model", str(path), "--output-dir", str(out), str(photo)]) == 0
    assert "no server can run it" in capsys.readouterr().err
    assert releases.main(["rollback", version, *serving]) == 2
    capsys.readouterr()

    assert releases.main(["repair", version, *serving]) == 0
    said = capsys.readouterr().out
    before, after = listed(old, capsys)
    assert f"Version {after['version']} is in service" in said
    assert (before["status"], after["status"]) == ("replaced", "in service")
    assert after["fault"] is None
    assert after["repaired"] == before["version"]
    assert all(after[key] == before[key] for key in ("metrics", "settings", "data", "model_uri"))

    new = old.serving_dir / str(after["version"])
    assert smoke_test.fault(str(new)) is None
    asked = photos(old)
    expected = [answer.mask for answer in segmenter.Segmenter(path).predict(asked)]
    with smoke_test.as_server(str(new)) as (_, ask):
        np.testing.assert_array_equal(ask("serving_default", asked)["mask"], expected)
        answer = ask("serving_png", [b"no photo", *asked])
    assert answer["valid"].tolist() == [False, True, True, True]
    masks = [tf.io.decode_png(file)[..., 0] for file in answer["mask_png_bytes"][1:].tolist()]
    np.testing.assert_array_equal(masks, expected)

    assert releases.main(["repair", version, *serving]) == 2
    assert (
        f"needs no repair: version {after['version']} is the repaired copy"
        in capsys.readouterr().err
    )
    assert releases.main(["rollback", version, *serving]) == 2
    assert "no server can run it" in capsys.readouterr().err
    assert releases.main(["list", *serving]) == 0
    assert f"Version {after['version']} is the repaired copy" in capsys.readouterr().out
    assert releases.main(["repair", str(after["version"]), *serving]) == 2
    assert "needs no repair: servers can run it" in capsys.readouterr().err
    assert visible(old.serving_dir.parent) == [old.serving_dir.name]
    # The repaired version stands for the old one: a run in which nothing changed leaves it.
    again = old.again()
    assert again.outcome["status"] == "pushed"
    assert again.versions() == [before["version"], after["version"]]
    assert again.outcome["pushed_version"] == after["version"]


def test_the_next_run_releases_again_although_nothing_changed(old: Run) -> None:
    """The code that exports is part of what a Trainer depends on; see `pipeline.core.code`."""
    with pytest.MonkeyPatch.context() as patch:
        from pipeline.core import code

        fingerprint = code.fingerprint
        patch.setattr(code, "fingerprint", lambda *modules: fingerprint(*modules)[::-1])
        again = old.again()
    assert again.outcome["status"] == "pushed"
    assert again.versions() == [old.outcome["pushed_version"], again.outcome["pushed_version"]]
    assert again.outcome["champion"]["version"] == old.outcome["pushed_version"]
    assert smoke_test.fault(str(again.released())) is None

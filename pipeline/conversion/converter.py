"""Makes the files of a release, judges them, and says what was found."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tfx.dsl.io import fileio

from pipeline import formats
from pipeline.conversion import judgement
from pipeline.conversion.judgement import ConversionError
from pipeline.core import features, images
from pipeline.core.file_formats import WEIGHTS, Format
from pipeline.data import synthetic
from pipeline.formats import network, photos
from pipeline.inference import segmenter
from pipeline.release import model_store

CALIBRATED_ON, JUDGED_BY = 64, 1000  # photos of the training and of the test split, at most
_PAINTED = 16  # photos to compare masks on where no data is at hand
_BATCH = 8


class Bench:
    """What the files of one release are judged by.

    Args:
      release: of which version.
      source: of its data; None: masks are compared on painted photos, and there is no format in 8
        bits.
    """

    def __init__(self, release: network.Release, source: photos.Source | None) -> None:
        self.release = release
        self._source = source

    @cached_property
    def examples(self) -> list[photos.Example]:
        """Those of the test split, or painted ones without masks."""
        return self._source(features.TEST, JUDGED_BY) if self._source else list(_painted())

    @cached_property
    def training(self) -> list[photos.Example]:
        """Those that 8 bits are calibrated on."""
        assert self._source is not None, "8 bits need data"
        return self._source(features.TRAIN, CALIBRATED_ON)

    @cached_property
    def expected(self) -> list[images.Pixels]:
        """The SavedModel's masks."""
        model = segmenter.Segmenter(self.release.path)
        encoded = [example.photo for example in self.examples]
        batches = (encoded[i : i + _BATCH] for i in range(0, len(encoded), _BATCH))
        return [answer.mask for batch in batches for answer in model.predict(batch)]

    def judge(self, runner: judgement.Runner) -> dict[str, Any]:
        """How well a file does: ``agreement``, ``photos``, with data ``mean_iou`` and ``iou``."""
        found = judgement.masks(runner, self.examples)
        facts: dict[str, Any] = {
            "agreement": judgement.agreement(found, self.expected),
            "photos": len(found),
        }
        if self._source:
            quality = judgement.quality(found, self.examples, self.release.size)
            facts |= {"mean_iou": quality.mean_iou, "iou": quality.iou}
        return facts


def make(
    name: str,
    bench: Bench,
    path: Path,
    *,
    opset: int | None = None,
    judge_speed: bool = True,
    force: bool = False,
) -> dict[str, Any]:
    """Makes one file of a release.

    Args:
      name: of the format.
      bench: the release, and what its files are judged by.
      path: the file, in an existing folder; OpenVINO's weights go beside it.
      opset: of ONNX.
      judge_speed: 8 bits have to be quicker than floats.
      force: make it also if it is not good enough.

    Returns:
      JSON values: ``files`` (SHA-256 by name), ``megabytes``, ``milliseconds`` (of a photo, on one
      core), ``photos`` (how many it was judged by) and ``agreement`` (share of pixels with the
      SavedModel's class); with data also ``mean_iou`` and ``iou``; in 8 bits also ``float``, the
      same of the file of floats; ``fault`` if it is not good enough.

    Raises:
      ConversionError: the file is not good enough.
    """
    format_ = Format(name)
    module = formats.module(format_.family)
    if not format_.int8:
        module.write(bench.release, path, opset=opset)
        facts = bench.judge(module.Runner(path))
        runners = [module.Runner(path, threads=1)]
        (facts["milliseconds"],) = judgement.milliseconds(runners, bench.examples)
        fault = _differs(facts)
    else:
        with tempfile.TemporaryDirectory() as folder:
            floats = Path(folder, path.name)
            module.write(bench.release, floats, opset=opset)
            module.write(bench.release, path, bench.training, opset=opset)
            facts, facts_of_floats = (bench.judge(module.Runner(each)) for each in (path, floats))
            runners = [module.Runner(each, threads=1) for each in (path, floats)]
            spent = judgement.milliseconds(runners, bench.examples)
            facts["milliseconds"], facts_of_floats["milliseconds"] = spent
            facts_of_floats["megabytes"] = _megabytes(floats)
            facts["float"] = facts_of_floats
        fault = _costs_too_much(facts) or (_is_slow(facts) if judge_speed else None)
    facts["files"] = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in _written(path)
    }
    facts["megabytes"] = _megabytes(path)
    if fault and not force:
        for each in _written(path):
            each.unlink()
        raise ConversionError(f"the release as {format_.title} is not good enough: {fault}")
    return {**facts, "fault": fault} if fault else facts


def make_all(
    wanted: Mapping[str, Mapping[str, Any]],
    version_path: str,
    record: dict[str, Any],
    examples_uri: str,
) -> dict[str, dict[str, Any]]:
    """Makes the files of a version that is about to be released.

    Args:
      wanted: options by the name of the format: ``opset``.
      version_path: its folder, on a disk; files go into `model_store.FORMATS` in it.
      record: its release record.
      examples_uri: ExampleGen's output, which the gate judged it by.

    Returns:
      What `make` says of each, and its options, by the name of the format.

    Raises:
      ConversionError: one of them is not good enough.
    """

    settings = photos.data_settings(record)

    def source(split: str, count: int) -> list[photos.Example]:
        return photos.of_artifact(examples_uri, split, count, settings)

    bench = Bench(network.Release(Path(version_path), record), source)
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in wanted.items():
            path = Path(folder, Format(name).file_name)
            # How soon it answers on this machine says little of where it will be asked, and beside
            # other work too little to stop a release.
            facts = make(name, bench, path, opset=options.get("opset"), judge_speed=False)
            made[name] = {**options, **facts}
        target = os.path.join(version_path, model_store.FORMATS)
        fileio.makedirs(target)
        for file in sorted(Path(folder).iterdir()):
            fileio.copy(str(file), os.path.join(target, file.name))
    return made


def describe(name: str, facts: dict[str, Any]) -> str:
    """What was found, in one line for people."""
    judged_by = f"{facts['photos']} {'test' if 'mean_iou' in facts else 'painted'} photos"
    parts = [
        f"{facts['megabytes']:.1f} MB",
        f"{facts['milliseconds']:.1f} ms a photo on one core",
        f"the SavedModel's class on {facts['agreement']:.3%} of the pixels of {judged_by}",
    ]
    if "mean_iou" in facts:
        parts.append(f"mean IoU {facts['mean_iou']:.4f}")
    if "float" in facts:
        floats = facts["float"]
        parts.append(
            f"float: mean IoU {floats['mean_iou']:.4f}, {floats['milliseconds']:.1f} ms,"
            f" {floats['megabytes']:.1f} MB"
        )
    if "fault" in facts:
        parts.append(f"written although {facts['fault']}")
    return f"{Format(name).title}: {'; '.join(parts)}."


def _differs(facts: dict[str, Any]) -> str | None:
    if facts["agreement"] >= judgement.LEAST_AGREEMENT:
        return None
    return (
        f"its masks and the SavedModel's agree on {facts['agreement']:.2%} of the pixels, not on"
        f" {judgement.LEAST_AGREEMENT:.1%}"
    )


def _costs_too_much(facts: dict[str, Any]) -> str | None:
    floats = facts["float"]
    loss = floats["mean_iou"] - facts["mean_iou"]
    if loss <= judgement.MOST_LOSS:  # NaN is not
        return None
    return (
        f"its mean IoU on {facts['photos']} test photos is {facts['mean_iou']:.4f}, that of float"
        f" {floats['mean_iou']:.4f}; it may lose {judgement.MOST_LOSS}"
    )


def _is_slow(facts: dict[str, Any]) -> str | None:
    if facts["milliseconds"] < facts["float"]["milliseconds"]:
        return None
    return (
        f"a photo takes {facts['milliseconds']:.1f} ms on one core, no less than the"
        f" {facts['float']['milliseconds']:.1f} ms of float"
    )


def _written(path: Path) -> list[Path]:
    """A file and, for OpenVINO, the one beside it."""
    return [each for each in (path, path.with_suffix(WEIGHTS)) if each.exists()]


def _megabytes(path: Path) -> float:
    return sum(each.stat().st_size for each in _written(path)) / 1e6


def _painted() -> Iterator[photos.Example]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "painted")
        synthetic.generate(root, count=_PAINTED, seed=5)
        for path in sorted((root / "images").iterdir()):
            yield photos.Example(path.stem, path.read_bytes(), b"")

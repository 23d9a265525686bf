"""Write a release in other formats, compare the files with the SavedModel, describe the result."""

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

# Maximum numbers of photos: for calibration, from the training split, and for the comparison.
MAX_CALIBRATION_PHOTOS, MAX_TEST_PHOTOS = 64, 1000
_SYNTHETIC = 16  # photos to compare masks on if the release's data is gone
_BATCH = 8


class Bench:
    """The photos and expected masks that the files of one release are compared on.

    Args:
      release: the released version.
      source: its data; None to compare masks on synthetic photos, which rules out int8.
    """

    def __init__(self, release: network.Release, source: photos.Source | None) -> None:
        self.release = release
        self._source = source

    @cached_property
    def examples(self) -> list[photos.Example]:
        """Examples of the test split, or synthetic ones without masks."""
        return self._source(features.TEST, MAX_TEST_PHOTOS) if self._source else list(_synthetic())

    @cached_property
    def training(self) -> list[photos.Example]:
        """Examples of the training split, for calibration."""
        assert self._source is not None, "int8 needs data"
        return self._source(features.TRAIN, MAX_CALIBRATION_PHOTOS)

    @cached_property
    def expected(self) -> list[images.Pixels]:
        """The SavedModel's masks of the examples."""
        model = segmenter.Segmenter(self.release.path)
        encoded = [example.photo for example in self.examples]
        batches = (encoded[i : i + _BATCH] for i in range(0, len(encoded), _BATCH))
        return [prediction.mask for batch in batches for prediction in model.predict(batch)]

    def judge(self, runner: judgement.Runner) -> dict[str, Any]:
        """Compares a file: ``agreement`` and ``photos``; with data, ``mean_iou`` and ``iou``."""
        masks = judgement.masks(runner, self.examples)
        facts: dict[str, Any] = {
            "agreement": judgement.agreement(masks, self.expected),
            "photos": len(masks),
        }
        if self._source:
            quality = judgement.quality(masks, self.examples, self.release.size)
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
    """Writes one file of a release, and compares it with the SavedModel.

    Args:
      name: name of the format.
      bench: the release, and the photos to compare on.
      path: the file, in an existing folder; OpenVINO's weights go beside it.
      opset: ONNX opset.
      judge_speed: whether int8 must be faster than float32.
      force: whether to keep a file that is not good enough.

    Returns:
      JSON values: ``files`` (SHA-256 by name), ``megabytes``, ``milliseconds`` (per photo, on one
      core), ``photos`` (number of photos it was compared on) and ``agreement`` (fraction of pixels
      with the SavedModel's class). With data also ``mean_iou`` and ``iou``. In int8 also
      ``float``, the same values of the float32 file. ``fault`` if the file is not good enough.

    Raises:
      ConversionError: if the file is not good enough.
    """
    format_ = Format(name)
    if format_.int8:
        facts = _make_int8(format_, bench, path, opset)
        fault = _costs_too_much(facts) or (_is_slow(facts) if judge_speed else None)
    else:
        facts = _make_float(format_, bench, path, opset)
        fault = _differs(facts)
    facts["files"] = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in _written(path)
    }
    facts["megabytes"] = _megabytes(path)
    if fault and not force:
        for each in _written(path):
            each.unlink()
        raise ConversionError(f"the conversion to {format_.title} is not good enough: {fault}")
    return {**facts, "fault": fault} if fault else facts


def _make_float(format_: Format, bench: Bench, path: Path, opset: int | None) -> dict[str, Any]:
    module = formats.module(format_.family)
    module.write(bench.release, path, opset=opset)
    facts = bench.judge(module.Runner(path))
    runners = [module.Runner(path, threads=1)]
    (facts["milliseconds"],) = judgement.milliseconds(runners, bench.examples)
    return facts


def _make_int8(format_: Format, bench: Bench, path: Path, opset: int | None) -> dict[str, Any]:
    module = formats.module(format_.family)
    with tempfile.TemporaryDirectory() as folder:
        float_path = Path(folder, path.name)
        module.write(bench.release, float_path, opset=opset)
        module.write(bench.release, path, bench.training, opset=opset)
        both = (path, float_path)
        facts, float_facts = (bench.judge(module.Runner(each)) for each in both)
        runners = [module.Runner(each, threads=1) for each in both]
        times = judgement.milliseconds(runners, bench.examples)
        facts["milliseconds"], float_facts["milliseconds"] = times
        float_facts["megabytes"] = _megabytes(float_path)
    return {**facts, "float": float_facts}


def make_all(
    wanted: Mapping[str, Mapping[str, Any]],
    version_path: str,
    record: dict[str, Any],
    examples_uri: str,
) -> dict[str, dict[str, Any]]:
    """Writes the files of a version that is about to be released.

    Args:
      wanted: options (``opset``) by format name.
      version_path: the version's folder; the files go into `model_store.FORMATS` in it.
      record: the version's release record.
      examples_uri: ExampleGen's output that the gate used.

    Returns:
      The options and the result of `make`, by format name.

    Raises:
      ConversionError: if one of the files is not good enough.
    """
    settings = photos.data_settings(record)

    def source(split: str, count: int) -> list[photos.Example]:
        return photos.of_artifact(examples_uri, split, count, settings)

    bench = Bench(network.Release(Path(version_path), record), source)
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in wanted.items():
            path = Path(folder, Format(name).file_name)
            # The speed on this busy machine is no reason to stop a release that runs elsewhere.
            facts = make(name, bench, path, opset=options.get("opset"), judge_speed=False)
            made[name] = {**options, **facts}
        target = os.path.join(version_path, model_store.FORMATS)
        fileio.makedirs(target)
        for file in sorted(Path(folder).iterdir()):
            fileio.copy(str(file), os.path.join(target, file.name))
    return made


def describe(name: str, facts: dict[str, Any]) -> str:
    """Describes the result of `make` in one line for users."""
    photos_used = f"{facts['photos']} {'test' if 'mean_iou' in facts else 'synthetic'} photos"
    parts = [
        f"{facts['megabytes']:.1f} MB",
        f"{facts['milliseconds']:.1f} ms per photo on one core",
        f"same class as the SavedModel on {facts['agreement']:.3%} of the pixels of {photos_used}",
    ]
    if "mean_iou" in facts:
        parts.append(f"mean IoU {facts['mean_iou']:.4f}")
    if "float" in facts:
        floats = facts["float"]
        parts.append(
            f"float32: mean IoU {floats['mean_iou']:.4f}, {floats['milliseconds']:.1f} ms,"
            f" {floats['megabytes']:.1f} MB"
        )
    if "fault" in facts:
        parts.append(f"written although {facts['fault']}")
    return f"{Format(name).title}: {'; '.join(parts)}."


def _differs(facts: dict[str, Any]) -> str | None:
    if facts["agreement"] >= judgement.MIN_AGREEMENT:
        return None
    return (
        f"its masks agree with the SavedModel's on {facts['agreement']:.2%} of the pixels; the"
        f" minimum is {judgement.MIN_AGREEMENT:.1%}"
    )


def _costs_too_much(facts: dict[str, Any]) -> str | None:
    floats = facts["float"]
    loss = floats["mean_iou"] - facts["mean_iou"]
    if loss <= judgement.MAX_LOSS:  # False for NaN
        return None
    return (
        f"its mean IoU on {facts['photos']} test photos is {facts['mean_iou']:.4f}, but"
        f" {floats['mean_iou']:.4f} in float32; the maximum drop is {judgement.MAX_LOSS}"
    )


def _is_slow(facts: dict[str, Any]) -> str | None:
    if facts["milliseconds"] < facts["float"]["milliseconds"]:
        return None
    return (
        f"a photo takes {facts['milliseconds']:.1f} ms on one core, not less than the"
        f" {facts['float']['milliseconds']:.1f} ms in float32"
    )


def _written(path: Path) -> list[Path]:
    """The file, and OpenVINO's weights beside it."""
    return [each for each in (path, path.with_suffix(WEIGHTS)) if each.exists()]


def _megabytes(path: Path) -> float:
    return sum(each.stat().st_size for each in _written(path)) / 1e6


def _synthetic() -> Iterator[photos.Example]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "synthetic")
        synthetic.generate(root, count=_SYNTHETIC, seed=5)
        for path in sorted((root / "images").iterdir()):
            yield photos.Example(path.stem, path.read_bytes(), b"")

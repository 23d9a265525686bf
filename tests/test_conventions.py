"""Masks of other tools: a folder of them is diagnosed once, with what to do."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from pipeline.cli import data as command
from pipeline.data import layout, validation
from pipeline.settings import Data
from tests.support.faulty_data import SOUND, add, trimap
from tests.support.runs import ROOT

Make = Callable[[PIL.Image.Image, Path], object]
COLOURS = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255), (61, 61, 245)], np.uint8)
JARGON = ("is P,", "is LA,", "I;16", "RGB", "is 1,", "mode", "NoneType")


def values(*new: int) -> Make:
    """Writes these values in place of 1, 2 and 3."""
    table = np.array([0, *new])
    return lambda mask, path: grey(table[np.asarray(mask)], path)


def grey(pixels: NDArray[Any], path: Path, kind: type = np.uint8) -> None:
    PIL.Image.fromarray(pixels.astype(kind)).save(path)


def palette(mask: PIL.Image.Image, path: Path, less: int = 0) -> None:
    picture = PIL.Image.fromarray(np.asarray(mask) - np.uint8(less), "P")
    picture.putpalette(COLOURS.tobytes())
    picture.save(path)


def alpha(mask: PIL.Image.Image, path: Path) -> None:
    mask.putalpha(255)
    mask.save(path)


def smooth(mask: PIL.Image.Image, path: Path) -> None:
    rows, columns = np.mgrid[: mask.height, : mask.width]
    grey(4 * rows + columns, path)


def two_bits(mask: PIL.Image.Image, path: Path) -> None:
    """Four pixels a byte, which Pillow reads but does not write."""
    quads = np.asarray(mask).reshape(mask.height, -1, 4) << np.array([6, 4, 2, 0])
    rows = np.pad(quads.sum(axis=2).astype(np.uint8), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", mask.width, mask.height, 2, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


KINDS: dict[str, tuple[Make, list[str]]] = {
    "0 and 255": (values(255, 0, 0), ["the values 0 and 255", "two-class", "1 (pet), 2 (backgr"]),
    "0 and 1": (values(1, 0, 0), ["the values 0 and 1", "two-class", "1 for the object"]),
    "from 0": (values(0, 1, 2), ["the values 0, 1, 2", "class ids from 0", "add 1 to get"]),
    "grey levels": (values(0, 128, 254), ["0, 128, 254", "one grey level per class"]),
    "void 0": (values(1, 0, 3), ["0, 1, 3", "0 usually marks unlabelled pixels"]),
    "void 255": (values(1, 2, 255), ["1, 2, 255", "255 usually marks unlabelled pixels"]),
    "more classes": (values(15, 7, 40), ["7, 15, 40"]),
    "one value": (values(0, 0, 0), ["the values 0 only: label every pixel as 1 (pet)"]),
    "smoothed": (smooth, ["too many values for classes"]),
    "palette": (palette, ["palette images", "indices 1, 2, 3, which are correct", "as 8-bit grey"]),
    "palette from 0": (
        lambda mask, path: palette(mask, path, less=1),
        ["palette images", "indices 0, 1, 2", "add 1 to get"],
    ),
    "colours": (
        lambda mask, path: grey(COLOURS[np.asarray(mask)], path),
        ["colour images", "#33ddff, #3d3df5, #fa3253", "CVAT", "map each colour to"],
    ),
    "grey as colour": (
        lambda mask, path: mask.convert("RGB").save(path),
        ["colour images", "grey levels 1, 2, 3, which are correct"],
    ),
    "1 bit": (
        lambda mask, path: mask.point(lambda value: 255 * (value == 1)).convert("1").save(path),
        ["1-bit images (black and white only)", "the values 0 and 1", "two-class"],
    ),
    "2 bits": (two_bits, ["2-bit greyscale images", "the values 1, 2, 3, which are correct"]),
    "16 bits": (
        lambda mask, path: grey(np.asarray(mask), path, np.uint16),
        ["16-bit greyscale images", "the values 1, 2, 3, which are correct"],
    ),
    "alpha": (alpha, ["greyscale images with transparency", "1, 2, 3, which are correct"]),
    "colour and alpha": (
        lambda mask, path: mask.convert("RGBA").save(path),
        ["colour images with transparency", "which are correct"],
    ),
    "JPEG": (lambda mask, path: mask.save(path, "JPEG"), ["JPEG files named .png"]),
    "float TIFF": (
        lambda mask, path: mask.convert("F").save(path, "TIFF"),
        ["TIFF files named .png", "8-bit greyscale PNG"],
    ),
    "other size": (
        lambda mask, path: mask.resize((30, 20), PIL.Image.Resampling.NEAREST).save(path),
        ["differ in size from their photos"],
    ),
}


def folder(root: Path, make: Make, count: int = 6, sound: int = 0) -> Path:
    (root / layout.IMAGES).mkdir(parents=True)
    (root / layout.TRIMAPS).mkdir(parents=True)
    for number in range(count + sound):
        add(root, SOUND[0], f"pug_{number}")
        if number < count:
            make(trimap(), root / layout.TRIMAPS / f"pug_{number}.png")
    return root


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_is_diagnosed_once(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = KINDS[name]
    assert command.main(["check", str(folder(tmp_path / "data", make))]) == 2
    output = capfd.readouterr()
    assert output.err.startswith("Error: 6 of 6 items are quarantined")
    assert output.err.count("\n") == 1
    for words in said:
        assert words in output.err
    assert "raise the setting" not in output.err
    for jargon in JARGON:
        assert jargon not in output.err + output.out
    if "size" not in name and ".png" not in output.err:
        assert "docs/how_to/masks.md" in output.err


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("0 and 255", "{255: 1, 0: 2}"),
        ("from 0", "{0: 1, 1: 2, 2: 3}"),
        ("palette", "{1: 1, 2: 2, 3: 3}"),
        ("1 bit", "{1: 1, 0: 2}"),
        ("16 bits", "{1: 1, 2: 2, 3: 3}"),
        ("alpha", "{1: 1, 2: 2, 3: 3}"),
        ("colours", "{(250, 50, 83): 1, (51, 221, 255): 2, (61, 61, 245): 3}"),
    ],
)
def test_the_script_in_the_docs_fixes_them(
    name: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "data", KINDS[name][0], count=2)
    text = (ROOT / "docs" / "how_to" / "masks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code, count = re.subn(r"TABLE = {.*?}", f"TABLE = {table}", code)
    assert count == 1
    monkeypatch.setattr("sys.argv", ["masks.py", str(root / layout.TRIMAPS)])
    exec(code, {})
    scan = layout.scan(root, Data())
    assert all(validation.check_item(item) for item in scan.items)


def test_a_used_folder_gets_a_note(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "data", palette, count=5, sound=60)
    assert command.main(["check", str(root), "--set", "data.max_quarantined=0.2"]) == 0
    output = capfd.readouterr().out
    assert output.count("Note: 5 masks are palette images that contain the indices 1, 2, 3") == 1


def test_faults_of_several_kinds_have_no_common_cause(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "data", palette, count=2)
    for number, kind in enumerate((values(0, 1, 2), smooth, alpha)):
        add(root, SOUND[0], f"beagle_{number}")
        kind(trimap(), root / layout.TRIMAPS / f"beagle_{number}.png")
    assert command.main(["check", str(root)]) == 2
    assert "fix them or raise the setting" in capfd.readouterr().err

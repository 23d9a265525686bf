"""Screenshots of a report on a phone, in dark mode and on paper: docs/images/report-*.png.

    python -m benchmarks.screenshots [--report output/report.html] [--output docs/images]

Needs Chromium. It is driven through its DevTools protocol, because its own ``--screenshot``
supports neither a window as narrow as a phone nor paper. Those in docs/images are of a report of
``make run``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tests.support.chromium import SHOTS, chromium

MOST_BYTES = 400_000
_GAP = 24  # between the parts of a picture, pixels


def joined(parts: Sequence[Image.Image], margin: int) -> Image.Image:
    """The parts side by side, each with a white margin and a thin edge."""
    edged = [ImageOps.expand(ImageOps.expand(p, margin, "white"), 1, "#c4c8cf") for p in parts]
    width = sum(each.width for each in edged) + _GAP * (len(edged) - 1)
    whole = Image.new("RGB", (width, max(each.height for each in edged)), "white")
    left = 0
    for each in edged:
        whole.paste(each, (left, 0))
        left += each.width + _GAP
    return whole


def with_few_colours(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours, a third of the bytes: those of the page as they are."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    frequent = colours[np.argsort(counts)[::-1][:64]].ravel().tolist()
    others = picture.quantize(192, method=Image.Quantize.FASTOCTREE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(frequent + others)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the pictures, and says how large they are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", type=Path, default=Path("output/report.html"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args(argv)
    with chromium() as page:
        page.open(arguments.report.resolve().as_uri())
        page.forget(Path.cwd())
        for shot in SHOTS:
            page.show(shot)
            parts = [page.picture(shot, heading) for heading in shot.parts]
            path = arguments.output / f"report-{shot.name}.png"
            few = with_few_colours(joined(parts, round(shot.margin * shot.scale)))
            few.save(path, optimize=True)
            size = path.stat().st_size
            print(f"{path}: {few.width}x{few.height}, {size / 1000:.0f} KB")
            if size > MOST_BYTES:
                raise SystemExit(f"{path} has more than {MOST_BYTES / 1000:.0f} KB.")


if __name__ == "__main__":
    main()

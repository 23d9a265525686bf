"""Measures the appearance of photos, to compare batches of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import ImageStat

from pipeline.core import features

_SIDE = 128  # pixels; all photos are compared at one size, as the model sees them at one


def measure(photo: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Measure a photo, uint8 [height, width, 3].

    Returns:
      By feature name, each 0 to 1: `brightness`, the mean of the grey photo (ITU-R 601 luma);
      `red`, `green` and `blue`, the mean of each channel; `sharpness`, the mean absolute difference
      of neighbouring pixels in the grey photo at 128x128 pixels. A photo that is half black and
      half white, with a vertical edge in the middle, has a brightness of 0.5 and a sharpness of
      1/254.
    """
    size = (_SIDE, _SIDE)
    small = PIL.Image.fromarray(photo).resize(size, PIL.Image.Resampling.BOX, reducing_gap=1.0)
    luma = small.convert("L")
    grey = np.asarray(luma, np.int16)
    sharpness = np.mean([np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)])
    means = [*ImageStat.Stat(luma).mean, sharpness, *ImageStat.Stat(small).mean]
    names = (features.BRIGHTNESS, features.SHARPNESS, *features.COLOURS)
    return {name: float(value) / 255 for name, value in zip(names, means, strict=True)}

"""How a photo looks, in a few numbers that tell one batch of photos from another."""

from __future__ import annotations

import numpy as np
import PIL.Image
from PIL import ImageStat

from pipeline.core import features

# Photos are compared at one size, since a model too sees them at one. Pixels, without the aspect.
_SIDE = 128


def measure(photo: np.ndarray) -> dict[str, float]:
    """Measures a photo, uint8 [height, width, 3].

    Returns:
      By feature name, 0 to 1 each: `brightness`, the mean of the grey photo (ITU-R 601 luma);
      `red`, `green` and `blue`, the mean of that channel; `sharpness`, the mean difference of
      neighbours in the grey photo, at 128x128 pixels. A photo that is half black and half white
      with one straight edge down the middle has a brightness of 0.5 and a sharpness of 1/254.
    """
    size = (_SIDE, _SIDE)
    small = PIL.Image.fromarray(photo).resize(size, PIL.Image.Resampling.BOX, reducing_gap=1.0)
    luma = small.convert("L")
    grey = np.asarray(luma, np.int16)
    sharpness = np.mean([np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)])
    means = [*ImageStat.Stat(luma).mean, sharpness, *ImageStat.Stat(small).mean]
    names = (features.BRIGHTNESS, features.SHARPNESS, *features.COLOURS)
    return {name: float(value) / 255 for name, value in zip(names, means, strict=True)}

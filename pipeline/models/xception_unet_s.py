"""The small size of `xception_unet`, for the laptop and for many images a second.

At 200x200: 191,795 parameters, 93 million multiply-adds (benchmarks/models.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

SIZE_MULTIPLE = 8
SCALABLE = True


def build(image_size: int, width: float = 1) -> keras.Model:
    """From float32 [batch, size, size, 3] in [0, 1] to float32 [batch, size, size, NUM_CLASSES]."""
    from pipeline.models import _xception_unet

    return _xception_unet.build(
        image_size,
        "xception_unet_s",
        widths=(16, 48, 96, 160),
        down=(1, 1, 2),
        up=(1, 1, 1),
        width=width,
    )

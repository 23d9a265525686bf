"""A smaller `xception_unet`, for laptops and high throughput.

At 200x200: 191,795 parameters, 93 million multiply-adds (benchmarks/models.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

SIZE_MULTIPLE = 8
SCALABLE = True


def build(image_size: int, width: float = 1) -> keras.Model:
    """Build the model; see `pipeline.models`."""
    from pipeline.models import _xception_unet

    return _xception_unet.build(
        image_size,
        "xception_unet_s",
        widths=(16, 48, 96, 160),
        down=(1, 1, 2),
        up=(1, 1, 1),
        width=width,
    )

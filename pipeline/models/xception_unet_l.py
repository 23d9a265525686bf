"""A larger `xception_unet`, for GPUs and large data sets.

At 200x200: 1,694,947 parameters, 613 million multiply-adds (benchmarks/models.py).
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
        "xception_unet_l",
        widths=(32, 96, 192, 384),
        down=(2, 3, 4),
        up=(1, 1, 1),
        width=width,
    )

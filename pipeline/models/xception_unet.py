"""The default model: a U-Net of residual blocks with separable convolutions.

Made for processors without a GPU. Dense 3x3 convolutions are all arithmetic, of which the reference
has 19 times as much; here what costs is going through large tensors, batch normalisation above all.
So half the size, where borders are decided, has few and narrow layers, and the bulk of the weights
works at an eighth and a sixteenth, where it sees the whole pet. Logits are interpolated from half
to full size, which by itself would allow a border IoU of 0.96.

At 200x200: 589,603 parameters, 239 million multiply-adds (benchmarks/models.py).

Sources: Chollet, "Xception", CVPR 2017; Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

SIZE_MULTIPLE = 8


def build(image_size: int) -> keras.Model:
    """From float32 [batch, size, size, 3] in [0, 1] to float32 [batch, size, size, NUM_CLASSES]."""
    from pipeline.models import _xception_unet

    return _xception_unet.build(
        image_size, "xception_unet", widths=(32, 64, 128, 256), down=(1, 2, 3), up=(1, 1, 1)
    )

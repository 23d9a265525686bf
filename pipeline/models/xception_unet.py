"""A U-Net of residual blocks with separable convolutions.

Made for processors without a GPU. Dense 3x3 convolutions are all arithmetic, of which the reference
has 19 times as much; here what costs is going through large tensors, batch normalisation above all.
So half the size, where borders are decided, has few and narrow layers, and the bulk of the weights
works at an eighth and a sixteenth, where it sees the whole pet. Logits are interpolated from half
to full size.

At 200x200: 589,603 parameters, 239 million multiply-adds. In a second of one core's time 174 images
of inference and 50 of training, where the reference has 23 and 6 (benchmarks/models.py, AMD EPYC
(Zen 5), compatible stack, 2026-11-24).

Thirty minutes with the default settings on two cores' time (27 epochs, batch 16): pixel accuracy
0.895, mean IoU 0.730; IoU of the pet 0.809, of the background 0.892, of the border 0.490. The
curve, and the reference's, are in docs/reference/training_figures.md. Eval split (10 % by hash) of
../shared/data/oxford-iiit-pet-128, by which batch size and optimiser had been chosen.

Sources: Chollet, "Xception", CVPR 2017; Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
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
        "xception_unet",
        widths=(32, 64, 128, 256),
        down=(1, 2, 3),
        up=(1, 1, 1),
        width=width,
    )

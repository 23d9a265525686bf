"""The data set: where its files lie, which of them are items, their splits, faults and download.

`layout` lists the items, `spans` picks dated batches, `copies` finds photos that are there twice,
`checks` opens an item and says what is wrong with it, `health` decides whether the whole is fit to
train on, `download` fetches the real data set. ``python -m pipeline.dataset --help`` shows what a
terminal can do.
"""

from pipeline.dataset.layout import (
    ANNOTATIONS,
    IMAGES,
    TRIMAPS,
    FaultyItem,
    Item,
    Scan,
    check_layout,
    fingerprint,
    scan,
)

__all__ = [
    "ANNOTATIONS",
    "IMAGES",
    "TRIMAPS",
    "FaultyItem",
    "Item",
    "Scan",
    "check_layout",
    "fingerprint",
    "scan",
]

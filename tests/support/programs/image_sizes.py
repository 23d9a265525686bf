"""Checks an image size for each model, as reading the settings does."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import models


def main(arguments: Sequence[str]) -> None:
    for name in models.names():
        models.check_image_size(name, int(arguments[0]))

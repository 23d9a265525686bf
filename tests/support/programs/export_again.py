"""Exports the tiny model with other names of layers than a fresh process would give them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow_transform as tft

from pipeline.saved_model import export
from tests.support.models.tiny_training import SIZE, tiny_model


def main(arguments: Sequence[str]) -> None:
    """Takes the file of weights, the transform graph and the target folder."""
    weights, transform_graph, target = arguments
    for _ in range(3):
        tiny_model()  # Keras numbers the layers of a process
    model = tiny_model()
    model.load_weights(weights)
    export.save(model, tft.TFTransformOutput(transform_graph), SIZE, target)

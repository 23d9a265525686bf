"""Content of a report: the outcome of a run that released or did not, its history, its photos."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.report import html_page


def outcome(**changes: Any) -> dict[str, Any]:
    """A run that released its model, with what is to be different."""
    gate = [
        ("pixel_accuracy", "overall", 0.912, 0.8, "at_least", True),
        ("mean_iou", "overall", 0.78, 0.6, "at_least", True),
        ("iou_border", "breed=Bengal", 0.59, 0.35, "at_least", True),
        ("mean_iou", "overall", 0.013, -0.01, "change", True),
    ]
    whole = {
        "pixel_accuracy": 0.912,
        "mean_iou": 0.781,
        "iou": {"pet": 0.853, "background": 0.904, "border": 0.586},
        "example_count": 40,
    }
    result = {
        "status": "pushed",
        "pushed_version": 1795535068,
        "new_version": True,
        "champion": {"version": 1795535000},
        "in_service": 1795535000,
        "metrics": {
            "overall": whole,
            "species=cat": {**whole, "mean_iou": 0.733, "example_count": 17},
            "breed=Bengal": {**whole, "mean_iou": 0.722},
            "breed=Sphynx": {**whole, "mean_iou": 0.655},
        },
        "gate": [
            dict(zip(("metric", "slice", "value", "bound", "kind", "held"), row, strict=True))
            for row in gate
        ],
        "data": {
            "splits": {"train": 320, "eval": 41, "test": 42},
            "quarantined": [{"id": "Bengal_7", "reason": "mask is 300x200, photo is 500x333"}],
        },
        "components": [
            {"id": "Transform", "state": "cached", "seconds": 0.3},
            {"id": "Trainer", "state": "executed", "seconds": 61.2},
        ],
        "versions": {"tfx": "1.21.0", "stack": "current"},
        "settings": {"train.epochs": 7, "gate.slices": ["overall", "species"]},
        "started": "2026-08-17T14:03:11.123456+00:00",
        "seconds": 95.0,
        "model_name": "encoder_decoder",
        "serving_dir": "/data/serving/encoder_decoder",
    }
    return {**result, **changes}


def history(epochs: int = 5) -> list[dict[str, float]]:
    return [
        {
            "epoch": e,
            "loss": 1.0 / e,
            "val_loss": 1.1 / e,
            "accuracy": 0.5 + e / 100,
            "val_accuracy": 0.4 + e / 100,
            "seconds": 3.0,
            "best": float(e == 4),
        }
        for e in range(1, epochs + 1)
    ]


def item(name: str = "Bengal_1", width: int = 500, height: int = 375) -> html_page.GalleryItem:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    truth = np.full((height, width), 1, np.uint8)
    truth[: height // 2] = 0
    prediction = np.full((height, width), 2, np.uint8)
    return html_page.GalleryItem(name, "Bengal", noise, truth, prediction, 0.4321, 0.2109)


def not_released() -> dict[str, Any]:
    result = outcome(status="not_blessed", pushed_version=None)
    result["gate"][1] |= {"value": 0.412, "held": False}
    result["gate"][2] |= {"value": 0.34999, "held": False}
    result["gate"][3] |= {"value": -0.031, "held": False, "candidate": 0.412, "champion": 0.443}
    return result

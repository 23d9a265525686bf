"""Drift: how far today's photos are from those that the model in service learned from.

TFX's DistributionValidator compares the statistics of two train splits, feature by feature: numbers
by the Jensen-Shannon divergence (base 2) of their histograms, names by the L-infinity norm, the
largest change of one name's share. Both are 0 for equal data and 1 for data without anything in
common.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, path_pb2, schema_pb2
from tfx import types
from tfx.dsl.io import fileio
from tfx.proto import distribution_validator_pb2
from tfx.utils import io_utils

from pipeline.core import features
from pipeline.settings import Data

# The largest split: the distances of a few photos are mostly chance.
SPLIT_PAIR = (features.TRAIN, features.TRAIN)

_FILE = os.path.join(f"SplitPair-{'_'.join(SPLIT_PAIR)}", "SchemaDiff.pb")


def comparators(bound: float) -> dict[str, schema_pb2.FeatureComparator]:
    """The comparator of each feature, with one bound for all."""
    norm = schema_pb2.FeatureComparator(infinity_norm={"threshold": bound})
    divergence = schema_pb2.FeatureComparator(jensen_shannon_divergence={"threshold": bound})
    return {
        **dict.fromkeys(features.DRIFT_NAMES, norm),
        **dict.fromkeys(features.DRIFT_NUMBERS, divergence),
    }


def config(data: Data) -> distribution_validator_pb2.DistributionValidatorConfig:
    """What DistributionValidator compares: nothing, where `data.drift` is off."""
    result = distribution_validator_pb2.DistributionValidatorConfig()
    wanted = comparators(data.drift_bound) if data.drift != "off" else {}
    for name, comparator in wanted.items():
        result.default_slice_config.feature.add(
            path=path_pb2.Path(step=[name]), distribution_comparator=comparator
        )
    return result


def read(anomalies: types.Artifact) -> list[dict[str, Any]]:
    """What DistributionValidator found, the farthest feature first.

    Returns:
      A row a feature, ``{"feature", "distance", "bound", "drifted"}``; none where there was nothing
      to compare with.
    """
    path = os.path.join(anomalies.uri, _FILE)
    if not fileio.exists(path):
        return []
    return rows(anomalies_pb2.Anomalies.FromString(io_utils.read_bytes_file(path)))


def rows(anomalies: anomalies_pb2.Anomalies) -> list[dict[str, Any]]:
    """The same from TFDV's message."""
    found = []
    for info in anomalies.drift_skew_info:
        for measured in info.drift_measurements:
            # Of data without anything in common TFDV's divergence can be 1.0000000000000002.
            distance, bound = round(measured.value, 4), measured.threshold
            row = {"feature": info.path.step[0], "distance": distance, "bound": bound}
            found.append({**row, "drifted": distance > bound})
    return sorted(found, key=lambda row: -row["distance"])


def describe(found: Iterable[dict[str, Any]]) -> str | None:
    """The features that drifted, as a clause such as ``brightness by 0.93``; None if none did."""
    drifted = [f"{row['feature']} by {row['distance']:.2f}" for row in found if row["drifted"]]
    return ", ".join(drifted) or None

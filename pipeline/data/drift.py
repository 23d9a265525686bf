"""Drift: how far today's photos are from the training data of the model in service.

TFX's DistributionValidator compares the statistics of two train splits feature by feature: numbers
by the Jensen-Shannon divergence (base 2) of their histograms, names by the L-infinity norm (the
largest change in the fraction of a name). Both are 0 for equal data and 1 for data with nothing in
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

# train is the largest split; with few photos, distances are mostly chance.
SPLIT_PAIR = (features.TRAIN, features.TRAIN)

_FILE = os.path.join(f"SplitPair-{'_'.join(SPLIT_PAIR)}", "SchemaDiff.pb")


def comparators(bound: float) -> dict[str, schema_pb2.FeatureComparator]:
    """Return the comparator of each feature, all with the same threshold."""
    norm = schema_pb2.FeatureComparator(infinity_norm={"threshold": bound})
    divergence = schema_pb2.FeatureComparator(jensen_shannon_divergence={"threshold": bound})
    return {
        **dict.fromkeys(features.DRIFT_NAMES, norm),
        **dict.fromkeys(features.DRIFT_NUMBERS, divergence),
    }


def config(data: Data) -> distribution_validator_pb2.DistributionValidatorConfig:
    """Return DistributionValidator's configuration, empty if `data.drift` is off."""
    result = distribution_validator_pb2.DistributionValidatorConfig()
    features_compared = comparators(data.drift_bound) if data.drift != "off" else {}
    for name, comparator in features_compared.items():
        result.default_slice_config.feature.add(
            path=path_pb2.Path(step=[name]), distribution_comparator=comparator
        )
    return result


def read(anomalies: types.Artifact) -> list[dict[str, Any]]:
    """Read DistributionValidator's result, sorted by distance, the largest first.

    Returns:
      A row per feature, ``{"feature", "distance", "bound", "drifted"}``; none if there was nothing
      to compare with.
    """
    path = os.path.join(anomalies.uri, _FILE)
    if not fileio.exists(path):
        return []
    return rows(anomalies_pb2.Anomalies.FromString(io_utils.read_bytes_file(path)))


def rows(anomalies: anomalies_pb2.Anomalies) -> list[dict[str, Any]]:
    """Return the rows of `read` from TFDV's message."""
    result = []
    for info in anomalies.drift_skew_info:
        for measured in info.drift_measurements:
            # Rounded, since TFDV's divergence can be 1.0000000000000002.
            distance, bound = round(measured.value, 4), measured.threshold
            row = {"feature": info.path.step[0], "distance": distance, "bound": bound}
            result.append({**row, "drifted": distance > bound})
    return sorted(result, key=lambda row: -row["distance"])


def describe(rows: Iterable[dict[str, Any]]) -> str | None:
    """List the features that drifted, such as ``brightness by 0.93``; None if none did."""
    drifted = [f"{row['feature']} by {row['distance']:.2f}" for row in rows if row["drifted"]]
    return ", ".join(drifted) or None

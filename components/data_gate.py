"""DataGate: stops the run before training when the data is not fit for it.

ExampleValidator and DriftValidator only write down what they find; this component reads that, and
the quarantine, and refuses.
"""

# No `from __future__ import annotations` here: the decorator reads the annotations as objects.
import os

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics
from tfx.utils import io_utils

from components import example_gen
from pipeline import drift as data_drift
from pipeline import features
from pipeline.dataset import coverage, health
from pipeline.errors import DataError
from pipeline.settings import Gate

# Settings of the gate that decide which classes it must find.
CLASS_SETTINGS = {"class_iou", "slices", "min_examples"}


@component
def DataGate(
    examples: InputArtifact[Examples],
    statistics: InputArtifact[ExampleStatistics],
    anomalies: InputArtifact[ExampleAnomalies],
    drift: InputArtifact[ExampleAnomalies],
    max_quarantined: Parameter[float],
    on_drift: Parameter[str],
    gate: Parameter[str],
    code: Parameter[str],
) -> None:
    """Raises DataError, one sentence, if data may not be trained on.

    Args:
      examples: ExampleGen's output, with its quarantine.
      statistics: StatisticsGen's output.
      anomalies: ExampleValidator's output.
      drift: DriftValidator's output.
      max_quarantined: share of faulty items that is tolerated; above 0, one item always is.
      on_drift: "stop" refuses data that drifted.
      gate: JSON of the section of settings, as far as it asks for classes: `CLASS_SETTINGS`.
      code: fingerprint of this module; a new one makes the component run again.
    """
    counts = count_examples(statistics)
    quarantined = example_gen.read_quarantine(examples.uri)
    causes = health.causes(quarantined, example_gen.read_scan(examples.uri)["hints"])
    health.require_fit(counts, quarantined, max_quarantined, causes)
    coverage.require(example_gen.read_classes(examples.uri), Gate.model_validate_json(gate))
    for split in features.SPLITS:
        found = read_anomalies(anomalies, split)
        if found:
            raise DataError(f"The split '{split}' does not fit the schema: {'; '.join(found)}.")
    drifted = data_drift.describe(data_drift.read(drift))
    if drifted and on_drift == "stop":
        raise DataError(
            f"The photos differ much from those of the last release: {drifted}; look at them, then "
            "set data.drift=warn or raise data.drift_bound to train on them."
        )


def count_examples(statistics: ExampleStatistics) -> dict[str, int]:
    """Number of examples of each split, from StatisticsGen's output."""
    counts = {}
    for split in features.SPLITS:
        uri = artifact_utils.get_split_uri([statistics], split)
        stats = tfdv.load_stats_binary(os.path.join(uri, "FeatureStats.pb"))
        counts[split] = int(stats.datasets[0].num_examples) if stats.datasets else 0
    return counts


def read_anomalies(anomalies: ExampleAnomalies, split: str) -> list[str]:
    """What ExampleValidator found in a split, in a sentence each."""
    uri = artifact_utils.get_split_uri([anomalies], split)
    message = anomalies_pb2.Anomalies.FromString(
        io_utils.read_bytes_file(os.path.join(uri, "SchemaDiff.pb"))
    )
    found = [
        f"{name}: {info.description.rstrip('.')}" for name, info in message.anomaly_info.items()
    ]
    if message.HasField("dataset_anomaly_info"):
        found.append(message.dataset_anomaly_info.description.rstrip("."))
    return sorted(found)

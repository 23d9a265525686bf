"""Read the outputs of StatisticsGen and ExampleValidator."""

from __future__ import annotations

import os

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics
from tfx.utils import io_utils

from pipeline.core import features


def count_examples(statistics: ExampleStatistics) -> dict[str, int]:
    """Reads the number of examples in each split from StatisticsGen's output."""
    counts = {}
    for split in features.SPLITS:
        uri = artifact_utils.get_split_uri([statistics], split)
        stats = tfdv.load_stats_binary(os.path.join(uri, "FeatureStats.pb"))
        counts[split] = int(stats.datasets[0].num_examples) if stats.datasets else 0
    return counts


def read_anomalies(anomalies: ExampleAnomalies, split: str) -> list[str]:
    """Reads the anomalies that ExampleValidator found in a split, each as a sentence."""
    uri = artifact_utils.get_split_uri([anomalies], split)
    message = anomalies_pb2.Anomalies.FromString(
        io_utils.read_bytes_file(os.path.join(uri, "SchemaDiff.pb"))
    )
    sentences = [
        f"{name}: {info.description.rstrip('.')}" for name, info in message.anomaly_info.items()
    ]
    if message.HasField("dataset_anomaly_info"):
        sentences.append(message.dataset_anomaly_info.description.rstrip("."))
    return sorted(sentences)

"""DataGate: stops the run before training if the data is not fit for it.

ExampleValidator and DriftValidator only record anomalies; this component reads them and the
quarantine, and raises.
"""

# No `from __future__ import annotations`, since the decorator needs the annotations as objects.

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics

from pipeline.artifacts import data_checks, ingestion
from pipeline.core import features
from pipeline.core.errors import DataError
from pipeline.data import coverage, health
from pipeline.data import drift as data_drift
from pipeline.settings import Gate

# Settings of the gate that decide which classes the masks must contain.
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
    """Check that the data may be trained on.

    Args:
      examples: ExampleGen's output, with its quarantine.
      statistics: StatisticsGen's output.
      anomalies: ExampleValidator's output.
      drift: DriftValidator's output.
      max_quarantined: maximum fraction of quarantined items; above 0, one is always tolerated.
      on_drift: "stop" refuses data that has drifted.
      gate: the settings of the gate in `CLASS_SETTINGS`, as JSON.
      code: fingerprint of this module, part of the cache key.

    Raises:
      DataError: if it may not.
    """
    counts = data_checks.count_examples(statistics)
    quarantined = ingestion.read_quarantine(examples.uri)
    causes = health.causes(quarantined, ingestion.read_scan(examples.uri)["hints"])
    health.require_fit(counts, quarantined, max_quarantined, causes)
    coverage.require(ingestion.read_classes(examples.uri), Gate.model_validate_json(gate))
    for split in features.SPLITS:
        if problems := data_checks.read_anomalies(anomalies, split):
            raise DataError(f"The {split} split does not match the schema: {'; '.join(problems)}.")
    drifted = data_drift.describe(data_drift.read(drift))
    if drifted and on_drift == "stop":
        raise DataError(
            f"The photos have drifted from the data of the last release: {drifted}; check them, "
            "then set data.drift=warn or raise data.drift_bound to train on them."
        )

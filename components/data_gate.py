"""DataGate: stops the run before training when the data is not fit for it.

ExampleValidator and DriftValidator only write down what they find; this component reads that, and
the quarantine, and refuses.
"""

# No `from __future__ import annotations` here: the decorator reads the annotations as objects.

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics

from pipeline.artifacts import data_checks, ingestion
from pipeline.core import features
from pipeline.core.errors import DataError
from pipeline.data import coverage, health
from pipeline.data import drift as data_drift
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
    counts = data_checks.count_examples(statistics)
    quarantined = ingestion.read_quarantine(examples.uri)
    causes = health.causes(quarantined, ingestion.read_scan(examples.uri)["hints"])
    health.require_fit(counts, quarantined, max_quarantined, causes)
    coverage.require(ingestion.read_classes(examples.uri), Gate.model_validate_json(gate))
    for split in features.SPLITS:
        found = data_checks.read_anomalies(anomalies, split)
        if found:
            raise DataError(f"The split '{split}' does not fit the schema: {'; '.join(found)}.")
    drifted = data_drift.describe(data_drift.read(drift))
    if drifted and on_drift == "stop":
        raise DataError(
            f"The photos differ much from those of the last release: {drifted}; look at them, then "
            "set data.drift=warn or raise data.drift_bound to train on them."
        )

"""Beam's work in other processes: artifacts equal the direct runner's, example for example.

On Beam's own job server everywhere, and on Apache Flink where Maven gets it.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv

from pipeline.core import features
from tests.support.runs import (
    Run,
    only_with_all,
    run_locally,
    skip_training,
    skips_without,
    smoke_test_here,
)
from tests.support.servers import beam_cluster
from tests.support.servers.beam_cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("smoke_test_in_process")]

CLUSTERS = {"job_service": beam_cluster.job_service, "flink": beam_cluster.flink}
# A Beam pipeline each: ExampleGen, StatisticsGen, Transform, Evaluator.
PIPELINES = 4


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    only_with_all(f"BEAM ON {request.param.upper()}")
    with contextlib.ExitStack() as stack:
        start = CLUSTERS[request.param](tmp_path_factory.mktemp("cluster"))
        with skips_without("FLINK"):
            running = stack.enter_context(start)
        yield running


@pytest.fixture(scope="module")
def run(cluster: Cluster, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole chain, with every Beam pipeline on the cluster."""
    output = tmp_path_factory.mktemp("remote") / "output"
    chosen = (f"beam.runner={beam_cluster.RUNNER}", f"beam.args={json.dumps(cluster.args)}")
    with pytest.MonkeyPatch.context() as patch:
        skip_training(patch)
        smoke_test_here(patch)
        return run_locally(small_data, output, *chosen)


def test_the_cluster_did_the_work(run: Run, cluster: Cluster) -> None:
    assert (run.code, run.outcome["status"]) == (0, "pushed")
    assert set(run.states().values()) == {"executed"}
    assert cluster.done() == PIPELINES


@pytest.mark.parametrize(
    ("output", "splits"),
    [
        ("ExampleGen/examples", features.SPLITS),
        ("Transform/transformed_examples", (features.TRAIN, features.EVAL)),
    ],
)
def test_examples_equal_those_of_the_direct_runner(
    run: Run, small_run: Run, output: str, splits: tuple[str, ...]
) -> None:
    for split in splits:
        found = examples(run, output, split)
        assert found == examples(small_run, output, split)
        assert found.total() > 0


def test_statistics_equal_those_of_the_direct_runner(run: Run, small_run: Run) -> None:
    for split in features.SPLITS:
        assert statistics(run, split) == pytest.approx(statistics(small_run, split))


def test_metrics_equal_those_of_the_direct_runner(run: Run) -> None:
    # Another bound, so that the Evaluator works again: on the same model, in this process.
    here = run.again("gate.min_examples=19")
    assert (here.states()["Trainer"], here.states()["Evaluator"]) == ("cached", "executed")
    assert here.outcome["metrics"] == run.outcome["metrics"]


def examples(run: Run, output: str, split: str) -> Counter[bytes]:
    """How often each serialised example is there; of what order its features are is left out."""
    (artifact,) = (run.output_root / "artifacts" / output).iterdir()
    files = [str(path) for path in (artifact / f"Split-{split}").iterdir()]
    read = map(
        tf.train.Example.FromString, tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
    )
    return Counter(example.SerializeToString(deterministic=True) for example in read)


def statistics(run: Run, split: str) -> dict[str, float]:
    """Counts of each feature of a split, and of numbers their means, deviations and bounds."""
    folder = run.output_root / "artifacts" / "StatisticsGen" / "statistics"
    (artifact,) = folder.iterdir()
    read = tfdv.load_stats_binary(str(artifact / f"Split-{split}" / "FeatureStats.pb"))
    found: dict[str, float] = {"examples": read.datasets[0].num_examples}
    for feature in read.datasets[0].features:
        name, kind = feature.path.step[0], feature.WhichOneof("stats")
        of_kind = getattr(feature, kind)
        found[f"{name}: present"] = of_kind.common_stats.num_non_missing
        if kind == "num_stats":
            for value in ("mean", "std_dev", "min", "median", "max"):
                found[f"{name}: {value}"] = getattr(of_kind, value)
        elif kind == "string_stats":
            found[f"{name}: unique"] = of_kind.unique
            for bucket in of_kind.rank_histogram.buckets:
                found[f"{name}: {bucket.label}"] = bucket.sample_count
    return found

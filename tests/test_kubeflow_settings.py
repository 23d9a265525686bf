"""Settings of the cluster side: every mistake is one sentence, before anything is sent."""

from pathlib import Path

import pytest
import yaml

from kubeflow import compiler, settings
from pipeline.core.errors import UserError
from tests.support.runs import ROOT

L4 = "pools.l4-spot"


def test_the_example_loads_beside_settings_of_the_run() -> None:
    chosen = settings.load([settings.EXAMPLE_CONFIG], ["train.epochs=3", f"{L4}.count=2"])
    assert chosen.train.epochs == 3
    pool = chosen.pool("Trainer")
    assert pool is not None
    assert (pool.count, pool.spot) == (2, True)
    assert pool.node_selector["cloud.google.com/gke-accelerator"] == "nvidia-l4"
    assert chosen.pool("Transform") is None


@pytest.mark.parametrize("cloud", ["gke", "eks", "aks"])
def test_each_cloud_has_an_example_with_a_spot_pool(cloud: str) -> None:
    chosen = settings.load([settings.EXAMPLE_CONFIG.with_name(f"{cloud}.yaml")])
    pool = chosen.pool("Trainer")
    assert pool is not None
    assert (pool.count, pool.spot) == (1, True)
    assert any(each.key == pool.accelerator for each in pool.tolerations)
    assert chosen.components.keys() == settings.load([settings.EXAMPLE_CONFIG]).components.keys()
    guide = (ROOT / "docs" / "how_to" / "kubeflow_install.md").read_text(encoding="utf-8")
    labels = {label for each in chosen.pools.values() for label in each.node_selector.values()}
    assert [label for label in labels if label not in guide] == []


def test_components_request_resources_that_settings_override() -> None:
    chosen = settings.load([], ["components.Trainer.max_minutes=600", "components.Pusher.cpu=2"])
    gate, trainer, pusher = (chosen.component(n) for n in ("DataGate", "Trainer", "Pusher"))
    assert settings.cpus(gate.cpu) < settings.cpus(trainer.cpu)
    assert settings.bytes_of(gate.memory) < settings.bytes_of(trainer.memory)
    assert trainer.max_minutes == 600
    assert trainer.memory == settings.load().component("Trainer").memory
    assert (pusher.cpu, pusher.memory) == ("2", settings.load().component("Pusher").memory)
    more = settings.load([], ["components.Trainer.memory=9Gi"]).component("Trainer")
    assert (more.memory, more.cpu) == ("9Gi", trainer.cpu)
    with pytest.raises(UserError, match="memory_limit 1Gi is less than memory 3Gi"):
        settings.load([], ["components.Pusher.memory_limit=1Gi"])


def test_every_task_was_measured() -> None:
    everything = settings.load(
        [], ["tune.trials=2", "release.copy_to=/c", "release.infra_validation=kubernetes"]
    )
    text, _ = compiler.compile_pipeline(everything).split("---")
    spec = yaml.safe_load(text)
    graphs = [spec["root"], *spec["components"].values()]
    tasks = {
        task["taskInfo"]["name"]
        for graph in graphs
        for task in graph.get("dag", {}).get("tasks", {}).values()
        if "executorLabel" in spec["components"][task["componentRef"]["name"]]
    }
    assert tasks == set(settings.NEEDS)


def test_spot_pools_are_retried_more_often() -> None:
    chosen = settings.load([settings.EXAMPLE_CONFIG])
    assert chosen.retries_of("Trainer") == chosen.retries.on_spot
    assert chosen.retries_of("Transform") == chosen.retries.count
    assert chosen.retries_of("DataGate") == 0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (f"{L4}.cuont=1", f"Unknown setting '{L4}.cuont' in --set; did you mean '{L4}.count'?"),
        (f"{L4}.count=1.5", f"Setting '{L4}.count' is 1.5 (from --set); it must be a whole number"),
        (f"{L4}.count=-1", f"Setting '{L4}.count' is -1 (from --set); it must be at least 0"),
        ("imag.cpu=a:b", "Unknown setting 'imag.cpu' in --set; did you mean 'image.cpu'?"),
        (
            f"{L4}.tolerations=[{{key: a, effect: NoScedule}}]",
            f"Setting '{L4}.tolerations.0.effect' is 'NoScedule' (from --set); it must be "
            "'NoSchedule', 'PreferNoSchedule' or 'NoExecute'; did you mean 'NoSchedule'?",
        ),
        (
            f"{L4}.tolerations=[{{key: a, efect: NoSchedule}}]",
            f"Unknown setting '{L4}.tolerations.0.efect' in --set; did you mean "
            f"'{L4}.tolerations.0.effect'?",
        ),
        (f"{L4}.tolerations=[{{operator: Equal}}]", "operator Equal needs key and value."),
        (f"{L4}.tolerations=[{{seconds: 3}}]", "takes seconds only with the effect NoExecute."),
        (f"{L4}.node_selector={{}}", "it must have at least 1 item(s)."),
        (f"{L4}.node_selector={{'a b': c}}", "must be a label's key, such as example.com/kind."),
        ("pools.x.count=1", "Setting 'pools.x.node_selector' is missing;"),
        ("pools.X.node_selector={a: b}", "Setting 'pools.X' is 'X' (from --set); it must be a"),
        ("components.Trainer.pool=a10", "is 'a10', which section 'pools' does not have; did you"),
        ("components.Trainer.cpu=-1", "must be CPUs, such as 2, 0.5 or 500m."),
        ("components.Trainer.memory=4GB", "must be memory, such as 4Gi or 500M."),
        ("components.Trainer.memory_limit=1Gi", "memory_limit 1Gi is less than memory 12Gi."),
        ("components.Trainer.retries=-1", "it must be at least 0."),
        ("storage.output_root=/data", "Setting 'storage': output_root '/data' is not on the vol"),
        ("storage.output_root=gs://bucket", "must be a folder on the volume, such as /mnt/data."),
        ("metadata.kind=mysq", "did you mean 'mysql'?"),
        ("image.cpu=segmentation", "must be an image with its tag, such as"),
        ("train.epochs=0", "Setting 'train.epochs' is 0 (from --set)"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        settings.load([settings.EXAMPLE_CONFIG], [override])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tls_is_for_servers() -> None:
    assert settings.load([], ["metadata.tls=off"]).metadata.tls == "off"  # YAML's false
    with pytest.raises(UserError, match="tls is require, but kind sqlite is a file"):
        settings.load([], ["metadata.kind=sqlite", "metadata.tls=require"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "pools: {a: {node_selector: {b: c}, tolerations: [{key: a, operater: Exists}]}}",
            "operator",
        ),
        ("pools: 3", "Setting 'pools' is 3 (from "),
        ("pools: {a: 3}", "Setting 'pools.a' is 3 (from "),
        ("pools: {a: }", "Setting 'pools.a.node_selector' is missing; set it in "),
        ("pools: {A: {node_selector: {b: c}}}", "Setting 'pools.A' is 'A' (from "),
        ("components: {Trainer: {memry: 3Gi}}", "did you mean 'components.Trainer.memory'?"),
        ("storge: {claim: a}", "did you mean 'storage'?"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(content: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        settings.load([file])
    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        # Both sources have settings of the section: neither is known to be the wrong one.
        ("storage.output_root=/data", "Setting 'storage': output_root '/data' is not on the"),
        ("image.cpu=a:b", "Setting 'storage' (from "),
    ],
)
def test_settings_that_clash_name_their_source_if_it_is_one(
    override: str, start: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("storage: {data_root: /data}")
    with pytest.raises(UserError) as caught:
        settings.load([file], [override])
    assert str(caught.value).startswith(start)


def test_a_component_without_settings_is_still_known(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("components:\n  Trainr:\n")
    with pytest.raises(UserError, match="Unknown component 'Trainr'"):
        settings.load([file]).check_components(["Trainer"])


def test_an_unknown_component_is_named_with_its_neighbour() -> None:
    chosen = settings.load([], ["components.Trainr.cpu=2"])
    with pytest.raises(UserError, match=r"'Trainr' in section 'components'; did you .*'Trainer'"):
        chosen.check_components(["ExampleGen", "Trainer"])


def test_every_setting_is_described() -> None:
    lines = settings.describe().splitlines()
    assert any(line.split()[0] == "pools.NAME.count" for line in lines)
    assert all(len(line.split("  ")[-1]) > 3 for line in lines)

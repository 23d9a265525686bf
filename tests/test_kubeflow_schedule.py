"""Schedules: made, moved, paused, resumed, deleted and listed on a stand-in (kfp_stand_in.py)."""

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeflow import cron
from tests.support.kfp.api_server import Trouble
from tests.support.kfp.fixtures import Kubeflow

pytest_plugins = ["tests.support.kfp.fixtures"]

NOW = datetime.datetime(2026, 11, 24, 18, 20, 30, tzinfo=datetime.timezone.utc)


def test_a_schedule_follows_the_newest_version_one_run_at_a_time(uploaded: Kubeflow) -> None:
    arguments = ["--param", "data_root=/data", "--service-account", "trainer"]
    assert uploaded("schedule", "--cron", "0 2 * * *", *arguments) == 0
    made = uploaded.schedule
    assert made["display_name"] == "nightly"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert (made["max_concurrency"], made["no_catchup"]) == (1, True)
    assert made["pipeline_version_reference"]["pipeline_version_id"] == ""
    # What is left to the defaults takes those of the newest version.
    assert made["runtime_config"]["parameters"] == {"data_root": "/data"}
    described = "Every night at 02:00 UTC, newest version, one run at a time."
    assert made["description"] == described
    assert (made["status"], made["service_account"]) == ("ENABLED", "trainer")
    assert "newest version" in uploaded.out
    assert "02:00:00 UTC" in uploaded.out


def test_a_new_version_leaves_a_schedule_that_follows(
    uploaded: Kubeflow, packages: tuple[Path, Path]
) -> None:
    uploaded("schedule", "--cron", "0 2 * * *", "--param", "data_root=/data")
    before = uploaded.schedule
    assert uploaded.submit("--no-run", package=packages[1]) == 0
    assert uploaded.schedule is before


@pytest.mark.parametrize("tag", ["2.4.1", "2.16.1", "unknown"])
@pytest.mark.parametrize("paused", [False, True])
def test_each_upload_moves_the_schedule_on_older_servers(
    uploaded: Kubeflow, packages: tuple[Path, Path], tag: str, paused: bool
) -> None:
    server = uploaded.server
    server.tag = tag
    uploaded("schedule", "--cron", "0 2 * * *", "--param", "data_root=/data")
    if paused:
        uploaded("schedule", "--pause")
    before = uploaded.schedule
    (first,) = server.versions
    assert before["pipeline_version_reference"]["pipeline_version_id"] == first
    assert uploaded.submit("--no-run", package=packages[1]) == 0
    after = uploaded.schedule
    _, second = server.versions
    assert after["pipeline_version_reference"]["pipeline_version_id"] == second
    same = ("display_name", "description", "trigger", "max_concurrency", "no_catchup")
    for key in (*same, "runtime_config"):
        assert after[key] == before[key]
    version = "the version that was uploaded last with submit"
    assert after["description"] == f"Every night at 02:00 UTC, {version}, one run at a time."
    assert after["status"] == ("DISABLED" if paused else "ENABLED")
    assert "nightly takes this version from now on" in uploaded.out
    assert max(server.active) == 1


def test_a_schedule_broken_by_a_new_version_is_kept_and_reported(
    uploaded: Kubeflow, packages: tuple[Path, Path]
) -> None:
    uploaded.server.tag = "2.16.1"
    uploaded("schedule", "--cron", "0 2 * * *", "--param", "data_root=/data")
    before = uploaded.schedule
    uploaded.server.troubles = [
        Trouble("POST .*/recurringruns", 400, b'{"message": "unknown parameter"}')
    ]
    assert uploaded.submit(package=packages[1]) == 2
    assert "a schedule could not be moved" in uploaded.err
    assert "unknown parameter" in uploaded.err
    assert uploaded.schedule is before


def test_replacing_a_schedule_never_leaves_two_active(
    uploaded: Kubeflow,
) -> None:
    for hour in (2, 3):
        assert uploaded("schedule", "--cron", f"0 {hour} * * *", "--param", "data_root=/d") == 0
    assert uploaded.schedule["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert uploaded.schedule["status"] == "ENABLED"
    assert max(uploaded.server.active) == 1
    assert "replaced" in uploaded.out


def test_pause_resume_list_and_delete(uploaded: Kubeflow) -> None:
    uploaded("schedule", "--cron", "0 2 * * *", "--param", "data_root=/d")
    uploaded("schedule", "--name", "full", "--cron", "0 4 1 * *", "--param", "data_root=/d")
    assert uploaded("schedule", "--pause") == 0
    nightly, full = uploaded.server.recurring_runs.values()
    assert (nightly["status"], full["status"]) == ("DISABLED", "ENABLED")
    assert uploaded("schedule", "--list") == 0
    lines = uploaded.out.splitlines()
    assert lines[0].split()[:2] == ["nightly", "cron"]
    assert lines[0].endswith("'0 0 2 * * *', paused, newest version, data_root=/d")
    assert lines[1].startswith("full ")
    assert uploaded("schedule", "--resume") == 0
    assert nightly["status"] == "ENABLED"
    assert uploaded("schedule", "--delete") == 0
    assert uploaded.schedule is full
    said = uploaded.refusal("schedule", "--pause")
    assert "has no schedule 'nightly'; it has: full" in said


def test_deleting_a_schedule_keeps_its_running_run(
    uploaded: Kubeflow, packages: tuple[Path, Path]
) -> None:
    """The workflows of a schedule's runs belong to it, and Kubernetes would delete them with it."""
    uploaded.server.tag = "2.16.1"
    again = ["schedule", "--cron", "0 3 * * *", "--param", "data_root=/d"]
    uploaded(*again)
    before = uploaded.schedule
    run = uploaded.server.trigger(before)
    run["state"] = "RUNNING"
    for command in (["schedule", "--delete"], again):
        said = uploaded.refusal(*command)
        assert "A run of the schedule 'nightly' goes on, and would end with it: nightly 0" in said
    assert uploaded.submit(package=packages[1]) == 2
    assert "could not be moved to its newest version" in uploaded.err
    assert uploaded.schedule is before
    assert before["status"] == "ENABLED"
    run["state"] = "SUCCEEDED"
    assert uploaded.submit("--no-wait", package=packages[1]) == 0  # a run that is no schedule's
    assert uploaded("schedule", "--delete") == 0
    assert not uploaded.server.recurring_runs


def test_all_schedules_of_the_pipeline_are_listed(
    uploaded: Kubeflow,
) -> None:
    for number in range(5):
        name = f"s{number}"
        uploaded("schedule", "--name", name, "--cron", "0 2 * * *", "--param", "data_root=/d")
    first, *_ = uploaded.server.recurring_runs.values()
    first["pipeline_version_reference"] = {"pipeline_id": "another"}
    uploaded.server.page_limit = 2
    uploaded("schedule", "--list")
    assert [line.split()[0] for line in uploaded.out.splitlines()] == ["s1", "s2", "s3", "s4"]


def test_a_schedule_needs_an_uploaded_pipeline_and_good_parameters(kubeflow: Kubeflow) -> None:
    said = kubeflow.refusal("schedule", "--cron", "0 2 * * *")
    assert "There is no pipeline 'segmentation'" in said
    kubeflow.submit("--no-run")
    arguments = ["--cron", "0 2 * * *", "--param", "data_root=/d", "--param", "epoch=5"]
    assert "did you mean 'epochs'" in kubeflow.refusal("schedule", *arguments)
    assert not kubeflow.server.recurring_runs
    assert not kubeflow.server.experiments


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 2 * *", "has 4 fields; it takes six"),
        ("", "has 0 fields"),
        ("0 0 2 * * 7", "'7' is no valid day of week: out of range; allowed are 0 to 6 or sun-sat"),
        ("0 60 2 * * *", "'60' is no valid minutes"),
        ("0 0 2 0 * *", "'0' is no valid day of month"),
        ("0 0 2 * * fri-mon", "the range ends before it begins"),
        ("0 */0 2 * * *", "a step must be at least 1"),
        ("0 0 2 L * *", "'L' is not a number"),
        ("0 0 2 , * *", "'' is not a number"),
        ("@daily", "has 1 fields"),
        ("0 0 2 30 feb *", "names a day that never comes"),
    ],
)
def test_a_bad_cron_is_caught_before_anything_is_sent(
    kubeflow: Kubeflow, text: str, sentence: str
) -> None:
    said = kubeflow.refusal("schedule", f"--cron={text}")
    assert f"--cron {text!r}" in said
    assert sentence in said
    assert kubeflow.server.requests == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 2 * * *", "every night at 02:00"),
        ("30 13 * * ?", "every day at 13:30"),
        ("5 * * * *", "every hour at minute 5"),
        ("0 4 1 * *", "on day 1 of every month at 04:00"),
        ("0 2 * * 0", "every Sunday at 02:00"),
        ("0 2 * * SAT", "every Saturday at 02:00"),
        ("0 2 * * mon-fri", "Monday to Friday at 02:00"),
        ("15 0 2 * * *", None),  # at second 15
        ("0 2,14 * * *", None),
        ("0 2 * * mon,wed", None),
        ("0 2 1 * mon", None),
        ("0 2 * dec *", None),
        ("*/5 * * * *", None),
    ],
)
def test_a_simple_schedule_has_words(text: str, words: str | None) -> None:
    assert cron.words(cron.parse(text).expression) == words


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekday=st.sampled_from(["*", *"0123456", "sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
)
def test_the_words_name_the_time_of_the_next_trigger(minute: int, hour: int, weekday: str) -> None:
    timing = cron.parse(f"{minute} {hour} * * {weekday}")
    words, coming = cron.words(timing.expression), timing.next(NOW)
    assert words is not None
    assert coming is not None
    assert words.endswith(f" at {coming:%H:%M}")
    assert weekday == "*" or f"{coming:%A}" in words


def test_a_schedule_that_has_no_words_is_described_by_its_cron(uploaded: Kubeflow) -> None:
    assert uploaded("schedule", "--cron", "0 2,14 * * *", "--param", "data_root=/d") == 0
    assert uploaded.schedule["description"].startswith("Cron '0 0 2,14 * * *', UTC, newest version")


# What github.com/robfig/cron v1.2.0, the server's parser, answered from NOW on.
@pytest.mark.parametrize(
    ("text", "coming"),
    [
        ("0 2 * * *", "2026-11-25 02:00:00"),
        ("0 0 2 * * *", "2026-11-25 02:00:00"),
        ("30 20 18 24 11 ?", "2027-11-24 18:20:30"),
        ("31 20 18 * * *", "2026-11-24 18:20:31"),
        ("0 */15 * * * *", "2026-11-24 18:30:00"),
        ("0 5/20 * * * *", "2026-11-24 18:25:00"),
        ("0 0 2 1 * mon", "2026-11-30 02:00:00"),  # the first of the month, or a Monday
        ("0 0 2 1 * *", "2026-12-01 02:00:00"),
        ("0 0 2 */2 * sun", "2026-11-29 02:00:00"),  # a star with a step is still a star
        ("0 0 0 29 feb *", "2028-02-29 00:00:00"),
        ("0 0 2,14 1-7/3 DEC *", "2026-12-01 02:00:00"),
    ],
)
def test_the_next_trigger_is_the_servers(text: str, coming: str) -> None:
    assert str(cron.parse(text).next(NOW)) == f"{coming}+00:00"

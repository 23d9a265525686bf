"""Schedules: made, moved, paused, resumed, deleted and listed on the stand-in."""

import datetime
from pathlib import Path

import croniter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeflow import cron
from pipeline.core.errors import UserError
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
    described = "At 02:00 (UTC), newest version, one run at a time."
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
    version = "last version uploaded with submit"
    assert after["description"] == f"At 02:00 (UTC), {version}, one run at a time."
    assert after["status"] == ("DISABLED" if paused else "ENABLED")
    assert "nightly now uses this version" in uploaded.out
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
    assert "has no schedule 'nightly'; it has full" in said


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
        assert "the schedule 'nightly' would stop its run in progress, nightly 0" in said
    assert uploaded.submit(package=packages[1]) == 2
    assert "could not be moved to the new version" in uploaded.err
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
    assert "has no pipeline 'segmentation'" in said
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
        (
            "0 0 2 * * 7",
            "'7' is not a valid day of week: out of range; allowed are 0 to 6 or sun-sat",
        ),
        ("0 60 2 * * *", "'60' is not a valid minutes"),
        ("0 0 2 0 * *", "'0' is not a valid day of month"),
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
        ("0 2 * * *", "At 02:00"),
        ("30 13 * * ?", "At 13:30"),
        ("0 2 * * mon-fri", "At 02:00, Monday through Friday"),
        ("0 2,14 * * *", "At 02:00 and 14:00"),
        ("0 2 1 * mon", "At 02:00, on day 1 of the month, or on Monday"),
    ],
)
def test_a_schedule_is_described_in_words(uploaded: Kubeflow, text: str, words: str) -> None:
    assert uploaded("schedule", "--cron", text, "--param", "data_root=/d") == 0
    assert uploaded.schedule["description"].startswith(f"{words} (UTC), newest version")


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


@st.composite
def fields(draw: st.DrawFn, lowest: int, highest: int) -> str:
    """A field of an expression, in each form that the server takes."""

    def part() -> str:
        low = draw(st.integers(lowest, highest))
        high = draw(st.integers(low, highest))
        step = draw(st.integers(1, highest))
        forms = ["*", "?", f"*/{step}", f"{low}", f"{low}/{step}", f"{low}-{high}/{step}"]
        return draw(st.sampled_from(forms))

    return ",".join(part() for _ in range(draw(st.integers(1, 2))))


def values(field: str, lowest: int, highest: int) -> set[int]:
    """The values of a field, by a reading of its own."""
    result: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.replace("?", "*").partition("-")
        first = lowest if low == "*" else int(low)
        last = int(high) if high else highest if step or low == "*" else first
        result |= set(range(first, last + 1, int(step or 1)))
    return result


@given(fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 6))
def test_the_next_trigger_is_the_first_time_that_matches(
    hours: str, days: str, months: str, weekdays: str
) -> None:
    def matches(time: datetime.datetime) -> bool:
        in_month = time.day in values(days, 1, 31)
        in_week = time.isoweekday() % 7 in values(weekdays, 0, 6)
        starred = any(part[0] in "*?" for part in f"{days},{weekdays}".split(","))
        on_day = in_month and in_week if starred else in_month or in_week
        return on_day and time.month in values(months, 1, 12) and time.hour in values(hours, 0, 23)

    trigger = cron.parse(f"0 {hours} {days} {months} {weekdays}").next(NOW)
    time = NOW.replace(minute=0, second=0)
    for _ in range(24 * 366 * 8):
        time += datetime.timedelta(hours=1)
        if matches(time):
            break
    assert trigger == time


@pytest.mark.parametrize("text", ["0 0 2 * * 7", "0 0 2 * * fri-mon", "0 0 2 L * *", "@daily"])
def test_the_library_takes_what_the_server_refuses(text: str) -> None:
    """The reason for a parser of our own. If this fails, that parser can go."""
    assert croniter.croniter.is_valid(text, second_at_beginning=True)
    with pytest.raises(UserError):
        cron.parse(text)


def test_the_library_combines_days_with_a_step_otherwise_than_the_server() -> None:
    """The reason for handing croniter plain lists of values."""
    library = croniter.croniter("0 0 2 */2 * sun", NOW, second_at_beginning=True)
    assert library.get_next(datetime.datetime) != cron.parse("0 0 2 */2 * sun").next(NOW)

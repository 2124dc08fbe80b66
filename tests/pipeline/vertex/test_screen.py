"""What a person sees of a run and of schedules, from the service's own messages."""

import datetime
import io

import pytest
from google.cloud.aiplatform_v1.types import pipeline_job, pipeline_state, schedule
from google.rpc import status_pb2
from rich.console import Console

from pipeline.vertex import screen

BEGAN = datetime.datetime(2026, 11, 21, 3, 0, tzinfo=datetime.UTC)


def at(seconds):
    return BEGAN + datetime.timedelta(seconds=seconds)


def detail(number, name, state, begin=None, end=None, error="", parent=1):
    states = pipeline_job.PipelineTaskDetail.State
    return pipeline_job.PipelineTaskDetail(
        task_id=number,
        parent_task_id=parent,
        task_name=name,
        state=states[state],
        create_time=at(begin or 0),
        start_time=None if begin is None else at(begin),
        end_time=None if end is None else at(end),
        error=status_pb2.Status(code=9, message=error) if error else None,
    )


def run(state, *details, end=None, error=""):
    whole = detail(1, "cifar-1", "RUNNING", 0, parent=0)
    return pipeline_job.PipelineJob(
        name="projects/1/locations/us-central1/pipelineJobs/cifar-1",
        display_name="cifar-resnet",
        state=pipeline_state.PipelineState[f"PIPELINE_STATE_{state}"],
        create_time=at(-2),
        start_time=at(0),
        end_time=None if end is None else at(end),
        error=status_pb2.Status(code=9, message=error) if error else None,
        job_detail=pipeline_job.PipelineJobDetail(task_details=[whole, *details]),
    )


STORY = (
    run("PENDING"),
    run("RUNNING", detail(2, "RunConfiguration", "RUNNING", 1)),
    run(
        "RUNNING",
        detail(3, "CifarExampleGen", "SKIPPED", 62, 63),
        detail(2, "RunConfiguration", "SUCCEEDED", 1, 61),
        detail(5, "CandidateTrainer", "RUNNING", 64),
        detail(4, "BaselineTrainer", "PENDING"),
    ),
    run(
        "FAILED",
        detail(3, "CifarExampleGen", "SKIPPED", 62, 63),
        detail(2, "RunConfiguration", "SUCCEEDED", 1, 61),
        detail(5, "CandidateTrainer", "FAILED", 64, 7264, error="exit status 1\n see"),
        detail(4, "BaselineTrainer", "PENDING"),
        detail(6, "Evaluator", "NOT_TRIGGERED"),
        end=7265,
        error="tasks failed:\n [CandidateTrainer]",
    ),
)


def followed(terminal):
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=100, color_system=None, highlight=False
    )
    story, waits = iter(STORY), []
    clock = iter([at(0), *(at(100 * n) for n in range(1, 100))])
    last = screen.follow(
        console, lambda: next(story), 18, lambda: next(clock), waits.append
    )
    return last, out.getvalue(), waits


def test_each_task_gets_one_line_when_it_ends():
    last, text, _ = followed(terminal=False)
    assert last is STORY[-1]
    assert text.splitlines() == [
        "    RunConfiguration: running",
        "  ✓ RunConfiguration    1:00 min",
        "  ↺ CifarExampleGen        1.0 s",
        "    CandidateTrainer: running",
        "  ✗ CandidateTrainer   2:00:00 h  exit status 1 see",
        "  ○ BaselineTrainer               not started",
        "  ○ Evaluator                     not started",
    ]


def test_on_a_terminal_the_same_lines_stay():
    _, text, _ = followed(terminal=True)
    for line in (
        "  ✓ RunConfiguration    1:00 min",
        "  ✗ CandidateTrainer   2:00:00 h  exit status 1 see",
    ):
        assert line in text
    assert ": running" not in text


def test_the_service_is_asked_ever_less_often():
    _, _, waits = followed(terminal=False)
    assert len(waits) == len(STORY) - 1  # not after the end
    assert waits[0] < waits[-1] <= 15


def test_a_run_in_lines():
    lines = screen.run_lines(STORY[-1], "https://console", at(9000))
    assert lines == {
        "run": "cifar-1",
        "state": "FAILED",
        "started": screen.when(BEGAN),
        "took": "2:01:05 h",
        "error": "tasks failed: [CandidateTrainer]",
        "console": "https://console",
    }
    assert screen.run_lines(STORY[1], "https://console", at(30))["for"] == "30.0 s"


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("CRON_TZ=Europe/Zurich 0 3 * * 1", ("Europe/Zurich", "0 3 * * 1")),
        ("TZ=Asia/Tokyo 0 3 * * 1", ("Asia/Tokyo", "0 3 * * 1")),
        ("0 3 * * 1", ("UTC", "0 3 * * 1")),
    ],
)
def test_the_time_zone_is_read_off_the_cron_text(cron, expected):
    assert screen.split_cron(cron) == expected


def test_the_next_run_is_told_in_the_schedules_time_zone():
    made = schedule.Schedule(
        cron="CRON_TZ=Europe/Zurich 0 3 * * 1",
        state=schedule.Schedule.State.ACTIVE,
        next_run_time=datetime.datetime(2027, 7, 5, 1, tzinfo=datetime.UTC),
    )
    assert screen.next_run(made) == "2027-07-05 03:00 CEST"
    made.state = schedule.Schedule.State.PAUSED
    assert screen.next_run(made) is None

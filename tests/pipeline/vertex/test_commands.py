"""Commands for Vertex AI as a person types them, against a service of this machine's."""

import datetime
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest
from google.cloud.aiplatform_v1.types import (
    custom_job,
    job_service,
    job_state,
    pipeline_job,
    pipeline_service,
    pipeline_state,
)
from google.protobuf import json_format

from contract.config.run import RunConfig
from contract.fields import from_dict, to_dict
from contract.records import run_of
from pipeline import cli
from pipeline.vertex import client, place
from tests.pipeline.vertex.certificates import certificate
from tests.pipeline.vertex.stand_in import (
    NAMES,
    PARENT,
    PROJECT,
    REGION,
    Fault,
    StandIn,
)

ROOT = pathlib.Path(__file__).parents[3]
WHERE = ("--project", PROJECT)
ASKED = (
    *WHERE,
    *("--runtime_parameter", "output_root=gs://bucket-1/cifar"),
    *("--runtime_parameter", "train.epochs=3"),
)
Code = grpc.StatusCode


@pytest.fixture
def vertex():
    with StandIn() as server:
        yield server


@pytest.fixture
def typed(vertex, capfd):
    """Runs a command; its exit status, stdout and stderr."""

    def run(*arguments):
        capfd.readouterr()
        try:
            status = cli.main(arguments, {place.ENDPOINT_VARIABLE: vertex.endpoint})
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    return run


def as_json(message):
    return json_format.MessageToDict(message._pb)


def existing_run(vertex, run_id="cifar-resnet-1"):
    request = pipeline_service.CreatePipelineJobRequest(
        parent=PARENT,
        pipeline_job_id=run_id,
        pipeline_job=client.run_message(
            {"pipelineSpec": {"pipelineInfo": {"name": "cifar-resnet"}}}, run_id
        ),
    )
    return vertex._create_pipeline_job(request)


def existing_schedule(vertex, name="cifar-resnet"):
    wanted = client.schedule_message(
        place.Place(PROJECT, REGION),
        {"pipelineSpec": {}},
        "k",
        display_name=name,
        cron="CRON_TZ=Europe/Zurich 0 3 * * 1",
    )
    request = type("Request", (), {"parent": PARENT, "schedule": wanted})
    return vertex._create_schedule(request).name.rsplit("/", 1)[1]


# ---- nothing but the command line ----------------------------------------------------

HELP = [
    *(["--help"], ["run", "--help"], ["compile", "--help"], ["submit", "--help"]),
    *(["status", "--help"], ["cancel", "--help"], ["schedule", "--help"]),
    *(["schedule", action, "--help"] for action in ("create", "list", "resume")),
]
CRON = ("--cron", "0 3 * * 1")
WRONG = {
    ("submit",): "output_root",
    ("submit", *ASKED[2:]): "vertex.project=None",
    ("compile", *ASKED, "--runtime_parameter", "train.epoch=3"): "train.epochs",
    ("compile", *ASKED, "--output", "/"): "--output=/: is a folder",
    ("submit", *ASKED, "--run_id", "Nightly"): "--run_id=Nightly: must be lower-case",
    ("submit", *ASKED, "--runtime_parameter", "vertex.budget_usd=0.01"): (
        "vertex.budget_usd=0.01: "
    ),
    ("run", "--engine", "vertex", *ASKED, "--region", "atlantis"): "vertex.region=",
    ("run", "--project", "p"): "--project: goes with --engine vertex",
    ("run", "--wait"): "--wait: goes with --engine vertex",
    ("schedule", "create", *ASKED, "--cron", "61 3 * * 1"): "minute '61' is none",
    ("schedule", "create", *ASKED, *CRON, "--max_runs", "0"): "--max_runs=0: must",
    ("schedule", "create", *ASKED, *CRON, "--time_zone", "Zurich"): "Europe/Zurich",
    ("schedule", "create", *ASKED, *CRON, "--name", 'a"b'): "schedule name 'a\"b'",
    ("report", *ASKED[2:]): "gcloud storage cp gs://bucket-1/cifar/report/report.html",
    ("status",): "vertex.project=None: must be the id of a Google Cloud project; give",
    ("status", *WHERE, "--wait"): "--wait: follows one run; give its id",
    ("status", "--project", "My Project"): "vertex.project=My Project: must be",
    ("status", *WHERE, "--region", "Oregon"): "vertex.region=Oregon: must be",
    ("cancel", "a/b"): "RUN=a/b: must be an id, or projects/PROJECT/locations/",
    ("schedule", "pause", "projects/p/x"): "SCHEDULE=projects/p/x: must be an id",
}
WATCHED = """
import contextlib, io, json, sys, time
from contract.config.run import RunConfig
from contract.fields import from_dict, to_dict
from contract.records import run_of
from pipeline import cli
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(watch)
answers = []
for arguments in json.load(sys.stdin):
    text, began = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            status = cli.main(arguments, {})
        except SystemExit as stop:
            status = stop.code
    answers.append([status, text.getvalue(), time.perf_counter() - began])
heavy = {"tensorflow", "tfx", "kfp", "grpc", "requests", "google.auth",
         "google.api_core", "google.cloud.aiplatform", "google.cloud.aiplatform_v1"}
print(json.dumps([answers, sorted(heavy & set(sys.modules))]))
"""


def watched(commands):
    """The answers, in a process of its own that may not touch a network."""
    answer = subprocess.run(
        [sys.executable, "-c", WATCHED],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    answers, heavy = json.loads(answer.stdout)
    assert heavy == []
    return answers


def test_help_loads_nothing_and_asks_nobody():
    for arguments, (status, text, _) in zip(HELP, watched(HELP), strict=True):
        assert status == 0, arguments
        assert "usage: pipeline.py" in text


def test_wrong_values_are_refused_at_once_in_one_line():
    commands = [list(arguments) for arguments in WRONG]
    for (arguments, words), (status, text, seconds) in zip(
        WRONG.items(), watched(commands), strict=True
    ):
        assert status == 2, arguments
        assert words in text, arguments
        assert text.startswith("error: ") and text.count("\n") == 1, arguments
        assert seconds < 5, arguments  # milliseconds on an idle machine


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://private.example.com/", (True, "private.example.com")),
        ("private.example.com:8443", (True, "private.example.com:8443")),
        ("http://localhost:80", (False, "localhost:80")),
        ("", (True, f"{REGION}-aiplatform.googleapis.com")),
    ],
)
def test_the_services_address_can_be_another(value, expected):
    vertex = RunConfig().vertex
    vertex = from_dict(type(vertex), to_dict(vertex) | {"project": PROJECT})
    found = place.find(vertex, {place.ENDPOINT_VARIABLE: value})
    assert (found.secure, found.target) == expected


@pytest.mark.parametrize(
    "value", ["http://example.com", "ftp://localhost", "https://", "https://a.b/path"]
)
def test_a_wrong_address_is_refused(value, capfd):
    assert cli.main(["status", *WHERE], {place.ENDPOINT_VARIABLE: value}) == 2
    assert (
        f"{place.ENDPOINT_VARIABLE}={value}: must be https:" in capfd.readouterr().err
    )


def test_run_ids_fit_and_differ():
    moment = datetime.datetime(2026, 11, 21, 3, 0, tzinfo=datetime.UTC)
    one, two = (place.new_run_id("cifar-resnet", moment) for _ in "12")
    assert one.startswith("cifar-resnet-20261121030000-")
    assert one != two
    long = place.new_run_id("c" + "x" * 200, moment)
    assert len(long) == 127
    for run_id in (one, long):
        place.check_run_id(run_id)


@pytest.mark.parametrize(
    ("uri", "run"),
    [
        (
            "gs://bucket/pipelines/42/cifar-resnet-2026/Pusher_-17/pushed_model",
            "cifar-resnet-2026",
        ),
        (
            "gs://bucket/42/cifar-resnet-2026/Pusher_-17/pushed_model/",
            "cifar-resnet-2026",
        ),
        ("gs://bucket/elsewhere/pushed_model", None),
        ("", None),
    ],
)
def test_an_artifacts_address_names_its_run(uri, run):
    assert run_of(uri) == run


# ---- status, cancel ------------------------------------------------------------------


def test_status_lists_the_latest_runs(vertex, typed):
    existing_run(vertex, "cifar-resnet-1")
    existing_run(vertex, "cifar-resnet-2")
    status, out, err = typed("status", *WHERE)
    assert (status, err) == (0, "")
    heading, first, second = out.splitlines()
    assert heading.split() == ["run", "state", "started", "took"]
    assert first.split()[:2] == ["cifar-resnet-2", "PENDING"]
    assert second.split()[:2] == ["cifar-resnet-1", "PENDING"]


def test_status_says_when_there_are_none(vertex, typed):
    other = ("--runtime_parameter", "pipeline_name=penguins")
    status, out, _ = typed("status", *WHERE, *other)
    assert status == 0
    assert (
        out == f"no runs of pipeline penguins in project {PROJECT}, region {REGION}\n"
    )
    (request,) = vertex.requests("ListPipelineJobs")
    assert request.filter == 'pipeline_name="penguins"'


def test_status_takes_an_id_or_a_whole_name(vertex, typed):
    existing_run(vertex)
    for arguments in (
        ["cifar-resnet-1", *WHERE],
        [f"{PARENT}/pipelineJobs/cifar-resnet-1"],
        [f"{NAMES}/pipelineJobs/cifar-resnet-1"],
    ):
        status, out, _ = typed("status", *arguments)
        assert status == 0
        assert out.startswith("run       cifar-resnet-1\nstate     PENDING\n")
    assert [request.name for request in vertex.requests("GetPipelineJob")] == [
        f"{PARENT}/pipelineJobs/cifar-resnet-1",
        f"{PARENT}/pipelineJobs/cifar-resnet-1",
        f"{NAMES}/pipelineJobs/cifar-resnet-1",
    ]


def ends(state):
    def change(job):
        job.state = pipeline_state.PipelineState[f"PIPELINE_STATE_{state}"]
        job.start_time = job.end_time = datetime.datetime.now(datetime.UTC)
        job.job_detail.task_details = [
            pipeline_job.PipelineTaskDetail(
                task_id=2,
                task_name="Transform",
                state=pipeline_job.PipelineTaskDetail.State[state],
            )
        ]

    return change


@pytest.mark.parametrize(
    ("state", "exit_status", "mark"),
    [("SUCCEEDED", 0, "✓"), ("FAILED", 1, "✗"), ("CANCELLED", 1, "✗")],
)
def test_waiting_ends_with_the_run(vertex, typed, state, exit_status, mark):
    existing_run(vertex)
    vertex.progress = [lambda _: None, ends(state)]
    status, out, _ = typed("status", "cifar-resnet-1", *WHERE, "--wait")
    assert status == exit_status
    assert f"  {mark} Transform" in out
    assert f"state     {state}\n" in out
    assert len(vertex.requests("GetPipelineJob")) == 2


def test_a_service_that_is_away_is_told_while_it_is(vertex, typed):
    existing_run(vertex)
    vertex.fail("GetPipelineJob", Fault(Code.UNAVAILABLE, "Socket closed"))
    status, out, err = typed("status", "cifar-resnet-1", *WHERE)
    assert (status, err) == (0, "")
    assert out.startswith(
        "    reading run cifar-resnet-1: Vertex AI cannot be reached (Socket closed); "
        "attempt 2 of 5 in 1 s\nrun       cifar-resnet-1\n"
    )


def test_an_error_while_waiting_says_that_the_run_goes_on(vertex, typed):
    existing_run(vertex)
    vertex.fail("GetPipelineJob", None, Fault(Code.UNAUTHENTICATED, "expired"))
    status, _, err = typed("status", "cifar-resnet-1", *WHERE, "--wait")
    assert status == 2
    assert "the credentials were not accepted (expired); sign in with" in err
    assert err.endswith(
        "The run goes on without this command: python pipeline.py status cifar-resnet-1 "
        f"--wait --project {PROJECT} --region {REGION}\n"
    )


@pytest.fixture
def interruptible():
    """A shell that runs tests in the background has switched SIGINT off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupts(number):
    """A step of a run at which somebody stops the command that follows it."""
    return lambda _: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
@pytest.mark.usefixtures("interruptible")
def test_a_command_that_follows_can_be_stopped(vertex, typed, number, exit_status):
    existing_run(vertex)
    vertex.progress = [interrupts(number)]
    status, out, err = typed("status", "cifar-resnet-1", *WHERE, "--wait")
    assert (status, err) == (exit_status, "")
    assert out.endswith("stopped; the run goes on\n")
    assert "CancelPipelineJob" not in vertex.methods


@pytest.fixture
def no_delay(monkeypatch):
    """Of what `cancel` waits for between two looks."""
    from pipeline.vertex import remote

    monkeypatch.setattr(remote, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(remote, "LISTED_LATE_SECONDS", 0.1)


def existing_job(vertex, run_id, node="BaselineTrainer"):
    from pipeline.vertex import remote

    request = job_service.CreateCustomJobRequest(
        parent=PARENT,
        custom_job=custom_job.CustomJob(labels=remote.of_node(run_id, node)),
    )
    return vertex._create_custom_job(request).name


def test_cancel_returns_when_the_run_and_its_jobs_have_ended(vertex, typed, no_delay):
    existing_run(vertex)
    forever = threading.Event()
    vertex.run_custom_job = lambda job: until_cancelled(vertex, job, forever)
    jobs = [
        existing_job(vertex, "cifar-resnet-1", node)
        for node in ("BaselineTrainer", "CandidateTrainer")
    ]
    other = existing_job(vertex, "cifar-resnet-10")
    status, out, _ = typed("cancel", "cifar-resnet-1", *WHERE)
    forever.set()
    assert status == 0
    assert "run cifar-resnet-1 has ended, and so have all 2 jobs that it had" in out
    states = {job.name: job.state.name for job in vertex.custom_jobs.values()}
    assert [states[job] for job in jobs] == ["JOB_STATE_CANCELLED"] * 2
    assert other not in {r.name for r in vertex.requests("CancelCustomJob")}
    (request,) = vertex.requests("CancelPipelineJob")
    assert as_json(request) == {"name": f"{PARENT}/pipelineJobs/cifar-resnet-1"}
    # Of a run that has ended, too: it may have left something.
    vertex.run_custom_job = lambda job: until_cancelled(vertex, job, forever)
    forever.clear()
    existing_job(vertex, "cifar-resnet-1")
    status, out, _ = typed("cancel", "cifar-resnet-1", *WHERE)
    forever.set()
    assert status == 0
    assert "all 3 jobs" in out
    assert len(vertex.requests("CancelPipelineJob")) == 1


def until_cancelled(vertex, job, forever):
    name = job.name.rsplit("/", 1)[1]
    while not forever.wait(0.01):
        if vertex.custom_jobs[name].state.name == "JOB_STATE_CANCELLING":
            break
    return job_state.JobState.JOB_STATE_CANCELLED


def test_cancel_ends_jobs_on_dataflow(vertex, typed, no_delay):
    from pipeline.vertex import remote

    existing_run(vertex)
    spec = {"args": ["--runner=DataflowRunner"], "pipelineInfo": {"name": "c"}}
    vertex.pipeline_jobs["cifar-resnet-1"].pipeline_spec = spec
    mine, other = (
        vertex.add_dataflow_job(
            remote.dataflow_name(remote.of_node(run, "StatisticsGen"))
        )
        for run in ("cifar-resnet-1", "other--cifar-resnet-1")
    )
    status, out, _ = typed("cancel", "cifar-resnet-1", *WHERE)
    assert status == 0
    assert "all 1 jobs" in out
    states = {k: job.current_state.name for k, job in vertex.dataflow_jobs.items()}
    assert states == {mine: "JOB_STATE_CANCELLED", other: "JOB_STATE_RUNNING"}


def test_cancel_that_is_stopped_says_what_may_go_on(vertex, typed, monkeypatch):
    from pipeline.vertex import remote

    existing_run(vertex)
    vertex.ignored["CancelPipelineJob"] = 100
    monkeypatch.setattr(
        remote.WallClock, "sleep", lambda *_: os.kill(os.getpid(), signal.SIGINT)
    )
    # A shell switches Ctrl-C off for what it starts in the background, such as these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, out, _ = typed("cancel", "cifar-resnet-1", *WHERE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    assert "may go on: python pipeline.py cancel cifar-resnet-1" in out


def test_cancel_of_a_run_that_is_unknown_is_one_sentence(typed):
    status, _, err = typed("cancel", "cifar-resnet-9", *WHERE)
    assert status == 2
    assert err.startswith("error: reading run cifar-resnet-9 in project ")
    assert err.count("\n") == 1


# ---- schedules -----------------------------------------------------------------------


def test_schedules_are_listed_in_their_own_time_zone(vertex, typed):
    identifier = existing_schedule(vertex)
    status, out, _ = typed("schedule", "list", *WHERE)
    assert status == 0
    row = " ".join(out.splitlines()[1].split())
    # The stand-in's next run: 2031-05-05 3:00 UTC.
    assert row == (
        "cifar-resnet ACTIVE 0 3 * * 1 Europe/Zurich 2031-05-05 05:00 CEST 0 "
        f"{identifier}"
    )
    status, out, _ = typed("schedule", "delete", identifier, *WHERE)
    status, out, _ = typed("schedule", "list", *WHERE)
    assert out == f"no schedules in project {PROJECT}, region {REGION}\n"


def test_a_schedule_is_found_by_name_by_id_and_by_its_whole_name(vertex, typed):
    identifier = existing_schedule(vertex, "nightly run")
    name = f"{PARENT}/schedules/{identifier}"
    assert typed("schedule", "pause", "nightly run", *WHERE)[:2] == (
        0,
        "schedule nightly run is paused; runs that go on go on\n",
    )
    assert vertex.requests("ListSchedules")[0].filter == 'display_name="nightly run"'
    assert typed("schedule", "resume", identifier, *WHERE, "--catch_up")[:2] == (
        0,
        f"schedule {identifier} goes on; the runs that it missed are started\n",
    )
    assert typed("schedule", "delete", name)[:2] == (
        0,
        f"schedule {name} is deleted; its runs stay\n",
    )
    assert vertex.methods == [
        *("ListSchedules", "PauseSchedule", "ResumeSchedule", "DeleteSchedule"),
        *("GetOperation", "GetOperation"),
    ]
    assert as_json(vertex.requests("PauseSchedule")[0]) == {"name": name}
    assert as_json(vertex.requests("ResumeSchedule")[0]) == {
        "name": name,
        "catchUp": True,
    }
    assert as_json(vertex.requests("DeleteSchedule")[0]) == {"name": name}


def test_a_name_that_none_or_several_have_changes_nothing(vertex, typed):
    status, _, err = typed("schedule", "delete", "weekly", *WHERE)
    assert status == 2
    assert err.startswith("error: schedule weekly: there is none of this name")
    ids = [existing_schedule(vertex, "weekly") for _ in range(2)]
    status, _, err = typed("schedule", "delete", "weekly", *WHERE)
    assert status == 2
    assert f"2 have this name in project {PROJECT}" in err
    assert all(identifier in err for identifier in ids)
    assert vertex.methods == ["ListSchedules", "ListSchedules"]


def test_a_schedules_name_is_used_once(vertex, typed):
    identifier = existing_schedule(vertex)
    status, out, err = typed("schedule", "create", *ASKED, *CRON)
    assert status == 2
    assert "schedule cifar-resnet exists in project" in err
    assert "compiling" not in out  # told before that takes its time
    assert vertex.methods == ["ListSchedules"]
    assert list(vertex.schedules) == [identifier]


# ---- compile, submit, schedule create ------------------------------------------------


def compiled(*more):
    """What `compile_job` makes of ASKED and more, without the commands."""
    from contract.fields import parse_assignment
    from pipeline.resolve import resolve
    from pipeline.vertex import rules as vertex_rules
    from pipeline.vertex.compile import compile_job

    texts = [*ASKED[3::2], *more, f"vertex.project={PROJECT}"]
    config = resolve(texts, {}, "/", vertex_rules).config
    return compile_job(config, dict(map(parse_assignment, texts)))


@pytest.mark.tf
def test_compile_writes_the_job_and_asks_nobody(
    vertex, typed, tmp_path, monkeypatch, capfd
):
    import socket

    import google.auth

    def refuse(*arguments, **_):
        raise AssertionError(f"a connection: {arguments}")

    for where, name in (
        *((grpc, "insecure_channel"), (grpc, "secure_channel")),
        *((socket.socket, "connect"), (socket, "getaddrinfo")),
        (google.auth, "default"),
    ):
        monkeypatch.setattr(where, name, refuse)
    path = tmp_path / "new" / "job.json"
    status, out, err = typed(
        "compile", "--engine", "vertex", *ASKED, "--output", str(path)
    )
    assert (status, err) == (0, "")
    assert vertex.calls == []
    assert json.loads(path.read_text()) == compiled()
    for words in (PROJECT, REGION, "CandidateTrainer", "USD", f"written   {path}\n"):
        assert words in out
    assert (
        f"submit    python pipeline.py submit --project {PROJECT} --runtime_parameter "
        "output_root=gs://bucket-1/cifar --runtime_parameter train.epochs=3\n"
    ) in out


def test_compile_shows_somebody_without_an_account_an_example(typed, tmp_path):
    path = tmp_path / "job.json"
    status, out, err = typed("compile", "--engine", "vertex", "--output", str(path))
    assert (status, err) == (0, "")
    root = json.loads(path.read_text())["runtimeConfig"]["gcsOutputDirectory"]
    assert root == "gs://my-bucket/cifar/artifacts"
    words = "vertex.project=my-project, output_root=gs://my-bucket/cifar"
    assert f"submit    not before these examples are your own: {words}\n" in out


@pytest.mark.tf
@pytest.mark.parametrize("command", [["submit"], ["run", "--engine", "vertex"]])
def test_submitting_sends_the_compiled_job(vertex, typed, command):
    vertex.progress = [ends("SUCCEEDED")]
    vertex.fail("CreatePipelineJob", Fault(Code.UNAVAILABLE, applied=True))
    account = "runner@stand-in-project.iam.gserviceaccount.com"
    setting = f"vertex.service_account={account}"
    status, out, err = typed(
        *(*command, *ASKED, "--wait", "--runtime_parameter", setting)
    )
    assert (status, err) == (0, "")
    assert vertex.methods == [
        *("CreatePipelineJob", "CreatePipelineJob", "GetPipelineJob"),
    ] + ["GetPipelineJob"] * (len(vertex.calls) - 3)
    first, second = vertex.requests("CreatePipelineJob")
    assert first == second
    sent = as_json(first)
    job = sent["pipelineJob"]
    assert sent["parent"] == PARENT
    assert job.pop("serviceAccount") == account
    assert len(job["labels"].pop("submission")) == 32
    expected = compiled(setting)
    assert job | {"labels": None} == expected | {"labels": None}
    assert job["labels"] == expected.get("labels", {})
    run_id = sent["pipelineJobId"]
    assert f"run       {run_id}\nname      {NAMES}/pipelineJobs/{run_id}\n" in out
    assert f"/pipelines/runs/{run_id}?project={PROJECT}\n" in out
    assert "state     SUCCEEDED\n" in out


@pytest.mark.tf
def test_creating_a_schedule_sends_the_job_and_its_times(vertex, typed):
    status, out, err = typed(
        *("schedule", "create", *ASKED, *CRON, "--time_zone", "Europe/Zurich"),
        *("--name", "weekly", "--max_concurrent_runs", "2", "--allow_queueing"),
        *("--max_runs", "9", "--start", "2027-01-31T06:00", "--end", "2028-01-31"),
    )
    assert (status, err) == (0, "")
    assert vertex.methods == ["ListSchedules", "CreateSchedule"]
    (request,) = vertex.requests("CreateSchedule")
    sent = as_json(request)
    job = sent["schedule"].pop("createPipelineJobRequest")
    assert sent == {
        "parent": PARENT,
        "schedule": {
            "displayName": "weekly",
            "cron": "CRON_TZ=Europe/Zurich 0 3 * * 1",
            "startTime": "2027-01-31T05:00:00Z",
            "endTime": "2028-01-30T23:00:00Z",
            "maxRunCount": "9",
            "maxConcurrentRunCount": "2",
            "maxConcurrentActiveRunCount": "2",
            "allowQueueing": True,
        },
    }
    assert job.keys() == {"parent", "pipelineJob"}
    assert job["parent"] == PARENT
    assert job["pipelineJob"]["pipelineSpec"] == compiled()["pipelineSpec"]
    (identifier,) = vertex.schedules
    assert f"name      {NAMES}/schedules/{identifier}\n" in out
    assert "next run  2031-05-05 05:00 CEST\n" in out


@pytest.mark.tf
def test_a_refused_run_leaves_one_line_and_no_run(vertex, typed):
    vertex.fail(
        "CreatePipelineJob",
        Fault(
            Code.RESOURCE_EXHAUSTED,
            "custom_model_training_tpu_v3 in region: us-central1",
        ),
    )
    status, out, err = typed("submit", *ASKED)
    assert status == 2
    assert "  ✗ creating the run" in out
    assert err.startswith("error: creating run cifar-resnet-")
    assert "a quota is used up (custom_model_training_tpu_v3 in region" in err
    assert err.count("\n") == 1
    assert vertex.methods == ["CreatePipelineJob"]


@pytest.mark.tf
@pytest.mark.usefixtures("interruptible")
def test_stopping_a_submit_that_waits_leaves_the_run_alone(vertex, typed):
    vertex.progress = [interrupts(signal.SIGINT)]
    status, out, err = typed("submit", *ASKED, "--run_id", "nightly-7", "--wait")
    assert (status, err) == (130, "")
    assert out.endswith(
        "stopped; run nightly-7 may go on: python pipeline.py status nightly-7 "
        f"--project {PROJECT} --region {REGION}\n"
    )
    assert "CancelPipelineJob" not in vertex.methods
    # The same command again finds the run that it started.
    vertex.progress = [lambda _: None, ends("SUCCEEDED")]
    status, out, _ = typed("submit", *ASKED, "--run_id", "nightly-7", "--wait")
    assert status == 0
    assert "run nightly-7 had been created by an earlier attempt" in out
    assert list(vertex.pipeline_jobs) == ["nightly-7"]


@pytest.mark.e2e
def test_the_owners_line_submits(vertex, tmp_path):
    tfx = pathlib.Path(sys.executable).parent / "tfx"
    answer = subprocess.run(
        [
            *(tfx, "run", "create", "--pipeline_path", "pipeline.py"),
            *("--engine", "vertex", "--project", PROJECT, "--region", REGION),
            *ASKED[2:],
        ],
        env=os.environ
        | {"HOME": str(tmp_path), place.ENDPOINT_VARIABLE: vertex.endpoint},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    (request,) = vertex.requests("CreatePipelineJob")
    assert vertex.methods == ["CreatePipelineJob"]
    assert as_json(request)["pipelineJob"]["pipelineSpec"] == compiled()["pipelineSpec"]
    assert f"run       {request.pipeline_job_id}\n" in answer.stdout


# ---- credentials, over TLS -----------------------------------------------------------


class _Tokens(http.server.BaseHTTPRequestHandler):
    """Where credentials are exchanged for a token."""

    answers: list = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("accepted", [True, False])
def test_credentials_are_sent_and_refused_ones_are_told_at_once(tmp_path, accepted):
    ca, pem, secret = certificate(tmp_path)
    _Tokens.answers = [
        (
            200,
            {
                "access_token": "a-token",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 3600,
            },
        )
        if accepted
        else (400, {"error": "invalid_grant", "error_description": "has expired"})
    ]
    tokens = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=tokens.serve_forever, daemon=True).start()
    (tmp_path / "subject").write_text("who I am")
    (tmp_path / "credentials.json").write_text(
        json.dumps(
            {
                "type": "external_account",
                # Of no project, whose name would be looked up.
                "audience": "//iam.googleapis.com/locations/global/workforcePools/pool"
                "/providers/p",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"http://127.0.0.1:{tokens.server_port}/token",
                "credential_source": {"file": str(tmp_path / "subject")},
            }
        )
    )
    server = grpc.ssl_server_credentials([(secret, pem)])
    began = time.monotonic()
    with StandIn(credentials=server) as vertex:
        answer = subprocess.run(
            [sys.executable, "pipeline.py", "status", *WHERE],
            env=os.environ
            | {
                "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "credentials.json"),
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ca),
                place.ENDPOINT_VARIABLE: vertex.endpoint,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    tokens.shutdown()
    tokens.server_close()
    if accepted:
        assert (answer.returncode, answer.stderr) == (0, "")
        (call,) = vertex.calls
        assert call.headers["authorization"] == "Bearer a-token"
        assert "cifar-resnet-pipeline" in call.headers["x-goog-api-client"] or (
            "cifar-resnet-pipeline" in call.headers["user-agent"]
        )
    else:
        assert answer.returncode == 2
        assert vertex.calls == []
        assert answer.stdout == ""  # no second attempt
        assert "the credentials cannot be used (" in answer.stderr
        assert "has expired" in answer.stderr
        assert "sign in with `gcloud auth application-default login`" in answer.stderr
        assert time.monotonic() - began < 60

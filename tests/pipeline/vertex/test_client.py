"""Requests to Vertex AI through Google's client, repetitions, and the words of errors."""

import copy
import datetime

import grpc
import pytest
from google.cloud.aiplatform_v1.types import pipeline_state, schedule
from google.protobuf import json_format

from pipeline.vertex import client
from pipeline.vertex.place import Place, VertexError
from tests.pipeline.vertex.stand_in import (
    NAMES,
    NUMBER,
    PARENT,
    PROJECT,
    REGION,
    Fault,
    StandIn,
)

Code = grpc.StatusCode
UNAVAILABLE = Fault(Code.UNAVAILABLE, "Socket closed")
LOST = Fault(Code.UNAVAILABLE, "Socket closed", applied=True)
WAITS = (0.01, 0.02, 0.03)

JOB = {
    "displayName": "cifar-resnet",
    "labels": {"team": "vision"},
    "pipelineSpec": {
        "pipelineInfo": {"name": "cifar-resnet"},
        "root": {"dag": {"tasks": {"Transform": {"cachingOptions": {}}}}},
        "schemaVersion": "2.1.0",
    },
    "runtimeConfig": {
        "failurePolicy": "PIPELINE_FAILURE_POLICY_FAIL_FAST",
        "gcsOutputDirectory": "gs://bucket/cifar/artifacts",
        "parameterValues": {"overrides": '{"train.epochs":3.0}'},
    },
    "serviceAccount": "runner@stand-in-project.iam.gserviceaccount.com",
    "network": f"projects/{NUMBER}/global/networks/inner",
}


@pytest.fixture
def vertex():
    with StandIn() as server:
        yield server


@pytest.fixture
def said():
    return []


@pytest.fixture
def place(vertex):
    return Place(PROJECT, REGION, False, f"127.0.0.1:{vertex.port}")


@pytest.fixture
def service(place, said):
    with client.connect(place, said.append, WAITS) as opened:
        yield opened


def as_json(message):
    return json_format.MessageToDict(message._pb)


def wanted(place, name="weekly", key="k"):
    return client.schedule_message(
        place, JOB, key, display_name=name, cron="CRON_TZ=UTC 0 3 * * 1"
    )


# ---- runs ----------------------------------------------------------------------------


def test_creating_a_run_sends_the_compiled_job_under_our_id(vertex, service):
    before = copy.deepcopy(JOB)
    made = service.create_run(JOB, "run-1")
    assert made.name == f"{NAMES}/pipelineJobs/run-1"
    (call,) = vertex.calls
    sent = as_json(call.request)
    label = sent["pipelineJob"]["labels"].pop("submission")
    assert len(label) == 32
    assert sent == {"parent": PARENT, "pipelineJobId": "run-1", "pipelineJob": JOB}
    assert before == JOB
    assert "authorization" not in call.headers  # the port has no TLS
    assert f"parent=projects/{PROJECT}" in call.headers[
        "x-goog-request-params"
    ].replace("%2F", "/")


def test_creation_is_tried_again_under_the_same_id(vertex, service, said):
    vertex.fail("CreatePipelineJob", UNAVAILABLE, count=2)
    service.create_run(JOB, "run-1")
    first, second, third = vertex.requests("CreatePipelineJob")
    assert first == second == third
    assert list(vertex.pipeline_jobs) == ["run-1"]
    assert said == [
        "creating run run-1: Vertex AI cannot be reached (Socket closed); attempt 2 of 4 "
        "in 0.01 s",
        "creating run run-1: Vertex AI cannot be reached (Socket closed); attempt 3 of 4 "
        "in 0.02 s",
    ]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED])
def test_a_run_whose_creation_was_not_confirmed_is_found_again(
    vertex, service, said, code
):
    vertex.fail("CreatePipelineJob", Fault(code, applied=True))
    made = service.create_run(JOB, "run-1")
    assert made.name == f"{NAMES}/pipelineJobs/run-1"
    assert vertex.methods == [
        *("CreatePipelineJob", "CreatePipelineJob", "GetPipelineJob")
    ]
    assert len(vertex.pipeline_jobs) == 1
    assert said[-1] == "run run-1 had been created by an earlier attempt"


def test_the_same_command_again_is_the_same_run_and_another_is_refused(vertex, service):
    service.create_run(JOB, "nightly-1")
    assert service.create_run(copy.deepcopy(JOB), "nightly-1").name.endswith(
        "nightly-1"
    )
    other = JOB | {"displayName": "other"}
    with pytest.raises(VertexError, match="runs something else; give another --run_id"):
        service.create_run(other, "nightly-1")
    assert len(vertex.pipeline_jobs) == 1


def test_repetitions_are_bounded(vertex, service, said):
    vertex.fail("GetPipelineJob", UNAVAILABLE, count=9)
    with pytest.raises(VertexError) as failed:
        service.run("run-1")
    assert len(vertex.calls) == len(WAITS) + 1
    assert str(failed.value) == (
        f"reading run run-1 in project {PROJECT}, region {REGION}: Vertex AI cannot be "
        "reached in 4 attempts (Socket closed); check the network and vertex.region="
        "us-central1, and try again later"
    )


def test_nobody_there_is_an_error_of_one_line(said):
    nowhere = Place(PROJECT, REGION, False, "127.0.0.1:1")
    with (
        client.connect(nowhere, said.append, WAITS) as service,
        pytest.raises(VertexError, match="cannot be reached in 4 attempts") as failed,
    ):
        service.run("run-1")
    assert "\n" not in str(failed.value)
    assert len(said) == 3


def test_listing_asks_for_the_latest_runs_of_the_pipeline(vertex, service):
    for number in range(5):
        service.create_run(JOB, f"run-{number}")
    foreign = copy.deepcopy(JOB)
    foreign["pipelineSpec"]["pipelineInfo"]["name"] = "penguins"
    service.create_run(foreign, "penguins-1")
    vertex.calls.clear()
    found = service.runs("cifar-resnet", 3)
    assert [job.name.rsplit("/", 1)[1] for job in found] == ["run-4", "run-3", "run-2"]
    (request,) = vertex.requests("ListPipelineJobs")
    assert as_json(request) == {
        "parent": PARENT,
        "filter": 'pipeline_name="cifar-resnet"',
        "orderBy": "create_time desc",
        "pageSize": 3,
        "readMask": "name,state,displayName,createTime,startTime,endTime",
    }


def test_cancelling_sends_the_runs_name(vertex, service):
    service.create_run(JOB, "run-1")
    vertex.fail("CancelPipelineJob", UNAVAILABLE)
    service.cancel_run("run-1")
    first, second = vertex.requests("CancelPipelineJob")
    assert as_json(first) == {"name": f"{PARENT}/pipelineJobs/run-1"}
    assert second == first
    assert service.run("run-1").state.name == "PIPELINE_STATE_CANCELLED"
    with pytest.raises(VertexError, match="not possible in the present state"):
        service.cancel_run("run-1")


# ---- schedules -----------------------------------------------------------------------


def test_creating_a_schedule_sends_every_setting(vertex, service, place):
    message = client.schedule_message(
        place,
        JOB,
        "k",
        display_name="weekly",
        cron="CRON_TZ=Europe/Zurich 0 3 * * 1",
        start_time=datetime.datetime(2027, 1, 31, 5, tzinfo=datetime.UTC),
        end_time=None,
        max_run_count=7,
        max_concurrent_run_count=1,
        max_concurrent_active_run_count=1,
        allow_queueing=True,
    )
    service.create_schedule(message)
    (request,) = vertex.requests("CreateSchedule")
    sent = as_json(request)
    del sent["schedule"]["createPipelineJobRequest"]["pipelineJob"]["labels"][
        "submission"
    ]
    assert sent == {
        "parent": PARENT,
        "schedule": {
            "displayName": "weekly",
            "cron": "CRON_TZ=Europe/Zurich 0 3 * * 1",
            "startTime": "2027-01-31T05:00:00Z",
            "maxRunCount": "7",
            "maxConcurrentRunCount": "1",
            "maxConcurrentActiveRunCount": "1",
            "allowQueueing": True,
            # No id: the service gives every run its own.
            "createPipelineJobRequest": {"parent": PARENT, "pipelineJob": JOB},
        },
    }


def test_a_schedule_is_asked_for_again_only_after_a_look(vertex, service, place, said):
    vertex.fail("CreateSchedule", UNAVAILABLE, count=2)
    service.create_schedule(wanted(place))
    assert vertex.methods == [
        *("CreateSchedule", "ListSchedules", "CreateSchedule", "ListSchedules"),
        "CreateSchedule",
    ]
    assert len(vertex.schedules) == 1
    assert said[0] == (
        "creating schedule weekly: no answer; looking whether it was created"
    )
    assert said[1] == "it was not; attempt 2 follows"


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED])
def test_a_schedule_whose_creation_was_not_confirmed_is_not_made_twice(
    vertex, service, place, said, code
):
    vertex.fail("CreateSchedule", Fault(code, applied=True))
    made = service.create_schedule(wanted(place))
    assert vertex.methods == ["CreateSchedule", "ListSchedules"]
    (only,) = vertex.schedules.values()
    assert made.name == only.name
    assert said[-1] == "schedule weekly was created"


def test_anothers_schedule_of_the_same_name_is_not_taken_for_ours(
    vertex, service, place
):
    service.create_schedule(wanted(place, key="of somebody else"))
    vertex.fail("CreateSchedule", UNAVAILABLE)
    made = service.create_schedule(wanted(place, key="ours"))
    assert len(vertex.schedules) == 2
    assert made.name == list(vertex.schedules.values())[1].name


def test_a_creation_that_may_still_go_on_is_not_repeated(vertex, service, place):
    vertex.fail("CreateSchedule", Fault(Code.DEADLINE_EXCEEDED))
    with pytest.raises(VertexError, match="did not answer within 60 s"):
        service.create_schedule(wanted(place))
    assert vertex.methods == ["CreateSchedule", "ListSchedules"]


def test_nobody_knowing_whether_a_schedule_exists_is_said(vertex, service, place):
    vertex.fail("CreateSchedule", UNAVAILABLE)
    vertex.fail("ListSchedules", UNAVAILABLE, count=9)
    with pytest.raises(VertexError, match="whether it exists .* `schedule list`"):
        service.create_schedule(wanted(place))
    assert len(vertex.requests("CreateSchedule")) == 1


def test_all_pages_of_schedules_are_read(vertex, service, place):
    for number in range(150):
        made = schedule.Schedule(display_name=f"s{number}", name=f"{NAMES}/{number}")
        vertex.schedules[str(number)] = made
    found = service.schedules()
    assert [each.display_name for each in found] == [
        f"s{n}" for n in range(149, -1, -1)
    ]
    first, second = vertex.requests("ListSchedules")
    assert (first.page_token, first.page_size, first.parent) == ("", 100, PARENT)
    assert (second.page_token, second.filter) == ("100", "")


def test_pausing_and_resuming_send_name_and_catch_up(vertex, service, place):
    made = service.create_schedule(wanted(place))
    identifier = made.name.rsplit("/", 1)[1]
    service.pause_schedule(identifier)
    assert vertex.schedules[identifier].state.name == "PAUSED"
    service.resume_schedule(identifier, catch_up=True)
    assert vertex.schedules[identifier].state.name == "ACTIVE"
    name = f"{PARENT}/schedules/{identifier}"
    assert as_json(vertex.requests("PauseSchedule")[0]) == {"name": name}
    assert as_json(vertex.requests("ResumeSchedule")[0]) == {
        "name": name,
        "catchUp": True,
    }
    service.pause_schedule(identifier)
    service.resume_schedule(identifier, catch_up=False)
    assert as_json(vertex.requests("ResumeSchedule")[1]) == {"name": name}


def test_a_state_that_was_reached_without_an_answer_is_no_error(vertex, service, place):
    identifier = service.create_schedule(wanted(place)).name.rsplit("/", 1)[1]
    vertex.fail("PauseSchedule", LOST)
    service.pause_schedule(identifier)
    assert len(vertex.requests("PauseSchedule")) == 2
    vertex.fail("ResumeSchedule", LOST)
    service.resume_schedule(identifier, catch_up=False)
    assert vertex.schedules[identifier].state.name == "ACTIVE"


def test_what_has_ended_cannot_be_paused(vertex, service, place):
    identifier = service.create_schedule(wanted(place)).name.rsplit("/", 1)[1]
    vertex.schedules[identifier].state = schedule.Schedule.State.COMPLETED
    with pytest.raises(VertexError, match="Schedule is in state COMPLETED"):
        service.pause_schedule(identifier)


def test_deleting_waits_for_the_operation(vertex, service, place):
    identifier = service.create_schedule(wanted(place)).name.rsplit("/", 1)[1]
    service.delete_schedule(identifier)
    (request,) = vertex.requests("DeleteSchedule")
    assert as_json(request) == {"name": f"{PARENT}/schedules/{identifier}"}
    first, second = vertex.requests("GetOperation")
    assert first == second
    assert first.name.startswith(f"{NAMES}/operations/")
    assert vertex.schedules == {}


def test_a_deletion_whose_answer_was_lost_is_done(vertex, service, place):
    identifier = service.create_schedule(wanted(place)).name.rsplit("/", 1)[1]
    vertex.fail("DeleteSchedule", LOST)
    service.delete_schedule(identifier)
    assert vertex.schedules == {}
    with pytest.raises(VertexError, match="not found"):
        service.delete_schedule(identifier)


# ---- errors --------------------------------------------------------------------------

_WHERE = f"reading run run-1 in project {PROJECT}, region {REGION}: "


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            Fault(
                Code.PERMISSION_DENIED,
                "Permission 'aiplatform.pipelineJobs.get' denied on resource\n'//x'.",
            ),
            "permission denied (Permission 'aiplatform.pipelineJobs.get' denied on "
            f"resource '//x'); check vertex.project={PROJECT}; your account needs "
            "roles/aiplatform.user there",
        ),
        (
            Fault(
                Code.PERMISSION_DENIED,
                "You do not have permission to act as service_account: a@b",
            ),
            "permission denied (You do not have permission to act as service_account: "
            "a@b); your account needs roles/iam.serviceAccountUser on the service account "
            "that the run uses (vertex.service_account)",
        ),
        (
            Fault(
                Code.PERMISSION_DENIED,
                "Vertex AI API has not been used in project before or it is disabled.",
                reason="SERVICE_DISABLED",
            ),
            "the Vertex AI API is switched off (Vertex AI API has not been used in project "
            "before or it is disabled); switch it on with `gcloud services enable "
            f"aiplatform.googleapis.com --project {PROJECT}` and wait some minutes",
        ),
        (
            Fault(
                Code.UNAUTHENTICATED, "Request had invalid authentication credentials"
            ),
            "the credentials were not accepted (Request had invalid authentication "
            "credentials); sign in with `gcloud auth application-default login`",
        ),
        (
            Fault(
                Code.RESOURCE_EXHAUSTED,
                "The following quota metrics exceed quota limits: "
                "aiplatform.googleapis.com/custom_model_training_tpu_v3",
            ),
            "a quota is used up (The following quota metrics exceed quota limits: "
            "aiplatform.googleapis.com/custom_model_training_tpu_v3); wait until other "
            "work has ended, ask for more at https://console.cloud.google.com/iam-admin/"
            f"quotas?project={PROJECT}, or choose another vertex.region or vertex.hardware",
        ),
        (
            Fault(Code.NOT_FOUND, "The PipelineJob does not exist."),
            "not found (The PipelineJob does not exist); check --project and --region; "
            "`status` lists the runs, `schedule list` the schedules",
        ),
        (
            Fault(Code.INVALID_ARGUMENT, "List of found errors:\t1.Field: job; bad"),
            "Vertex AI refuses the request (List of found errors: 1.Field: job; bad); "
            "correct the value that it names",
        ),
        (
            Fault(Code.INTERNAL, ""),
            "Vertex AI failed with INTERNAL (no details); try again later",
        ),
    ],
    ids=lambda value: value.code.name if isinstance(value, Fault) else "",
)
def test_errors_are_one_line_and_not_repeated(vertex, service, said, fault, text):
    vertex.fail("GetPipelineJob", fault, count=2)
    with pytest.raises(VertexError) as failed:
        service.run("run-1")
    assert str(failed.value) == _WHERE + text
    assert len(vertex.calls) == 1
    assert said == []


def test_a_long_answer_is_cut(vertex, service):
    # gRPC itself drops headers of more than 8 KB, in which the words travel twice.
    vertex.fail("GetPipelineJob", Fault(Code.INTERNAL, "x" * 1500))
    with pytest.raises(VertexError) as failed:
        service.run("run-1")
    assert len(str(failed.value)) < 600


def test_no_credentials_is_one_sentence_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    words = (
        "^no Google Cloud credentials .*sign in with `gcloud auth application-default"
    )
    with (
        pytest.raises(VertexError, match=words),
        client.connect(Place(PROJECT, REGION), print),
    ):
        pass
    missing = str(tmp_path / "key.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", missing)
    with (
        pytest.raises(VertexError, match=f"^no Google Cloud cred.*{missing}"),
        client.connect(Place(PROJECT, REGION), print),
    ):
        pass


def test_the_messages_states_are_those_that_are_shown():
    from pipeline.vertex import screen

    known = {state.name for state in pipeline_state.PipelineState}
    assert {f"PIPELINE_STATE_{name}" for name in screen.ENDED} <= known

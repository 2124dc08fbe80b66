"""A step whose Beam is on Dataflow takes its job along, whatever happens to it."""

import json
import os
import re
import runpy
import signal
import sys

import grpc
import pytest

from components.batch_predict import plan as plans
from contract.config.run import RunConfig
from contract.fields import override
from pipeline import prediction
from pipeline.vertex import place, remote
from pipeline.vertex.steps import on_dataflow
from tests.pipeline.vertex.stand_in import PROJECT, REGION, Fault, StandIn

RUN = "cifar-resnet-20310101000000-abc123"
OUTPUT = f"gs://b/cifar/artifacts/1234/{RUN}/StatisticsGen_-56/executor_output.json"
ARGUMENTS = [
    "--executor_class_path",
    "some.Executor",
    "--json_serialized_invocation_args",
    json.dumps({"inputs": {}, "outputs": {"outputFile": OUTPUT}}),
    "--runner=DataflowRunner",
    f"--project={PROJECT}",
    f"--region={REGION}",
]
NAME = f"statisticsgen--{RUN}"


@pytest.fixture
def vertex(monkeypatch):
    with StandIn() as server:
        monkeypatch.setenv(place.ENDPOINT_VARIABLE, server.endpoint)
        monkeypatch.setattr(remote, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(on_dataflow, "_POLL_SECONDS", 0.01)
        yield server


@pytest.fixture
def step(monkeypatch):
    """Runs the step; what it does in TFX's place is a function."""

    def run(body):
        def module(name, run_name, alter_sys):
            assert (name, run_name, alter_sys) == (on_dataflow.TFX, "__main__", True)
            body(sys.argv[1:])

        with monkeypatch.context() as patch:
            patch.setattr(runpy, "run_module", module)
            patch.setattr(sys, "argv", ["untouched"])
            on_dataflow.main(ARGUMENTS)

    return run


def states(vertex):
    return [job.current_state.name for job in vertex.dataflow_jobs.values()]


def test_beam_takes_the_name_and_the_labels_that_cancel_looks_for(vertex, step):
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

    given = []
    step(given.extend)
    assert given[: len(ARGUMENTS)] == ARGUMENTS
    options = PipelineOptions(given).view_as(GoogleCloudOptions)
    assert set(options.labels) == {f"run={RUN}", "node=statisticsgen"}
    assert options.job_name == NAME
    assert re.fullmatch("[a-z]([-a-z0-9]{0,1022}[a-z0-9])?", NAME)  # Dataflow's rule
    identifier = vertex.add_dataflow_job(options.job_name)
    with remote.connect_dataflow(
        place.Place(PROJECT, REGION, False, f"127.0.0.1:{vertex.port}"), print
    ) as jobs:
        for labels in (remote.of_run(RUN), remote.of_node(RUN, "StatisticsGen")):
            assert [job.name for job in jobs.labelled(labels)] == [identifier]
        assert jobs.labelled(remote.of_node(RUN, "Transform")) == []
        assert jobs.labelled(remote.of_run("20310101000000-abc123")) == []


def test_what_an_earlier_attempt_left_has_ended_before_beam_begins(vertex, step):
    vertex.add_dataflow_job(NAME)
    vertex.add_dataflow_job(f"transform--{RUN}")
    seen = []
    step(lambda _: seen.extend(states(vertex)))
    assert seen == ["JOB_STATE_CANCELLED", "JOB_STATE_RUNNING"]


def test_sigterm_ends_the_job(vertex, step):
    vertex.fail("UpdateJob", Fault(grpc.StatusCode.UNAVAILABLE))

    def body(_):
        vertex.add_dataflow_job(NAME)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        step(body)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert states(vertex) == ["JOB_STATE_CANCELLED"]


def test_a_step_that_fails_ends_the_job_and_one_that_succeeds_asks_for_nothing(
    vertex, step
):
    def fails(_):
        vertex.add_dataflow_job(NAME)
        raise ValueError("no space")

    with pytest.raises(ValueError, match="no space"):
        step(fails)
    assert states(vertex) == ["JOB_STATE_CANCELLED"]
    vertex.calls.clear()

    def succeeds(_):
        raise SystemExit(0)  # as absl ends a program

    with pytest.raises(SystemExit):
        step(succeeds)
    assert "UpdateJob" not in vertex.methods


def test_predict_takes_its_job_along_like_a_step(vertex):
    """One job at a time, which ends with the command that has started it."""
    config = override(
        RunConfig(),
        {"vertex.project": PROJECT, "vertex.region": REGION, "vertex.beam": "dataflow"},
    )
    found = plans.Found("gs://b/images", ("a.png",), False, "digest")
    plan = plans.Plan(plans.Model("gs://b/7", 7), found, "gs://b/predictions/x.jsonl")
    other = plans.Plan(plans.Model("gs://b/8", 8), found, "gs://b/predictions/x.jsonl")

    def start(plan):
        with prediction._beam_arguments(plan, config) as arguments:
            (name,) = [a.removeprefix("--job_name=") for a in arguments if "job_n" in a]
            assert "--runner=DataflowRunner" in arguments
            vertex.add_dataflow_job(name)
            os.kill(os.getpid(), signal.SIGINT)

    vertex.add_dataflow_job(f"transform--{RUN}")
    with pytest.raises(KeyboardInterrupt):
        start(plan)
    assert states(vertex) == ["JOB_STATE_RUNNING", "JOB_STATE_CANCELLED"]
    with prediction._beam_arguments(plan, config) as arguments:
        (option,) = [a for a in arguments if a.startswith("--job_name=")]
        killed = vertex.add_dataflow_job(option.removeprefix("--job_name="))
        vertex.calls.clear()
    assert "UpdateJob" not in vertex.methods  # as if it had been killed at once
    with prediction._beam_arguments(other, config):
        assert vertex.dataflow_jobs[killed].current_state.name == "JOB_STATE_RUNNING"
    with prediction._beam_arguments(plan, config):
        assert vertex.dataflow_jobs[killed].current_state.name == "JOB_STATE_CANCELLED"

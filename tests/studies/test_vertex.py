"""A study's specification for Vertex AI: one task per training, whole, and accepted."""

import json

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from contract.fields import ConfigError
from pipeline.vertex import rules
from pipeline.vertex.compile import dumps
from studies import plan
from studies.study import Row, Scale, Study
from studies.tables import STUDIES
from tests.pipeline.vertex.test_compile import containers, tasks

pytestmark = pytest.mark.tf

PLACE = ["vertex.project=my-project", "output_root=gs://my-bucket/studies"]


def made(name, scale="paper", *, more=(), **asked):
    return plan.make(
        name,
        scale,
        **{"environment": {}, "directory": "/", "rules": rules} | asked,
        assignments=[*PLACE, *more],
    )


@pytest.fixture(scope="module")
def job():
    from studies.vertex import job_of

    return job_of(made("shortcuts"))


def test_each_row_and_seed_is_a_training_and_its_answers(job):
    rows = [row.name for row in STUDIES["shortcuts"].rows]
    assert len(rows) == 12
    expected = {f"{row}s{seed}".capitalize() for row in rows for seed in range(1, 6)}
    found = tasks(job)
    for kind in ("Trainer", "Answers"):
        assert {n.removesuffix(kind) for n in found if n.endswith(kind)} == expected
    shared = {n for n in found if not n.endswith(("Trainer", "Answers"))}
    assert shared == {
        "CifarExampleGen", "DatasetSchema", "StatisticsGen", "DataInvariants",
        "PreviousStatistics", "ExampleValidator", "Transform", "StudyReport",
    }  # fmt: skip


def test_the_report_takes_all_answers_and_no_more_than_a_task_may(job):
    given = tasks(job)["StudyReport"]["inputs"]["artifacts"]
    producers = {each["taskOutputArtifact"]["producerTask"] for each in given.values()}
    assert len(given) == len(producers) == 60 <= 100
    assert producers == {n for n in tasks(job) if n.endswith("Answers")}
    asked = json.loads(
        tasks(job)["StudyReport"]["inputs"]["parameters"]["asked"]["runtimeValue"][
            "constant"
        ]
    )
    assert asked["seeds"] == [1, 2, 3, 4, 5]
    assert len(asked["trainings"]) == 60


def test_each_training_is_a_job_of_its_own_with_its_own_seed(job):
    parameters = tasks(job)["Exclusive7s4Trainer"]["inputs"]["parameters"]
    custom = json.loads(parameters["custom_config"]["runtimeValue"]["constant"])
    train = json.loads(custom["train"])
    assert (train["seed"], train["steps"], train["schedule"]) == (4, 64_000, "paper")
    assert json.loads(custom["model"]) == {
        "network": "resnet110:shortcut=exclusive_gating:gate_bias=-7",
        "initial_weights": None,
    }
    assert custom["divergence"] == "record"
    assert "exclusive7s4" in json.dumps(custom)


def test_the_service_and_its_libraries_accept_it(job, tmp_path):
    runtime = {k: v for k, v in job["runtimeConfig"].items() if k != "failurePolicy"}
    json_format.ParseDict(
        job | {"runtimeConfig": runtime}, pipeline_spec_pb2.PipelineJob()
    )
    path = tmp_path / "job.json"
    path.write_text(dumps(job))
    resource = aiplatform.PipelineJob(
        display_name="a-study",
        template_path=str(path),
        project="my-project",
        location="us-central1",
        credentials=AnonymousCredentials(),
    ).to_dict()
    folder = resource["runtimeConfig"]["gcsOutputDirectory"]
    assert folder == "gs://my-bucket/studies/artifacts"
    assert len(json.dumps(job)) < 4_000_000
    assert all(each.get("image") for each in containers(job).values())


def test_the_same_plan_gives_the_same_specification(job):
    from studies.vertex import job_of

    assert job_of(made("shortcuts")) == job


def test_more_trainings_than_the_report_takes_are_refused_with_the_number():
    rows = tuple(
        Row(name=f"row{n}", title=f"{n}", network="resnet8") for n in range(21)
    )
    many = Study(
        name="many", title="t", source="s", question="q?", rows=rows,
        reference="row0", claims=(), scales={"paper": Scale(assignments={})},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="21 rows with 5 seeds are 105 trainings"):
        made("many", studies={"many": many})
    assert len(made("many", studies={"many": many}, seeds="4").trainings) == 84


def test_trainings_cost_what_their_jobs_do():
    from studies.vertex import training_cost

    hours, usd = training_cost(made("arrangements", more=["vertex.hardware=gpu"]))
    half, half_usd = training_cost(
        made("arrangements", more=["vertex.hardware=gpu"], seeds="1")
    )
    assert hours == pytest.approx(5 * half)
    assert usd == pytest.approx(5 * half_usd)
    assert usd > 0

"""A compiled job, carried out: what a run on Vertex AI does, without Vertex AI.

The stand-ins are at the network's edge only. tests/pipeline/vertex/orchestrator.py does
what the Pipelines service does with the compiled JSON, and starts TFX's own container
entry point; tests/pipeline/vertex/stand_in.py answers the genuine JobService client with
which the step starts training, and the command of the CustomJob is carried out; gs:// is an
emulator that TensorFlow, Beam and google-cloud-storage reach as they reach the real one.
All containers run in this process, which has loaded TensorFlow once; one, that shall fail,
in its own.
"""

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from contract.fields import parse_assignment
from pipeline.resolve import resolve
from pipeline.vertex import rules as vertex_rules
from tests.object_storage.emulator import (  # noqa: F401
    ObjectStorage,
    bucket,
    object_storage_server,
)
from tests.pipeline.vertex import stand_in
from tests.pipeline.vertex.orchestrator import Container, Orchestrator, Run, TaskFailed

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.timeout(1200)]

# Given when compiling; and for one run, instead of those that a run may change.
COMPILED = {"preset": "fast", "train.epochs": "5"}
OVERRIDES = {
    "preset": "smoke",
    "data.name": "digits",
    "baseline.network": "preact_resnet8",
    "candidate.network": "resnet8",
    "train.epochs": 2,
    "train.seed": 7,
}
TRAINERS = ["BaselineTrainer", "CandidateTrainer"]


@dataclass
class Cloud:
    """A project with a bucket, a compiled job and everything that happened."""

    storage: ObjectStorage
    vertex: stand_in.StandIn
    job: dict
    started: list[Container] = field(default_factory=list)
    orchestrator: Orchestrator = field(init=False)

    def __post_init__(self) -> None:
        self.orchestrator = Orchestrator(self.start)

    def start(self, container: Container) -> None:
        """What a container of the pipeline's image does."""
        self.started.append(container)
        execute(container.command, container.args)

    def run(self, **overrides: object) -> Run:
        """Carries the job out; dots in names are double underscores."""
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        text = json.dumps(OVERRIDES | given)
        return self.orchestrator.run(self.job, {"overrides": text})

    def read(self, uri: str) -> bytes:
        """Content of an object, by google-cloud-storage."""
        name = uri.removeprefix(f"gs://{self.storage.bucket}/")
        return (
            self.storage.client()
            .bucket(self.storage.bucket)
            .blob(name)
            .download_as_bytes()
        )

    def read_json(self, uri: str) -> dict:
        return json.loads(self.read(uri))


def execute(command: list[str], args: list[str]) -> None:
    """What `python -m MODULE ARGS` does, in this process."""
    python, option, name, *more = command
    assert (python, option) == ("python", "-m")
    module = importlib.import_module(name)
    parse = getattr(module, "_parse_flags", None) or module.parse_flags
    module.main(parse([module.__file__, *more, *args]))


@pytest.fixture(scope="module")
def cloud(object_storage_server, tmp_path_factory) -> Iterator[Cloud]:  # noqa: F811
    from apache_beam.internal.gcp import auth
    from google.cloud.aiplatform_v1.types import JobState

    from pipeline.vertex import compile as compiler
    from pipeline.vertex import place
    from pipeline.vertex.steps.train import follow

    def train(job) -> JobState:
        (pool,) = job.job_spec.worker_pool_specs
        execute(list(pool.container_spec.command), list(pool.container_spec.args))
        return JobState.JOB_STATE_SUCCEEDED

    with (
        bucket(object_storage_server) as storage,
        stand_in.StandIn() as vertex,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("no_proxy", "127.0.0.1,localhost")  # gRPC heeds https_proxy too
        # Beam would look for credentials for half a minute; the emulator wants none.
        patch.setattr(auth._Credentials, "_credentials_init", True)
        patch.setenv(place.ENDPOINT_VARIABLE, vertex.endpoint)
        patch.setattr(follow, "POLL_SECONDS", 0.2)
        vertex.run_custom_job = train
        for shade in (0, 100, 255):
            file = io.BytesIO()
            Image.new("L", (40, 30), shade).save(file, "PNG")
            storage.client().bucket(storage.bucket).blob(
                f"photos/{shade:03d}.png"
            ).upload_from_string(file.getvalue())
        texts = [
            f"batch_predict.images={storage.url('photos')}",
            f"vertex.project={stand_in.PROJECT}",
            f"vertex.region={stand_in.REGION}",
            f"output_root={storage.url('cifar')}",
            *(f"{name}={value}" for name, value in COMPILED.items()),
        ]
        config = resolve(texts, {}, "/", vertex_rules).config
        path = tmp_path_factory.mktemp("compiled") / "job.json"
        job = compiler.compile_job(config, dict(map(parse_assignment, texts)))
        compiler.write(job, str(path))
        yield Cloud(storage, vertex, json.loads(path.read_text()))


BAD = '{"train.epochs": "3"}'
SENTENCE = 'overrides: train.epochs="3": must be a number from 0.001 to 100000'


def test_a_bad_override_fails_before_any_data_are_read(cloud):
    objects = cloud.storage.names()
    with pytest.raises(TaskFailed) as failure:
        cloud.orchestrator.run(cloud.job, {"overrides": BAD})
    assert failure.value.task == "RunConfiguration"
    assert str(failure.value.cause) == SENTENCE
    assert [container.task for container in cloud.started] == ["RunConfiguration"]
    # As a container of its own it ends with an error, and that is the last line.
    (container,) = cloud.started
    process = subprocess.run(
        [sys.executable, *container.command[1:], *container.args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode != 0
    assert process.stderr.strip().splitlines()[-1].endswith(SENTENCE)
    assert cloud.storage.names() == objects
    cloud.started.clear()


@pytest.fixture(scope="module")
def first(cloud) -> Run:
    return cloud.run()


def test_every_task_runs_in_the_order_of_the_graph(first, cloud):
    assert (
        first.ran
        == list(first.tasks)
        == [c.task for c in cloud.started][: len(first.ran)]
    )
    assert set(first.tasks) == set(cloud.job["pipelineSpec"]["root"]["dag"]["tasks"])


def test_the_overrides_are_recorded(first, cloud):
    record = cloud.read_json(
        f"{first.uri('RunConfiguration', 'configuration')}/run.json"
    )
    assert record["overrides"] == OVERRIDES
    assert record["run_id"] == first.id
    config = record["facts"]["config"]
    assert config["candidate"]["network"] == "resnet8"
    assert config["baseline"]["network"] == "preact_resnet8"
    assert config["train"]["global_batch_size"] == 64  # of the preset
    assert config["train"]["epochs"] == 2.0  # not what was compiled
    assert config["train"]["seed"] == 7
    assert config["output_root"] == cloud.storage.url("cifar")


def test_the_overrides_reach_the_training_jobs(first, cloud):
    trained = {
        role: cloud.read_json(f"{first.uri(task, 'model_run')}/history.json")
        for role, task in zip(("baseline", "candidate"), TRAINERS, strict=True)
    }
    assert trained["candidate"]["network"] == "resnet8"
    assert trained["baseline"]["network"] == "preact_resnet8"
    for record in trained.values():
        assert record["train"]["seed"] == 7
        assert record["train"]["epochs"] == 2.0


def test_training_runs_in_custom_jobs_of_the_compiled_form(first, cloud):
    first_jobs = cloud.vertex.requests("CreateCustomJob")[:2]
    assert {job.custom_job.display_name for job in first_jobs} == {
        "cifar-resnet-baseline", "cifar-resnet-candidate",
    }  # fmt: skip
    for job in first_jobs:
        assert job.parent == stand_in.PARENT
        (pool,) = job.custom_job.job_spec.worker_pool_specs
        assert pool.machine_spec.machine_type == "n2-standard-16"
        assert pool.container_spec.image_uri.endswith("/cifar-resnet/pipeline:0.1.0")
        labels = job.custom_job.labels
        assert labels["run"] == first.id
        assert f"{labels['role']}trainer" == labels["node"]


def test_a_training_jobs_folders_are_its_own_and_become_the_steps(first, cloud):
    for task in TRAINERS:
        planned = first.executor_inputs[task]["outputs"]["artifacts"]
        record = cloud.storage.url(f"cifar/checkpoints/{first.id}-{task.lower()}.json")
        (attempt,) = cloud.read_json(record)["attempts"]
        assert attempt["job"] in {job.name for job in cloud.vertex.custom_jobs.values()}
        for key, entry in planned.items():
            (artifact,) = entry["artifacts"]
            own = first.uri(task, key)
            assert own == f"{artifact['uri']}/{attempt['token']}"


def test_the_published_model_makes_the_errors_that_the_report_tells(first, cloud):
    import tensorflow as tf

    pushed = first.tasks["AtomicPusher"].artifacts["pushed_model"]["metadata"]
    assert pushed["pushed"] == 1
    folder = cloud.storage.url(f"cifar/serving/cifar/{pushed['pushed_version']}")
    assert pushed["pushed_destination"] == folder
    files = tf.io.gfile.glob(f"{first.uri('CifarExampleGen', 'examples')}/Split-test/*")
    records = [r.numpy() for r in tf.data.TFRecordDataset(files)]
    truth = [
        tf.train.Example.FromString(r).features.feature["label"].int64_list.value[0]
        for r in records
    ]
    model = tf.saved_model.load(folder)
    answer = model.signatures["serialized_examples"](examples=tf.constant(records))
    assert answer["probabilities"].shape == (360, 10)
    report = cloud.read_json(f"{first.uri('Report', 'report')}/report.json")
    winner = report["models"][report["decision"]["winner"]]
    error = np.mean(answer["label"].numpy() != truth)
    assert error == pytest.approx(winner["test"]["error"], abs=1 / 360)
    assert error < 0.8  # chance: 0.9


def test_the_published_model_answers_the_images_in_the_bucket(first, cloud):
    pushed = first.tasks["AtomicPusher"].artifacts["pushed_model"]["metadata"]
    version = int(pushed["pushed_version"])
    found = first.tasks["BatchPredict"].artifacts["prediction"]["metadata"]
    assert found["files"] == 3
    output = cloud.storage.url(f"cifar/predictions/photos-v{version}.jsonl")
    assert found["output"] == output
    rows = [json.loads(line) for line in cloud.read(output).splitlines()]
    assert [row["image"] for row in rows] == ["000.png", "100.png", "255.png"]
    assert {row["version"] for row in rows} == {version}
    assert all(0.1 <= row["probability"] <= 1 for row in rows)  # of ten classes
    assert not cloud.storage.names("cifar/predictions/.")  # the parts are gone


def test_the_report_tells_of_the_run(first, cloud):
    report = cloud.read_json(cloud.storage.url("cifar/report/report.json"))
    assert report["run"]["id"] == first.id
    assert report["models"]["candidate"]["network"] == "resnet8"
    assert report["models"]["in_service"] is None
    assert report["data"]["name"] == "digits"
    assert report["data"]["verified"] is True
    pushed = first.tasks["AtomicPusher"].artifacts["pushed_model"]["metadata"]
    assert report["pushed"]["version"] == int(pushed["pushed_version"])
    assert report["decision"]["winner"] in ("baseline", "candidate")


def test_whole_numbers_survive_the_way_through_json(first):
    for task, outcome in first.tasks.items():
        for key, artifact in outcome.artifacts.items():
            for name, value in artifact["metadata"].items():
                assert value is not None, (task, key, name)
    parameters = first.tasks["RunConfiguration"].parameters
    assert parameters["BaselineAnswers_batch_size"] == 128
    inputs = first.executor_inputs["BaselineAnswers"]["inputs"]["parameterValues"]
    assert inputs["batch_size"] == 128


@pytest.fixture(scope="module")
def second(first, cloud) -> Run:
    """The same data and baseline; another candidate."""
    return cloud.run(candidate__network="preact_resnet8")


def test_what_did_not_change_comes_from_the_cache(second):
    fresh = {
        "RunConfiguration", "PreviousStatistics", "ExampleValidator", "CandidateTrainer",
        "CandidateAnswers", "ModelInService", "InServiceAnswers", "Evaluator",
        "ModelChooser", "ServingCanary",
        "AtomicPusher", "Report", "BatchPredict",
    }  # fmt: skip
    assert set(second.ran) == fresh


def test_the_model_in_service_is_the_third_contender(first, second, cloud):
    in_service = second.tasks["ModelInService"].artifacts["pushed"]
    pushed = first.tasks["AtomicPusher"].artifacts["pushed_model"]["metadata"]
    assert in_service["metadata"]["pushed"] == 1
    assert in_service["metadata"]["pushed_version"] == pushed["pushed_version"]
    report = cloud.read_json(f"{second.uri('Report', 'report')}/report.json")
    before = cloud.read_json(f"{first.uri('Report', 'report')}/report.json")
    winner = before["models"][before["decision"]["winner"]]
    # The same model on the same images has the same error.
    assert report["models"]["in_service"]["network"] == winner["network"]
    assert report["models"]["in_service"]["eval"]["error"] == winner["eval"]["error"]

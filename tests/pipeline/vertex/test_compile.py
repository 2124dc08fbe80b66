"""Compiled jobs: accepted by the genuine loaders, the same everywhere, nothing left out."""

import argparse
import difflib
import getpass
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from google.cloud.aiplatform_v1.types import AcceleratorType, CustomJob, Scheduling
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kfp import components as kfp_components
from kfp.pipeline_spec import pipeline_spec_pb2

from contract.fields import ConfigError, parse_assignment
from pipeline.nodes import kind_of
from pipeline.presets import PRESETS
from pipeline.resolve import resolve
from pipeline.vertex import hardware, images, jobs, overrides, parameters
from pipeline.vertex import rules as vertex_rules
from pipeline.vertex.compile import compile_job, dumps, write
from tests.pipeline.vertex import golden

pytestmark = pytest.mark.tf

PROJECT = Path(__file__).parents[3]
ENTRY = [
    "python",
    "-m",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
]
ON_DATAFLOW = ["python", "-m", "pipeline.vertex.steps.on_dataflow"]
cached = {}


def compiled(*assignments: str) -> dict:
    if assignments not in cached:
        cached[assignments] = golden.compiled(*assignments)
    return json.loads(json.dumps(cached[assignments]))


def tasks(job: dict) -> dict:
    return job["pipelineSpec"]["root"]["dag"]["tasks"]


def containers(job: dict) -> dict:
    """Task -> container."""
    specification = job["pipelineSpec"]
    return {
        name: specification["deploymentSpec"]["executors"][
            specification["components"][task["componentRef"]["name"]]["executorLabel"]
        ]["container"]
        for name, task in tasks(job).items()
    }


def accept(job: dict, folder: Path) -> None:
    """Loads a job with the libraries that users and the service load it with."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    # kfp's messages know no failure policy; aiplatform's, which are sent, do (below).
    runtime = {k: v for k, v in job["runtimeConfig"].items() if k != "failurePolicy"}
    json_format.ParseDict(
        job | {"runtimeConfig": runtime}, pipeline_spec_pb2.PipelineJob()
    )
    specification = pipeline_spec_pb2.PipelineSpec()
    json_format.ParseDict(job["pipelineSpec"], specification)
    json_format.ParseDict(
        job["pipelineSpec"]["deploymentSpec"],
        pipeline_spec_pb2.PipelineDeploymentConfig(),
    )
    loaded = kfp_components.load_component_from_text(json.dumps(job["pipelineSpec"]))
    assert list(loaded.component_spec.inputs) == [overrides.PARAMETER]
    path = folder / "job.json"
    path.write_text(dumps(job))
    pipeline_job = aiplatform.PipelineJob(
        display_name="a-run",
        template_path=str(path),
        project="my-project",
        location="us-central1",
        credentials=AnonymousCredentials(),
    )
    resource = pipeline_job.to_dict()
    default = job["runtimeConfig"]["parameterValues"]
    assert resource["runtimeConfig"]["parameterValues"] == default
    assert (
        resource["runtimeConfig"]["gcsOutputDirectory"]
        == "gs://my-bucket/cifar/artifacts"
    )
    assert resource["runtimeConfig"]["failurePolicy"] in (
        2, "PIPELINE_FAILURE_POLICY_FAIL_FAST",
    )  # fmt: skip


@pytest.mark.parametrize("name", golden.CASES)
def test_a_compiled_job_is_its_golden_file(name):
    text = dumps(compiled(*golden.CASES[name]))
    expected = (golden.GOLDEN / f"{name}.json").read_text()
    difference = "".join(
        list(difflib.unified_diff(expected.splitlines(True), text.splitlines(True)))[
            :40
        ]
    )
    assert not difference, (
        f"{difference}\nif this is meant: python -m tests.pipeline.vertex.golden"
    )


def test_what_each_row_of_the_hardware_changes_is_listed():
    """And nothing but the training jobs: the steps are the same on all hardware."""
    changes = golden.hardware_changes()
    assert changes == json.loads((golden.GOLDEN / "hardware.json").read_text())
    assert changes["cpu"] == {}
    for row, paths in changes.items():
        for path in paths:
            assert re.search(
                "/training_jobs/.*/job_spec/|/fixed/.*/vertex.(hardware|scheduling)$|"
                "Trainer/retryPolicy/",
                path,
            ), (row, path)


def test_five_contenders_are_five_trainers_and_numbered_inputs(tmp_path):
    names = ["baseline", "candidate", "deep", "slim", "wide"]
    job = compiled(
        "contenders.wide=preact_resnet14",
        "contenders.deep=preact_resnet110",
        "contenders.slim=preact_resnet8",
    )
    accept(job, tmp_path)
    two, five = tasks(compiled()), tasks(job)
    assert five.keys() - two.keys() == {
        f"{name.capitalize()}{kind}"
        for name in names[2:]
        for kind in ("Trainer", "Answers")
    }

    def producers(task: str, start: str) -> dict[str, str]:
        given = five[task]["inputs"]["artifacts"]
        return {
            key: source["taskOutputArtifact"]["producerTask"]
            for key, source in given.items()
            if key.startswith(start)
        }

    answers = [*(f"{name.capitalize()}Answers" for name in names), "InServiceAnswers"]
    assert producers("Evaluator", "answers_") == {
        f"answers_{number:03d}": task for number, task in enumerate(answers)
    }
    for task in ("ModelChooser", "ModelInService", "Report"):
        assert producers(task, "model_0") == {
            f"model_{number:03d}": f"{name.capitalize()}Trainer"
            for number, name in enumerate(names)
        }
    # The chooser is given eval alone: test cannot decide.
    given = five["ModelChooser"]["inputs"]["artifacts"]["evaluation"]
    assert given["taskOutputArtifact"]["outputArtifactKey"] == "evaluation"
    assert set(five["ModelChooser"]["dependentTasks"]) >= {"Evaluator", "WideTrainer"}
    # Each training is a job of its own.
    (made,) = (
        parameter["runtimeValue"]["constant"]
        for key, parameter in five["RunConfiguration"]["inputs"]["parameters"].items()
        if key == "training_jobs"
    )
    assert [*json.loads(made)] == names
    assert json.loads(made)["wide"]["display_name"] == "cifar-resnet-wide"


def test_as_many_contenders_as_can_be_compared_are_compiled(tmp_path):
    names = [f"c{number:02d}" for number in range(91)]
    job = compiled(*(f"contenders.{name}=resnet8" for name in names))
    accept(job, tmp_path)
    for name, task in tasks(job).items():
        assert len(task["inputs"].get("artifacts", {})) <= 100, name
    with pytest.raises(ConfigError, match="94 networks; on Vertex AI at most 93 can"):
        compiled(*(f"contenders.{name}=resnet8" for name in (*names, "more")))


def test_who_takes_part_is_fixed_when_compiled():
    with pytest.raises(
        ConfigError, match=r"contenders.wide is fixed when the pipeline"
    ):
        overrides.decode('{"contenders.wide": "resnet8"}')


def test_another_process_on_another_machine_writes_the_same_bytes(tmp_path):
    environment = os.environ | {
        "PYTHONHASHSEED": "4242",
        "HOME": str(tmp_path / "somebody-else"),
        "TFDS_DATA_DIR": "/elsewhere/tfds",
        "GOOGLE_APPLICATION_CREDENTIALS": "/elsewhere/sentinel-credentials.json",
        "PYTHONPATH": str(PROJECT),
        "TZ": "Asia/Kathmandu",
    }
    subprocess.run(
        [sys.executable, "-m", "tests.pipeline.vertex.golden", str(tmp_path / "out")],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    for name in golden.CASES:
        written = (tmp_path / "out" / f"{name}.json").read_bytes()
        assert written == (golden.GOLDEN / f"{name}.json").read_bytes(), name


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_accepted_by_the_genuine_loaders(preset, tmp_path):
    job = compiled(f"preset={preset}")
    accept(job, tmp_path)
    assert job["runtimeConfig"]["parameterValues"] == {
        "overrides": json.dumps({"preset": preset}, separators=(",", ":"))
    }


@pytest.mark.parametrize("row", hardware.HARDWARE)
def test_all_hardware_is_accepted_by_the_genuine_loaders(row, tmp_path):
    accept(compiled(*golden.row(row)), tmp_path)


@pytest.mark.parametrize("name", golden.CASES)
def test_every_task_says_what_it_runs_on(name):
    job = compiled(*golden.CASES[name])
    for task, container in containers(job).items():
        dataflow = "vertex.beam=dataflow" in golden.CASES[name]
        beam = dataflow and kind_of(task).work == "beam"
        assert container["command"] == (ON_DATAFLOW if beam else ENTRY), task
        assert re.fullmatch(
            r"[a-z0-9-]+-docker\.pkg\.dev/my-project/cifar-resnet/pipeline:0\.1\.0",
            container["image"],
        ), task
        resources = kind_of(task).resources
        assert container["resources"] == {
            "cpuLimit": resources.cpu,
            "memoryLimit": resources.memory_gb,
        }, task


OUTSIDE = {
    "RunConfiguration": "looks at the data and at the clock",
    "PreviousStatistics": "reads records",
    "ExampleValidator": "writes a record",
    "ModelInService": "reads the ledger",
    "ServingCanary": "measures this machine",
    "AtomicPusher": "publishes",
    "VertexPush": "registers and deploys",
    "Report": "writes a copy",
    "BatchPredict": "reads a folder that may change",
}


def test_what_touches_the_world_outside_is_never_cached_and_the_rest_is():
    job = compiled(*golden.CASES["gpu8"])
    for name, task in tasks(job).items():
        cached = task["cachingOptions"].get("enableCache", False)
        assert cached is (name not in OUTSIDE), name
    assert set(tasks(job)) >= set(OUTSIDE)


def test_predictions_come_last_from_the_pushed_model_if_they_are_asked_for():
    assert "BatchPredict" not in tasks(compiled())
    task = tasks(compiled(*golden.CASES["gpu8"]))["BatchPredict"]
    assert {"AtomicPusher", "Report"} <= set(task["dependentTasks"])
    given = task["inputs"]["artifacts"]["pushed_model"]["taskOutputArtifact"]
    assert given["producerTask"] == "AtomicPusher"
    with pytest.raises(ConfigError, match="batch_predict.images is fixed when the"):
        overrides.decode('{"batch_predict.images": "gs://my-bucket/others"}')
    with pytest.raises(ConfigError, match="batch_predict.images=/photos: on Vertex AI"):
        compiled("batch_predict.images=/photos")


def test_without_a_cache_nothing_is_cached():
    job = compiled(*golden.CASES["tpu-v5e-8"])
    assert all(task["cachingOptions"] == {} for task in tasks(job).values())


def test_only_spot_trainers_are_tried_again():
    for case, tried in (
        ("gpu8", {"BaselineTrainer", "CandidateTrainer"}),
        ("cpu", set()),
    ):
        job = compiled(*golden.CASES[case])
        assert {n for n, task in tasks(job).items() if "retryPolicy" in task} == tried


def test_every_dependency_is_of_the_dag_and_nothing_precedes_the_configuration():
    job = compiled()
    needs = {
        name: set(task.get("dependentTasks", ())) for name, task in tasks(job).items()
    }

    def all_before(name: str) -> set[str]:
        return needs[name].union(*(all_before(other) for other in needs[name]))

    assert needs["RunConfiguration"] == set()
    for name in needs.keys() - {"RunConfiguration"}:
        assert "RunConfiguration" in all_before(name), name
    assert all_before("Report") == needs.keys() - {"Report"}


def test_output_parameters_have_the_types_of_the_parameters_that_take_them():
    specification = compiled()["pipelineSpec"]
    definitions = specification["components"]
    made = definitions["RunConfiguration"]["outputDefinitions"]
    taken = set()
    for name, task in tasks({"pipelineSpec": specification}).items():
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            if "taskOutputParameter" not in source:
                continue
            output = source["taskOutputParameter"]
            assert output["producerTask"] == "RunConfiguration"
            taken.add(output["outputParameterKey"])
            assert (
                made["parameters"][output["outputParameterKey"]]["parameterType"]
                == definitions[name]["inputDefinitions"]["parameters"][key][
                    "parameterType"
                ]
            )
    assert taken == set(made["parameters"])
    assert set(made["artifacts"]) == taken | {"configuration"}
    assert (
        made["parameters"]["BaselineAnswers_batch_size"]["parameterType"]
        == "NUMBER_INTEGER"
    )


@pytest.mark.parametrize("name", golden.CASES)
def test_nothing_of_this_machine_is_in_it(name):
    text = dumps(compiled(*golden.CASES[name]))
    here = {
        str(PROJECT), str(Path.home()), os.getcwd(), tempfile.gettempdir(),
        socket.gethostname(), sys.prefix, "/work/", "/home/", "/Users/", "file://",
    }  # fmt: skip
    assert not {place for place in here if len(place) > 1 and place in text}
    # No digest of sources or data: a newer image must not need a newer specification.
    assert not re.search(r"[0-9a-f]{16}", text)
    assert not re.search(r"(?i)secret|password|private_key|bearer|api_?key", text)
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text
    addresses = set(re.findall(r"[a-z]+://[^\"\\]*", text))
    assert {a.split("/")[2] for a in addresses} <= {"my-bucket"}


def test_what_a_run_may_change_is_not_in_the_specification():
    base = compiled()
    other = compiled(
        "preset=resnet1001", "data.name=cifar100", "data.label=coarse", "train.epochs=7",
        "baseline.network=resnet110", "evaluation.policy=superior", "drift.labels=none",
        "canary.requests=3", "serving.model_name=other", "preprocessing.divide_by_std=false",
    )  # fmt: skip
    for job in (base, other):
        job["runtimeConfig"].pop("parameterValues")
        parameter = job["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]
        parameter["overrides"].pop("defaultValue")
    assert base == other


FREE = {
    "data.name": ["cifar10", "cifar100", "digits"],
    "data.label": ["fine", "coarse"],
    "data.compression": ["gzip", "none"],
    "data.eval_fraction": ["0.2"],
    "drift.images": ["none", "0.5"],
    "preprocessing.statistics": ["per_pixel"],
    "baseline.network": ["resnet8", "resnet164"],
    "candidate.network": ["preact_resnet8", "preact_resnet1001"],
    "preset": list(PRESETS),
    "train.recipe": ["quick", "paper", "released"],
    "train.epochs": ["3"],
    "train.global_batch_size": ["32"],
    "train.seed": ["9"],
    "evaluation.batch_size": ["64"],
    "evaluation.max_error": ["none", "0.5"],
    "canary.requests": ["7"],
    "serving.model_name": ["other"],
    "serving.registry_alias": ["blue"],
}
chosen = st.dictionaries(
    st.sampled_from(sorted(FREE)), st.integers(0, 9), max_size=6
).map(lambda picks: {k: FREE[k][n % len(FREE[k])] for k, n in picks.items()})


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(chosen)
def test_no_override_changes_more_than_the_default(values):
    """Else a run would do something else than its own configuration says."""
    assignments = {**dict(map(parse_assignment, golden.COMMON)), **values}
    try:
        config = resolve(
            [f"{k}={v}" for k, v in assignments.items()], {}, "/", vertex_rules
        ).config
    except ConfigError:
        return
    job, base = compile_job(config, assignments), compiled()
    encoded = overrides.encode(values)
    assert job["runtimeConfig"]["parameterValues"] == {"overrides": encoded}
    base["runtimeConfig"]["parameterValues"] = {"overrides": encoded}
    root = base["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]
    root["overrides"]["defaultValue"] = encoded
    assert job == base


def test_beam_options_go_to_the_steps_that_use_beam():
    from tfx.dsl.components.base import base_beam_executor
    from tfx.utils import import_utils

    for name, container in containers(compiled(*golden.CASES["gpu8"])).items():
        executor = import_utils.import_class_by_path(
            container["args"][container["args"].index("--executor_class_path") + 1]
        )
        beam = issubclass(executor, base_beam_executor.BaseBeamExecutor)
        assert ("--runner=DataflowRunner" in container["args"]) is beam, name


def resolved(*assignments: str):
    return resolve([*golden.COMMON, *assignments], {}, "/", vertex_rules).config


def beam_options(*assignments: str):
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(jobs.beam_arguments(resolved(*assignments)))


def test_dataflow_accepts_its_options(monkeypatch):
    from apache_beam.options import pipeline_options as beam
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    # It would ask the bucket itself, for a warning.
    monkeypatch.setattr(
        beam.GoogleCloudOptions, "_warn_if_soft_delete_policy_enabled", lambda *_: None
    )
    options = beam_options(*golden.CASES["gpu8"], "vertex.beam_max_workers=7")
    assert PipelineOptionsValidator(options, DataflowRunner()).validate() == []
    cloud = options.view_as(beam.GoogleCloudOptions)
    assert (cloud.project, cloud.region) == ("my-project", "europe-west4")
    assert cloud.temp_location == "gs://my-bucket/cifar/dataflow/temp"
    assert cloud.staging_location == "gs://my-bucket/cifar/dataflow/staging"
    assert cloud.service_account_email == "runner@my-project.iam.gserviceaccount.com"
    workers = options.view_as(beam.WorkerOptions)
    assert workers.max_num_workers == 7
    assert workers.autoscaling_algorithm == "THROUGHPUT_BASED"
    assert workers.machine_type == "n2-standard-4"
    assert workers.subnetwork == "regions/europe-west4/subnetworks/inner"
    assert workers.network is None  # the subnetwork says it
    assert cloud.dataflow_kms_key.endswith("/cryptoKeys/key")
    assert workers.use_public_ips is False
    assert workers.sdk_container_image.endswith("/beam-worker:0.1.0")


def test_more_options_of_beam_are_handed_on():
    from apache_beam.options import pipeline_options as beam

    options = beam_options(
        *golden.CASES["gpu8"],
        "vertex.beam_arguments=--number_of_worker_harness_threads=4,--labels=team=vision",
    )
    assert (
        options.view_as(beam.WorkerOptions).get_all_options(drop_default=True)[
            "number_of_worker_harness_threads"
        ]
        == 4
    )
    assert options.view_as(beam.GoogleCloudOptions).labels == ["team=vision"]


def test_what_fields_set_is_refused_by_whatever_name_beam_has_for_it():
    from apache_beam.options.pipeline_options import PipelineOptions

    names: dict[str, set[str]] = {}  # what an option sets -> its names

    class Parser(argparse.ArgumentParser):
        def add_argument(self, *flags, **settings):
            action = super().add_argument(*flags, **settings)
            names.setdefault(action.dest, set()).update(flags)
            return action

    parser = Parser(conflict_handler="resolve")
    for each in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(each):
            each._add_argparse_args(parser)
    case = golden.CASES["gpu8"]
    set_by_fields = {
        each.partition("=")[0] for each in jobs.beam_arguments(resolved(*case))
    }
    same = {
        name
        for group in names.values()
        if group & set_by_fields
        for name in group
        if not name.startswith("--experiment")  # a list
    }
    assert {"--machine_type", "--use_public_ips"} < same
    for name in same | set_by_fields - {"--experiments"}:
        with pytest.raises(ConfigError, match=f"{name} comes from"):
            resolved(*case, f"vertex.beam_arguments={name}=x")


def test_dataflows_workers_may_have_an_account_of_their_own():
    account = "worker@my-project.iam.gserviceaccount.com"
    config = resolved(*golden.CASES["gpu8"], f"vertex.beam_service_account={account}")
    assert f"--service_account_email={account}" in jobs.beam_arguments(config)


@pytest.mark.parametrize("runner", ["flink", "spark"])
def test_a_cluster_of_ones_own_is_reached_by_its_job_service(runner):
    from apache_beam.options import pipeline_options as beam
    from apache_beam.runners.portability.portable_runner import PortableRunner
    from apache_beam.runners.runner import create_runner

    options = beam_options(
        f"vertex.beam={runner}", "vertex.beam_endpoint=10.0.0.8:8099",
        "vertex.beam_max_workers=3",
    )  # fmt: skip
    portable = options.view_as(beam.PortableOptions)
    assert portable.job_endpoint == "10.0.0.8:8099"
    assert (portable.environment_type, portable.environment_config) == (
        "EXTERNAL", "localhost:50000",
    )  # fmt: skip
    name = options.view_as(beam.StandardOptions).runner
    assert isinstance(create_runner(name), PortableRunner)
    assert "--parallelism=3" in jobs.beam_arguments(
        resolved(f"vertex.beam={runner}", "vertex.beam_endpoint=10.0.0.8:8099",
                 "vertex.beam_max_workers=3")
    )  # fmt: skip


@pytest.mark.parametrize("row", hardware.HARDWARE)
def test_training_jobs_are_custom_jobs_of_the_client_library(row):
    config = resolved(*golden.row(row), "vertex.disk_gb=200")
    where = hardware.of(config.vertex)
    job = CustomJob(jobs.training_job(config, "candidate"))
    assert job.display_name == "cifar-resnet-candidate"
    # "Distributed training" of Vertex AI's documentation: the first pool is one primary
    # replica, the second one has the workers.
    pool, *others = job.job_spec.worker_pool_specs
    counts = [each.replica_count for each in job.job_spec.worker_pool_specs]
    assert counts == ([1, 1] if row.endswith("-x2") else [1])
    assert all(each.machine_spec == pool.machine_spec for each in others)
    assert all(each.container_spec == pool.container_spec for each in others)
    assert pool.machine_spec.machine_type == where.machine_type
    if where.tpu_topology is None and where.accelerator_type is not None:
        assert (
            pool.machine_spec.accelerator_type
            == AcceleratorType[where.accelerator_type]
        )
        assert pool.machine_spec.accelerator_count == where.accelerator_count
    assert pool.machine_spec.tpu_topology == (where.tpu_topology or "")
    assert pool.disk_spec.boot_disk_size_gb == 200
    kind = {"cpu": "pipeline", "gpu": "trainer-gpu", "tpu": "trainer-tpu"}[where.image]
    assert pool.container_spec.image_uri.endswith(f"/{kind}:0.1.0")
    strategy = Scheduling.Strategy.SPOT if row == "gpu-h100" else 3
    assert job.job_spec.scheduling.strategy == strategy
    # TensorFlow reaches a v5e by PJRT, and v2 and v3 must not be told so.
    environment = {entry.name: entry.value for entry in pool.container_spec.env}
    assert environment == (
        {
            "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
            "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": (
                "/opt/venv/lib/python3.11/site-packages/libtpu/libtpu.so"
            ),
        }
        if row.startswith("tpu-v5e")
        else {}
    )
    assert job.job_spec.service_account == job.job_spec.network == ""


def test_a_spot_job_of_a_private_network_says_so():
    job = CustomJob(jobs.training_job(resolved(*golden.CASES["gpu8"]), "baseline"))
    scheduling = job.job_spec.scheduling
    assert scheduling.strategy == Scheduling.Strategy.SPOT
    assert scheduling.restart_job_on_worker_restart
    assert scheduling.timeout.days == 7
    assert job.job_spec.network == "projects/123456789012/global/networks/private"
    assert job.job_spec.service_account == "runner@my-project.iam.gserviceaccount.com"
    assert job.job_spec.base_output_directory.output_uri_prefix.startswith(
        "gs://my-bucket/"
    )
    assert dict(job.labels) == {"pipeline": "cifar-resnet", "role": "baseline"}


def test_machines_that_are_waited_for_or_reserved_say_so():
    typed = ("vertex.hardware=gpu", "vertex.scheduling=flex_start")
    job = CustomJob(jobs.training_job(resolved(*typed), "baseline"))
    scheduling = job.job_spec.scheduling
    assert scheduling.strategy == Scheduling.Strategy.FLEX_START
    assert scheduling.max_wait_duration.days == 1
    name = "projects/my-project/zones/us-central1-a/reservations/mine"
    typed = ("vertex.scheduling=reservation", f"vertex.reservation={name}")
    job = CustomJob(jobs.training_job(resolved(*typed), "baseline"))
    (pool,) = job.job_spec.worker_pool_specs
    affinity = pool.machine_spec.reservation_affinity
    assert affinity.reservation_affinity_type.name == "SPECIFIC_RESERVATION"
    assert affinity.key == "compute.googleapis.com/reservation-name"
    assert list(affinity.values) == [name]
    assert job.job_spec.scheduling.strategy == Scheduling.Strategy.STANDARD


@pytest.mark.parametrize(
    ("machine", "disk"),
    [("n4-standard-8", "hyperdisk-balanced"), ("n2-standard-8", "pd-ssd")],
)
def test_n4_machines_get_the_only_disk_that_they_take(machine, disk):
    config = resolved(f"vertex.machine_type={machine}")
    job = CustomJob(jobs.training_job(config, "baseline"))
    (pool,) = job.job_spec.worker_pool_specs
    assert pool.disk_spec.boot_disk_type == disk


def test_a_key_of_ones_own_and_private_service_connect_reach_the_job():
    key = "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k"
    attachment = "projects/my-project/regions/us-central1/networkAttachments/inner"
    config = resolved(
        f"vertex.kms_key={key}", f"vertex.network_attachment={attachment}"
    )
    job = CustomJob(jobs.training_job(config, "baseline"))
    assert job.encryption_spec.kms_key_name == key
    assert job.job_spec.psc_interface_config.network_attachment == attachment


def test_an_open_parameter_must_be_text_or_a_whole_number():
    class Node:
        id = "Node"
        exec_properties = {"rate": 0.5}

    class Pipeline:
        components = [Node()]

    with pytest.raises(
        TypeError, match=r"Node.rate=0.5: must be text or a whole number"
    ):
        list(parameters.open_parameters(Pipeline()))


def test_what_is_handed_out_of_the_code_is_short_and_differs_with_it():
    def handed_out(source):
        class Node:
            id = "Node"
            exec_properties = {"source": source}

        class Pipeline:
            components = [Node()]

        (found,) = parameters.open_parameters(Pipeline())
        return found.value

    long = " ".join(f"trainer/file{i}.py:0123456789ab" for i in range(500))
    assert re.fullmatch("[0-9a-f]{16}", str(handed_out(long)))
    assert handed_out(long) != handed_out(long.replace("file7.py:0", "file7.py:1"))
    assert handed_out(long) == handed_out(long)


def test_images_are_of_the_project_unless_a_repository_is_given():
    vertex = resolved("vertex.region=europe-west4").vertex
    assert images.image(vertex, "pipeline") == (
        "europe-west4-docker.pkg.dev/my-project/cifar-resnet/pipeline:0.1.0"
    )
    vertex = resolved("vertex.repository=registry.example.com/cifar").vertex
    assert images.image(vertex, "trainer-gpu") == (
        "registry.example.com/cifar/trainer-gpu:0.1.0"
    )


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "job.json"
    write({"a": 1}, str(path))
    assert json.loads(path.read_text()) == {"a": 1}
    with pytest.raises(TypeError):
        write({"a": object()}, str(path))
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_pipe_is_written_to_and_a_link_stays_one(tmp_path):
    from pipeline.vertex.compile import write

    reader, writer = os.pipe()
    write({"a": 1}, f"/dev/fd/{writer}")
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        assert json.load(file) == {"a": 1}
    link = tmp_path / "link.json"
    link.symlink_to("spec.json")
    write({"a": 2}, str(link))
    assert link.is_symlink()
    assert json.loads((tmp_path / "spec.json").read_text()) == {"a": 2}

"""What Vertex AI could not run is refused with one sentence, and nothing else is."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config.run import RunConfig
from contract.config.vertex import VertexConfig
from contract.fields import ConfigError, leaves, override, value_of
from pipeline.nodes import KINDS
from pipeline.presets import PRESETS
from pipeline.resolve import resolve
from pipeline.vertex import hardware, machines, names, rules
from pipeline.vertex import rules as vertex_rules

BASE = ["vertex.project=my-project", "output_root=gs://my-bucket/cifar"]

# Google's "Valid numbers of GPUs for each machine type", row by row (November 2026).
DOCUMENTED = """
NVIDIA_TESLA_T4 n1-standard-4 1 2 4
NVIDIA_TESLA_T4 n1-standard-8 1 2 4
NVIDIA_TESLA_T4 n1-standard-16 1 2 4
NVIDIA_TESLA_T4 n1-standard-32 2 4
NVIDIA_TESLA_T4 n1-standard-64 4
NVIDIA_TESLA_T4 n1-standard-96 4
NVIDIA_TESLA_T4 n1-highmem-2 1 2 4
NVIDIA_TESLA_T4 n1-highmem-4 1 2 4
NVIDIA_TESLA_T4 n1-highmem-8 1 2 4
NVIDIA_TESLA_T4 n1-highmem-16 1 2 4
NVIDIA_TESLA_T4 n1-highmem-32 2 4
NVIDIA_TESLA_T4 n1-highmem-64 4
NVIDIA_TESLA_T4 n1-highmem-96 4
NVIDIA_TESLA_T4 n1-highcpu-16 1 2 4
NVIDIA_TESLA_T4 n1-highcpu-32 2 4
NVIDIA_TESLA_T4 n1-highcpu-64 4
NVIDIA_TESLA_T4 n1-highcpu-96 4
NVIDIA_L4 g2-standard-4 1
NVIDIA_L4 g2-standard-8 1
NVIDIA_L4 g2-standard-12 1
NVIDIA_L4 g2-standard-16 1
NVIDIA_L4 g2-standard-24 2
NVIDIA_L4 g2-standard-32 1
NVIDIA_L4 g2-standard-48 4
NVIDIA_L4 g2-standard-96 8
NVIDIA_TESLA_A100 a2-highgpu-1g 1
NVIDIA_TESLA_A100 a2-highgpu-2g 2
NVIDIA_TESLA_A100 a2-highgpu-4g 4
NVIDIA_TESLA_A100 a2-highgpu-8g 8
NVIDIA_A100_80GB a2-ultragpu-1g 1
NVIDIA_A100_80GB a2-ultragpu-2g 2
NVIDIA_A100_80GB a2-ultragpu-4g 4
NVIDIA_A100_80GB a2-ultragpu-8g 8
NVIDIA_H100_80GB a3-highgpu-1g 1
NVIDIA_H100_80GB a3-highgpu-2g 2
NVIDIA_H100_80GB a3-highgpu-4g 4
NVIDIA_H100_80GB a3-highgpu-8g 8
TPU_V2 cloud-tpu 8
TPU_V3 cloud-tpu 8
TPU_V5_LITEPOD ct5lp-hightpu-1t 1
TPU_V5_LITEPOD ct5lp-hightpu-4t 4
TPU_V5_LITEPOD ct5lp-hightpu-8t 8
"""
# ... and its machine types that need no accelerator, without m1.
CPU_MACHINES = """
e2-standard-4 e2-standard-8 e2-standard-16 e2-standard-32 e2-highmem-2 e2-highmem-4
e2-highmem-8 e2-highmem-16 e2-highcpu-16 e2-highcpu-32 n4-standard-2 n4-standard-4
n4-standard-8 n4-standard-16 n4-standard-32 n4-standard-48 n4-standard-64 n4-standard-80
n4-highmem-2 n4-highmem-4 n4-highmem-8 n4-highmem-16 n4-highmem-32 n4-highmem-48
n4-highmem-64 n4-highmem-80 n4-highcpu-2 n4-highcpu-4 n4-highcpu-8 n4-highcpu-16
n4-highcpu-32 n4-highcpu-48 n4-highcpu-64 n4-highcpu-80 n2-standard-4 n2-standard-8
n2-standard-16 n2-standard-32 n2-standard-48 n2-standard-64 n2-standard-80 n2-highmem-2
n2-highmem-4 n2-highmem-8 n2-highmem-16 n2-highmem-32 n2-highmem-48 n2-highmem-64
n2-highmem-80 n2-highcpu-16 n2-highcpu-32 n2-highcpu-48 n2-highcpu-64 n2-highcpu-80
n1-standard-4 n1-standard-8 n1-standard-16 n1-standard-32 n1-standard-64 n1-standard-96
n1-highmem-2 n1-highmem-4 n1-highmem-8 n1-highmem-16 n1-highmem-32 n1-highmem-64
n1-highmem-96 n1-highcpu-16 n1-highcpu-32 n1-highcpu-64 n1-highcpu-96 c2-standard-4
c2-standard-8 c2-standard-16 c2-standard-30 c2-standard-60
"""
TOPOLOGIES = {
    "ct5lp-hightpu-1t": "1x1",
    "ct5lp-hightpu-4t": "2x2",
    "ct5lp-hightpu-8t": "2x4",
}


def _documented() -> set[tuple[str, str, int]]:
    rows = [line.split() for line in DOCUMENTED.split("\n") if line]
    return {
        (accelerator, machine, int(count))
        for accelerator, machine, *counts in rows
        for count in counts
    }


def test_combinations_are_the_documented_ones():
    ours = {
        (accelerator, machine, count)
        for accelerator, machines in machines.COMBINATIONS.items()
        for machine, counts in machines.items()
        for count in counts
    }
    assert ours == _documented()


def test_machine_types_are_the_documented_ones():
    assert set(machines.CPU_MACHINES) == set(CPU_MACHINES.split())
    with_accelerators = {machine for _, machine, _ in _documented()}
    assert set(machines.MACHINES) == set(CPU_MACHINES.split()) | with_accelerators


@pytest.mark.parametrize(
    ("machine", "vcpus", "memory_gb"),
    [  # Compute Engine's pages
        ("n1-standard-8", 8, 30),
        ("n1-highcpu-16", 16, 14.4),
        ("n2-highmem-4", 4, 32),
        ("e2-standard-4", 4, 16),
        ("c2-standard-30", 30, 120),
        ("g2-standard-96", 96, 384),
        ("a2-highgpu-8g", 96, 680),
        ("a3-highgpu-8g", 208, 1872),
        ("ct5lp-hightpu-8t", 224, 384),
    ],
)
def test_sizes_are_the_published_ones(machine, vcpus, memory_gb):
    assert machines.MACHINES[machine] == machines.Machine(vcpus, memory_gb)


@pytest.mark.parametrize("row", hardware.HARDWARE)
def test_every_row_is_a_documented_machine(row):
    found = hardware.HARDWARE[row]
    if found.accelerator_type is None:
        assert found.machine_type in CPU_MACHINES.split()
    else:
        key = (found.accelerator_type, found.machine_type, found.accelerator_count)
        assert key in _documented()
    assert found.tpu_topology == TOPOLOGIES.get(found.machine_type)
    assert found.image == (
        "tpu" if row.startswith("tpu") else "gpu" if row.startswith("gpu") else "cpu"
    )


@pytest.mark.parametrize("row", hardware.HARDWARE)
def test_every_row_trains_on_all_it_pays_for_with_every_preset(row):
    region = machines.ACCELERATOR_REGIONS.get(
        hardware.HARDWARE[row].accelerator_type or "", ["europe-west1"]
    )[0]
    kind = hardware.HARDWARE[row].machine_type
    way = "spot" if kind in machines.NEVER_ON_DEMAND else "on_demand"
    for preset, data in itertools.product(PRESETS, ("auto", "cifar100", "digits")):
        config = resolve(
            [
                *BASE,
                f"preset={preset}",
                f"data.name={data}",
                f"vertex.hardware={row}",
                f"vertex.region={region}",
                f"vertex.scheduling={way}",
            ],
            {},
            "/",
            vertex_rules,
        ).config
        assert (config.train.replicas or 1) == hardware.HARDWARE[row].devices
        assert config.train.global_batch_size % hardware.HARDWARE[row].devices == 0
        if hardware.HARDWARE[row].devices > 1:
            assert config.train.last_batch == "drop"
        several = hardware.HARDWARE[row].machines > 1
        assert several == (config.train.strategy == "multi_worker")


def test_the_machine_type_can_be_chosen_within_the_row():
    config = VertexConfig(hardware="gpu-t4", machine_type="n1-standard-16")
    assert hardware.of(config).machine_spec == {
        "machine_type": "n1-standard-16",
        "accelerator_type": "NVIDIA_TESLA_T4",
        "accelerator_count": 1,
    }


def test_of_a_v5e_machine_and_topology_say_all():
    assert hardware.HARDWARE["tpu-v5e-8"].machine_spec == {
        "machine_type": "ct5lp-hightpu-8t",
        "tpu_topology": "2x4",
    }


@pytest.mark.tf
def test_every_row_is_a_machine_specification_of_the_api():
    from google.cloud import aiplatform_v1

    for row in hardware.HARDWARE.values():
        message = aiplatform_v1.MachineSpec(row.machine_spec)
        assert message.machine_type == row.machine_type
        if row.accelerator_type and not row.tpu_topology:
            assert message.accelerator_type.name == row.accelerator_type
            assert message.accelerator_count == row.accelerator_count


def test_steps_get_what_a_step_can_get():
    for kind in KINDS.values():
        assert 0 < kind.resources.cpu <= 96  # limits of Pipelines
        assert 0 < kind.resources.memory_gb <= 624


# What a person types, and what the sentence must name.
REFUSED = [
    ("vertex.hardware=gpu9", ["vertex.hardware=gpu9", "did you mean"]),
    ("vertex.hardware=tpu-v4-8", ["tpu-v3-8"]),
    ("vertex.region=us-centrall", ["did you mean us-central1?"]),
    ("vertex.region=mars", ["vertex.region=mars"]),
    ("vertex.hardware=gpu vertex.region=europe-west1", ["NVIDIA_L4", "us-central1"]),
    ("vertex.hardware=tpu-v2-8 vertex.region=us-east1", ["TPU_V2", "europe-west4"]),
    ("vertex.hardware=tpu-v5e-4 vertex.region=europe-west4", ["us-west1"]),
    ("vertex.machine_type=n3-standard-4", ["did you mean n"]),
    ("vertex.machine_type=a2-highgpu-1g", ["vertex.hardware=cpu"]),
    ("vertex.machine_type=m1-ultramem-40", ["no such machine type"]),
    ("vertex.hardware=gpu vertex.machine_type=n1-standard-8", ["g2-standard-8"]),
    ("vertex.hardware=gpu-t4 vertex.machine_type=n1-standard-32", ["n1-standard-4"]),
    ("vertex.hardware=gpu8 vertex.machine_type=g2-standard-8", ["g2-standard-96"]),
    ("vertex.hardware=gpu8 train.replicas=4", ["train.replicas=4", "idle"]),
    ("vertex.hardware=gpu8 train.replicas=16", ["train.replicas=16", "8 devices"]),
    ("train.strategy=mirrored train.replicas=2", ["train.replicas=2", "1 device,"]),
    ("vertex.hardware=gpu8 train.global_batch_size=100", ["100", "8"]),
    ("vertex.hardware=tpu-v3-8 train.global_batch_size=100", ["100", "8"]),
    ("vertex.hardware=gpu8 train.last_batch=keep", ["train.last_batch=drop"]),
    ("vertex.hardware=tpu-v5e-1 train.last_batch=keep", ["train.last_batch=drop"]),
    ("train.strategy=tpu", ["train.strategy=tpu", "is no TPU"]),
    ("vertex.hardware=gpu8-x2 train.strategy=mirrored", ["2 x g2-standard-96"]),
    (
        "vertex.hardware=gpu8-x2 train.strategy=auto train.replicas=none",
        ["leave train.strategy out"],
    ),
    ("vertex.hardware=gpu8-x2 train.replicas=8", ["16 devices", "idle"]),
    ("vertex.hardware=gpu8 train.strategy=multi_worker", ["for several machines"]),
    ("train.tpu=local", ["train.tpu=local", "is no TPU"]),
    ("vertex.hardware=tpu-v3-8 train.tpu=node-1", ["node-1", "own host"]),
    ("vertex.hardware=tpu-v3-8 train.strategy=mirrored", ["mirrored"]),
    ("train.precision=mixed_float16", ["mixed_bfloat16"]),
    ("vertex.hardware=tpu-v3-8 train.precision=mixed_float16", ["mixed_bfloat16"]),
    ("train.global_batch_size=60000", ["60000", "45000"]),
    ("data.name=digits train.global_batch_size=2048", ["2048"]),
    ("vertex.project=My-Project", ["vertex.project=My-Project"]),
    ("vertex.project=abc", ["6 to 30"]),
    ("vertex.project=123456789012", ["number"]),
    ("vertex.project=none", ["--project"]),
    ("vertex.repository=https://europe-docker.pkg.dev/x/y", ["vertex.repository="]),
    ("vertex.repository=europe-docker.pkg.dev/x/y:1", ["without a tag"]),
    ("vertex.image_tag=latest", ["latest"]),
    ("vertex.image_tag=1.0+local", ["1.0+local"]),
    ("vertex.service_account=me@gmail.com", ["iam.gserviceaccount.com"]),
    ("vertex.network=default", ["projects/<number>"]),
    ("vertex.network=projects/my-project/global/networks/default", ["number"]),
    ("vertex.beam=flink", ["vertex.beam_endpoint"]),
    ("vertex.beam=spark", ["vertex.beam_endpoint"]),
    ("vertex.beam_endpoint=flink:8099", ["vertex.beam=in_process"]),
    ("vertex.beam=flink vertex.beam_endpoint=http://flink", ["host:port"]),
    ("vertex.beam=dataflow vertex.beam_endpoint=flink:8099", ["vertex.beam=dataflow"]),
    ("vertex.beam=dataflow vertex.beam_machine_type=g2-standard-4", ["g2-standard-4"]),
    ("vertex.beam=dataflow vertex.beam_machine_type=n2-standard-3", ["did you mean"]),
    (
        "vertex.beam_service_account=beam-a@my-project.iam.gserviceaccount.com",
        ["vertex.beam=in_process"],
    ),
    ("vertex.beam=dataflow vertex.beam_service_account=me", ["gserviceaccount.com"]),
    ("vertex.beam_arguments=threads=4", ["divided by commas"]),
    ("vertex.beam_arguments=--runner=Prism", ["--runner comes from"]),
    (
        "vertex.beam=dataflow vertex.beam_arguments=--machine_type=n2-standard-64",
        ["--machine_type comes from"],
    ),
    (
        "vertex.beam=dataflow vertex.beam_arguments=--job_name=mine",
        ["--job_name comes from"],
    ),
    ("vertex.disk_gb=50", ["from 100 to 64000"]),
    ("vertex.disk_gb=100000", ["from 100 to 64000"]),
    ("serving.endpoint=12", ["serving.push=endpoint"]),
    ("serving.canary_percent=20", ["serving.push=endpoint"]),
    ("serving.push=registry serving.canary_percent=20", ["serving.push=endpoint"]),
    ("serving.registry_alias=blue", ["serving.push=registry or endpoint"]),
    ("serving.push=registry serving.registry_alias=3", ["serving.registry_alias=3"]),
    ("serving.push=registry serving.registry_alias=v12", ["name single versions"]),
    ("serving.push=registry serving.registry_alias=default", ["single versions"]),
    ("serving.push=endpoint serving.endpoint=Mine", ["endpoint's id"]),
    ("serving.push=endpoint serving.endpoint=mine-", ["endpoint's id"]),
    (
        "serving.push=endpoint vertex.endpoint_machine_type=n2-standard-3",
        ["did you mean n2-standard-32"],
    ),
    ("vertex.endpoint_machine_type=n2-standard-2", ["serving.push=endpoint"]),
    ("vertex.endpoint_projects=my-clients", ["serving.push=endpoint"]),
    ("serving.push=endpoint vertex.endpoint_projects=Mine", ["divided by commas"]),
    (
        "serving.push=endpoint serving.endpoint=12 vertex.endpoint_projects=my-clients",
        ["serving.endpoint=12", "leave one out"],
    ),
    ("vertex.experiment=My_runs", ["at most 50"]),
    (
        "vertex.tensorboard=projects/my-project/locations/us-central1/tensorboards/42",
        ["vertex.experiment", "leave it out"],
    ),
    (
        "vertex.experiment=cifar "
        "vertex.tensorboard=projects/my-project/locations/us-east1/tensorboards/42",
        ["us-east1"],
    ),
    ("vertex.experiment=cifar vertex.tensorboard=42", ["tensorboards/<number>"]),
    # A3 with fewer than eight GPUs.
    ("vertex.hardware=gpu-h100", ["a3-highgpu-1g", "vertex.scheduling=spot"]),
    (
        "vertex.hardware=gpu-h100 vertex.scheduling=reservation "
        "vertex.reservation=projects/my-project/zones/us-central1-a/reservations/mine",
        ["spot or flex-start only"],
    ),
    ("vertex.hardware=gpu-t4 vertex.scheduling=flex_start", ["L4, A100 and H100"]),
    ("vertex.hardware=tpu-v3-8 vertex.scheduling=flex_start", ["L4, A100 and H100"]),
    ("vertex.scheduling=flex_start", ["vertex.hardware=cpu"]),
    ("vertex.scheduling=reservation", ["vertex.reservation=None", "belong together"]),
    (
        "vertex.reservation=projects/my-project/zones/us-central1-a/reservations/mine",
        ["belong together"],
    ),
    ("vertex.reservation=mine", ["zones/<zone>/reservations/<name>"]),
    # What lies somewhere else.
    (
        "vertex.repository=europe-west4-docker.pkg.dev/my-project/a/b",
        ["europe-west4", "vertex.region=us-central1"],
    ),
    (
        "serving.push=registry vertex.serving_image=europe-west1-docker.pkg.dev/x/y:1",
        ["europe-west1", "vertex.region=us-central1"],
    ),
    (
        "vertex.kms_key="
        "projects/my-project/locations/europe-west4/keyRings/ring/cryptoKeys/key",
        ["europe-west4"],
    ),
    ("vertex.kms_key=key", ["keyRings/<ring>/cryptoKeys/<key>"]),
    (
        "vertex.network_attachment="
        "projects/my-project/regions/us-east1/networkAttachments/inner",
        ["us-east1"],
    ),
    (
        "vertex.network=projects/123456789012/global/networks/default "
        "vertex.network_attachment="
        "projects/my-project/regions/us-central1/networkAttachments/inner",
        ["leave one out"],
    ),
    (
        "vertex.beam_subnetwork=regions/us-central1/subnetworks/inner",
        ["vertex.beam=in_process"],
    ),
    (
        "vertex.beam=dataflow vertex.beam_subnetwork=regions/us-east1/subnetworks/inner",
        ["us-east1"],
    ),
    (
        "serving.push=endpoint "
        "serving.endpoint=projects/p-roject/locations/europe-west4/endpoints/1",
        ["europe-west4", "us-central1"],
    ),
    ("vertex.serving_image=europe-docker.pkg.dev/x/y:1", ["serving.push="]),
    ("serving.push=registry vertex.serving_image=europe-docker.pkg.dev/x/y", ["tag"]),
    ("serving.push=registry serving.model_name=Cifar", ["serving.model_name=Cifar"]),
    ("data.tfds=no_such_set", ["does not run on Vertex AI"]),
    ("pipeline_name=1st-run", ["begin with a letter"]),
    (f"pipeline_name={'a' * 114}", ["113"]),
]


@pytest.mark.parametrize(
    ("typed", "words"), REFUSED, ids=[typed for typed, _ in REFUSED]
)
def test_what_cannot_work_is_one_sentence(typed, words):
    with pytest.raises(ConfigError) as caught:
        resolve([*BASE, *typed.split()], {}, "/", vertex_rules)
    message = str(caught.value)
    assert "\n" not in message
    assert message.split("=")[0] in leaves(RunConfig)
    for word in words:
        assert word in message


ACCEPTED = [
    "vertex.hardware=gpu8 vertex.scheduling=spot",
    "vertex.hardware=gpu8-x2 vertex.scheduling=spot",
    "vertex.hardware=tpu-v3-8 vertex.scheduling=spot",  # one host; pods could not
    "vertex.hardware=gpu-h100 vertex.scheduling=spot",
    "vertex.hardware=gpu-h100 vertex.scheduling=flex_start vertex.wait_hours=0",
    "vertex.hardware=gpu8-h100",
    "vertex.hardware=gpu-a100-80",
    "vertex.hardware=gpu vertex.scheduling=reservation "
    "vertex.reservation=projects/my-project/zones/us-central1-a/reservations/mine",
    "vertex.kms_key="
    "projects/my-project/locations/us-central1/keyRings/ring/cryptoKeys/key",
    "vertex.network_attachment="
    "projects/my-project/regions/us-central1/networkAttachments/inner",
    "vertex.beam=dataflow vertex.beam_subnetwork=regions/us-central1/subnetworks/inner",
    "vertex.beam=dataflow vertex.beam_subnetwork=https://www.googleapis.com/compute/v1/"
    "projects/host-project/regions/us-central1/subnetworks/inner",
    "serving.push=endpoint serving.endpoint=cifar",
    "serving.push=endpoint vertex.endpoint_machine_type=n2-standard-2",
    "serving.push=endpoint vertex.endpoint_projects=my-clients,my-others",
    "vertex.experiment=cifar",
    "vertex.experiment=cifar "
    "vertex.tensorboard=projects/123/locations/us-central1/tensorboards/42",
    "vertex.repository=us-docker.pkg.dev/my-project/a",
    "vertex.hardware=gpu8 train.strategy=auto train.replicas=none",
    "vertex.hardware=tpu-v2-8 train.strategy=auto train.replicas=none",
    "vertex.hardware=gpu8-a100 vertex.region=europe-west4",
    "vertex.hardware=gpu train.precision=mixed_float16",
    "vertex.beam=dataflow vertex.beam_machine_type=n1-standard-4",
    "vertex.beam=dataflow "
    "vertex.beam_service_account=beam-a@my-project.iam.gserviceaccount.com",
    "vertex.beam=flink vertex.beam_endpoint=flink.internal:8099",
    "vertex.beam=dataflow vertex.beam_arguments=--experiments=upload_graph,--labels=a=b",
    "vertex.network=projects/123456789012/global/networks/default",
    "vertex.service_account=trainer-a@my-project.iam.gserviceaccount.com",
    "vertex.service_account=123456789012-compute@developer.gserviceaccount.com",
    "vertex.repository=us-central1-docker.pkg.dev/my-project/a/b",
    "vertex.repository=localhost:5000/cifar",
    "serving.push=registry serving.registry_alias=blue",
    "serving.push=registry serving.registry_alias=v12b",
    "serving.push=endpoint serving.endpoint=1234567890 serving.canary_percent=5",
    "serving.push=registry vertex.serving_image=europe-docker.pkg.dev/x/y:1.0",
    f"serving.push=registry vertex.serving_image=docker.pkg.dev/x/y@sha256:{'0' * 64}",
    "vertex.image_tag=0.2.0-rc.1",
    "data.tfds_dir=gs://my-bucket/tfds/",
    f"pipeline_name={'a' * 113}",
]


@pytest.mark.parametrize("typed", ACCEPTED)
def test_what_works_is_not_refused(typed):
    resolve([*BASE, *typed.split()], {}, "/", vertex_rules)


# Cloud Storage's documentation, "Bucket names" and "Object names".
@pytest.mark.parametrize(
    "address",
    [
        "gs://abc",
        "gs://my-bucket/cifar/2026",
        "gs://my_bucket.example.com/a=b/c.d",
        f"gs://{'a' * 63}/x",
        f"gs://{'.'.join(['a' * 55] * 3)}",
    ],
)
def test_addresses_in_cloud_storage_are_taken(address):
    names.check_address("output_root", address)


@pytest.mark.parametrize(
    "address",
    [
        "output",
        "/data/output",
        "s3://bucket/x",
        "gs:/bucket/x",
        "gs://",
        "gs:///x",
        "gs://ab",
        "gs://My-Bucket/x",
        "gs://-bucket",
        "gs://bucket-",
        "gs://bucket..x",
        "gs://bucket.-x",
        "gs://192.168.5.4/x",
        "gs://goog-bucket/x",
        "gs://my-google-bucket/x",
        f"gs://{'a' * 64}",
        f"gs://{'.'.join(['a' * 60] * 4)}",
        "gs://bucket//x",
        "gs://bucket/../x",
        "gs://bucket/a b",
        "gs://bucket/x?y",
        "gs://bucket/*",
        "gs://bucket/ä",
        "gs://bucket/x\n",
        f"gs://bucket/{'x' * 401}",
    ],
)
def test_what_is_no_address_in_cloud_storage_is_refused(address):
    with pytest.raises(ConfigError, match="output_root=") as caught:
        names.check_address("output_root", address)
    assert "\n" not in str(caught.value).removeprefix(f"output_root={address}")


_VERTEX_TEXTS = sorted(
    name
    for name, leaf in leaves(RunConfig).items()
    if (name.startswith("vertex.") or name in names.NAMES)
    and "text" in leaf.rule
    and name != "output_root"
)


@given(
    field=st.sampled_from(_VERTEX_TEXTS),
    value=st.text(min_size=1, max_size=40)
    | st.from_regex(r"[a-z0-9./:@_-]{1,60}", fullmatch=True),
)
def test_any_text_is_taken_or_refused_with_a_sentence(field, value):
    try:
        config = override(
            RunConfig(),
            {
                "vertex.project": "my-project",
                "output_root": "gs://my-bucket/cifar",
                "data.name": "cifar10",
                field: value,
            },
        )
        rules.check(config)
    except ConfigError as error:
        assert str(error).startswith(("vertex.", "serving.", "pipeline_name"))
    else:
        # What is taken can stand in a request, an image's address or a command line.
        assert str(value_of(config, field)).isascii()
        assert not set(str(value_of(config, field))) & set(" \t\n\"'$;&|<>")


@given(
    st.lists(
        st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True),
        min_size=1,
        max_size=3,
    ).map(".".join)
)
def test_well_formed_buckets_are_taken(bucket):
    reserved = bucket.startswith("goog") or "google" in bucket
    numeric = all(part.isdecimal() for part in bucket.split("."))
    if 3 <= len(bucket) <= 63 and not reserved and not numeric:
        names.check_address("output_root", f"gs://{bucket}/folder")

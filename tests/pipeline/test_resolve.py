"""From the command line to a complete configuration, without the heavy libraries."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen.errors import DataError
from contract.config.run import RunConfig
from contract.fields import ConfigError, assignment, leaves, override, value_of
from pipeline.history import published
from pipeline.local import rules as local_rules
from pipeline.resolve import output_root, resolve
from pipeline.vertex import rules as vertex_rules
from serving.deploy.outputs import DeployError, read_outputs
from trainer.program import weight_shapes
from trainer.units import parse_network

PROJECT = Path(__file__).parents[2]


def test_overrides_win_over_the_preset_and_the_preset_over_defaults():
    asked = ["data.name=digits", "preset=quick", "train.epochs=7"]
    config = resolve(asked, {}, "/somewhere", local_rules).config
    assert config.train.epochs == 7
    assert config.train.flip is False  # quick, digits
    assert config.train.momentum == 0.9  # default


def test_later_assignments_win():
    config = resolve(
        ["data.name=digits", "train.seed=1", "train.seed=2"], {}, "/", local_rules
    ).config
    assert config.train.seed == 2


def test_relative_paths_start_where_the_command_was_given(tmp_path):
    config = resolve(
        ["data.name=digits", "output_root=here"], {}, str(tmp_path), local_rules
    ).config
    assert config.output_root == str(tmp_path / "here")
    assert config.serving_root == str(tmp_path / "here" / "serving")


@pytest.mark.parametrize("field", ["output_root", "serving.base_directory"])
def test_a_folder_means_the_same_from_whatever_folder_it_is_given(
    tmp_path, monkeypatch, field
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given_path, meant in {
        "models": tmp_path / "models",
        "../models/": tmp_path.parent / "models",
        "~/models": tmp_path / "home/models",
        "/models//x/./y/..": Path("/models/x"),
    }.items():
        asked = ["data.name=digits", f"{field}={given_path}"]
        config = resolve(asked, {}, str(tmp_path), local_rules).config
        assert value_of(config, field) == str(meant)
        where = published.places([f"{field}={given_path}"], str(tmp_path))
        below = "serving/cifar" if field == "output_root" else "cifar"
        assert where.destination == f"{meant}/{below}"


def test_the_default_output_is_the_same_from_any_folder(tmp_path):
    config = resolve(["data.name=digits"], {}, str(tmp_path), local_rules).config
    assert config.output_root == str(PROJECT / "output")


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["candidate.network=resnet165"], "candidate.network=resnet165"),
        (["preset=huge"], "preset=huge"),
        (["data.name=digits", "data.path=/x"], "data.path"),
        (["data.name=digits", "data.label=coarse"], "data.label=coarse"),
        (
            ["data.name=digits", "data.image_size=12"],
            "data.image_size=12: must be 8, 16",
        ),
        (["data.name=cifar10", "data.image_size=64"], "data.image_size=64"),
        (["data.name=digits", "data.channels=2"], "data.channels=2: must be 1 (grey)"),
        (["data.name=digits", "pipeline_name=My Pipeline"], "pipeline_name"),
        (["data.name=digits", "serving.model_name=../x"], "serving.model_name"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(assignments, words):
    if not any(a.startswith("data.") for a in assignments):
        assignments = [*assignments, "data.name=digits"]
    with pytest.raises(ConfigError) as caught:
        resolve(assignments, {}, "/", local_rules)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "My.net_2", "a" * 63])
def test_a_models_name_can_be_deployed(name, tmp_path):
    folder = tmp_path / name / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    resolve(["data.name=digits", f"serving.model_name={name}"], {}, "/", local_rules)
    assert read_outputs(tmp_path)[0].name == name


@pytest.mark.parametrize("name", ["a" * 64, "a-", ".a", "a b", "ä"])
def test_a_models_name_that_cannot_be_deployed_is_refused(name, tmp_path):
    folder = tmp_path / name / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    with pytest.raises(ConfigError, match=f"^serving.model_name={name}: must be"):
        resolve(
            ["data.name=digits", f"serving.model_name={name}"], {}, "/", local_rules
        )
    with pytest.raises(DeployError):
        read_outputs(tmp_path)


def test_a_folder_says_which_data_set_it_is(tmp_path):
    for index in range(1, 6):
        (tmp_path / f"data_batch_{index}.bin").write_bytes(bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    resolved = resolve([f"data.path={tmp_path}"], {}, "/", local_rules)
    assert resolved.config.data.name == "cifar10"
    with pytest.raises(DataError, match="/no/such"):
        resolve(["data.path=/no/such"], {}, "/", local_rules)


@pytest.mark.parametrize("push", ["registry", "endpoint"])
def test_a_local_run_has_no_model_registry(push):
    with pytest.raises(ConfigError, match=f"serving.push={push}"):
        resolve(["data.name=digits", f"serving.push={push}"], {}, "/", local_rules)


@pytest.mark.parametrize("field", ["output_root", "serving.base_directory"])
def test_a_local_run_needs_local_folders(field):
    with pytest.raises(ConfigError, match=f"{field}=gs://bucket/x: .*local folder"):
        resolve(["data.name=digits", f"{field}=gs://bucket/x"], {}, "/", local_rules)


def test_a_local_run_ignores_what_vertex_would_refuse():
    asked = ["data.name=digits", "vertex.hardware=gpu9", "vertex.region=mars"]
    config = resolve(asked, {}, "/", local_rules).config
    assert (
        config.train == resolve(["data.name=digits"], {}, "/", local_rules).config.train
    )


VERTEX = ["vertex.project=my-project", "output_root=gs://my-bucket/cifar"]


def _vertex(*assignments: str, environment=None, directory="/"):
    return resolve([*VERTEX, *assignments], environment or {}, directory, vertex_rules)


def test_auto_on_vertex_is_cifar10_whatever_this_machine_has(tmp_path, monkeypatch):
    # Here the same question has another answer: this folder of CIFAR-10 is damaged.
    damaged = tmp_path / "tensorflow_datasets" / "cifar10" / "3.0.2"
    damaged.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve([], {}, "/", local_rules).config.data.name == "digits"
    resolved = _vertex(environment={"TFDS_DATA_DIR": str(damaged.parents[1])})
    assert resolved.config.data.name == "cifar10"
    assert resolved.config.data.tfds_dir is None
    assert resolved == _vertex(directory=str(tmp_path))
    assert str(tmp_path) not in str(resolved)


def test_an_address_on_vertex_says_by_its_name_which_data_set_it_is():
    resolved = _vertex("data.path=gs://data/cifar-100-binary.tar.gz")
    assert resolved.config.data.name == "cifar100"
    with pytest.raises(DataError, match="set data.name"):
        _vertex("data.path=gs://data/images")
    named = _vertex("data.path=gs://data/images", "data.name=cifar10")
    assert named.config.data.path == "gs://data/images"


@pytest.mark.parametrize(
    "field", ["output_root", "data.path", "data.tfds_dir", "serving.base_directory"]
)
def test_vertex_sees_no_disk_of_this_machine(field):
    with pytest.raises(ConfigError, match=f"^{field}=/here: .*gs://"):
        _vertex(f"{field}=/here", "data.name=cifar10")


def test_on_vertex_the_output_has_no_default():
    with pytest.raises(ConfigError, match="output_root is missing.*gs://"):
        resolve(["vertex.project=my-project"], {}, "/", vertex_rules)


@pytest.mark.parametrize("server", ["docker:tensorflow/serving", "/bin/true"])
def test_on_vertex_the_canary_is_the_embedded_server(server):
    with pytest.raises(ConfigError, match="canary.server=embedded"):
        _vertex(f"canary.server={server}")


def test_the_hardware_wins_over_the_preset_and_overrides_over_both():
    asked = ["preset=resnet1001", "vertex.hardware=gpu8"]
    assert _vertex("preset=resnet1001").config.train.last_batch == "keep"
    config = _vertex(*asked).config
    assert (config.train.last_batch, config.train.strategy) == ("drop", "mirrored")
    assert config.train.replicas == 8
    config = _vertex(*asked, "train.strategy=auto", "train.replicas=none").config
    assert (config.train.strategy, config.train.replicas) == ("auto", None)


def test_last_slashes_of_addresses_are_dropped():
    config = _vertex("output_root=gs://my-bucket/a/", "data.tfds_dir=gs://tfds/").config
    assert config.output_root == "gs://my-bucket/a"
    assert config.data.tfds_dir == "gs://tfds"
    assert config.serving_root == "gs://my-bucket/a/serving"


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "preset": st.sampled_from(
                ["quick", "fast", "smoke", "resnet164", "resnet1001"]
            ),
            "data.name": st.sampled_from(["auto", "cifar10", "cifar100", "digits"]),
            "vertex.hardware": st.sampled_from(["cpu", "gpu", "gpu8", "tpu-v3-8"]),
            "train.recipe": st.sampled_from(["quick", "paper", "released"]),
            "train.steps": st.integers(1, 1000).map(str),
            "train.learning_rate": st.floats(1e-6, 1.0).map(str),
            "vertex.scheduling": st.sampled_from(["on_demand", "spot"]),
        },
    )
)
def test_what_was_resolved_resolves_to_itself(chosen):
    """The run's first step does it again from what was fixed when compiling."""
    config = _vertex(*(f"{name}={value}" for name, value in chosen.items())).config
    everything = [
        assignment(name, value_of(config, name)) for name in leaves(RunConfig)
    ]
    again = resolve(everything, {"TFDS_DATA_DIR": "/x"}, "/y", vertex_rules)
    assert again.config == config


@pytest.mark.parametrize(
    ("given_root", "expected"),
    [
        (None, str(PROJECT / "output")),
        ("here", "/start/here"),
        ("/there/", "/there"),
        ("gs://bucket/x/", "gs://bucket/x"),
    ],
)
def test_one_rule_says_where_a_run_writes(given_root, expected):
    overrides = {} if given_root is None else {"output_root": given_root}
    config = override(RunConfig(), overrides)
    assert output_root(config, overrides, "/start") == expected


def _fresh(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


LIGHT_MODULES = [
    "monitoring.__main__",
    "pipeline.cli",
    "contract.config.run",
    "pipeline.console",
    "pipeline.local.exclusive",
    "pipeline.history.commands",
    "pipeline.presets",
    "contract.provenance",
    "pipeline.report.figures",
    "pipeline.report.render",
    "pipeline.resolve",
    "pipeline.vertex.estimate.cost",
    "pipeline.vertex.hardware",
    "pipeline.vertex.images",
    "pipeline.vertex.jobs",
    "pipeline.vertex.machines",
    "pipeline.vertex.names",
    "pipeline.vertex.overrides",
    "pipeline.vertex.estimate.plan",
    "pipeline.vertex.estimate.prices",
    "pipeline.vertex.rules",
    "components.example_gen.archives",
    "components.example_gen.choice",
    "components.example_gen.pieces",
    "components.example_gen.sources",
    "components.evaluator.measures",
    "components.model_chooser.choice",
    "components.serving_canary.canary",
    "components.atomic_pusher.publish",
    "contract.datasets",
    "contract.features",
    "trainer.recipe",
    "trainer.units",
]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_what_a_person_waits_for_loads_nothing_heavy(module):
    code = (
        f"import sys, {module}; heavy = ('tensorflow', 'tfx', 'keras', 'apache_beam', "
        "'tensorflow_datasets', 'tensorflow_model_analysis', 'ml_metadata'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    assert _fresh(code) == "[]"


def test_the_package_wins_the_name_pipeline_over_the_file_beside_it():
    assert _fresh("import pipeline; print(pipeline.__file__)").endswith(
        "pipeline/__init__.py"
    )


def _pipeline(*arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """What it says, and its processor time: seconds that other work does not stretch."""
    began = _children_seconds()
    result = subprocess.run(
        [sys.executable, str(PROJECT / "pipeline.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return result, _children_seconds() - began


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    "override", ["trian.epochs=1", "train.epochs=x", "nonsense", "data.path=/no/such"]
)
def test_a_wrong_override_is_one_line_within_two_seconds(override):
    result, seconds = _pipeline("run", "--runtime_parameter", override)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert seconds < 2


def test_the_configuration_command_lists_every_field():
    result, _ = _pipeline("config", "--runtime_parameter", "data.name=digits")
    assert result.returncode == 0
    assert "train.global_batch_size" in result.stdout


def test_a_folder_of_pictures_is_a_data_set(tmp_path):
    for number in range(40):
        for label in ("cat", "dog"):
            (tmp_path / "x" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "x" / label / f"{number}.png").touch()
    path = f"data.path={tmp_path / 'x'}"
    asked = [path, "train.global_batch_size=8"]
    config = resolve(asked, {}, "/", local_rules).config
    assert config.data.name == "folder"
    assert config.data.image_size == 32  # the preset's
    imagenet = [
        "candidate.network=imagenet_preact_resnet18",
        "baseline.network=imagenet_resnet18",
    ]
    with pytest.raises(
        ConfigError, match="these are 32 x 32, choose a network without"
    ):
        resolve([*asked, *imagenet, "data.image_size=32"], {}, "/", local_rules)
    resolve([*asked, *imagenet, "data.image_size=64"], {}, "/", local_rules)
    for network in imagenet:  # one of them says what the other is
        config = resolve([*asked, network], {}, "/", local_rules).config
        assert config.data.image_size == 224
        assert config.candidate.network == "imagenet_preact_resnet18"
        assert config.baseline.network == "imagenet_resnet18"
    with pytest.raises(ConfigError, match="=100: the train split has only 58 images"):
        resolve([path, "train.global_batch_size=100"], {}, "/", local_rules)
    with pytest.raises(ConfigError, match="data.name=folder needs data.path"):
        resolve(["data.name=folder"], {}, "/", local_rules)
    with pytest.raises(ConfigError, match="does not run on Vertex AI"):
        resolve(
            [
                "data.name=folder",
                "data.path=gs://bucket/x",
                "output_root=gs://bucket/o",
            ],
            {},
            "/",
            vertex_rules,
        )


@pytest.mark.parametrize("field", ["output_root", "serving.base_directory"])
def test_what_is_written_is_no_class_of_the_next_run(field, tmp_path):
    photographs = tmp_path / "photographs"
    for name in ("cat/1.png", "dog/1.png", "owl/1.png"):
        (photographs / name).parent.mkdir(parents=True)
        (photographs / name).touch()
    (photographs / "list.csv").write_text("path,label\ncat/1.png,a\ndog/1.png,b\n")
    asked = ["train.global_batch_size=1", f"data.path={photographs}"]
    for inside in (photographs, photographs / "output"):
        with pytest.raises(ConfigError, match=f"{field}={inside}: lies in data.path="):
            resolve([*asked, f"{field}={inside}"], {}, "/", local_rules)
    resolve([*asked, f"{field}={photographs}2"], {}, "/", local_rules)
    table = [asked[0], f"data.path={photographs}/list.csv"]
    resolve([*table, f"{field}={photographs}/output"], {}, "/", local_rules)


def test_a_set_of_tensorflow_datasets_is_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "tfds/pets/1.2.3"
    folder.mkdir(parents=True)
    kind = "tensorflow_datasets.core.features."
    features = {
        "image": {"pythonClassName": f"{kind}image_feature.Image"},
        "label": {
            "pythonClassName": f"{kind}class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "7"},
        },
    }
    (folder / "features.json").write_text(
        json.dumps({"featuresDict": {"features": features}})
    )
    splits = [{"name": "train", "shardLengths": ["500"]}]
    (folder / "dataset_info.json").write_text(
        json.dumps({"name": "pets", "splits": splits})
    )
    (folder / "pets-train.tfrecord-00000-of-00001").touch()
    asked = ["data.tfds=pets", "data.tfds_dir=tfds"]
    found = resolve(asked, {}, str(tmp_path), local_rules)
    assert found.config.data.name == "folder"
    assert found.config.data.image_size == 32  # the preset's for folders
    assert found.data_reason == "data.tfds=pets is given"
    by_environment = {"TFDS_DATA_DIR": str(tmp_path / "tfds")}
    again = resolve(asked[:1], by_environment, "/", local_rules)
    assert again.config.data == found.config.data
    with pytest.raises(ConfigError, match="the train split has only 360 images"):
        resolve([*asked, "train.global_batch_size=500"], {}, str(tmp_path), local_rules)
    with pytest.raises(ConfigError, match="data.name=digits another one"):
        resolve([*asked, "data.name=digits"], {}, str(tmp_path), local_rules)
    with pytest.raises(ConfigError, match="does not run on Vertex AI"):
        resolve(["data.tfds=pets", "data.tfds_dir=gs://bucket/x",
                 "output_root=gs://bucket/o"], {}, "/", vertex_rules)  # fmt: skip


def test_initial_weights_are_looked_at_before_anything_runs(tmp_path):
    shapes = weight_shapes(parse_network("preact_resnet20"), 7)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    asked = ["preset=fast", "data.name=digits", "candidate.initial_weights=w.npz"]

    def chosen(*more: str) -> RunConfig:
        return resolve([*asked, *more], {}, str(tmp_path), local_rules).config

    assert chosen().candidate.initial_weights == str(tmp_path / "w.npz")
    by_name = {each.name: each.initial_weights for each in chosen().all_contenders}
    assert by_name == {"baseline": None, "candidate": str(tmp_path / "w.npz")}
    with pytest.raises(ConfigError, match="candidate.initial_weights=.*other weights"):
        chosen("candidate.network=resnet20")
    with pytest.raises(ConfigError, match="baseline.initial_weights=.*no such file"):
        chosen("baseline.initial_weights=none.npz")

    assert chosen("train.freeze=stage3").train.freeze == "stage3"
    with pytest.raises(ConfigError, match="has 3 stages; choose train.freeze=stage3"):
        chosen("train.freeze=stage4")
    with pytest.raises(ConfigError, match="give candidate.initial_weights"):
        chosen("train.freeze=stem", "candidate.initial_weights=none")


def test_on_vertex_ai_initial_weights_lie_in_a_bucket():
    asked = ["vertex.project=my-project", "output_root=gs://bucket/o"]
    field = "candidate.initial_weights"
    with pytest.raises(ConfigError, match=f"{field}=/w.npz: on Vertex AI must be"):
        resolve([*asked, f"{field}=/w.npz"], {}, "/", vertex_rules)
    address = "gs://bucket/serving/cifar/7"
    config = resolve([*asked, f"{field}={address}/"], {}, "/", vertex_rules).config
    assert config.candidate.initial_weights == address


@pytest.mark.parametrize(
    "asked, words",
    [
        (["evaluation.crops=ten"], "needs data.encoded=true"),
        (["data.encoded=true"], "data.name=folder"),
    ],
)
def test_what_is_for_files_of_pictures_is_refused_for_pixels(asked, words):
    with pytest.raises(ConfigError, match=words):
        resolve(["data.name=digits", *asked], {}, "/", local_rules)

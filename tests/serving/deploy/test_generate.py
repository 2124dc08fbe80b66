"""The generated files are what Kubernetes, Compose, Prometheus and TensorFlow Serving take.

Kubernetes by the API's own schemas (kubernetes-validate bundles them, strict: unknown
fields are errors), Compose by the Compose specification's (check-jsonschema bundles it),
PromQL by Prometheus's grammar (promql-parser), model configurations by
tensorflow_serving's classes. For KServe no package bundles a schema: its pod is checked
as a pod, the rest by a schema of the fields used, written from KServe's documentation.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring import gauges
from serving.client import images
from serving.deploy import configuration, generate
from serving.deploy.__main__ import main
from serving.deploy.choices import GPU_IMAGE, IMAGE, Choices
from serving.deploy.outputs import DeployError, PublishedModel, read_outputs
from serving.server import metrics
from tests.serving.deploy.test_outputs import publish

KUBERNETES = ["1.30", "1.33", "1.36"]
BATCHING = """\
max_batch_size { value: 64 }
allowed_batch_sizes: 1
allowed_batch_sizes: 64
"""


def model(name: str = "cifar", *versions: int, **changes) -> PublishedModel:
    values = {
        "batching": BATCHING,
        "folder": Path("/srv/serving") / name,
        "size": 3_000_000,
    }
    return PublishedModel(name=name, versions=versions or (5, 7), **values | changes)


def rendered(*models: PublishedModel, **choices) -> dict[str, str]:
    return generate.render(models or (model(),), Choices(**choices))


def documents(files: dict[str, str], folder: str) -> list[dict]:
    return [
        document
        for name, text in sorted(files.items())
        if name.startswith(folder)
        for document in yaml.safe_load_all(text)
    ]


def kind(files: dict[str, str], name: str) -> dict:
    (found,) = [d for d in documents(files, "kubernetes/") if d["kind"] == name]
    return found


VARIANTS = [
    {},
    {"versions": "pinned", "cpus": 16, "memory": "512Mi", "min_replicas": 1},
    {
        "image": "registry.test:5000/team/serving@sha256:" + "0" * 64,
        "storage": "gs://b/m",
    },
    {"gpus": 2, "storage": "s3://b"},
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_manifests(version: str, variant: dict):
    files = rendered(model(), model("other_Model.2"), **variant)
    found = documents(files, "kubernetes/")
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    storage = "ServiceAccount" if "storage" in variant else "PersistentVolumeClaim"
    assert {document["kind"] for document in found} == {
        "ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler",
        "PodDisruptionBudget", "NetworkPolicy", storage,
    }  # fmt: skip


def test_the_validator_refuses_wrong_manifests():
    deployment = kind(rendered(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_pods_are_locked_down_and_probed():
    pod = kind(rendered(), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == set(container["resources"])
    assert container["readinessProbe"]["exec"]["command"] == [
        "timeout", "4", "bash", "/config/ready.sh", "8501", "cifar",
    ]  # fmt: skip
    assert container["readinessProbe"]["timeoutSeconds"] > 4
    assert "livenessProbe" in container and "startupProbe" in container
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/models"]["readOnly"] and mounts["/config"]["readOnly"]
    assert {m["name"] for m in mounts.values()} == {v["name"] for v in pod["volumes"]}


def test_manifests_refer_to_each_other():
    files = rendered(model("My_Model"))
    deployment = kind(files, "Deployment")
    name = deployment["metadata"]["name"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {
        port["name"]
        for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        kind(files, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        kind(files, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    for document in documents(files, "kubernetes/service"):
        assert document["spec"]["selector"].items() <= labels.items()
        assert all(port["targetPort"] in ports for port in document["spec"]["ports"])
    scaler = kind(files, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == name
    assert "replicas" not in deployment["spec"]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert (
        volumes[1]["configMap"]["name"] == kind(files, "ConfigMap")["metadata"]["name"]
    )
    claim = kind(files, "PersistentVolumeClaim")["metadata"]["name"]
    assert volumes[0]["persistentVolumeClaim"]["claimName"] == claim


def test_nobody_but_clients_and_prometheus_gets_in_and_nothing_out():
    policy = kind(rendered(), "NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    assert all(rule["from"] and rule["ports"] for rule in policy["ingress"])


def test_config_map_holds_the_configuration_files_byte_for_byte():
    files = rendered()
    data = kind(files, "ConfigMap")["data"]
    assert data.keys() == {
        "models.config", "batching.config", "monitoring.config", "ready.sh",
    }  # fmt: skip
    for name, text in data.items():
        assert text == files[f"tensorflow_serving/{name}"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_compose_takes_its_file(variant: dict):
    found = yaml.safe_load(rendered(**variant)["compose.yaml"])
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.Draft202012Validator(schema).validate(found)
    broken = copy.deepcopy(found)
    broken["services"]["grafana"]["portz"] = []
    assert not jsonschema.Draft202012Validator(schema).is_valid(broken)


def test_compose_is_local_and_hardened_and_its_mounts_exist():
    files = rendered()
    services = yaml.safe_load(files["compose.yaml"])["services"]
    assert set(services) == {"tensorflow_serving", "prometheus", "grafana"}
    for service in services.values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert re.search(r":[\w.]+$", service["image"]), "a fixed version"
        for volume in service["volumes"]:
            if volume["type"] == "bind" and volume["source"].startswith("./"):
                folder = volume["source"].removeprefix("./") + "/"
                assert any(name.startswith(folder) for name in files), folder
                assert volume["read_only"] is True


@pytest.mark.parametrize(
    "folder", ["/srv/my models", "/srv/$HOME/a", '/srv/"x"/é', "/a#b"]
)
def test_any_folder_survives_yaml_and_composes_variables(folder: str):
    files = rendered(model(folder=Path(folder) / "cifar"))
    service = yaml.safe_load(files["compose.yaml"])["services"]["tensorflow_serving"]
    assert service["volumes"][0]["source"].replace("$$", "$") == folder
    assert service["volumes"][0]["source"].count("$") == 2 * folder.count("$")


def test_arguments_are_the_same_everywhere_and_files_where_they_say():
    files = rendered(versions="pinned")
    compose = yaml.safe_load(files["compose.yaml"])["services"]["tensorflow_serving"]
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    assert compose["command"] == pod["containers"][0]["args"]
    for argument in compose["command"]:
        path = re.fullmatch(r"--\w+_file=/config/(.+)", argument)
        if path:
            assert f"tensorflow_serving/{path[1]}" in files
    flags = {argument.partition("=")[0] for argument in compose["command"]}
    assert "--allow_version_labels_for_unavailable_models" in flags


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_embedded_server_takes_the_arguments(variant: dict):
    """It has tensorflow_model_server's flags, so a wrong one shows here."""
    from serving.server import flags

    text = rendered(**variant)["compose.yaml"]
    command = yaml.safe_load(text)["services"]["tensorflow_serving"]["command"]
    found, _ = flags.parse(command)
    assert (found.port, found.rest_api_port) == (8500, 8501)
    assert found.enable_batching is True
    assert found.model_config_file == "/config/models.config"


# KServe.

_PREDICTOR = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "minReplicas": {"type": "integer", "minimum": 0},
        "maxReplicas": {"type": "integer", "minimum": 1},
        "timeout": {"type": "integer", "minimum": 1},
        "tolerations": {"type": "array"},
        "model": {
            "type": "object",
            "required": ["modelFormat", "storageUri"],
            "additionalProperties": False,
            "properties": {
                "modelFormat": {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": False,
                    "properties": {"name": {"const": "tensorflow"}},
                },
                "protocolVersion": {"enum": ["v1", "v2", "grpc-v2"]},
                "image": {"type": "string", "minLength": 1},
                "storageUri": {"type": "string", "pattern": r"^[a-z0-9]+://.+"},
                "resources": {"type": "object"},
                "readinessProbe": {"type": "object"},
                "securityContext": {"type": "object"},
            },
        },
    },
}
KSERVE = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {
                    "type": "string",
                    "pattern": r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$",
                }
            },
        },
        "spec": {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {"predictor": _PREDICTOR},
        },
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_kserve_has_a_service_for_each_model(variant: dict):
    files = rendered(model(), model("other_Model.2"), **variant)
    found = documents(files, "kserve/")
    assert [d["metadata"]["name"] for d in found] == ["cifar", "other-model-2"]
    for document, name in zip(found, ("cifar", "other_Model.2"), strict=True):
        jsonschema.validate(document, KSERVE)
        served = document["spec"]["predictor"]["model"]
        assert served["storageUri"].endswith(f"/{name}")
        container = {
            "name": "kserve-container",
            "image": served["image"],
            "resources": served["resources"],
            "securityContext": served["securityContext"],
            "readinessProbe": served["readinessProbe"],
        }
        # kserve/kserve, config/runtimes/kserve-tensorflow-serving.yaml: the arguments
        # --model_name={{.Name}} and --rest_api_port=8080.
        assert served["readinessProbe"]["httpGet"] == {
            "path": f"/v1/models/{document['metadata']['name']}/metadata",
            "port": 8080,
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
        tolerations = document["spec"]["predictor"].get("tolerations", [])
        pod["spec"] = {"containers": [container], "tolerations": tolerations}
        kubernetes_validate.validate(pod, KUBERNETES[0], strict=True)


@pytest.mark.parametrize(
    ("first", "second", "slug"),
    [
        ("a.b", "a-b", "a-b"),
        ("Cifar", "cifar", "cifar"),
        ("7", "model-7", "model-7"),
        ("x" * 44 + "1", "x" * 44 + "2", "x" * 44),
    ],
)
def test_models_with_one_name_in_kubernetes_are_refused(first, second, slug):
    with pytest.raises(DeployError) as error:
        rendered(model(first), model("other"), model(second))
    assert str(error.value) == (
        f"/srv/serving/{first} and /srv/serving/{second}: in Kubernetes both would be "
        f"named {slug}, and names must differ; rename a folder, or choose by --model"
    )


DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    "image",
    [
        "tensorflow/serving:2.19.1",
        "tensorflow/serving" + DIGEST,
        "tensorflow/serving:2.19.1-gpu" + DIGEST,
        "localhost:5000/a__b/c-d.e:v1_0",
        "true:1",
    ],
)
def test_everything_runs_the_chosen_image(image: str):
    files = rendered(image=image)
    compose = yaml.safe_load(files["compose.yaml"])["services"]["tensorflow_serving"]
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    (service,) = documents(files, "kserve/")
    served = service["spec"]["predictor"]["model"]
    assert compose["image"] == pod["containers"][0]["image"] == image
    assert served["image"] == image
    # It would put another tag in the place of this one.
    assert "runtimeVersion" not in served


@pytest.mark.parametrize(
    "image",
    [
        "true", "2.19", "tensorflow/serving", "localhost:5000/tensorflow/serving", "x:",
        "Serving:1", "a//b:1", "/a:1", "x:-1", "x:1@sha256:00", "x@" + DIGEST, "x:1\n",
    ],
)  # fmt: skip
def test_an_image_that_floats_or_is_none_is_refused(image: str):
    with pytest.raises(DeployError) as error:
        Choices(image=image)
    assert str(error.value) == (
        f"--image={image}: an image's name with a tag or a digest is needed, such as "
        "tensorflow/serving:2.20.0"
    )


def test_no_template_names_an_image_of_its_own():
    templates = Path(generate.__file__).parent / "templates"
    lines = [
        line.strip()
        for path in templates.rglob("*.jinja")
        for line in path.read_text().splitlines()
        if re.match(r"\s*(- )?image:", line)
    ]
    assert len(lines) == 6
    assert not [line for line in lines if not re.search(r"image: \{\{ .* \}\}$", line)]


# Memory.


def memories(files: dict[str, str]) -> tuple[int, int, list[int]]:
    """MiB for Compose, for Kubernetes and for each service of KServe."""
    compose = yaml.safe_load(files["compose.yaml"])["services"]["tensorflow_serving"]
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    services = [
        document["spec"]["predictor"]["model"]
        for document in documents(files, "kserve/")
    ]
    found = []
    for place in (pod["containers"][0], *services):
        resources = place["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        found.append(int(resources["limits"]["memory"].removesuffix("Mi")))
    return int(compose["mem_limit"].removesuffix("m")), found[0], found[1:]


def test_memory_follows_the_models_number_and_size():
    """What the embedded server took, docs/deploy.md: MiB, with the versions loaded."""
    sizes = {
        3_132_787: {2: 1095, 4: 1199, 8: 1404},
        14_934_062: {2: 1295, 4: 1456},
        84_934_499: {2: 1468, 4: 1785},
    }
    for size, measured in sizes.items():
        for loaded, taken in measured.items():
            # Half of them are served, the others take over.
            models = [model(f"m{i}", size=size) for i in range(loaded // 2)]
            compose, pod, services = memories(rendered(*models))
            assert taken <= compose == pod <= 1.5 * taken, (size, loaded)
            assert services == [memories(rendered(models[0]))[0]] * len(models)
    latest, _, _ = memories(rendered(model(size=100 << 20)))
    pinned, _, _ = memories(rendered(model(size=100 << 20), versions="pinned"))
    assert pinned - latest >= 256  # "previous" is served, too
    assert memories(rendered(model(size=100 << 20), memory="700Mi")) == (
        700,
        700,
        [700],
    )


# GPUs.


@pytest.mark.parametrize(
    ("choices", "image", "gpus"),
    [
        ({}, IMAGE, 0),
        ({"gpus": 0}, IMAGE, 0),
        ({"gpus": 2}, GPU_IMAGE, 2),
        ({"image": "tensorflow/serving:2.19.1-gpu"}, "tensorflow/serving:2.19.1-gpu", 1),
        ({"image": "tensorflow/serving:latest-gpu", "gpus": 4},
         "tensorflow/serving:latest-gpu", 4),
        ({"image": "r.test/team/serving-gpu:1"}, "r.test/team/serving-gpu:1", 1),
        ({"image": "gpu.test/team/serving:1"}, "gpu.test/team/serving:1", 0),
        ({"image": "gpu.test/team/serving:1", "gpus": 1}, "gpu.test/team/serving:1", 1),
        ({"image": "tensorflow/serving" + DIGEST, "gpus": 1},
         "tensorflow/serving" + DIGEST, 1),
    ],
)  # fmt: skip
def test_gpus_and_image_go_together_everywhere(choices, image, gpus):
    files = rendered(**choices)
    compose = yaml.safe_load(files["compose.yaml"])["services"]["tensorflow_serving"]
    deployment = kind(files, "Deployment")["spec"]
    pod = deployment["template"]["spec"]
    (service,) = documents(files, "kserve/")
    predictor = service["spec"]["predictor"]
    container = pod["containers"][0]
    assert (
        compose["image"] == container["image"] == predictor["model"]["image"] == image
    )
    for place in (container, predictor["model"]):
        # Kubernetes, "Schedule GPUs": only in the limits, which are the requests too.
        assert place["resources"]["limits"].get("nvidia.com/gpu") == (
            str(gpus) if gpus else None
        )
        assert "nvidia.com/gpu" not in place["resources"]["requests"]
    taint = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod.get("tolerations", []) == (taint if gpus else [])
    assert predictor.get("tolerations", []) == (taint if gpus else [])
    # A replica more needs a GPU more: without one to spare the update would never end.
    assert deployment["strategy"]["rollingUpdate"] == (
        {"maxSurge": 0, "maxUnavailable": 1}
        if gpus
        else {"maxSurge": 1, "maxUnavailable": 0}
    )
    # Docker, "Run Docker Compose services with GPU access".
    devices = [{"driver": "nvidia", "count": gpus, "capabilities": ["gpu"]}]
    reserved = {"resources": {"reservations": {"devices": devices}}}
    assert compose.get("deploy") == (reserved if gpus else None)


# Models in a bucket.


@pytest.mark.parametrize(
    ("storage", "type_", "folder"),
    [("gs://b/serving/", "gcs", "b/serving"), ("s3://b", "s3", "b")],
)
def test_models_in_a_bucket_are_copied_by_a_sidecar(storage, type_, folder):
    files = rendered(model(), model("other"), storage=storage)
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    (sync,) = pod["initContainers"]
    # Kubernetes, "Sidecar Containers": started, and probed, before the containers.
    assert sync["restartPolicy"] == "Always" and "startupProbe" in sync
    assert sync["command"] + sync["args"] == [
        "sh", "/config/sync.sh", folder, "/models", "cifar", "other",
    ]  # fmt: skip
    env = {entry["name"]: entry["value"] for entry in sync["env"]}
    assert env["RCLONE_CONFIG_BUCKET_TYPE"] == type_
    assert re.search(r":\d[\w.]+$", sync["image"]), "a fixed version"
    # Without a request of each container the autoscaler computes nothing.
    assert sync["resources"]["requests"]["cpu"]
    assert sync["securityContext"]["readOnlyRootFilesystem"] is True
    assert kind(files, "ConfigMap")["data"]["sync.sh"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes["models"]
    account = kind(files, "ServiceAccount")["metadata"]["name"]
    assert pod["serviceAccountName"] == account
    (rule,) = kind(files, "NetworkPolicy")["spec"]["egress"]
    assert {443, 53} <= {port["port"] for port in rule["ports"]}
    (first, second) = documents(files, "kserve/")
    assert first["spec"]["predictor"]["model"]["storageUri"] == (
        f"{storage.rstrip('/')}/cifar"
    )


@pytest.mark.parametrize(
    ("storage", "claim", "path"),
    [
        ("pvc://models", "models", None),
        ("pvc://shared/cifar/serving/", "shared", "cifar/serving"),
        ("hdfs://host/models", "models", None),  # KServe alone knows it
    ],
)
def test_models_on_a_claim_are_mounted(storage, claim, path):
    files = rendered(storage=storage)
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in pod and "serviceAccountName" not in pod
    volume = pod["volumes"][0]["persistentVolumeClaim"]
    assert volume == {"claimName": claim, "readOnly": True}
    assert kind(files, "PersistentVolumeClaim")["metadata"]["name"] == claim
    (mount,) = [
        mount
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] == "models"
    ]
    assert mount.get("subPath") == path
    assert kind(files, "NetworkPolicy")["spec"]["egress"] == []


# Stopping.


def test_sigterm_reaches_a_server_that_is_not_the_first_process():
    """It has no handler, so as first process, or behind a shell, it would not stop."""
    files = rendered()
    compose = yaml.safe_load(files["compose.yaml"])["services"]["tensorflow_serving"]
    assert compose["init"] is True
    assert compose["entrypoint"] == ["tensorflow_model_server"]
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    assert pod["shareProcessNamespace"] is True
    assert pod["containers"][0]["command"] == ["tensorflow_model_server"]


def test_without_the_entry_point_the_server_still_gets_the_ports():
    (container,) = kind(rendered(), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--port={ports['grpc']}" in container["args"]
    assert f"--rest_api_port={ports['http']}" in container["args"]


# Prometheus and Grafana.

# What tensorflow_model_server exports and the embedded server as well.
EXPORTED = set(re.findall(rb"# TYPE (\S+) \w+", metrics.render())) | {
    family.name.encode() for family in gauges.families(None)
}


def metric_names(expression: str) -> set[str]:
    """Names of all vectors in a PromQL expression, which the parser must understand."""
    found: set[str] = set()

    def visit(node) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name or "")
        for name in ("expr", "lhs", "rhs", "args", "param", "vector_selector"):
            child = getattr(node, name, None)
            for part in child if isinstance(child, list) else [child]:
                if part is not None and not isinstance(part, (str, int, float)):
                    visit(part)

    visit(promql_parser.parse(expression))
    return found


def check_expression(expression: str) -> None:
    expression = re.sub(r"\$__(rate_interval|range)", "5m", expression)
    names = metric_names(expression.replace('"$model"', '".*"'))
    assert names, expression
    for name in names - {"up"}:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert {name.encode(), base.encode()} & EXPORTED, name


def test_dashboard_asks_for_metrics_that_exist():
    files = rendered()
    board = json.loads(files["grafana/dashboards/tensorflow_serving.json"])
    assert board["uid"] and board["title"] and board["schemaVersion"] >= 36
    source = yaml.safe_load(files["grafana/provisioning/datasources/prometheus.yaml"])
    known = {entry["uid"] for entry in source["datasources"]}
    ids, places = [], set()
    for panel in board["panels"]:
        assert panel["title"] and panel["targets"] and panel["type"]
        ids.append(panel["id"])
        position = panel["gridPos"]
        assert position["x"] + position["w"] <= 24
        cells = {
            (position["x"] + column, position["y"] + row)
            for column in range(position["w"])
            for row in range(position["h"])
        }
        assert not cells & places, f"{panel['title']} overlaps"
        places |= cells
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in known
            check_expression(target["expr"])
    assert len(set(ids)) == len(ids)
    (variable,) = board["templating"]["list"]
    assert variable["name"] == "model"
    assert b":tensorflow:serving:request_count" in EXPORTED


def test_prometheus_reads_the_page_that_the_server_is_told_to_have():
    files = rendered()
    found = yaml.safe_load(files["prometheus/prometheus.yaml"])
    (job,) = found["scrape_configs"]
    assert job["metrics_path"] == configuration.METRICS_PATH
    assert configuration.METRICS_PATH in files["tensorflow_serving/monitoring.config"]
    (target,) = job["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert service in yaml.safe_load(files["compose.yaml"])["services"]
    assert port == "8501"
    for name in found["rule_files"]:
        groups = yaml.safe_load(files[f"prometheus/{name}"])["groups"]
        assert [len(group["rules"]) for group in groups] == [4, 5]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len({rule["alert"] for rule in rules}) == len(rules)
        for rule in rules:
            check_expression(rule["expr"])
            assert rule["annotations"]["summary"] and rule["labels"]["severity"]
    provider = yaml.safe_load(files["grafana/provisioning/dashboards/files.yaml"])
    folder = provider["providers"][0]["options"]["path"]
    grafana = yaml.safe_load(files["compose.yaml"])["services"]["grafana"]
    assert folder in {volume["target"] for volume in grafana["volumes"]}


# TensorFlow Serving's own files.


@pytest.mark.tf
@pytest.mark.parametrize("versions", ["latest", "pinned"])
def test_model_configuration_is_read_by_tensorflow_servings_class(versions):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    models = (model("cifar", 5, 7, 9), model("Other_2.x", 1))
    text = configuration.models_config(models, base="/models/", versions=versions)
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    first, second = parsed.model_config_list.config
    assert (first.name, first.base_path) == ("cifar", "/models/cifar")
    assert (second.name, second.base_path) == ("Other_2.x", "/models/Other_2.x")
    assert first.model_platform == second.model_platform == "tensorflow"
    policy = first.model_version_policy
    if versions == "latest":
        assert policy.latest.num_versions == 1
        assert not first.version_labels
    else:
        assert list(policy.specific.versions) == [9, 7]
        assert dict(first.version_labels) == {"stable": 9, "previous": 7}
        assert dict(second.version_labels) == {"stable": 1}
        assert list(second.model_version_policy.specific.versions) == [1]


def official_message(name: str, fields: dict[str, tuple[int, str]]):
    """A message of session_bundle_config.proto, monitoring_config.proto: no package has
    their classes, so the fields used here are declared with their public numbers."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", syntax="proto3")
    wrapper = file.message_type.add(name="Wrapper")
    wrapper.field.add(name="value", number=1, type=field.TYPE_INT64, label=1)
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=field.TYPE_BOOL, label=1)
    prometheus.field.add(name="path", number=2, type=field.TYPE_STRING, label=1)
    message = file.message_type.add(name=name)
    for key, (number, type_name) in fields.items():
        added = message.field.add(name=key, number=number, label=1)
        if type_name == "repeated":
            added.type, added.label = field.TYPE_INT64, 3
        else:
            added.type, added.type_name = field.TYPE_MESSAGE, type_name
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


@pytest.mark.parametrize(
    "stored", [BATCHING, None, BATCHING + "num_batch_threads { value: 3 }"]
)
def test_batching_parameters_are_those_stored_with_the_model(stored):
    from google.protobuf import text_format

    text = configuration.batching_config((model(batching=stored),), threads=6)
    parsed = text_format.Parse(
        text,
        official_message(
            "BatchingParameters",
            {
                "max_batch_size": (1, "Wrapper"),
                "batch_timeout_micros": (2, "Wrapper"),
                "max_enqueued_batches": (3, "Wrapper"),
                "num_batch_threads": (4, "Wrapper"),
                "allowed_batch_sizes": (6, "repeated"),
            },
        ),
    )
    assert parsed.allowed_batch_sizes[-1] == parsed.max_batch_size.value
    assert parsed.max_batch_size.value == (64 if stored else 128)
    threads = 3 if stored and "num_batch" in stored else 6
    assert parsed.num_batch_threads.value == threads


def test_contradictory_batching_parameters_are_refused():
    wrong = "max_batch_size { value: 64 }\nallowed_batch_sizes: 32\n"
    with pytest.raises(DeployError, match="allowed_batch_sizes, 32, must be"):
        configuration.batching_config((model(batching=wrong),), threads=2)


def test_monitoring_configuration_turns_prometheus_on():
    from google.protobuf import text_format

    fields = {"prometheus_config": (1, "PrometheusConfig")}
    parsed = text_format.Parse(
        configuration.monitoring_config(), official_message("MonitoringConfig", fields)
    )
    assert parsed.prometheus_config.enable is True
    assert parsed.prometheus_config.path == configuration.METRICS_PATH


# The command.


@pytest.fixture
def output(tmp_path: Path) -> Path:
    root = tmp_path / "output"
    publish(root / "serving", "cifar", 5, 7, batching=BATCHING)
    return root


def test_the_command_writes_the_folder_and_may_do_so_again(output, tmp_path, capsys):
    target = tmp_path / "deploy"
    arguments = ["--output_root", str(output), "--to", str(target)]
    assert main(arguments) == 0
    assert "cifar: versions 5, 7" in capsys.readouterr().out
    record = json.loads((target / "deploy.json").read_text())
    written = {
        p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()
    }
    assert written == {*record["files"], "deploy.json"}
    assert record["models"] == {"cifar": {"newest": 7}}
    (target / "mine.txt").write_text("kept")
    assert main([*arguments, "--versions", "pinned"]) == 0
    record = json.loads((target / "deploy.json").read_text())
    assert record["models"] == {"cifar": {"stable": 7, "previous": 5}}
    assert (target / "mine.txt").read_text() == "kept"
    # `kubectl apply -f` would apply what the other storage needed.
    claim = target / "kubernetes" / "volume_claim.yaml"
    account = target / "kubernetes" / "service_account.yaml"
    assert claim.exists() and not account.exists()
    assert main([*arguments, "--storage", "gs://b"]) == 0
    assert account.exists() and not claim.exists()
    assert main([*arguments, "--versions", "pinned"]) == 0
    assert claim.exists() and not account.exists()
    assert (target / "mine.txt").read_text() == "kept"
    compose = yaml.safe_load((target / "compose.yaml").read_text())
    volumes = compose["services"]["tensorflow_serving"]["volumes"]
    assert volumes[0]["source"] == str(output / "serving")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output_root", "/nowhere"], "/nowhere/serving: there is no such folder"),
        (["--model", "other"], "--model=other: not published; there is cifar"),
        (["--image", "a b"], "--image=a b"),
        (["--image", "true"], "--image=true"),
        (["--image", "x:1\n  evil: true"], "--image="),
        (["--storage", "bucket"], "--storage=bucket"),
        (["--memory", "2G"], "--memory=2G"),
        (["--cpus", "0"], "--cpus=0"),
        (["--gpus", "65"], "--gpus=65"),
        (
            ["--versions", "pinned", "--storage", "s3://b"],
            "models.config in s3://b says",
        ),
        (["--gpus", "0", "--image", GPU_IMAGE], f"--gpus=0: {GPU_IMAGE} is made for"),
        (["--gpus", "1", "--image", IMAGE], f"--gpus=1: {IMAGE} cannot use a GPU"),
        (["--min_replicas", "9", "--max_replicas", "3"], "not above"),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(
    output, tmp_path, capsys, arguments, words
):
    target = tmp_path / "deploy"
    options = ["--output_root", str(output), "--to", str(target), *arguments]
    assert main(options) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") <= 2
    assert not target.exists()


def test_the_folder_is_by_default_the_runs_own(output):
    assert main(["--output_root", str(output)]) == 0
    assert (output / "deploy" / "compose.yaml").is_file()


def test_models_that_a_run_publishes_elsewhere_are_found_there(output, tmp_path):
    elsewhere = tmp_path / "models"
    (output / "serving").rename(elsewhere)
    options = ["--output_root", str(output), "--base_directory", str(elsewhere)]
    assert main(options) == 0
    compose = yaml.safe_load((output / "deploy/compose.yaml").read_text())
    volumes = compose["services"]["tensorflow_serving"]["volumes"]
    assert volumes[0]["source"] == str(elsewhere)


def test_a_folder_of_somebody_else_is_left_alone(output, tmp_path, capsys):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "compose.yaml").write_text("mine")
    assert main(["--output_root", str(output), "--to", str(target)]) == 2
    assert "was not made by this command" in capsys.readouterr().err
    assert (target / "compose.yaml").read_text() == "mine"


names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", fullmatch=True)


@given(name=names)
@example("no")
@example("true")
@example("1e5")
@settings(max_examples=8, deadline=None)
def test_any_model_name_gives_valid_manifests(name: str):
    files = rendered(model(name))
    for document in documents(files, "kubernetes/"):
        kubernetes_validate.validate(document, KUBERNETES[0], strict=True)
        label = document["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", label), label
    for document in documents(files, "kserve/"):
        jsonschema.validate(document, KSERVE)
        storage = document["spec"]["predictor"]["model"]["storageUri"]
        assert storage == f"pvc://models/{name}"
    pod = kind(files, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["readinessProbe"]["exec"]["command"][-1] == name
    compose = yaml.safe_load(files["compose.yaml"])
    assert re.fullmatch(r"[a-z][-a-z0-9]*", compose["name"])


@pytest.mark.parametrize("path", ["compose.yaml", "kubernetes/", "kserve/"])
def test_what_comes_from_outside_is_quoted(path: str):
    """YAML 1.1 reads `no` as false and `2:30` as 150."""
    files = rendered(model("no"), image="true:1", storage="s3://no", memory="3Gi")
    for name, text in files.items():
        if name.startswith(path):
            values = re.findall(
                r"(?m)^\s*(?:- )?(?:name|image|storageUri): (.+)$", text
            )
            ours = [value for value in values if re.search(r"no\b|true", value)]
            assert all(value.startswith('"') for value in ours), (name, ours)
            assert not re.search(r"memory: [^\s\"]|mem_limit: [^\"]", text), name


def test_a_batching_file_that_begins_with_spaces_stays_whole():
    files = rendered(model(batching="  " + BATCHING))
    data = kind(files, "ConfigMap")["data"]["batching.config"]
    assert data == files["tensorflow_serving/batching.config"]


def test_outputs_of_a_run_end_to_end(output):
    """read_outputs and render agree with the client's defaults: the model is `cifar`."""
    from serving.client.configured import DEFAULT_MODEL

    files = generate.render(read_outputs(output / "serving"), Choices())
    assert f'name: "{DEFAULT_MODEL}"' in files["tensorflow_serving/models.config"]
    assert images.SIGNATURE_IMAGES == "serving_default"


@pytest.mark.parametrize(
    "files",
    [["linked/mine"], ["../mine"], ["{mine}"], ["a\0b"], ["\ud800"], [5], [[]], {}, 7],
)
def test_a_record_of_somebody_else_removes_nothing(tmp_path, files):
    """The folder may be an archive from elsewhere, unpacked."""
    mine = tmp_path / "mine"
    mine.write_text("kept")
    target = tmp_path / "target"
    target.mkdir()
    (target / "linked").symlink_to(tmp_path)
    if isinstance(files, list):
        files = [
            each.format(mine=mine) if isinstance(each, str) else each for each in files
        ]
    (target / "deploy.json").write_text(json.dumps({"files": files}))
    generate.generate([model()], Choices(), target)
    assert mine.read_text() == "kept"


def test_links_in_the_folder_are_not_written_through(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("kept")
    target = tmp_path / "target"
    target.mkdir()
    (target / "deploy.json").write_text("{}")
    for name in (".compose.yaml.part", "compose.yaml"):
        (target / name).symlink_to(mine)
    generate.generate([model()], Choices(), target)
    assert mine.read_text() == "kept"
    assert "services:" in (target / "compose.yaml").read_text()

"""One frozen, strict configuration for every engine and every stage.

`RunConfig` is what a person chooses: defaults, then a preset, then overrides
(`--runtime_parameter train.epochs=3`). The same JSON travels to every component, locally
and on Vertex AI; functions take the section that they need. Only the standard library
stands behind this file, so that a wrong value is refused in milliseconds.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from contract import paths

T = TypeVar("T")
Problem = Callable[[str], str | None]


class ConfigError(ValueError):
    """A value that cannot be used; the message names field, value, rule and remedy."""


def _setting(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    problem: Problem | None = None,
) -> Any:
    """A dataclass field with the sentence and the closed range a person is shown.

    `problem`: what is wrong with a text, as a rule; None if nothing is.
    """
    return field(
        default=default,
        metadata={"help": help, "low": low, "high": high, "problem": problem},
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, from where."""

    name: Literal["auto", "cifar10", "cifar100", "digits"] = _setting(
        "auto",
        "data set; auto takes cifar10 if it is on disk or can be downloaded, else digits",
    )
    path: str | None = _setting(
        None,
        "folder or .tar.gz in the official binary or python layout (else tensorflow-datasets)",
        problem=paths.text_problem,
    )
    allow_unverified: bool = _setting(
        False, "accept files under data.path whose checksum is not the published one"
    )
    tfds_dir: str | None = _setting(
        None,
        "tensorflow-datasets folder (default: $TFDS_DATA_DIR)",
        problem=paths.pattern_problem,
    )
    label: Literal["fine", "coarse"] = _setting(
        "fine", "cifar100 only: 100 fine or 20 coarse classes"
    )
    eval_fraction: float = _setting(
        0.1, "share of train that becomes the eval split", low=0.01, high=0.5
    )
    shards: int = _setting(4, "TFRecord files per split", low=1, high=1000)
    compression: Literal["gzip", "none"] = _setting("gzip", "of the TFRecords")


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """How far data may be from those of the last accepted run, and split from split.

    Labels: change of a class's share of all images, in even shares (1 / classes).
    Images: Jensen-Shannon divergence of brightness, contrast, colours and sharpness.
    Smaller changes pass, and so do larger ones that chance explains in small splits.
    """

    labels: float | None = _setting(
        0.5,
        "a class's change since the last accepted run, in even shares; none: off",
        low=0.0,
        high=1000.0,
    )
    images: float | None = _setting(
        0.02,
        "divergence of the images from the last accepted run's; none: off",
        low=0.0,
        high=1.0,
    )
    skew_labels: float | None = _setting(
        0.5,
        "a class's difference of eval or test from train, in even shares; none: off",
        low=0.0,
        high=1000.0,
    )
    skew_images: float | None = _setting(
        0.02,
        "divergence of the images of eval or test from train's; none: off",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True, kw_only=True)
class PreprocessingConfig:
    """Normalisation, computed over the train split and served with the model."""

    statistics: Literal["per_channel", "per_pixel"] = _setting(
        "per_channel", "one mean and deviation per channel, or per pixel and channel"
    )
    divide_by_std: bool = _setting(
        True, "divide by the standard deviation (the paper only subtracts the mean)"
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One contender."""

    network: str = _setting(
        "preact_resnet20", "name of a network, e.g. preact_resnet164"
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How both contenders are trained; they differ in the network alone."""

    recipe: Literal["quick", "paper", "released"] = _setting(
        "quick", "row of pipeline/presets.py: short, He et al. 2016b, or their code's"
    )
    epochs: float = _setting(
        1.0, "passes over the train split", low=0.001, high=100_000
    )
    steps: int | None = _setting(
        None, "length in steps, instead of epochs", low=1, high=10**9
    )
    global_batch_size: int = _setting(
        128, "images per step, over all replicas", low=1, high=65_536
    )
    last_batch: Literal["drop", "keep"] = _setting(
        "drop", "what a pass does with images that do not fill a batch"
    )
    learning_rate: float = _setting(0.1, "peak learning rate", low=1e-8, high=100.0)
    schedule: Literal["one_cycle", "cosine", "paper", "released", "constant"] = (
        _setting(
            "one_cycle",
            "one_cycle: up linearly, down to 0; paper: x0.1 at 1/2 and 3/4 of the "
            "steps, a tenth at first; released: x0.1 after epochs 80 and 121",
        )
    )
    warmup_fraction: float = _setting(
        0.2, "one_cycle, cosine: share of the steps on the way up", low=0.0, high=0.9
    )
    momentum: float = _setting(0.9, "of SGD", low=0.0, high=0.9999)
    nesterov: bool = _setting(True, "Nesterov momentum")
    weight_decay: float = _setting(
        1e-4, "L2 in the gradient, on every trainable tensor", low=0.0, high=1.0
    )
    initialiser: Literal["he_fan_in", "released"] = _setting(
        "he_fan_in", "initial weights: He et al. 2015, or the released code's"
    )
    label_smoothing: float = _setting(
        0.0, "share of the target spread over all classes; 0: off", low=0.0, high=0.9
    )
    ema: float = _setting(
        0.0, "decay of a moving average of the weights; 0: off", low=0.0, high=0.99999
    )
    crop_padding: int = _setting(
        4, "pixels of padding before the random crop; 0: no crop", low=0, high=16
    )
    flip: bool = _setting(True, "mirror images at random")
    seed: int = _setting(
        1, "of initialisation, order and augmentation", low=0, high=2**31 - 1
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = _setting(
        "float32", "of activations; weights and batch norm stay float32"
    )
    rematerialise: bool = _setting(
        False, "recompute units in the backward pass: less memory, more time"
    )
    strategy: Literal["auto", "single", "mirrored", "tpu"] = _setting(
        "auto", "auto: tpu if train.tpu is given, mirrored on several GPUs, else single"
    )
    replicas: int | None = _setting(
        None,
        "mirrored: how many (on CPU: logical devices); none: all GPUs",
        low=1,
        high=4096,
    )
    tpu: str | None = _setting(
        None, "name or address of the TPU; local for this host's"
    )
    synchronized_batch_norm: bool = _setting(
        False, "moments over all replicas; needs a graph that grows with depth"
    )
    steps_per_execution: int = _setting(
        1, "training steps per call of the device; more for TPUs", low=1, high=100_000
    )
    checkpoint_seconds: float = _setting(
        30.0, "at most this long between checkpoints", low=0.0, high=86_400
    )
    profile_steps: int = _setting(
        0, "steps that TensorBoard's profiler records; 0: none", low=0, high=10_000
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How the winner is chosen; always on the eval split, never on test."""

    policy: Literal["best", "superior", "non_inferior"] = _setting(
        "best",
        "best: the lower eval error is pushed; superior: the candidate only if it is "
        "better beyond doubt; non_inferior: only if it is worse by less than the margin",
    )
    margin: float = _setting(
        0.01, "non_inferior: error rate that may be lost", low=0.0, high=1.0
    )
    max_error: float | None = _setting(
        None,
        "no model with a higher error rate is pushed; none: that of always answering the "
        "most frequent class",
        low=0.0,
        high=1.0,
    )
    service_margin: float = _setting(
        0.0,
        "error rate that may be lost, beyond doubt, to the model in service",
        low=0.0,
        high=1.0,
    )
    slice_margin: float = _setting(
        0.05, "the same on any slice (class, brightness, contrast)", low=0.0, high=1.0
    )
    max_ece: float | None = _setting(
        0.3, "highest expected calibration error of a pushed model", low=0.0, high=1.0
    )
    max_latency_ms: float | None = _setting(
        None, "longest time for one image, on this machine", low=0.0, high=3_600_000
    )
    max_latency_ratio: float | None = _setting(
        5.0,
        "longest time for one image, in times of the model in service, or else of the "
        "other contender",
        low=0.1,
        high=1000,
    )
    batch_size: int = _setting(128, "images per forward pass", low=1, high=65_536)


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """What the winner must do in a server of its own before it is pushed."""

    server: str = _setting(
        "embedded",
        "embedded (serving.server), a tensorflow_model_server program, or docker:<image>",
    )
    max_load_seconds: float = _setting(
        120.0, "from the server's start until the model answers", low=0.1, high=3600
    )
    max_p50_ms: float = _setting(
        1000.0, "median of requests with one image, one at a time", low=0.01, high=1e6
    )
    max_p99_ms: float = _setting(
        3000.0, "99th percentile of the same requests", low=0.01, high=1e6
    )
    answer_tolerance: float = _setting(
        0.01,
        "largest difference of a probability from the training path's",
        low=0.0,
        high=1.0,
    )
    requests: int = _setting(
        50, "requests with one image that are timed", low=1, high=10_000
    )


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Where the winner goes."""

    model_name: str = _setting("cifar", "name under which TF Serving finds the model")
    base_directory: str | None = _setting(
        None,
        "folder of model folders (default: <output_root>/serving)",
        problem=paths.pattern_problem,
    )
    push: Literal["directory", "registry", "endpoint"] = _setting(
        "directory",
        "directory: a folder that TF Serving watches; on Vertex AI also registry: Model "
        "Registry, or endpoint: registry and a share of an Endpoint's traffic",
    )
    registry_alias: str = _setting(
        "champion", "registry: alias that moves to the newest version"
    )
    endpoint: str | None = _setting(
        None, "endpoint: its resource name or number; none: made on the first push"
    )
    canary_percent: int = _setting(
        10, "endpoint: share of the traffic for the new version", low=1, high=100
    )


@dataclass(frozen=True, kw_only=True)
class VertexConfig:
    """Where and on what a run on Vertex AI runs; a local run ignores it."""

    project: str | None = _setting(None, "Google Cloud project (--project)")
    region: str = _setting("us-central1", "region (--region)")
    hardware: str = _setting(
        "cpu", "what trains: row of pipeline/vertex/hardware.py, e.g. gpu8 or tpu-v3-8"
    )
    machine_type: str | None = _setting(
        None, "of the training jobs (default: the hardware's)"
    )
    disk_gb: int = _setting(
        100, "boot disk of the training jobs, in GB", low=100, high=64_000
    )
    spot: bool = _setting(
        False, "train on spot capacity; a stopped job goes on from its checkpoint"
    )
    repository: str | None = _setting(
        None,
        "of the images (default: <region>-docker.pkg.dev/<project>/cifar-resnet)",
    )
    image_tag: str = _setting("0.1.0", "tag of the images: a release of this project")
    serving_image: str | None = _setting(
        None,
        "registry, endpoint: image that serves the model (default: the pipeline's)",
    )
    service_account: str | None = _setting(
        None, "whose rights the run has (default: the project's Compute Engine account)"
    )
    beam_service_account: str | None = _setting(
        None, "dataflow: whose rights the workers have (default: the run's)"
    )
    network: str | None = _setting(
        None, "VPC network, projects/<number>/global/networks/<name>"
    )
    beam: Literal["in_process", "dataflow", "flink", "spark"] = _setting(
        "in_process",
        "what carries out Beam: the step's own machine (60,000 images need no more), "
        "Dataflow, or a Flink or Spark cluster at vertex.beam_endpoint",
    )
    beam_endpoint: str | None = _setting(
        None, "flink, spark: host:port of the cluster's job service"
    )
    beam_machine_type: str = _setting("n2-standard-4", "dataflow: of the workers")
    beam_max_workers: int = _setting(
        4, "dataflow: most workers; flink, spark: parallelism", low=1, high=1000
    )
    budget_usd: float | None = _setting(
        None,
        "a run that would cost more, by the estimate, is not submitted",
        low=0.01,
        high=1e6,
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything a run depends on."""

    preset: str = _setting(
        "quick",
        "what is applied first: smoke (a minute), quick (minutes), resnet164 or "
        "resnet1001 (the papers' networks, for accelerators)",
    )
    pipeline_name: str = _setting(
        "cifar-resnet", "lower case, digits, dashes (Vertex AI's rule)"
    )
    output_root: str = _setting(
        "output",
        "folder for everything that a run writes",
        problem=paths.pattern_problem,
    )
    enable_cache: bool = _setting(
        True, "reuse what an earlier run made of the same inputs"
    )
    data: DataConfig = field(default_factory=DataConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    baseline: ModelConfig = field(
        default_factory=lambda: ModelConfig(network="resnet20")
    )
    candidate: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    vertex: VertexConfig = field(default_factory=VertexConfig)

    @property
    def serving_root(self) -> str:
        """Folder of model folders that TF Serving watches."""
        return self.serving.base_directory or f"{self.output_root}/serving"


@dataclass(frozen=True)
class FieldInfo:
    """One leaf of the configuration, as a person sees it."""

    name: str  # dotted, e.g. "train.epochs"
    annotation: Any
    default: Any
    help: str
    low: float
    high: float
    problem: Problem | None

    @property
    def rule(self) -> str:
        """The values it takes, in words."""
        return _rule(self.annotation, self.low, self.high)


def leaves(cls: type = RunConfig, prefix: str = "") -> dict[str, FieldInfo]:
    """All leaf fields by dotted name, in declaration order."""
    found: dict[str, FieldInfo] = {}
    hints = typing.get_type_hints(cls)
    defaults = cls()
    for item in dataclasses.fields(cls):
        name = prefix + item.name
        if dataclasses.is_dataclass(hints[item.name]):
            section = typing.cast(type, hints[item.name])
            nested = leaves(section, name + ".")
            actual = to_dict(getattr(defaults, item.name))
            for key, leaf in nested.items():
                short = key.removeprefix(name + ".")
                value = actual.get(short, leaf.default)
                nested[key] = dataclasses.replace(leaf, default=value)
            found |= nested
        else:
            found[name] = FieldInfo(
                name, hints[item.name], getattr(defaults, item.name), **item.metadata
            )
    return found


def override(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns `config` with dotted fields replaced.

    Args:
        config: Where to start from.
        values: Dotted name -> value; text (from a command line) is converted to the
            field's type, other values must have it.

    Raises:
        ConfigError: Unknown name, wrong type, or a value outside the field's range.
    """
    known = leaves()
    for name, value in values.items():
        if name not in known:
            raise ConfigError(_unknown(name, known))
        checked = _checked(known[name], value)
        config = _replaced(config, name.split("."), checked)
    return config


def to_dict(section: Any) -> dict[str, Any]:
    """A section as nested plain dictionaries."""
    return dataclasses.asdict(section)


def to_json(section: Any) -> str:
    """Canonical JSON: sorted keys, no spaces; the same value gives the same text."""
    return json.dumps(to_dict(section), sort_keys=True, separators=(",", ":"))


def from_dict(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Builds a section strictly: unknown and missing fields are refused by name.

    Raises:
        ConfigError: As `override`; also when a field is missing.
    """
    hints = typing.get_type_hints(cls)
    own = {item.name: item for item in dataclasses.fields(typing.cast(Any, cls))}
    for name in values:
        if name not in own:
            raise ConfigError(_unknown(prefix + name, {prefix + key for key in own}))
    arguments: dict[str, Any] = {}
    for name, item in own.items():
        if name not in values:
            raise ConfigError(f"{prefix}{name} is missing from the configuration")
        value = values[name]
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{prefix}{name}={value!r}: must be a section (object)"
                )
            arguments[name] = from_dict(hints[name], value, f"{prefix}{name}.")
        else:
            info = FieldInfo(prefix + name, hints[name], None, **item.metadata)
            arguments[name] = _checked(info, value)
    return cls(**arguments)


def from_json(cls: type[T], text: str) -> T:
    """Reads what `to_json` wrote.

    Raises:
        ConfigError: Not JSON, or as `from_dict`.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"configuration is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"configuration is not a JSON object: {text[:60]!r}")
    return from_dict(cls, values)


def parse_assignment(text: str) -> tuple[str, str]:
    """Splits `name=value` as given on a command line.

    Raises:
        ConfigError: No `=`, or nothing before it.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ConfigError(f"{text!r}: must be name=value, for example train.epochs=3")
    return name.strip(), value


def _replaced(section: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    if rest:
        value = _replaced(getattr(section, head), rest, value)
    return dataclasses.replace(section, **{head: value})


def _unknown(name: str, known: typing.Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{paths.shown(name)}: there is no such configuration field; {hint}"


def _rule(annotation: Any, low: float, high: float) -> str:
    optional = _is_optional(annotation)
    kind = _without_none(annotation)
    if typing.get_origin(kind) is Literal:
        words = "one of " + ", ".join(typing.get_args(kind))
    elif kind is bool:
        words = "true or false"
    elif kind in (int, float):
        words = "a whole number" if kind is int else "a number"
        if low > -math.inf and high < math.inf:
            words += (
                f" from {low:g} to {high:g}"
                if kind is float
                else f" from {low} to {high}"
            )
    else:
        words = "text"
    return words + (" or none" if optional else "")


def _is_optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        (kind,) = [a for a in typing.get_args(annotation) if a is not type(None)]
        return kind
    return annotation


def _checked(info: FieldInfo, value: Any) -> Any:
    """Converts text to the field's type and checks the range."""

    def refuse(but: str = "") -> ConfigError:
        rule = info.rule + but
        return ConfigError(f"{info.name}={paths.shown(value)}: must be {rule}")

    kind = _without_none(info.annotation)
    if typing.get_origin(kind) is Literal and value in typing.get_args(kind):
        return value
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        if _is_optional(info.annotation):
            return None
        raise refuse(", not none" if kind is str else "")
    if typing.get_origin(kind) is Literal:
        raise refuse()
    if kind is bool:
        if isinstance(value, str):
            value = {"true": True, "1": True, "false": False, "0": False}.get(
                value.lower(), value
            )
        if not isinstance(value, bool):
            raise refuse()
        return value
    if kind in (int, float):
        if isinstance(value, bool):
            raise refuse()
        try:
            number = kind(value) if isinstance(value, str) else value
        except ValueError:
            raise refuse() from None
        if kind is float and isinstance(number, int):
            number = float(number)
        if not isinstance(number, kind) or not info.low <= number <= info.high:
            raise refuse()
        return number
    if not isinstance(value, str):
        raise refuse()
    if not value.strip():
        raise refuse(", not empty")
    if info.problem is not None and (problem := info.problem(value)) is not None:
        raise ConfigError(f"{info.name}={paths.shown(value)}: {problem}")
    return value

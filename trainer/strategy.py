"""Which devices train, and how many replicas.

`auto | single | mirrored | multi_worker | tpu`. Several replicas on CPUs are logical
devices, which TensorFlow only makes before its first operation: `prepare_devices` comes
first in a process that runs the whole pipeline.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf

from contract.config.train import TrainConfig


class StrategyError(RuntimeError):
    """The devices that were asked for are not there."""


def prepare_devices(config: TrainConfig) -> None:
    """Makes as many logical CPU devices as a mirrored training on CPUs needs.

    Raises:
        StrategyError: TensorFlow has already started with another number, or batch or
            precision do not suit this machine.
    """
    _check_precision(config)
    if config.strategy in ("auto", "mirrored") and config.tpu is None:
        gpus = len(tf.config.list_physical_devices("GPU"))
        check_shares(config, config.replicas or max(1, gpus))
    wanted = config.replicas or 1
    if config.strategy != "mirrored" or _gpus() or wanted == 1:
        return
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * wanted
    # If TensorFlow has started already, what counts is what it started with.
    with contextlib.suppress(RuntimeError):
        tf.config.set_logical_device_configuration(cpu, devices)
    found = len(tf.config.list_logical_devices("CPU"))
    if found < wanted:
        raise StrategyError(
            f"train.replicas={wanted}: TensorFlow has already started with {found} CPU "
            "device; start the run in a process of its own"
        )


def create(config: TrainConfig) -> tf.distribute.Strategy:
    """The strategy of a configuration; never with fewer replicas than asked for.

    Raises:
        StrategyError: Devices are missing, or batch or precision do not suit them.
    """
    _check_precision(config)
    kind = config.strategy
    if kind == "multi_worker":  # before TensorFlow has looked at any device
        return _checked(_multi_worker(), config)
    gpus = tf.config.list_logical_devices("GPU") if _gpus() else []
    if kind == "auto":
        kind = "tpu" if config.tpu else "mirrored" if len(gpus) > 1 else "single"
    if kind == "tpu":
        strategy = _tpu(config)
    elif kind == "mirrored":
        strategy = tf.distribute.MirroredStrategy(_mirrored_devices(config, gpus))
    else:
        strategy = tf.distribute.get_strategy()  # the default: one device
    return _checked(strategy, config)


def _checked(
    strategy: tf.distribute.Strategy, config: TrainConfig
) -> tf.distribute.Strategy:
    replicas = strategy.num_replicas_in_sync
    if config.replicas is not None and replicas != config.replicas:
        raise StrategyError(
            f"train.replicas={config.replicas}: there are {replicas}; ask for "
            f"{replicas}, or leave train.replicas out to take all"
        )
    check_shares(config, replicas)
    return strategy


def check_shares(config: TrainConfig, replicas: int) -> None:
    """Each replica must get images, the same number of them, in every step.

    How many replicas there are is known before only where a number was asked for.

    Raises:
        StrategyError: They cannot.
    """
    if config.global_batch_size % replicas:
        raise StrategyError(
            f"train.global_batch_size={config.global_batch_size}: must divide by the "
            f"{replicas} replicas, every replica gets the same share"
        )
    if config.last_batch == "keep" and replicas > 1:
        raise StrategyError(
            f"train.last_batch=keep: an incomplete batch cannot be shared out to the "
            f"{replicas} replicas; choose train.last_batch=drop, or train.strategy=single"
        )


def _check_precision(config: TrainConfig) -> None:
    if config.precision == "mixed_float16" and not _gpus():
        raise StrategyError(
            "train.precision=mixed_float16: TensorFlow has no batch norm in float16 "
            "without a GPU; choose train.precision=mixed_bfloat16"
        )


def _mirrored_devices(config: TrainConfig, gpus: list) -> list[str]:
    kind, devices = "GPU", gpus
    if not gpus:
        kind, devices = "CPU", tf.config.list_logical_devices("CPU")
    wanted = config.replicas or len(devices)
    if len(devices) < wanted:
        raise StrategyError(
            f"train.replicas={wanted}: this machine has {len(devices)} {kind} devices; "
            "lower train.replicas"
        )
    return [device.name for device in devices[:wanted]]


def _multi_worker() -> tf.distribute.Strategy:
    """The machines that TF_CONFIG names; waits until all of them are there."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        named = bool(resolver.cluster_spec().jobs)
    except ValueError:  # no JSON
        named = False
    if not named:
        raise StrategyError(
            "train.strategy=multi_worker: the environment variable TF_CONFIG names no "
            "cluster; set it on every machine, or choose train.strategy=mirrored"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        message = str(error).splitlines()[0]
        raise StrategyError(
            f"train.strategy=multi_worker: the workers of TF_CONFIG cannot begin ({message}); "
            "start all of them, each in a process of its own"
        ) from error


def _tpu(config: TrainConfig) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=config.tpu or ""
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as error:
        message = str(error).splitlines()[0]
        raise StrategyError(
            f"train.strategy=tpu, train.tpu={config.tpu}: no TPU can be reached "
            f"({message}); give its name or address in train.tpu, or local on a TPU VM"
        ) from error


def _gpus() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))

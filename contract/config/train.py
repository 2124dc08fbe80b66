"""Section `train`: how the contenders are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How both contenders are trained; they differ in the network alone."""

    recipe: Literal["quick", "paper", "released", "imagenet"] = setting(
        "quick",
        "row of pipeline/presets.py: short, He et al. 2016b, their code's, or 2016a's for "
        "ImageNet",
    )
    epochs: float = setting(1.0, "passes over the train split", low=0.001, high=100_000)
    steps: int | None = setting(
        None, "length in steps, instead of epochs", low=1, high=10**9
    )
    global_batch_size: int = setting(
        128, "images per step, over all replicas", low=1, high=65_536
    )
    last_batch: Literal["drop", "keep"] = setting(
        "drop", "what a pass does with images that do not fill a batch"
    )
    learning_rate: float = setting(0.1, "peak learning rate", low=1e-8, high=100.0)
    schedule: Literal[
        "one_cycle", "cosine", "paper", "released", "constant", "plateau"
    ] = setting(
        "one_cycle",
        "one_cycle: up linearly, down to 0; paper: x0.1 at 1/2 and 3/4 of the "
        "steps, a tenth at first; released: x0.1 after epochs 80 and 121; plateau: x0.1 "
        "where the eval error falls no more",
    )
    plateau_evaluations: int = setting(
        5,
        "plateau: evaluations without a new lowest eval error before each x0.1",
        low=1,
        high=10_000,
    )
    evaluation_steps: int | None = setting(
        None,
        "steps between evaluations on the eval split; none: one after each pass",
        low=1,
        high=10**9,
    )
    warmup_fraction: float = setting(
        0.2, "one_cycle, cosine: share of the steps on the way up", low=0.0, high=0.9
    )
    momentum: float = setting(0.9, "of SGD", low=0.0, high=0.9999)
    nesterov: bool = setting(True, "Nesterov momentum")
    weight_decay: float = setting(
        1e-4, "L2 in the gradient, on every trainable tensor", low=0.0, high=1.0
    )
    initialiser: Literal["he_fan_in", "released"] = setting(
        "he_fan_in", "initial weights: He et al. 2015, or the released code's"
    )
    zero_start: Literal["none", "kernel", "gamma"] = setting(
        "none",
        "what starts at 0 in each residual branch, so that its unit starts as the "
        "identity: the last kernel, or gamma of the last batch norm",
    )
    freeze: Literal["none", "stem", "stage1", "stage2", "stage3", "stage4"] = setting(
        "none",
        "networks with initial_weights: the stem, and the stages up to this one, keep weights "
        "and batch-norm statistics",
    )
    label_smoothing: float = setting(
        0.0, "share of the target spread over all classes; 0: off", low=0.0, high=0.9
    )
    ema: float = setting(
        0.0, "decay of a moving average of the weights; 0: off", low=0.0, high=0.99999
    )
    crop_padding: int = setting(
        4, "pixels of padding before the random crop; 0: no crop", low=0, high=16
    )
    flip: bool = setting(True, "mirror images at random")
    colour_noise: float = setting(
        0.1,
        "data.encoded: deviation of the noise along the colours' principal axes, which "
        "images are tinted with; 0: none",
        low=0.0,
        high=1.0,
    )
    seed: int = setting(
        1, "of initialisation, order and augmentation", low=0, high=2**31 - 1
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "float32", "of activations; weights and batch norm stay float32"
    )
    rematerialise: bool = setting(
        False, "recompute units in the backward pass: less memory, more time"
    )
    strategy: Literal["auto", "single", "mirrored", "multi_worker", "tpu"] = setting(
        "auto",
        "auto: tpu if train.tpu is given, mirrored on several GPUs, else single; "
        "multi_worker: the machines that TF_CONFIG names",
    )
    replicas: int | None = setting(
        None,
        "mirrored: how many (on CPU: logical devices); none: all GPUs",
        low=1,
        high=4096,
    )
    tpu: str | None = setting(None, "name or address of the TPU; local for this host's")
    synchronized_batch_norm: bool = setting(
        False, "moments over all replicas; needs a graph that grows with depth"
    )
    steps_per_execution: int = setting(
        1, "training steps per call of the device; more for TPUs", low=1, high=100_000
    )
    checkpoint_seconds: float = setting(
        30.0, "at most this long between checkpoints", low=0.0, high=86_400
    )
    profile_steps: int = setting(
        0, "steps that TensorBoard's profiler records; 0: none", low=0, high=10_000
    )

"""Lengths and learning-rate schedules as plain functions of the step.

A leaf: standard library only, so that tests and plots need no TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from contract.config.train import TrainConfig

# He et al. 2016b: 400 of 64,000 steps at a tenth of the learning rate.
_PAPER_WARMUP = 400 / 64_000
# KaimingHe/resnet-1k-layers (README): the learning rate drops after these epochs.
_RELEASED_DROPS = (80, 121)


def steps_per_epoch(config: TrainConfig, examples: int) -> int:
    """Batches in one pass over `examples` images.

    Raises:
        ValueError: The batch is larger than the split.
    """
    batch = config.global_batch_size
    if batch > examples:
        raise ValueError(
            f"train.global_batch_size={batch}: the train split has only {examples} "
            "images; choose a smaller batch"
        )
    return -(-examples // batch) if config.last_batch == "keep" else examples // batch


def total_steps(config: TrainConfig, examples: int) -> int:
    """Length of the training, at least one step."""
    if config.steps is not None:
        return config.steps
    return max(1, round(config.epochs * steps_per_epoch(config, examples)))


def learning_rate(
    config: TrainConfig, steps: int, per_epoch: int
) -> Callable[[int], float]:
    """The schedule: step (0-based) -> learning rate.

    Args:
        config: Its `schedule`, `learning_rate` and `warmup_fraction` are used.
        steps: Length of the training.
        per_epoch: Steps in one pass.
    """
    peak = config.learning_rate
    warmup = max(1, round(steps * config.warmup_fraction))

    def rising(step: int) -> float:
        return peak * (step + 1) / warmup

    def one_cycle(step: int) -> float:
        left = (steps - step) / max(1, steps - warmup)
        return rising(step) if step < warmup else peak * left

    def cosine(step: int) -> float:
        done = (step - warmup) / max(1, steps - warmup)
        fallen = peak * (1 + math.cos(math.pi * done)) / 2
        return rising(step) if step < warmup else fallen

    def paper(step: int) -> float:
        # For 64,000 steps: 400, 32,000 and 48,000.
        if step < round(steps * _PAPER_WARMUP):
            return 0.1 * peak
        return peak * 0.1 ** ((step >= steps // 2) + (step >= steps * 3 // 4))

    def released(step: int) -> float:
        epoch = step // per_epoch
        return peak * 0.1 ** sum(epoch >= drop for drop in _RELEASED_DROPS)

    def constant(_: int) -> float:
        return peak

    def plateau(_: int) -> float:
        return peak  # times 0.1 for each of `drops`

    schedules = (one_cycle, cosine, paper, released, constant, plateau)
    return {f.__name__: f for f in schedules}[config.schedule]


def evaluate_every(config: TrainConfig, per_epoch: int) -> int:
    """Steps between evaluations on the eval split."""
    return config.evaluation_steps or per_epoch


def drops(config: TrainConfig, history: Sequence[Mapping[str, float]]) -> int:
    """How often the plateau schedule has divided the learning rate by 10 so far.

    A function of the history, which checkpoints hold: a resumed training goes on alike.
    Source: He et al. 2016a, section 3.4, "divided by 10 when the error plateaus"; how long
    a plateau is, they do not say.

    Args:
        config: Its `schedule` and `plateau_evaluations` are used.
        history: Points as of contract.model_run.ModelRun.
    """
    if config.schedule != "plateau":
        return 0
    found, best, waited = 0, -math.inf, 0
    for accuracy in (p["eval_accuracy"] for p in history if "eval_accuracy" in p):
        waited += 1
        if accuracy > best:
            best, waited = accuracy, 0
        elif waited == config.plateau_evaluations:
            found, waited = found + 1, 0
    return found

"""What a run on Vertex AI will take and cost, before it is submitted.

Comes in: a complete configuration and pipeline/vertex/estimate/prices.toml, which a person may
edit. Goes out: steps, hours and USD, line by line. An estimate: prices are list prices,
speeds partly assumptions (the file says which), and free capacity, retries, storage,
logs, traffic and taxes are not in it. Standard library only, no network.
"""

from __future__ import annotations

import datetime
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from components.example_gen.sources import expected
from contract import features
from contract.answers import SPLITS
from contract.config.run import RunConfig
from contract.contenders import Contender
from contract.fields import ConfigError
from pipeline.nodes import KINDS, Kind, kind_of
from pipeline.resolve import train_images
from pipeline.vertex import hardware, jobs
from pipeline.vertex.estimate.prices import PRICES, Prices
from pipeline.vertex.machines import CPU_MACHINES, MACHINES
from trainer import program, recipe, units

HOURS_PER_MONTH = 730
JOB = "its training job"

# Floating-point operations per multiply-add: forward 2, backward 4, recomputed units 2.
_FORWARD, _TRAINING, _RECOMPUTED = 2, 6, 8


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training job."""

    role: str  # the contender's name
    network: str
    steps: int
    images_per_second: float
    hours: float  # until the job ends, its start included


@dataclass(frozen=True, kw_only=True)
class Line:
    """Something that is paid for."""

    what: str  # node id, `JOB` (of the Trainer on the line before), or another service
    machine: str
    accelerators: str
    disk_gb: int
    hours: float  # of the machine; of Dataflow's, together; of a training's, of each
    usd: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run takes."""

    trainings: tuple[Training, ...]
    lines: tuple[Line, ...]
    hours: float  # from the first step's start to the last one's end
    monthly_usd: float  # of what goes on after the run: an endpoint's node
    prices_date: datetime.date
    unchecked: tuple[str, ...]  # rows of the table that no public figure stands beside

    @property
    def total_usd(self) -> float:
        """Of the run; `monthly_usd` is apart."""
        return sum(line.usd for line in self.lines)


def estimate(config: RunConfig, path: Path = PRICES) -> Estimate:
    """Estimates a run.

    Args:
        config: Complete and checked by pipeline/resolve.py with pipeline/vertex/rules.py.
        path: The table of prices.

    Raises:
        ConfigError: The table cannot be read, or has no price for a machine.
    """
    prices = Prices.load(path, config.vertex.region)
    trainings = tuple(training(config, each, prices) for each in config.all_contenders)
    by_role = {training.role: training for training in trainings}
    lines: list[Line] = []
    hours = 0.0
    for _, level in itertools.groupby(_kinds(config), lambda kind: kind.level):
        longest = 0.0  # of the steps of a level, which run at the same time
        for name in (name for each in level for name in each.ids(_names(config))):
            kind = kind_of(name)
            work = prices.step_hours(kind.name)
            if kind.forward_passes:
                work += _answering_hours(config, name, prices)
            job = by_role[kind.contender(name)] if kind.work == "training" else None
            if job is not None:
                work += job.hours  # it waits for the job
            lines.append(_step_line(name, work, prices))
            if job is not None:
                lines.append(job_line(config, job, prices))
            longest = max(longest, work)
        hours += longest
    if config.vertex.beam == "dataflow":
        lines.append(_dataflow_line(config, prices))
    lines.append(
        Line(
            what="Pipelines",
            machine="",
            accelerators="",
            disk_gb=0,
            hours=0.0,
            usd=prices.number("fees", "pipeline_run"),
        )
    )
    monthly = 0.0
    if config.serving.push == "endpoint":
        node = prices.endpoint_node(config.vertex.endpoint_machine_type)
        monthly = node * HOURS_PER_MONTH
    return Estimate(
        trainings=trainings,
        lines=tuple(lines),
        hours=hours,
        monthly_usd=monthly,
        prices_date=prices.date,
        unchecked=tuple(prices.unchecked()),
    )


def check_budget(config: RunConfig, found: Estimate) -> None:
    """Refuses a run above `vertex.budget_usd`, or with a training that no job would end.

    Raises:
        ConfigError: With both numbers.
    """
    for training in found.trainings:
        if training.hours * 3600 > jobs.TIMEOUT_SECONDS:
            raise ConfigError(
                f"vertex.hardware={config.vertex.hardware}: the training of the "
                f"{training.role} is estimated at {training.hours / 24:.1f} days, and "
                f"Vertex AI ends a training job after {jobs.TIMEOUT_SECONDS / 86_400:g}; "
                "train for less, or choose faster vertex.hardware"
            )
    budget = config.vertex.budget_usd
    if budget is not None and found.total_usd > budget:
        raise ConfigError(
            f"vertex.budget_usd={budget:g}: this run is estimated at "
            f"{found.total_usd:.2f} USD ({found.hours:.1f} hours); raise the budget, "
            "train for less, or choose other vertex.hardware"
        )


def step_flops(config: RunConfig, contender: Contender) -> float:
    """Floating-point operations of one training step, over all replicas."""
    per_multiply_add = _RECOMPUTED if config.train.rematerialise else _TRAINING
    multiply_adds = _multiply_adds(config, contender)
    return per_multiply_add * multiply_adds * config.train.global_batch_size


def _multiply_adds(config: RunConfig, contender: Contender) -> int:
    """Of one image."""
    spec = units.parse_network(contender.network)
    data = expected(config.data)
    return program.count_multiply_adds(spec, len(data.class_names), data.pixels)


def training(config: RunConfig, contender: Contender, prices: Prices) -> Training:
    """What training a contender takes, by the section `train` of the configuration."""
    train = config.train
    where = hardware.of(config.vertex)
    images = train_images(config)
    steps = recipe.total_steps(train, images)
    speed = prices.speed(where, train.precision)
    share = prices.positive("speed", "share_of_replicas") if where.devices > 1 else 1.0
    if where.machines > 1:
        share *= prices.positive("speed", "share_of_machines")
    seconds = step_flops(config, contender) / (speed.flops * where.devices * share)
    seconds += units.parse_network(contender.network).depth * speed.layer_seconds
    per_second = min(
        train.global_batch_size / seconds,
        where.machines * prices.positive("speed", "input_images_per_second"),
    )
    # The eval split is looked at after each pass; forward alone is a third of the work.
    per_epoch = recipe.steps_per_epoch(train, images)
    evaluations = math.ceil(steps / recipe.evaluate_every(train, per_epoch))
    looked_at = evaluations * _split_images(config, features.EVAL) / 3
    trained = steps * train.global_batch_size
    start = prices.number("steps", "job_start_seconds", where.image)
    return Training(
        role=contender.name,
        network=contender.network,
        steps=steps,
        images_per_second=per_second,
        hours=((trained + looked_at) / per_second + start) / 3600,
    )


def _split_images(config: RunConfig, split: str) -> int:
    counts = expected(config.data).counts
    if split == features.TEST:
        return counts[split]
    return counts[features.TRAIN] - train_images(config)


def _kinds(config: RunConfig) -> list[Kind]:
    """Of the run's nodes, those of a level behind one another."""
    return [kind for kind in KINDS.values() if kind.is_in(config)]


def _answering_hours(config: RunConfig, name: str, prices: Prices) -> float:
    """Forward passes of a model, on its step's own processor."""
    kind = kind_of(name)
    network = {
        each.name: _multiply_adds(config, each) for each in config.all_contenders
    }
    # The model in service is taken to be as deep as the deepest of them.
    multiply_adds = network.get(kind.contender(name), max(network.values()))
    images = sum(_split_images(config, split) for split in SPLITS)
    work = _FORWARD * multiply_adds * images
    return work / prices.processor_flops(kind.resources.cpu) / 3600


def _names(config: RunConfig) -> list[str]:
    return [each.name for each in config.all_contenders]


def _step_line(name: str, hours: float, prices: Prices) -> Line:
    machine = step_machine(name)
    disk = int(prices.number("fees", "step_disk_gb"))
    return Line(
        what=name,
        machine=machine,
        accelerators="",
        disk_gb=disk,
        hours=hours,
        usd=hours * (prices.machine(machine) + prices.disk(disk)),
    )


def job_line(config: RunConfig, training: Training, prices: Prices) -> Line:
    """What a training's job costs."""
    vertex = config.vertex
    where = hardware.of(vertex)
    # Flex-start is cheaper than on demand, by a discount that no page states for all; it is
    # taken at the full price. So is a reservation, which is paid for in any case.
    spot = vertex.scheduling == "spot"
    per_hour = prices.machine(where.machine_type, spot=spot)
    per_hour += prices.accelerators(where, spot=spot)
    return Line(
        what=JOB,
        machine=where.machine,
        accelerators=where.accelerators,
        disk_gb=vertex.disk_gb,
        hours=training.hours,
        usd=where.machines * training.hours * (per_hour + prices.disk(vertex.disk_gb)),
    )


def _dataflow_line(config: RunConfig, prices: Prices) -> Line:
    """All Beam steps with all workers: what autoscaling will not exceed."""
    vertex = config.vertex
    machine = MACHINES[vertex.beam_machine_type]
    start = prices.number("steps", "dataflow_start_seconds")
    seconds = sum(
        len(kind.ids(_names(config))) * (start + prices.step_seconds(kind.name))
        for kind in _kinds(config)
        if kind.work == "beam"
    )
    hours = vertex.beam_max_workers * seconds / 3600
    disk = int(prices.number("dataflow", "worker_disk_gb"))
    per_hour = (
        machine.vcpus * prices.number("dataflow", "vcpu")
        + machine.memory_gb * prices.number("dataflow", "gb")
        + disk * prices.number("dataflow", "disk_gb_hour")
    )
    return Line(
        what="Dataflow",
        machine=f"{vertex.beam_max_workers} x {vertex.beam_machine_type}",
        accelerators="",
        disk_gb=disk,
        hours=hours,
        usd=hours * per_hour * prices.region_factor,
    )


def step_machine(node_id: str) -> str:
    """The machine type that Vertex AI is taken to choose for a step.

    It documents "the closest match" for the resources asked for; the smallest e2 that holds
    them is what it gives to a step that asks for nothing.
    """
    needed = kind_of(node_id).resources
    fitting = [
        (machine.vcpus, machine.memory_gb, name)
        for name, machine in CPU_MACHINES.items()
        if name.startswith("e2-")
        and machine.vcpus >= needed.cpu
        and machine.memory_gb >= needed.memory_gb
    ]
    return min(fitting)[-1]

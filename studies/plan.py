"""Which trainings a study consists of: rows times seeds, each with its configuration.

In: a study, a scale and what a person asked for. Out: one complete configuration that all
share, and one training per row and seed. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components import numbered
from contract.config.run import RunConfig
from contract.config.train import TrainConfig
from contract.contenders import Contender
from contract.fields import ConfigError, assignment, override, value_of
from pipeline.resolve import Resolved, Rules, resolve
from studies.study import Asked, Row, Study
from studies.tables import STUDIES

# One name for all studies: a row that two of them have is trained once.
PIPELINE_NAME = "cifar-studies"
FOLDER = "studies"  # below the output folder: studies have metadata of their own
_SEEDS = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One row with one seed."""

    contender: Contender
    row: Row
    train: TrainConfig  # seed included


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study as it will be run."""

    study: Study
    scale: str
    resolved: Resolved
    seeds: tuple[int, ...]
    trainings: tuple[Training, ...]  # all rows with the first seed, then the next

    @property
    def config(self) -> RunConfig:
        """What all trainings share; its own networks and seed are nobody's."""
        return self.resolved.config

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those that are run, in the study's order."""
        names = {training.row.name for training in self.trainings}
        return tuple(row for row in self.study.rows if row.name in names)


def asked(plan: Plan) -> Asked:
    """The plan as StudyReport takes it."""
    return Asked(
        study=plan.study.name,
        scale=plan.scale,
        data=plan.config.data.name,
        seeds=plan.seeds,
        trainings={each.contender.name: each.row.name for each in plan.trainings},
    )


def make(  # noqa: PLR0913 - what a person may ask for, and where
    name: str,
    scale: str,
    *,
    seeds: str | None = None,
    rows: str | None = None,
    assignments: Sequence[str] = (),
    environment: Mapping[str, str],
    directory: str,
    rules: Rules,
    studies: Mapping[str, Study] = STUDIES,
) -> Plan:
    """Plans a study.

    Args:
        name: Of the study.
        scale: "small" or "paper".
        seeds: "5" for 1 to 5, or "6-10"; None: as the scale has it.
        rows: Names with commas between; None: those of the scale.
        assignments: `name=value` texts of a person's own; they win over the scale's.
        environment: As of pipeline.resolve.
        directory: As of pipeline.resolve.
        rules: Of the engine.
        studies: By name.

    Raises:
        ConfigError: One sentence.
    """
    study = studies[name]
    size = study.scales[scale]
    given = [text.partition("=")[0] for text in assignments]
    for field in given:
        if field.partition(".")[0] in ("contenders", "baseline", "candidate"):
            raise ConfigError(
                f"{field}: a study's networks are its rows; choose among them with --rows, "
                "or add one in studies/tables.py"
            )
        if field == "train.seed":
            raise ConfigError(f"{field}: a study has several; give --seeds")
    base: dict[str, Any] = {
        "pipeline_name": PIPELINE_NAME,
        "data.name": study.data[0],
        **size.assignments,
    }
    texts = [assignment(key, value) for key, value in base.items()]
    resolved = resolve([*texts, *assignments], environment, directory, rules)
    config = resolved.config
    if "://" not in config.output_root:
        resolved = replace(
            resolved,
            config=replace(config, output_root=f"{config.output_root}/{FOLDER}"),
        )
    chosen = _rows(study, size.without, rows)
    numbers = _seeds(seeds, size.seeds)
    if (count := len(chosen) * len(numbers)) > numbered.MOST:
        raise ConfigError(
            f"study {name}: {len(chosen)} rows with {len(numbers)} seeds are {count} "
            f"trainings, and its report takes {numbered.MOST} at most (a task of Vertex AI "
            "takes no more artifacts); choose fewer --rows or --seeds"
        )
    return Plan(
        study=study,
        scale=scale,
        resolved=resolved,
        seeds=numbers,
        trainings=tuple(
            _training(resolved.config, row, seed) for seed in numbers for row in chosen
        ),
    )


def _training(config: RunConfig, row: Row, seed: int) -> Training:
    values: dict[str, Any] = dict(row.overrides)
    for name, factor in row.times.items():
        value = value_of(config, name)
        if value is None:
            raise ConfigError(
                f"{name}=none: row {row.name} takes {factor:g} times its value; set it"
            )
        values[name] = type(value)(value * factor)
    train = replace(override(config, values).train, seed=seed)
    contender = Contender(name=f"{row.name}s{seed}", network=row.network, seed=seed)
    return Training(contender=contender, row=row, train=train)


def _rows(study: Study, without: Sequence[str], asked: str | None) -> list[Row]:
    if asked is None:
        return [row for row in study.rows if row.name not in without]
    names = [name.strip() for name in asked.split(",")]
    known = [row.name for row in study.rows]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--rows={asked}: {name} is no row of {study.name}; it has "
                f"{', '.join(known)}"
            )
    if study.reference not in names:
        raise ConfigError(
            f"--rows={asked}: must have {study.reference}, to which the others are compared"
        )
    return [row for row in study.rows if row.name in names]


def _seeds(asked: str | None, usual: int) -> tuple[int, ...]:
    text = asked or str(usual)
    match = _SEEDS.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"--seeds={text}: must be a number, as 5 for the seeds 1 to 5, or two with a "
            "dash, as 6-10"
        )
    first, last = (match[1], match[2]) if match[2] else ("1", match[1])
    found = range(int(first), min(int(last), int(first) + numbered.MOST) + 1)
    if not found:
        raise ConfigError(f"--seeds={text}: the last is before the first")
    return tuple(found)

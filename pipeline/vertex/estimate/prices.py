"""The table of prices and speeds, pipeline/vertex/estimate/prices.toml, for one region.

People edit that file; what is missing or wrong in it is refused with its place and name.
Standard library only.
"""

from __future__ import annotations

import datetime
import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.fields import ConfigError
from pipeline.nodes import KINDS
from pipeline.vertex.hardware import Hardware, did_you_mean
from pipeline.vertex.machines import ENDPOINT_MACHINES, MACHINES

PRICES = Path(__file__).with_name("prices.toml")
# The sections of prices; [steps] and [speed] are no money.
_MONEY = ("accelerators", "dataflow", "endpoint", "fees", "machines", "regions")
# Sizes, and Cloud TPU's machines: the host is part of the accelerator's price.
_WITHOUT_PRICE = (
    *("fees.step_disk_gb", "dataflow.worker_disk_gb"),
    *("machines.cloud", "machines.ct5lp"),
    *("machines.cloud on spot", "machines.ct5lp on spot"),
)
# What [steps] holds besides the kinds of node.
_STARTS = ("start_seconds", "job_start_seconds", "dataflow_start_seconds")


@dataclass(frozen=True)
class Speed:
    """How fast something trains."""

    flops: float  # per second and device, reached in training
    layer_seconds: float  # per layer and step, whatever the batch


@dataclass(frozen=True)
class Prices:
    """The table, for one region; Vertex AI's surcharge is in what the methods return."""

    table: Mapping[str, Any]
    path: Path
    date: datetime.date
    region: str
    region_factor: float
    # The rows that were asked for so far: "machines.e2 on spot".
    used: set[str] = field(default_factory=set, compare=False)

    @staticmethod
    def load(path: Path, region: str) -> Prices:
        """Reads the table.

        Raises:
            ConfigError: It cannot be read, has no date, or has seconds of a step that
                there is not; the other methods raise it for what they do not find.
        """
        table = _read(path, path.stat().st_mtime_ns if path.is_file() else 0)
        date = table.get("date")
        if not isinstance(date, datetime.date):
            raise ConfigError(
                f"{path}: date={date}: must be a day, such as 2026-11-21, without quotes"
            )
        prices = Prices(table, path, date, region, 1.0)
        known = (*_STARTS, *KINDS)
        for step in prices._section("steps"):
            if step not in known:
                raise ConfigError(
                    f"{path}: steps.{step}: must be a kind of node, one of "
                    f"{', '.join(KINDS)}{did_you_mean(step, known)}"
                )
        name = region if region in prices._section("regions") else "other"
        factor = prices.number("regions", name)
        return Prices(table, path, date, region, factor, prices.used)

    def _section(self, name: str) -> Mapping[str, Any]:
        value = self.table.get(name)
        return value if isinstance(value, Mapping) else {}

    def number(self, *keys: str) -> float:
        """A number of 0 or more, by the keys that lead to it."""
        value: Any = self.table
        if keys[0] in _MONEY:
            on_spot = " on spot" if keys[-1].startswith("spot") else ""
            self.used.add(f"{keys[0]}.{keys[1]}{on_spot}")
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not 0 <= value < math.inf
        ):
            raise ConfigError(
                f"{self.path}: {'.'.join(keys)}={value}: must be a number of 0 or more; "
                "write it into that file"
            )
        return float(value)

    def positive(self, *keys: str) -> float:
        """The same, above 0."""
        value = self.number(*keys)
        if not value:
            raise ConfigError(f"{self.path}: {'.'.join(keys)}=0: must be above 0")
        return value

    def unchecked(self) -> list[str]:
        """The rows used so far that were held against no public figure."""
        checked = self._section("checked")
        return sorted(self.used - {*checked, *_WITHOUT_PRICE})

    @property
    def _factor(self) -> float:
        return self.region_factor * (1 + self.number("fees", "management"))

    def machine(self, machine_type: str, *, spot: bool = False) -> float:
        """USD per hour, without accelerators and disk."""
        family = machine_type.split("-")[0]
        machine = {**MACHINES, **ENDPOINT_MACHINES}[machine_type]
        prefix = "spot_" if spot else ""
        vcpu = self.number("machines", family, f"{prefix}vcpu")
        gb = self.number("machines", family, f"{prefix}gb")
        each = machine.vcpus * vcpu + machine.memory_gb * gb
        return self._factor_of("machine_regions", family) * each

    def accelerators(self, where: Hardware, *, spot: bool) -> float:
        """USD per hour of all accelerators of a machine."""
        if where.accelerator_type is None:
            return 0.0
        key = "spot" if spot else "hour"
        each = self.number("accelerators", where.accelerator_type, key)
        factor = self._factor_of("accelerator_regions", where.accelerator_type)
        return factor * where.accelerator_count * each

    def _factor_of(self, section: str, row: str) -> float:
        """Most things cost more where others do; some go their own way."""
        own = self._section(section).get(row)
        if not isinstance(own, Mapping) or self.region not in own:
            return self._factor
        own_factor = self.number(section, row, self.region)
        return own_factor * (1 + self.number("fees", "management"))

    def endpoint_node(self, machine_type: str) -> float:
        """USD per hour of a node that serves, whether it is asked or not."""
        compute = self.machine(machine_type) / (1 + self.number("fees", "management"))
        return compute * (1 + self.number("endpoint", "management"))

    def disk(self, size_gb: int) -> float:
        """USD per hour of a boot disk."""
        return self._factor * size_gb * self.number("fees", "disk_gb_hour")

    def step_seconds(self, kind: str) -> float:
        """The work of a step, by its kind; what is not in the table takes a second."""
        known = kind in self._section("steps")
        return self.number("steps", kind) if known else 1.0

    def step_hours(self, kind: str) -> float:
        """A step from the start of its machine to its end."""
        return (self.number("steps", "start_seconds") + self.step_seconds(kind)) / 3600

    def speed(self, where: Hardware, precision: str) -> Speed:
        """Of one device, or of a machine's processor where it has no other."""
        row = where.accelerator_type or "vcpu"
        number_type = "float32" if precision == "float32" else "bfloat16"
        if where.accelerator_type is None:
            vcpus = MACHINES[where.machine_type].vcpus
            flops = self.processor_flops(vcpus, number_type)
        else:
            flops = self.positive("speed", row, number_type)
        return Speed(flops, self.number("speed", row, "layer_seconds"))

    def processor_flops(self, vcpus: float, number_type: str = "float32") -> float:
        """Floating-point operations per second of a machine without accelerators."""
        each = self.positive("speed", "vcpu", number_type)
        return vcpus * each * self.positive("speed", "share_of_vcpus")


@functools.lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read as TOML ({' '.join(str(error).split())})"
        ) from None

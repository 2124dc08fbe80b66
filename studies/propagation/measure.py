"""Carries out the plan: every row of plan.py becomes numbers and findings.

Comes in: nothing but the plan (or trained weights and images). Goes out: plain data, as it
is written to propagation.json. All norms and gradients in float64; Eq. 4 in float32, in
which networks are trained.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from studies.propagation import equations, plan, smallest, walk
from studies.propagation.plan import Finding, PlainRow, Row
from studies.propagation.walk import Network, Signals
from trainer.program import image_shape
from trainer.tables import BLOCKS
from trainer.units import parse_network

Say = Callable[[str], None]
Json = dict[str, Any]


def untrained(say: Say) -> Json:
    """Everything that needs no training.

    Args:
        say: Told which network is under way.

    Returns:
        "networks", "plain", "smallest": numbers; "findings": claims with what came of them.
    """
    findings: list[Finding] = []
    networks = []
    for row in (*plan.ROWS, *plan.SCALED, *plan.GATED):
        say(row.network)
        measured, found = _measured(row)
        networks.append(measured)
        findings += found
    plain = []
    for each in plan.PLAIN:
        say(_title(each))
        plain.append(_plain(each))
    findings += _plain_findings(plain)
    rows_of_one = smallest.gradients()
    findings += _smallest_findings(rows_of_one)
    return {
        "networks": networks,
        "plain": plain,
        "smallest": rows_of_one,
        "findings": [
            dataclasses.asdict(each) | {"holds": each.holds} for each in findings
        ],
    }


def noise(network: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Images, float64, and labels: normal noise, as normalised images are scaled."""
    stream = np.random.default_rng(plan.SEED)
    shape = image_shape(parse_network(network))
    images = stream.standard_normal((plan.IMAGES, *shape))
    return tf.constant(images), tf.constant(
        stream.integers(0, plan.CLASSES, plan.IMAGES)
    )


def signals_of(network: Network, signals: Signals) -> list[Json]:
    """A row per unit: what is before it, and the gradient there.

    `variance`: mean over channels of x_l's variance over images and places; `gradient`:
    |dE/dx_l|; `along`: |s_l|, what reaches x_l of the gradient at its stage's end by
    shortcuts alone; `share`: the same over that gradient; `law`: measured over predicted
    growth of the squared gradient through the unit (pre-activation networks).
    """
    rows = []
    lengths = signals.lengths
    for place, part in enumerate(network.units):
        variances = np.asarray(
            tf.math.reduce_variance(
                tf.cast(signals.inputs[place], tf.float64), axis=[0, 1, 2]
            )
        )
        end = max(
            at for at, each in enumerate(network.units) if each.stage == part.stage
        )
        along = signals.along[place]
        growth = (lengths[place] / lengths[place + 1]) ** 2
        predicted = _law(network, variances) if part.repeated else None
        rows.append(
            {
                "unit": part.name,
                "variance": float(variances.mean()),
                "gradient": lengths[place],
                "along": along,
                "share": None if along is None else along / lengths[end + 1],
                "law": None if predicted is None else growth / predicted,
            }
        )
    return rows


def _law(network: Network, variances: np.ndarray) -> float | None:
    """Predicted (|g_l| / |g_l+1|)^2: lambda^2 + mu^2 a^(k-1) E_c[1 / var_c(x_l)].

    The shortcut's part, and the branch's: its leading batch norm divides by the deviation of
    each channel, and each further one behind a ReLU lets a squared gradient grow by
    a = pi / (pi - 1); He et al.'s initialisation keeps it through the convolutions.
    """
    spec = network.spec
    if spec.arrangement != "full_preactivation" or spec.gate_bias is not None:
        return None
    shortcut = 1.0 if spec.shortcut_scale is None else spec.shortcut_scale
    branch = 1.0 if spec.residual_scale is None else spec.residual_scale
    convolutions = len(BLOCKS[spec.block].kernels)
    a = plan.GROWTH ** (convolutions - 1)
    return shortcut**2 + branch**2 * a * float(np.mean(1 / variances))


def _measured(row: Row) -> tuple[Json, list[Finding]]:
    began = time.perf_counter()
    images, labels = noise(row.network)
    weights = walk.initial_weights(row.network, plan.CLASSES, plan.SEED)
    network = walk.network_of(row.network, plan.CLASSES, weights)
    signals = walk.walk(network, images, labels)
    units = signals_of(network, signals)
    medians = [unit["law"] for unit in units if unit["law"] is not None]
    median = statistics.median(medians) if medians else None
    departure = max(each for each in signals.departure if each is not None)
    found: list[Finding] = []

    def finds(claim: str, value: float, **bounds: Any) -> None:
        found.append(Finding(about=row.network, claim=claim, value=value, **bounds))

    if row.broken:
        finds(
            "a ReLU after the addition: what passes along shortcuts alone is not the "
            "gradient times 1 (relative difference)",
            departure,
            low=0.01,
        )
    else:
        gated = network.spec.gate_bias is not None
        factors = "the gates' 1 - g" if gated else "the lambdas"
        finds(
            f"share along the shortcuts = product of {factors}, within a stage "
            "(relative error)",
            departure,
            high=plan.SHARE,
            exact=True,
        )
    if row.equations:
        single = walk.network_of(row.network, plan.CLASSES, weights, dtype="float32")
        scale = network.spec.shortcut_scale
        errors = {
            ("Eq. 4" if scale is None else "Eq. 7"): equations.forward_error(
                single, tf.cast(images, tf.float32)
            ),
            ("Eq. 5" if scale is None else "Eq. 8"): equations.backward_error(
                network, signals
            ),
        }
        for name, error in errors.items():
            if row.broken:
                finds(f"{name} does not hold (relative error)", error, low=0.01)
            else:
                finds(
                    f"{name} holds (relative error)",
                    error,
                    high=plan.EQUATION,
                    exact=True,
                )
        unit = "the identity" if scale is None else f"{scale:g} x"
        finds(
            f"a unit with a zero last kernel is {unit} (relative difference)",
            equations.identity_error(network, images),
            high=0.0,
            exact=True,
        )
    if row.network == "preact_resnet110":
        finds(
            "|dE/dx| = difference quotient of the loss (relative error)",
            equations.quotient_error(network, signals, labels),
            high=1e-3,
        )
    if median is not None and row.law is not None:
        low, high = row.law
        finds("median of measured over law", median, low=low, high=high)
    last = signals.lengths[-1]
    measured = {
        "network": row.network,
        "seconds": time.perf_counter() - began,
        "output_gradient": last,
        "law_median": median,
        "nominal_share": _nominal(network),
        "units": units,
    }
    return measured, found


def _nominal(network: Network) -> float | None:
    """A stage's product of shortcut factors as the initial constants alone have it."""
    spec = network.spec
    n = spec.units_per_stage[0] - 1
    if spec.gate_bias is not None:
        return float((1 / (1 + np.exp(spec.gate_bias))) ** n)
    if spec.arrangement != "full_preactivation":
        return None
    return (1.0 if spec.shortcut_scale is None else spec.shortcut_scale) ** n


# ---- plain networks ------------------------------------------------------------------


def _title(row: PlainRow) -> str:
    norm = "with batch norm" if row.batch_norm else "without batch norm"
    return f"{row.network} {norm}, kernels times {row.factor:g}"


def _plain(row: PlainRow) -> Json:
    images, labels = noise(row.network)
    weights = walk.initial_weights(row.network, plan.CLASSES, plan.SEED)
    network = walk.network_of(row.network, plan.CLASSES, weights)
    network = walk.scaled(network, row.factor)
    if not row.batch_norm:
        network = walk.without_batch_norm(network)
    signals = walk.walk(network, images, labels)
    units = signals_of(network, signals)
    last = signals.lengths[-1]
    return {
        "network": row.network,
        "batch_norm": row.batch_norm,
        "factor": row.factor,
        "ratio": units[0]["gradient"] / last,
        "output_gradient": last,
        "units": units,
    }


def _plain_findings(rows: Sequence[Json]) -> list[Finding]:
    def ratio(network: str, batch_norm: bool, factor: float) -> float:
        (found,) = (
            row["ratio"]
            for row in rows
            if (row["network"], row["batch_norm"], row["factor"])
            == (network, batch_norm, factor)
        )
        return found

    name = plan.DEEPEST_PLAIN
    small, one, large = (ratio(name, False, factor) for factor in (0.7, 1.0, 1.4))
    normed = [ratio(name, True, factor) for factor in (0.7, 1.0, 1.4)]
    growth = [
        (unit["gradient"] / after["gradient"]) ** 2 / plan.GROWTH**2
        for row in rows
        if row["network"] == name and row["batch_norm"] and row["factor"] == 1.0
        for unit, after in zip(row["units"], row["units"][1:], strict=False)
        if unit["unit"].split("/")[1] != "unit1"
    ]
    return [
        Finding(
            about=f"{name}, no batch norm, kernels times 0.7",
            claim="the gradient vanishes: first over last unit",
            value=small,
            high=plan.VANISHED,
        ),
        Finding(
            about=f"{name}, no batch norm, He's kernels",
            claim="neither: first over last unit",
            value=one,
            low=0.01,
            high=100,
        ),
        Finding(
            about=f"{name}, no batch norm, kernels times 1.4",
            claim="the gradient explodes: first over last unit",
            value=large,
            low=plan.EXPLODED,
        ),
        Finding(
            about=f"{name}, batch norm",
            claim="the kernels' size does not matter: spread of first over last unit",
            value=max(normed) / min(normed) - 1,
            high=plan.INVARIANT,
        ),
        Finding(
            about=f"{name}, batch norm",
            claim="a squared gradient grows by (pi / (pi - 1))^2 per unit: median of "
            "measured over that",
            value=statistics.median(growth),
            low=0.9,
            high=1.1,
        ),
    ]


def _smallest_findings(rows: Sequence[Mapping[str, float]]) -> list[Finding]:
    n = smallest.LAYERS
    exact = {
        "plain": ("dE/dx = w1 w2 w3", lambda w: w**n),
        "shortcut": ("with shortcuts (1 + w1)(1 + w2)(1 + w3)", lambda w: (1 + w) ** n),
    }
    found = [
        Finding(
            about="three weights",
            claim=f"{words} (relative error)",
            value=max(abs(r[kind] / rule(r["weight"]) - 1) for r in rows),
            high=1e-12,
            exact=True,
        )
        for kind, (words, rule) in exact.items()
    ]
    normed = [row["batch_norm"] for row in rows]
    return [
        *found,
        Finding(
            about="three weights",
            claim="with batch norm w does not matter (spread)",
            value=max(normed) / min(normed) - 1,
            high=1e-12,
            exact=True,
        ),
    ]

"""Which contender wins, and why, in words.

Between the Evaluator's counts and the push: two contenders with their confusion
matrices on the eval split in, a decision (the content of decision.json) out. No
TensorFlow here, so that the rule can be read, tested and reported on its own.

Sources: Wilson 1927 for the interval of one error rate; Newcombe 1998 (Statistics in
Medicine 17, 873-890), method 10, for the interval of the difference of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scipy import stats

Role = Literal["baseline", "candidate"]
BASELINE: Role = "baseline"
CANDIDATE: Role = "candidate"
ROLES: tuple[Role, Role] = (BASELINE, CANDIDATE)

BEST = "best"
POLICIES = (BEST,)

_CONFIDENCE = 0.95
_UNPAIRED = (
    "unpaired: Newcombe's score interval and the two-proportion z test, from the two "
    "error counts alone; as both networks saw the same images, the interval is rather "
    "too wide than too narrow"
)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What one network did on the eval split."""

    network: str
    # Rows: true class, columns: predicted class; None: the Evaluator wrote none.
    confusion: tuple[tuple[int, ...], ...] | None
    # Examples of each true class, also those for which nothing was predicted.
    examples_by_class: tuple[int, ...]
    cross_entropy: float | None  # nats per example

    @property
    def examples(self) -> int:
        """Number of images in the eval split."""
        return sum(self.examples_by_class)

    @property
    def errors(self) -> int:
        """Number of images whose most probable class is not the true one."""
        if self.confusion is None:
            return self.examples
        return self.examples - sum(row[i] for i, row in enumerate(self.confusion))

    @property
    def problem(self) -> str | None:
        """Why this contender cannot win, or None if it can."""
        if self.confusion is None or self.cross_entropy is None:
            return "it has no metrics"
        if not self.examples:
            return "it was evaluated on no images"
        if not math.isfinite(self.cross_entropy):
            return f"its cross-entropy is {self.cross_entropy}, not a finite number"
        return None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Who won, and why."""

    winner: Role | None
    reason: str
    blocked_by: tuple[str, ...]


def choose(contenders: Mapping[Role, Contender], policy: str) -> Decision:
    """Applies a policy to the two contenders.

    Policy "best": the lower error rate wins; at a tie the baseline is kept, because a
    change would gain nothing. Whoever has no usable metrics cannot win.

    Raises:
        ValueError: Unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy={policy!r}: must be one of {', '.join(POLICIES)}")
    names = _names(contenders)
    problems = {role: contenders[role].problem for role in ROLES}
    blocked_by = tuple(
        f"{role}: {problem}" for role, problem in problems.items() if problem
    )
    able: list[Role] = [role for role in ROLES if not problems[role]]
    winner: Role | None
    if len(able) == 2:
        winner, reason = _lower_error(contenders, names)
    elif able:
        winner, loser = able[0], _other(able[0])
        reason = (
            f"{names[loser]} cannot win: {problems[loser]}; {names[winner]} makes "
            f"{contenders[winner].errors / contenders[winner].examples:.1%} errors on "
            f"{contenders[winner].examples:,} eval images and is pushed"
        )
    else:
        winner = None
        reason = "nothing is pushed: " + "; ".join(
            f"{names[role]} cannot win: {problems[role]}" for role in ROLES
        )
    return Decision(
        winner=winner, reason=reason.replace("%", " %"), blocked_by=blocked_by
    )


def describe(
    contenders: Mapping[Role, Contender], policy: str, decision: Decision
) -> dict[str, Any]:
    """The content of decision.json: plain values, error rates as fractions.

    Numbers that do not exist are None; JSON has no NaN.
    """
    return {
        "policy": policy,
        "winner": decision.winner,
        "reason": decision.reason,
        "blocked_by": list(decision.blocked_by),
        "models": {role: measured(contenders[role]) for role in ROLES},
        "difference": _difference(contenders),
    }


def measured(contender: Contender) -> dict[str, Any]:
    """One contender's entry in decision.json; `ci95` is the Wilson interval."""
    errors, examples = contender.errors, contender.examples
    confusion, entropy = contender.confusion, contender.cross_entropy
    known = confusion is not None and examples > 0
    return {
        "network": contender.network,
        "eval": {
            "error": errors / examples if known else None,
            "ci95": list(wilson(errors, examples)) if known else None,
            "examples": examples,
            "errors": errors if known else None,
        },
        "cross_entropy": (
            entropy if entropy is not None and math.isfinite(entropy) else None
        ),
        "per_class": {
            str(index): {
                "error": (total - row[index]) / total if total else None,
                "examples": total,
            }
            for index, (row, total) in enumerate(
                zip(confusion or (), contender.examples_by_class, strict=False)
            )
        },
        "confusion": None if confusion is None else [list(row) for row in confusion],
    }


def wilson(errors: int, examples: int) -> tuple[float, float]:
    """The 95 % score interval of an error rate."""
    interval = stats.binomtest(errors, examples).proportion_ci(
        confidence_level=_CONFIDENCE, method="wilson"
    )
    return float(interval.low), float(interval.high)


def newcombe(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of `first` minus `second`, each (errors, examples)."""
    (a, a_low, a_high), (b, b_low, b_high) = (
        (errors / examples, *wilson(errors, examples))
        for errors, examples in (first, second)
    )
    return (
        a - b - math.hypot(a - a_low, b_high - b),
        a - b + math.hypot(a_high - a, b - b_low),
    )


def two_proportion_p_value(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided z test, pooled variance, of two equal rates (errors, examples)."""
    (a, n), (b, m) = first, second
    pooled = (a + b) / (n + m)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if deviation == 0:  # both rates 0 or both 1
        return 1.0
    return float(2 * stats.norm.sf(abs(a / n - b / m) / deviation))


def _other(role: Role) -> Role:
    return CANDIDATE if role == BASELINE else BASELINE


def _names(contenders: Mapping[Role, Contender]) -> dict[Role, str]:
    names: dict[Role, str] = {role: contenders[role].network for role in ROLES}
    if names[BASELINE] == names[CANDIDATE]:
        return {role: f"{names[role]} ({role})" for role in ROLES}
    return names


def _lower_error(
    contenders: Mapping[Role, Contender], names: Mapping[Role, str]
) -> tuple[Role, str]:
    baseline, candidate = contenders[BASELINE], contenders[CANDIDATE]
    rates = {
        BASELINE: baseline.errors / baseline.examples,
        CANDIDATE: candidate.errors / candidate.examples,
    }
    if rates[BASELINE] == rates[CANDIDATE]:
        return BASELINE, (
            f"{names[CANDIDATE]} and {names[BASELINE]} both make {rates[BASELINE]:.1%} "
            f"errors on {baseline.examples:,} eval images; the baseline "
            f"{names[BASELINE]} is kept, because nothing would be gained"
        )
    winner: Role = BASELINE if rates[BASELINE] < rates[CANDIDATE] else CANDIDATE
    loser = _other(winner)
    low, high = _distinct_percentages(rates[winner], rates[loser])
    return winner, (
        f"{names[winner]} makes {low} errors on {contenders[winner].examples:,} eval "
        f"images, {names[loser]} makes {high}; the lower error is pushed"
    )


def _distinct_percentages(low: float, high: float) -> tuple[str, str]:
    """One decimal, or as many as it takes to see which is lower."""
    for digits in range(1, 6):
        texts = f"{low:.{digits}%}", f"{high:.{digits}%}"
        if texts[0] != texts[1]:
            break
    return texts


def _difference(contenders: Mapping[Role, Contender]) -> dict[str, Any] | None:
    if any(contender.problem for contender in contenders.values()):
        return None
    candidate, baseline = (
        (contenders[role].errors, contenders[role].examples)
        for role in (CANDIDATE, BASELINE)
    )
    return {
        "candidate_minus_baseline": (
            candidate[0] / candidate[1] - baseline[0] / baseline[1]
        ),
        "ci95": list(newcombe(candidate, baseline)),
        "p_value": two_proportion_p_value(candidate, baseline),
        "method": _UNPAIRED,
    }

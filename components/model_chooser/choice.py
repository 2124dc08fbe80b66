"""Which contender is pushed, and why, in words.

Between the Evaluator's comparison on the eval split and the push; both values are those of
contract/comparison.py. No TensorFlow here, so that the rule can be read, tested and
reported on its own.

First every contender must be fit for service: measured, above the floor, calibrated, fast
enough, and not worse, beyond doubt, than the model in service. Then the policy chooses
among those that are, and says whether the choice may replace the model in service.
"""

from __future__ import annotations

from collections.abc import Mapping

from contract.comparison import (
    BASELINE,
    CANDIDATE,
    CONTENDERS,
    IN_SERVICE,
    Comparison,
    Decision,
    Difference,
    Measures,
)
from contract.config.evaluation import EvaluationConfig

BEST, SUPERIOR, NON_INFERIOR = "best", "superior", "non_inferior"


def choose(comparison: Comparison, rule: EvaluationConfig) -> Decision:
    """Applies the rules to a comparison on the eval split.

    Policies:
        best: the lowest error rate; at a tie the model in service stays, or else the
            baseline, because a change would gain nothing.
        superior: the candidate, if the 95 % interval of its difference to the baseline
            lies below zero; else the baseline. Whichever it is replaces the model in
            service on the same condition only.
        non_inferior: the candidate, if the interval of its difference lies below
            `rule.margin`; else the baseline. The same condition towards the model in
            service.

    Raises:
        ValueError: The comparison is not of the eval split, or the policy is unknown.
    """
    if comparison.split != "eval":
        raise ValueError(
            f"split={comparison.split!r}: only the eval split decides, so that the "
            "test split stays a fair judge"
        )
    if rule.policy not in _POLICIES:
        raise ValueError(
            f"evaluation.policy={rule.policy!r}: must be one of {', '.join(_POLICIES)}"
        )
    serving = _serving(comparison)
    obstacles = {
        role: obstacles_of(role, comparison, rule, serving) for role in CONTENDERS
    }
    blocked_by = tuple(
        f"{role}: {sentence}" for role in CONTENDERS for sentence in obstacles[role]
    )
    able = [role for role in CONTENDERS if not obstacles[role]]
    if not able:
        winner = IN_SERVICE if serving else None
        text = "; ".join(
            f"{_name(comparison, role)} cannot be pushed: {obstacles[role][0]}"
            for role in CONTENDERS
        )
        reason = f"{text}; {_stays(comparison, serving)}"
    else:
        winner, reason = _POLICIES[rule.policy](comparison, rule, able, obstacles)
        if serving:
            winner, reason = _against_service(comparison, rule, winner, reason)
    return Decision(
        policy=rule.policy,
        winner=winner,
        reason=reason,
        blocked_by=blocked_by,
        comparison=comparison,
    )


def obstacles_of(
    role: str, comparison: Comparison, rule: EvaluationConfig, serving: bool
) -> list[str]:
    """Why a contender may not be pushed, whatever the policy; empty if it may.

    Args:
        role: "baseline" or "candidate".
        comparison: On the eval split.
        rule: The limits.
        serving: Whether there is a model in service to be compared with.
    """
    model = comparison.models.get(role)
    if model is None:
        return ["it was not evaluated"]
    if model.problem or model.measured is None:
        return [model.problem or "it was not measured"]
    measured, found = model.measured, []
    floor = rule.max_error
    if floor is None:
        floor, words = comparison.constant_error, "always the most frequent class"
        if measured.error >= floor:
            found.append(
                f"it makes {percent(measured.error)} errors; the answer {words!r} makes "
                f"{percent(floor)}"
            )
    elif measured.error > floor:
        found.append(
            f"it makes {percent(measured.error)} errors; evaluation.max_error allows "
            f"{percent(floor)}"
        )
    if rule.max_ece is not None and measured.ece > rule.max_ece:
        found.append(
            f"its expected calibration error is {measured.ece:.3f}; evaluation.max_ece "
            f"allows {rule.max_ece:g}"
        )
    found += _too_slow(role, comparison, rule, serving)
    if serving:
        found += _worse_than_service(role, comparison, rule)
    return found


def percent(share: float) -> str:
    """A fraction as people read it: "3.4 %"."""
    return f"{100 * share:.1f} %"


def _serving(comparison: Comparison) -> bool:
    model = comparison.models.get(IN_SERVICE)
    return model is not None and not model.problem


def _name(comparison: Comparison, role: str) -> str:
    networks = {role: model.network for role, model in comparison.models.items()}
    name = networks.get(role, role)
    if role == IN_SERVICE:
        return f"the model in service ({name})"
    twins = [each for each in CONTENDERS if networks.get(each) == name]
    return f"{name} ({role})" if len(twins) > 1 else name


def _stays(comparison: Comparison, serving: bool) -> str:
    if serving:
        return f"{_name(comparison, IN_SERVICE)} stays"
    return "nothing is pushed"


def _measures(comparison: Comparison, role: str) -> Measures:
    """Of a contender without obstacles, or of the model in service."""
    found = comparison.models[role].measured
    assert found is not None, role
    return found


def _pair(comparison: Comparison, first: str, second: str) -> Difference:
    """Of two that were measured."""
    return comparison.pairs[first, second]


def _too_slow(
    role: str, comparison: Comparison, rule: EvaluationConfig, serving: bool
) -> list[str]:
    own = comparison.models[role].latency_ms
    if own is None:
        return []
    found = []
    if rule.max_latency_ms is not None and own > rule.max_latency_ms:
        found.append(
            f"it takes {own:.1f} ms for one image; evaluation.max_latency_ms allows "
            f"{rule.max_latency_ms:g}"
        )
    # The model that users are used to, or else the other contender.
    other = IN_SERVICE if serving else (BASELINE if role == CANDIDATE else CANDIDATE)
    reference = (model := comparison.models.get(other)) and model.latency_ms
    ratio = rule.max_latency_ratio
    if ratio is not None and reference and own > ratio * reference:
        found.append(
            f"it takes {own:.1f} ms for one image, {own / reference:.1f} times as long as "
            f"{_name(comparison, other)} ({reference:.1f} ms); "
            f"evaluation.max_latency_ratio allows {ratio:g} times"
        )
    return found


def _worse_than_service(
    role: str, comparison: Comparison, rule: EvaluationConfig
) -> list[str]:
    """Worse beyond doubt: the whole interval of the difference lies above the margin."""
    pair = _pair(comparison, role, IN_SERVICE)
    found = []
    if pair.ci95[0] > rule.service_margin:
        found.append(
            f"it makes {points(pair.difference)} points more errors than "
            f"{_name(comparison, IN_SERVICE)} ({interval(pair.ci95)}); "
            f"evaluation.service_margin allows {points(rule.service_margin)}"
        )
    worse = {
        part: told
        for part, told in pair.slices.items()
        if told.interval[0] > rule.slice_margin
    }
    if worse:
        part = max(worse, key=lambda part: worse[part].interval[0])
        more = f" (and on {len(worse) - 1} more)" if len(worse) > 1 else ""
        found.append(
            f"on the slice {part.words(comparison.class_names)}{more} it makes "
            f"{points(worse[part].difference)} points more errors than "
            f"{_name(comparison, IN_SERVICE)} "
            f"({interval(worse[part].interval)}, all slices together); "
            f"evaluation.slice_margin allows {points(rule.slice_margin)}"
        )
    return found


def points(share: float) -> str:
    """A difference of rates in percentage points: "1.25"."""
    return f"{100 * share:.2f}"


def signed_points(share: float) -> str:
    """The same with its sign: "+1.25", "-0.40", and "0.00", of which no sign says more."""
    text = f"{100 * share:+.2f}"
    return text[1:] if float(text) == 0 else text


def interval(bounds: tuple[float, float]) -> str:
    """Two differences in percentage points: "95 % interval -0.20 to 1.10"."""
    return f"95 % interval {points(bounds[0])} to {points(bounds[1])}"


def p_value(value: float) -> str:
    """The one way to write a p-value: "p = 0.125", "p < 0.001"."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _best(
    comparison: Comparison,
    rule: EvaluationConfig,  # noqa: ARG001 - one form for all policies
    able: list[str],
    obstacles: Mapping[str, list[str]],
) -> tuple[str, str]:
    if len(able) == 1:
        return _only(comparison, able[0], obstacles)
    rates = {role: _measures(comparison, role).error for role in CONTENDERS}
    names = {role: _name(comparison, role) for role in CONTENDERS}
    examples = comparison.examples
    if rates[BASELINE] == rates[CANDIDATE]:
        return BASELINE, (
            f"{names[CANDIDATE]} and {names[BASELINE]} both make "
            f"{percent(rates[BASELINE])} errors on {examples:,} eval images; the baseline "
            f"{names[BASELINE]} is kept, because nothing would be gained"
        )
    winner, loser = sorted(CONTENDERS, key=lambda role: rates[role])
    low, high = _distinct_percentages(rates[winner], rates[loser])
    return winner, (
        f"{names[winner]} makes {low} errors on {examples:,} eval images, {names[loser]} "
        f"{high}; the lower error wins{_doubt(comparison)}"
    )


def _superior(
    comparison: Comparison,
    rule: EvaluationConfig,  # noqa: ARG001
    able: list[str],
    obstacles: Mapping[str, list[str]],
) -> tuple[str | None, str]:
    return _proven(comparison, able, obstacles, 0.0, "better than")


def _non_inferior(
    comparison: Comparison,
    rule: EvaluationConfig,
    able: list[str],
    obstacles: Mapping[str, list[str]],
) -> tuple[str | None, str]:
    words = f"at most {points(rule.margin)} points worse than"
    return _proven(comparison, able, obstacles, rule.margin, words)


def _proven(
    comparison: Comparison,
    able: list[str],
    obstacles: Mapping[str, list[str]],
    margin: float,
    words: str,
) -> tuple[str | None, str]:
    """The candidate if the interval of its difference lies below the margin."""
    names = {role: _name(comparison, role) for role in CONTENDERS}
    if CANDIDATE not in able:
        return _only(comparison, BASELINE, obstacles)
    pair = comparison.pairs.get((CANDIDATE, BASELINE))
    if pair is None:
        return None, (
            f"{names[CANDIDATE]} cannot be shown to be {words} {names[BASELINE]}, of "
            f"which {obstacles[BASELINE][0]}; nothing is pushed"
        )
    evidence = (
        f"its error minus that of {names[BASELINE]} is "
        f"{signed_points(pair.difference)} points ({interval(pair.ci95)}) on "
        f"{comparison.examples:,} eval images"
    )
    if pair.ci95[1] < margin:
        return CANDIDATE, (
            f"{names[CANDIDATE]} is shown to be {words} {names[BASELINE]}: {evidence}"
        )
    text = (
        f"{names[CANDIDATE]} is not shown to be {words} {names[BASELINE]}: {evidence}"
    )
    if BASELINE in able:
        return BASELINE, f"{text}; the baseline {names[BASELINE]} is kept"
    return None, (
        f"{text}; and {names[BASELINE]} cannot be pushed: {obstacles[BASELINE][0]}"
    )


_POLICIES = {BEST: _best, SUPERIOR: _superior, NON_INFERIOR: _non_inferior}


def _only(
    comparison: Comparison, role: str, obstacles: Mapping[str, list[str]]
) -> tuple[str, str]:
    other = BASELINE if role == CANDIDATE else CANDIDATE
    return role, (
        f"{_name(comparison, other)} cannot be pushed: {obstacles[other][0]}; "
        f"{_name(comparison, role)} makes "
        f"{percent(_measures(comparison, role).error)} errors on "
        f"{comparison.examples:,} eval images"
    )


def _against_service(
    comparison: Comparison,
    rule: EvaluationConfig,
    winner: str | None,
    reason: str,
) -> tuple[str, str]:
    """Whether the policy's choice may replace the model in service."""
    service = _name(comparison, IN_SERVICE)
    if winner is None:
        return IN_SERVICE, f"{reason}; {service} stays"
    pair = _pair(comparison, winner, IN_SERVICE)
    error = _measures(comparison, IN_SERVICE).error
    evidence = (
        f"its error minus that of {service} is "
        f"{signed_points(pair.difference)} points ({interval(pair.ci95)})"
    )
    name = _name(comparison, winner)
    if rule.policy == BEST:
        good, words = pair.difference < 0, f"lower than {percent(error)}"
        if good:
            return (
                winner,
                f"{reason}; it replaces {service}, which makes {percent(error)}",
            )
        return IN_SERVICE, (
            f"{reason}; but the error of {name} is not {words}, that of {service}, "
            "which stays"
        )
    margin = 0.0 if rule.policy == SUPERIOR else rule.margin
    words = (
        "better than"
        if rule.policy == SUPERIOR
        else f"at most {points(margin)} points worse than"
    )
    if pair.ci95[1] < margin:
        return winner, f"{reason}; it is also shown to be {words} {service}: {evidence}"
    return IN_SERVICE, (
        f"{reason}; but {name} is not shown to be {words} {service}, which stays: {evidence}"
    )


def _doubt(comparison: Comparison) -> str:
    """A warning where the lower error may be chance."""
    pair = _pair(comparison, CANDIDATE, BASELINE)
    if pair.p_value < 0.05:
        return ""
    return f", although the difference may be chance ({p_value(pair.p_value)}, paired)"


def _distinct_percentages(low: float, high: float) -> tuple[str, str]:
    """One decimal, or as many as it takes to see which is lower."""
    texts = [
        (f"{100 * low:.{digits}f} %", f"{100 * high:.{digits}f} %")
        for digits in range(1, 6)
    ]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])

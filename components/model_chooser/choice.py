"""Which contender is pushed, and why, in words.

Between the Evaluator's comparison on the eval split and the push; both values are those of
contract/comparison.py. No TensorFlow here, so that the rule can be read, tested and
reported on its own.

First every contender must be fit for service: measured, above the floor, calibrated, and
not worse, beyond doubt, than the model in service. Then the policy chooses
among those that are, and says whether the choice may replace the model in service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contract.comparison import Comparison, Decision, Difference, Measures
from contract.config.evaluation import EvaluationConfig
from contract.contenders import BASELINE, IN_SERVICE, in_order
from contract.sentences import enumeration

BEST, SUPERIOR, NON_INFERIOR = "best", "superior", "non_inferior"


def choose(comparison: Comparison, rule: EvaluationConfig) -> Decision:
    """Applies the rules to a comparison on the eval split.

    Policies:
        best: the lowest error rate; at a tie the model in service stays, or else the
            baseline, because a change would gain nothing; then the first by name.
        superior: of those whose 95 % interval of the difference to the baseline lies
            below zero, the one with the lowest error rate; if there is none, the
            baseline. Whichever it is replaces the model in service on the same condition
            only.
        non_inferior: the same with intervals that lie below `rule.margin`.

    Where several contenders are compared with the baseline, the intervals hold for all of
    them together (Bonferroni), so that one of many does not win by luck.

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
    names = in_order([*{BASELINE, *comparison.contenders}])
    obstacles = {name: obstacles_of(name, comparison, rule, serving) for name in names}
    blocked_by = tuple(
        f"{name}: {sentence}" for name in names for sentence in obstacles[name]
    )
    able = [name for name in names if not obstacles[name]]
    if not able:
        winner = IN_SERVICE if serving else None
        reason = (
            f"{_blocked(comparison, names, obstacles)}; {_stays(comparison, serving)}"
        )
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
    name: str, comparison: Comparison, rule: EvaluationConfig, serving: bool
) -> list[str]:
    """Why a contender may not be pushed, whatever the policy; empty if it may.

    Args:
        name: Of the contender.
        comparison: On the eval split.
        rule: The limits.
        serving: Whether there is a model in service to be compared with.
    """
    model = comparison.models.get(name)
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
    if serving:
        found += _worse_than_service(name, comparison, rule)
    return found


def percent(share: float) -> str:
    """A fraction as people read it: "3.4 %"."""
    return f"{100 * share:.1f} %"


def _serving(comparison: Comparison) -> bool:
    model = comparison.models.get(IN_SERVICE)
    return model is not None and not model.problem


def _name(comparison: Comparison, name: str) -> str:
    """The network; and whose it is, if it is not the only one of that name."""
    networks = {each: model.network for each, model in comparison.models.items()}
    network = networks.get(name, name)
    if name == IN_SERVICE:
        return f"the model in service ({network})"
    twins = [each for each in comparison.contenders if networks[each] == network]
    return f"{network} ({name})" if len(twins) > 1 else network


def _blocked(
    comparison: Comparison, names: Sequence[str], obstacles: Mapping[str, list[str]]
) -> str:
    """Why none of `names` can be pushed."""
    return "; ".join(
        f"{_name(comparison, name)} cannot be pushed: {obstacles[name][0]}"
        for name in names
    )


def _stays(comparison: Comparison, serving: bool) -> str:
    if serving:
        return f"{_name(comparison, IN_SERVICE)} stays"
    return "nothing is pushed"


def _measures(comparison: Comparison, name: str) -> Measures:
    """Of a contender without obstacles, or of the model in service."""
    found = comparison.models[name].measured
    assert found is not None, name
    return found


def _rates(comparison: Comparison, names: Sequence[str]) -> dict[str, float]:
    """The error rates of contenders without obstacles, lowest first, then as given."""
    rates = {name: _measures(comparison, name).error for name in names}
    return dict(sorted(rates.items(), key=lambda item: item[1]))


def _pair(comparison: Comparison, first: str, second: str) -> Difference:
    """Of two that were measured."""
    return comparison.pairs[first, second]


def _worse_than_service(
    name: str, comparison: Comparison, rule: EvaluationConfig
) -> list[str]:
    """Worse beyond doubt: the whole interval of the difference lies above the margin."""
    pair = _pair(comparison, name, IN_SERVICE)
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
    blocked = [name for name in obstacles if name not in able]
    if len(able) == 1:
        return _only(comparison, able[0], blocked, obstacles)
    names = {name: _name(comparison, name) for name in able}
    rates = _rates(comparison, able)
    winner, second = [*rates][:2]
    texts = dict(zip(rates, _percentages([*rates.values()]), strict=True))
    images = f"errors on {comparison.examples:,} eval images"
    equal = [name for name in able if rates[name] == rates[winner]]
    if len(equal) > 1:
        # As `able` has them: the baseline first, which a reader expects last.
        told = enumeration([names[name] for name in (*equal[1:], equal[0])])
        text = f"{told} {'both' if len(equal) == 2 else 'all'} make {texts[winner]} {images}"
        if len(equal) < len(able):
            others = [name for name in rates if name not in equal]
            text += ", " + ", ".join(f"{names[name]} {texts[name]}" for name in others)
        kept = f"the baseline {names[winner]} is kept"
        if winner != BASELINE:
            kept = f"{names[winner]} is taken, the first by name"
        text += f"; {kept}, because nothing would be gained"
        if winner != BASELINE:
            text += " by another"
    else:
        others = ", ".join(f"{names[name]} {texts[name]}" for name in [*rates][1:])
        text = (
            f"{names[winner]} makes {texts[winner]} {images}, {others}; the "
            f"{'lower' if len(able) == 2 else 'lowest'} error wins"
            f"{_doubt(comparison, winner, second)}"
        )
    if blocked:
        text = f"{_blocked(comparison, blocked, obstacles)}; {text}"
    return winner, text


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
    """The best of those whose interval of the difference lies below the margin."""
    blocked = [name for name in obstacles if name not in able and name != BASELINE]
    others = [name for name in able if name != BASELINE]
    if not others:
        return _only(comparison, BASELINE, blocked, obstacles)
    names = {name: _name(comparison, name) for name in obstacles}
    baseline = names[BASELINE]
    start = f"{_blocked(comparison, blocked, obstacles)}; " if blocked else ""
    pairs = {
        name: pair
        for name in _rates(comparison, others)
        if (pair := comparison.pairs.get((name, BASELINE)))
    }
    if not pairs:
        return None, (
            f"{start}{enumeration([names[name] for name in others])} cannot be shown to be "
            f"{words} {baseline}, of which {obstacles[BASELINE][0]}; nothing is pushed"
        )

    def evidence(name: str) -> str:
        return (
            f"its error minus that of {baseline} is {_measured_as(pairs[name])} on "
            f"{comparison.examples:,} eval images"
        )

    shown = [name for name in pairs if pairs[name].deciding_ci95[1] < margin]
    if shown:
        text = (
            f"{names[shown[0]]} is shown to be {words} {baseline}: {evidence(shown[0])}"
        )
        if more := [names[name] for name in shown[1:]]:
            verb = "is" if len(more) == 1 else "are"
            text += f"; so {verb} {enumeration(more)}, with no lower error"
        return shown[0], start + text
    nearest = min(pairs, key=lambda name: pairs[name].deciding_ci95[1])
    if len(pairs) == 1:
        text = f"{names[nearest]} is not shown to be {words} {baseline}"
    else:
        text = (
            f"none of {enumeration([names[name] for name in pairs])} is shown to be {words} "
            f"{baseline}; {names[nearest]} comes nearest"
        )
    text = f"{start}{text}: {evidence(nearest)}"
    if BASELINE in able:
        return BASELINE, f"{text}; the baseline {baseline} is kept"
    return None, (f"{text}; and {baseline} cannot be pushed: {obstacles[BASELINE][0]}")


_POLICIES = {BEST: _best, SUPERIOR: _superior, NON_INFERIOR: _non_inferior}


def _only(
    comparison: Comparison,
    name: str,
    blocked: Sequence[str],
    obstacles: Mapping[str, list[str]],
) -> tuple[str, str]:
    text = (
        f"{_name(comparison, name)} makes {percent(_measures(comparison, name).error)} "
        f"errors on {comparison.examples:,} eval images"
    )
    if blocked:
        text = f"{_blocked(comparison, blocked, obstacles)}; {text}"
    return name, text


def _measured_as(pair: Difference) -> str:
    """A difference and its interval, in words."""
    together = ", all comparisons together" if pair.joint_ci95 else ""
    return (
        f"{signed_points(pair.difference)} points ({interval(pair.deciding_ci95)}"
        f"{together})"
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
    evidence = f"its error minus that of {service} is {_measured_as(pair)}"
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
    if pair.deciding_ci95[1] < margin:
        return winner, f"{reason}; it is also shown to be {words} {service}: {evidence}"
    return IN_SERVICE, (
        f"{reason}; but {name} is not shown to be {words} {service}, which stays: {evidence}"
    )


def _doubt(comparison: Comparison, winner: str, second: str) -> str:
    """A warning where the lower error may be chance, as far as that was tested."""
    other = second if winner == BASELINE else winner
    pair = comparison.pairs.get((other, BASELINE))
    if pair is None or pair.deciding_p_value < 0.05:
        return ""
    value = p_value(pair.deciding_p_value)
    if pair.holm_p_value is None:
        return f", although the difference may be chance ({value}, paired)"
    whose = _name(comparison, second if winner == BASELINE else BASELINE)
    return (
        f", although its difference to {whose} may be chance ({value}, paired, Holm's for "
        "all comparisons)"
    )


def _percentages(rates: Sequence[float]) -> list[str]:
    """One decimal, or as many as it takes to see who has the lowest.

    Args:
        rates: Sorted.
    """
    lowest, next_one = rates[0], next((each for each in rates if each > rates[0]), None)
    digits = 1
    while next_one is not None and digits < 5:
        if f"{100 * lowest:.{digits}f}" != f"{100 * next_one:.{digits}f}":
            break
        digits += 1
    return [f"{100 * rate:.{digits}f} %" for rate in rates]

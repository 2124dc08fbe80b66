"""Whether what a server answered is what training answered, in time: the rule alone.

In: the training path's answers (contract/records.py, `EXPECTED_ANSWERS_FILE`) and what was
observed of a server. Out: reasons against the model, each one sentence for a person; none
means that it passed. NumPy only: no server, no TensorFlow, so that the rule can be read
and tested on recorded answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from contract import arrays, features, paths, stored
from contract.canary import CanaryResult, SignatureCheck
from contract.config.canary import CanaryConfig
from contract.contenders import IN_SERVICE
from contract.datasets import Dataset
from contract.records import EXPECTED_ANSWERS_FILE

# Signatures that a model must offer, in the order in which they are tried.
SIGNATURES = (
    features.SIGNATURE_IMAGES,
    features.SIGNATURE_EXAMPLES,
    features.SIGNATURE_ENCODED,
    features.SIGNATURE_CLASSIFY,
)
_MOST_BYTES = 64 << 20  # of stored answers; those of 64 images have a quarter MB
_LONGEST_NAME = 100  # characters of a class's that are shown
_PERCENTILES = (("p50", 50.0), ("p99", 99.0))


class NotComparable(Exception):
    """There is nothing to hold a server's answers against; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """Answers of the training path."""

    images: np.ndarray  # uint8 [n, height, width, channels]
    probabilities: np.ndarray  # float32 [n, classes]
    class_names: tuple[str, ...]  # in label order
    files: bool = False  # whether the model was trained on files, and cuts these out


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a server answered for images [rows] of the expected ones."""

    rows: Sequence[int]
    probabilities: np.ndarray  # [len(rows), classes], as they came
    labels: np.ndarray | None = None  # [len(rows)]; None: the signature has none
    class_names: tuple[str, ...] | None = None  # of each label
    all_class_names: tuple[tuple[str, ...], ...] | None = (
        None  # classify: of each score
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What a server did."""

    load_seconds: float | None = None  # None: it never became ready
    failure: str | None = None  # the server ended, or did not answer at all
    answers: Mapping[str, Answer | str] = field(default_factory=dict)  # str: the error
    singles: Answer | None = None  # serving_default, an image at a time
    latencies_ms: tuple[float, ...] = ()  # of those
    # Name -> median ms of the model and of the one that it may replace, taking turns.
    in_turns: Mapping[str, float] = field(default_factory=dict)


def read_expected(model: Path, dataset: Dataset) -> Expected:
    """Reads and checks the answers that the Trainer stored with a model.

    Args:
        model: SavedModel folder.
        dataset: Whose images and classes they must be of.

    Raises:
        NotComparable: The file is missing or damaged, training answered NaN, or it had
            images of another shape or other class names than the data set.
    """
    path = model / EXPECTED_ANSWERS_FILE
    if not path.is_file():
        raise NotComparable(
            f"the model has no {EXPECTED_ANSWERS_FILE}, so there is nothing to hold "
            "a server's answers against: train it again"
        )
    try:
        with path.open("rb") as file:
            found = arrays.read(file, _MOST_BYTES)
        names = found["class_names"]
        if names.dtype.kind != "U" or names.ndim != 1:
            raise stored.Unreadable(f"class_names is {names.dtype} {list(names.shape)}")
        expected = Expected(
            images=np.atleast_1d(found["images"]),
            probabilities=found["probabilities"],
            class_names=tuple(names.tolist()),
            files=dataset.crop is not None,
        )
    except (OSError, stored.Unreadable, KeyError) as error:
        raise NotComparable(
            f"{EXPECTED_ANSWERS_FILE} of the model cannot be read "
            f"({type(error).__name__}: {error})"
        ) from None
    count = len(expected.images)
    shape = (count, len(expected.class_names))
    if (
        not count
        or expected.images.dtype != np.uint8
        or expected.images.shape[1:] != dataset.pixels
        or expected.probabilities.dtype.kind != "f"
        or expected.probabilities.shape != shape
    ):
        raise NotComparable(
            f"{EXPECTED_ANSWERS_FILE} of the model holds images "
            f"{expected.images.dtype} {list(expected.images.shape)} and probabilities "
            f"{list(expected.probabilities.shape)} for {shape[1]} classes, which do not "
            f"fit together or to images {list(dataset.pixels)}"
        )
    if expected.class_names != dataset.class_names:
        raise NotComparable(_other_names(expected.class_names, dataset.class_names))
    broken = _rows_without_numbers(expected.probabilities)
    if broken:
        raise NotComparable(
            f"training itself answered {_not_numbers(expected.probabilities)} for "
            f"{broken} of {count} images: the network is broken"
        )
    return expected


def judge(
    expected: Expected, observed: Observed, config: CanaryConfig, model: str
) -> CanaryResult:
    """Holds what a server did against training and against the budgets.

    Args:
        expected: Of the training path.
        observed: Of the server.
        config: The budgets.
        model: What it is called in `observed.in_turns`.
    """
    reasons: list[str] = []
    if observed.failure:
        reasons.append(observed.failure)
    load = observed.load_seconds
    if load is not None and load > config.max_load_seconds:
        reasons.append(
            f"the model was ready after {load:.1f} s; the budget is "
            f"{config.max_load_seconds:g} s (canary.max_load_seconds)"
        )
    signatures: dict[str, SignatureCheck] = {}
    for name in SIGNATURES:
        entry = _signature(name, expected, observed, config)
        signatures[name] = entry
        # A server that ended explains every missing answer; one reason is enough.
        if entry.reason and not (observed.failure and name not in observed.answers):
            reasons.append(entry.reason)
    found: dict[str, float] = {}
    if observed.latencies_ms:
        for name, share in _PERCENTILES:
            found[name] = float(np.percentile(observed.latencies_ms, share))
            budget = getattr(config, f"max_{name}_ms")
            if found[name] > budget:
                reasons.append(
                    f"{name} of {len(observed.latencies_ms)} requests with one image is "
                    f"{found[name]:,.1f} ms; the budget is {budget:,g} ms "
                    f"(canary.max_{name}_ms)"
                )
    reasons += _too_slow(model, observed.in_turns, config)
    differences = [
        entry.max_abs_difference
        for entry in signatures.values()
        if entry.max_abs_difference is not None
    ]
    return CanaryResult(
        passed=not reasons,
        reasons=tuple(reasons),
        server=config.server,
        load_seconds=load,
        p50_ms=found.get("p50"),
        p99_ms=found.get("p99"),
        requests=len(observed.latencies_ms),
        latency_ms=observed.in_turns,
        max_abs_difference=max(differences, default=None),
        signatures=signatures,
    )


def _too_slow(
    name: str, latency_ms: Mapping[str, float], config: CanaryConfig
) -> list[str]:
    """What is said against a model's time for one image; `latency_ms`: see `Observed`."""
    own = latency_ms.get(name)
    if own is None:
        return []
    found = []
    if config.max_latency_ms is not None and own > config.max_latency_ms:
        found.append(
            f"one image takes {own:.1f} ms (canary.max_latency_ms allows "
            f"{config.max_latency_ms:g} ms)"
        )
    for other, reference in latency_ms.items():
        ratio = config.max_latency_ratio
        if other != name and ratio is not None and own > ratio * reference:
            whose = {IN_SERVICE: "the model in service"}.get(other, f"the {other}")
            found.append(
                f"one image takes {own:.1f} ms, {own / reference:.1f} times as long as "
                f"with {whose}, {reference:.1f} ms (canary.max_latency_ratio allows "
                f"{ratio:g} times)"
            )
    return found


def beyond_doubt(latencies_ms: Sequence[float], config: CanaryConfig) -> bool:
    """Whether the budgets are missed however fast the remaining requests are.

    NumPy's percentile lies between two neighbours of the sorted values; once the lower
    one must be above the budget, the percentile is.
    """
    last = config.requests - 1
    return any(
        sum(value > getattr(config, f"max_{name}_ms") for value in latencies_ms)
        >= config.requests - math.floor(share / 100 * last)
        for name, share in _PERCENTILES
    )


def _signature(
    name: str, expected: Expected, observed: Observed, config: CanaryConfig
) -> SignatureCheck:
    answer = observed.answers.get(name)
    if not isinstance(answer, Answer):
        text = "was not tried" if answer is None else f"fails: {answer}"
        return SignatureCheck(
            ok=False, max_abs_difference=None, reason=f"{name} {text}"
        )
    parts = {name: answer}
    if name == features.SIGNATURE_IMAGES and observed.singles is not None:
        parts[f"{name}, asked for one image at a time,"] = observed.singles
    reason, largest = None, None
    for title, part in parts.items():
        difference = _difference(expected, part)
        if difference is not None:
            largest = max(difference, largest or 0.0)
        reason = reason or _reason(title, expected, part, config.answer_tolerance)
    return SignatureCheck(ok=reason is None, max_abs_difference=largest, reason=reason)


def _difference(expected: Expected, answer: Answer) -> float | None:
    """Largest difference of a probability; None where there is no such number."""
    wanted = expected.probabilities[list(answer.rows)]
    if answer.probabilities.shape != wanted.shape:
        return None
    largest = float(np.abs(answer.probabilities.astype(np.float64) - wanted).max())
    return largest if math.isfinite(largest) else None


def _reason(
    title: str, expected: Expected, answer: Answer, tolerance: float
) -> str | None:
    """The first thing that is wrong with an answer, or None."""
    wanted = expected.probabilities[list(answer.rows)]
    given, names = answer.probabilities, expected.class_names
    if given.shape != wanted.shape:
        return (
            f"{title} answers {len(answer.rows)} images with probabilities of shape "
            f"{list(given.shape)}, must be {list(wanted.shape)}"
        )
    broken = _rows_without_numbers(given)
    if broken:
        return (
            f"{title} answers {_not_numbers(given)} for {broken} of {len(given)} images"
        )
    # Before the numbers: names in another order would otherwise look like them.
    if answer.all_class_names is not None:
        for shown in answer.all_class_names:
            if shown != names:
                return f"{title}: {_other_names(shown, names)}"
    difference = np.abs(given.astype(np.float64) - wanted)
    if difference.max() > tolerance:
        row, column = np.unravel_index(difference.argmax(), difference.shape)
        got, meant = _distinct(float(given[row, column]), float(wanted[row, column]))
        return (
            f"{title} answers {got} for class {names[column]} where training answered "
            f"{meant} (tolerance {tolerance:g}): the serving signature differs from the "
            "training path"
        )
    return _label_reason(title, names, answer)


def _label_reason(title: str, names: tuple[str, ...], answer: Answer) -> str | None:
    if answer.labels is None:
        return None
    if answer.labels.shape != (len(answer.rows),):
        return (
            f"{title} answers {len(answer.rows)} images with labels of shape "
            f"{list(answer.labels.shape)}"
        )
    for row, label in enumerate(answer.labels.tolist()):
        given = answer.probabilities[row]
        if not 0 <= label < len(names) or given[label] != given.max():
            return (
                f"{title} answers label {label} where its own probabilities say "
                f"{int(given.argmax())}"
            )
        shown = answer.class_names[row] if answer.class_names else None
        if shown is not None and shown != names[label]:
            return (
                f"{title} calls class {label} {_shown(shown)} where training called it "
                f"{names[label]}: its class names are wrong or in another order"
            )
    return None


def _other_names(found: Sequence[str], wanted: Sequence[str]) -> str:
    if len(found) != len(wanted):
        return f"the model has {len(found)} class names, the data set {len(wanted)}"
    index = next(
        i
        for i, pair in enumerate(zip(found, wanted, strict=True))
        if pair[0] != pair[1]
    )
    return (
        f"class {index} of the model is named {_shown(found[index])}, of the data set "
        f"{wanted[index]}: its class names are wrong or in another order"
    )


def _shown(name: str) -> str:
    """A name that a model made up, in a sentence for logs and screens."""
    return paths.shown(name[:_LONGEST_NAME])


def _rows_without_numbers(probabilities: np.ndarray) -> int:
    return int((~np.isfinite(probabilities)).any(axis=1).sum())


def _not_numbers(probabilities: np.ndarray) -> str:
    return "NaN" if np.isnan(probabilities).any() else "infinity"


def _distinct(first: float, second: float) -> tuple[str, str]:
    """Two decimals, or as many as it takes to tell the numbers apart."""
    texts = [(f"{first:.{digits}f}", f"{second:.{digits}f}") for digits in range(2, 8)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])

"""The canary's run: one server, real requests to all signatures, one verdict.

In: a SavedModel with the answers of its training path, and the one that it may replace,
which a second server holds while their times are compared. Out: a CanaryResult.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from absl import logging

from components.serving_canary import judgement, server, traffic
from components.serving_canary.judgement import Answer, Expected, Observed
from contract.canary import CanaryResult
from contract.config.canary import CanaryConfig
from contract.datasets import Dataset
from contract.model_run import ModelRun
from contract.records import CANARY_LOG_FILE, EXPECTED_ANSWERS_FILE, MODEL_RUN_FILE
from contract.typed_json import RecordError

_STATUS_POLL_SECONDS = 0.05

# Waits until a server has loaded its model, and gives its address; None: it has none.
_Address = Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class Named:
    """A model, and what it is called."""

    name: str  # of a contender, or "in_service"
    model: str  # SavedModel folder


def check(
    winner: Named,
    other: Named | None,
    dataset: Dataset,
    config: CanaryConfig,
    output: Path,
) -> CanaryResult:
    """Tries a model in a server.

    Args:
        winner: Local.
        other: Whose times the winner's are compared with; local. What is wrong with it
            does not count against the winner.
        dataset: Whose images and classes the winner must have.
        config: Server and budgets.
        output: Folder that gets the server's log if the model does not pass.

    Raises:
        server.ServerMissing: The configured server cannot be started here at all.
    """
    chosen, model = server.check(config.server), Path(winner.model)
    try:
        expected = judgement.read_expected(model, dataset)
        _check_run(model, expected)
    except judgement.NotComparable as error:
        return _untried(config, str(error))
    with tempfile.TemporaryDirectory(prefix="canary-") as folder:
        workspace = Path(folder)
        log = workspace / CANARY_LOG_FILE
        start = server.command(chosen, model, workspace)
        # Both load at the same time, and what is timed waits for both.
        with (
            server.running(start, log) as running,
            _second(chosen, other, config) as second,
        ):
            observed = observe(running, expected, config, second)
            if observed.singles and not judgement.beyond_doubt(
                observed.latencies_ms, config
            ):
                addresses = {winner.name: running.address}
                if other is not None and (address := second()) is not None:
                    addresses[other.name] = address
                observed = dataclasses.replace(
                    observed,
                    in_turns=traffic.in_turns(addresses, expected.images, config),
                )
        found = judgement.judge(expected, observed, config, winner.name)
        if not found.passed:
            shutil.copyfile(log, output / CANARY_LOG_FILE)
    return dataclasses.replace(found, versions=_versions())


@contextlib.contextmanager
def _second(
    chosen: str, other: Named | None, config: CanaryConfig
) -> Iterator[_Address]:
    """A server of the same kind with another model."""
    if other is None:
        yield lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="canary-") as folder:
        workspace = Path(folder)
        log = workspace / CANARY_LOG_FILE
        start = server.command(chosen, Path(other.model), workspace)
        with server.running(start, log) as running:

            @functools.cache
            def address() -> str | None:
                try:
                    ready = _wait_until_ready(running, config.max_load_seconds)
                    problem = "it was not ready in time"
                except (server.ServerEnded, server.ServerMissing) as error:
                    ready, problem = False, str(error)
                if not ready:
                    logging.warning(
                        "Times are not compared with those of %s: %s",
                        other.name,
                        problem,
                    )
                return running.address if ready else None

            yield address


def nothing_to_check(config: CanaryConfig) -> CanaryResult:
    """The result where no model was blessed."""
    return _untried(config, "no contender was blessed: nothing to check")


def _untried(config: CanaryConfig, reason: str) -> CanaryResult:
    return CanaryResult(
        passed=False, reasons=(reason,), server=config.server, versions=_versions()
    )


def _versions() -> dict[str, str]:
    libraries = ("tensorflow", "grpcio")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in libraries},
    }


def _check_run(model: Path, expected: Expected) -> None:
    """run.json, where there is one, must tell the same class names and image shape."""
    path = model / MODEL_RUN_FILE
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            run = ModelRun.read(file, MODEL_RUN_FILE)
    except (OSError, RecordError) as error:
        raise judgement.NotComparable(
            f"{MODEL_RUN_FILE} of the model cannot be read ({error})"
        ) from None
    for what, told, found in (
        ("class names", run.class_names, expected.class_names),
        ("image shapes", run.image_shape, expected.images.shape[1:]),
    ):
        if told is not None and told != found:
            raise judgement.NotComparable(
                f"{MODEL_RUN_FILE} and {EXPECTED_ANSWERS_FILE} of the model have different "
                f"{what}"
            )


def observe(
    running: server.Running, expected: Expected, config: CanaryConfig, second: _Address
) -> Observed:
    """Waits for the model, asks every signature, waits for the other, takes the times."""
    load_seconds: float | None = None
    answers: dict[str, Answer | str] = {}
    try:
        if not _wait_until_ready(running, config.max_load_seconds):
            return Observed(
                failure=f"the model was not ready after {config.max_load_seconds:g} s "
                "(canary.max_load_seconds)"
            )
        load_seconds = time.monotonic() - running.started
        address, files = running.address, expected.files
        with traffic.Caller(address, config, files=files) as caller:
            for signature in judgement.SIGNATURES:
                answers[signature] = caller.ask(signature, expected.images)
                running.check_alive(f"answering {signature}")
            second()
            singles, latencies, failure = traffic.single_requests(
                caller, expected.images, config
            )
            running.check_alive("answering requests with one image")
    except server.ServerEnded as error:
        return Observed(load_seconds=load_seconds, failure=str(error), answers=answers)
    return Observed(
        load_seconds=load_seconds,
        failure=failure,
        answers=answers,
        singles=singles,
        latencies_ms=latencies,
    )


def _wait_until_ready(running: server.Running, seconds: float) -> bool:
    until = running.started + seconds
    if not running.wait_for_socket(until):
        return False
    while time.monotonic() < until:
        running.check_alive("loading the model")
        if traffic.is_available(running.address):
            return True
        time.sleep(_STATUS_POLL_SECONDS)
    return False

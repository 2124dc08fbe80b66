"""The commands of `python -m serving.client`: a client and options in, an exit status out."""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import json
import math
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.client.classifier import Classifier
from serving.client.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.client.options import check_seconds
from serving.client.pictures import ENDINGS
from serving.client.progress import progress
from serving.client.results import Prediction, Tensor, VersionStatus

DONE, SOME_FAILED = 0, 1

_SHOWN_ROWS = 20
_HAS_ALL = "--csv FILE or --json FILE has all"
_COLUMNS = ("file", "label", "class_name", "probability", "model_version", "error")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # begin one in spreadsheets
_TOO_SHORT = 0.05  # seconds in which no answer need come
_WARM_UP = 3  # requests of each worker before a measurement


def predict(classifier: Classifier, options: argparse.Namespace) -> int:
    """Classifies files and folders; broken images are named and do not stop the rest."""
    if options.csv and options.json and _same_file(options.csv, options.json):
        raise InvalidInput(f"--csv and --json cannot both be written to {options.csv}")
    files = list(_files(options.paths))
    quiet = "-" in (options.csv, options.json)
    shown: list[dict[str, Any]] = []
    classes: collections.Counter[str] = collections.Counter()
    versions: set[int] = set()
    failed = 0
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        sinks = [
            stack.enter_context(sink(path, alone=not (options.csv and options.json)))
            for sink, path in ((_csv, options.csv), (_json, options.json))
            if path
        ]
        advance = stack.enter_context(progress("classifying", len(files), "images"))
        results = classifier.stream(files, return_errors=True)
        for file, result in zip(files, results, strict=True):
            row = _row(file, result)
            for sink in sinks:
                sink(row)
            advance(1)
            if isinstance(result, ServingError):
                failed += 1
                if failed <= _SHOWN_ROWS:
                    complain(f"not classified: {file}: {row['error']}")
                    if options.verbose and result.details:
                        complain(f"  {' '.join(result.details.split())}")
            else:
                classes[row["class_name"]] += 1
                versions.add(row["model_version"])
                if len(shown) < _SHOWN_ROWS:
                    shown.append(row)
    seconds = time.monotonic() - began
    if failed > _SHOWN_ROWS:
        complain(f"and {failed - _SHOWN_ROWS:,} more; {_HAS_ALL}")
    if not quiet:
        _show_predictions(shown, classes)
    good = len(files) - failed
    complain(
        f"{good:,} of {len(files):,} images classified in {seconds:.2f} s "
        f"({good / max(seconds, 1e-9):,.0f} images/s)"
        + (f" by version {', '.join(map(str, sorted(versions)))}" if versions else "")
    )
    return SOME_FAILED if failed else DONE


def status(classifier: Classifier, options: argparse.Namespace) -> int:
    """Lists the versions."""
    del options
    rows = [
        (str(entry.version), entry.state, _fault(entry))
        for entry in classifier.status()
    ]
    _write(_table(("version", "state", "error"), rows))
    return DONE


def metadata(classifier: Classifier, options: argparse.Namespace) -> int:
    """Lists the signatures."""
    del options
    found = classifier.metadata()
    rows = [
        (signature, direction, name, tensor.dtype, _shape(tensor))
        for signature, entry in found.signatures.items()
        for direction, tensors in (("in", entry.inputs), ("out", entry.outputs))
        for name, tensor in tensors.items()
    ]
    _write([_printable(f"model {found.model}, version {found.version}"), ""])
    _write(_table(("signature", "", "tensor", "dtype", "shape"), rows))
    return DONE


def watch(classifier: Classifier, options: argparse.Namespace) -> int:
    """Prints a line for each change, until interrupted or `--seconds` have passed."""
    check_seconds("--interval", options.interval)
    if options.seconds is not None:
        check_seconds("--seconds", options.seconds)
    end = math.inf if options.seconds is None else time.monotonic() + options.seconds
    known: dict[int, tuple[str, str]] = {}
    complained = False
    while (left := end - time.monotonic()) > 0:
        found = known
        try:
            versions = classifier.status(
                deadline_seconds=None if left == math.inf else left
            )
        except (Unavailable, DeadlineExceeded, Overloaded, NotFound) as error:
            if end - time.monotonic() < _TOO_SHORT and (known or complained):
                break  # our own end is no fault of the server
            if isinstance(error, NotFound):  # not yet, or no longer
                found = {}
            if not complained:
                _stamp(str(error))
            complained = True
        else:
            found = {entry.version: (entry.state, _fault(entry)) for entry in versions}
            if complained:
                _stamp("the server answers again")
            complained = False
        for version in sorted(found.keys() | known.keys()):
            _report_change(version, known.get(version), found.get(version))
        known = found
        time.sleep(max(0.0, min(options.interval, end - time.monotonic())))
    return DONE


def bench(classifier: Classifier, options: argparse.Namespace) -> int:
    """Sends random images from several threads and reports what they saw."""
    import numpy as np

    if options.requests < 1:
        raise InvalidInput(f"--requests={options.requests} must be at least 1")
    shape = (options.batch_size, *classifier.image_shape())
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    latencies: list[float] = []
    failures: collections.Counter[str] = collections.Counter()
    guard = threading.Lock()
    left = options.requests

    def worker(advance: Any) -> None:
        nonlocal left
        while True:
            with guard:
                if left == 0:
                    return
                left -= 1
            began = time.perf_counter()
            try:
                classifier.classify(images)
            except ServingError as error:
                with guard:
                    failures[error.code] += 1
            else:
                latencies.append(time.perf_counter() - began)
            with guard:
                advance(1)

    with ThreadPoolExecutor(options.in_flight) as threads:
        try:
            for future in [
                threads.submit(classifier.classify, images)
                for _ in range(_WARM_UP * options.in_flight)
            ]:
                future.result()
            with progress("measuring", options.requests, "requests") as advance:
                began = time.perf_counter()
                for future in [
                    threads.submit(worker, advance) for _ in range(options.in_flight)
                ]:
                    future.result()
                seconds = time.perf_counter() - began
        except BaseException:  # Ctrl-C: the threads are not to send all the rest
            with guard:
                left = 0
            classifier.close()
            raise
    figures = _figures(options, sorted(latencies), seconds, failures)
    if options.json:
        with _output(options.json) as file:
            file.write(json.dumps(figures, indent=2) + "\n")
    if options.json != "-":
        _write(
            _table(("", ""), [(key, _number(value)) for key, value in figures.items()])
        )
    return SOME_FAILED if failures else DONE


def _figures(
    options: argparse.Namespace,
    latencies: Sequence[float],
    seconds: float,
    failures: collections.Counter[str],
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "server": options.server,
        "batch_size": options.batch_size,
        "in_flight": options.in_flight,
        "requests": options.requests,
        "failed": dict(failures),
        "seconds": seconds,
        "requests_per_second": len(latencies) / seconds,
        "images_per_second": len(latencies) * options.batch_size / seconds,
    }
    for percent in (50, 90, 99):
        # The smallest latency that at least this share of requests did not exceed.
        place = -(-len(latencies) * percent // 100) - 1
        figures[f"p{percent}_ms"] = latencies[place] * 1000 if latencies else None
    return figures


def _files(paths: Iterable[str]) -> Iterator[str]:
    """Files as given, and all images below folders, in order of their names.

    Raises:
        InvalidInput: A folder without images: surely not what was meant. One that cannot
            be read: its images would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise InvalidInput(f"{error.filename}: {error.strerror}")

    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        empty = True
        for folder, folders, names in os.walk(path, onerror=refuse):
            folders.sort()
            for name in sorted(names):
                if name.lower().endswith(ENDINGS) and not name.startswith("."):
                    empty = False
                    yield os.path.join(folder, name)
        if empty:
            raise InvalidInput(
                f"{path}: no image in this folder ({', '.join(ENDINGS)})"
            )


def _row(file: str, result: Prediction | ServingError) -> dict[str, Any]:
    if isinstance(result, ServingError):
        error = str(result).removeprefix(f"{file}: ")
        return dict.fromkeys(_COLUMNS, None) | {"file": file, "error": error}
    return {
        "file": file,
        "label": result.label,
        "class_name": result.class_name,
        "probability": round(result.probability, 6),
        "model_version": result.model_version,
        "error": None,
        "probabilities": result.probabilities,
    }


@contextlib.contextmanager
def _csv(path: str, *, alone: bool) -> Iterator[Any]:
    with _output(path, alone=alone) as file:
        writer: csv.DictWriter[str] = csv.DictWriter(
            file, _COLUMNS, extrasaction="ignore"
        )
        writer.writeheader()
        yield lambda row: writer.writerow(_harmless(row))


def _harmless(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which no spreadsheet finds a formula (OWASP, CSV Injection).

    A path stays the same file: `./` before one that is relative. Other texts get an
    apostrophe, which spreadsheets do not show; numbers are none.
    """
    found = dict(row)
    if row["file"].startswith(_FORMULA):
        found["file"] = os.path.join(os.curdir, row["file"])
    for name in ("class_name", "error"):
        if row[name] and row[name].startswith(_FORMULA) and not _is_number(row[name]):
            found[name] = f"'{row[name]}"
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _json(path: str, *, alone: bool) -> Iterator[Any]:
    with _output(path, alone=alone) as file:
        separator = "[\n"

        def write(row: dict[str, Any]) -> None:
            nonlocal separator
            values = row.get("probabilities")
            # Nine digits are enough to tell every float32 from its neighbours.
            numbers = None if values is None else [float(f"{v:.9g}") for v in values]
            file.write(separator + json.dumps(row | {"probabilities": numbers}))
            separator = ",\n"

        yield write
        file.write("[]\n" if separator == "[\n" else "\n]\n")


@contextlib.contextmanager
def _output(path: str, *, alone: bool = True) -> Iterator[Any]:
    """stdout, or a file that appears under its name when it is whole.

    What is no regular file, such as a pipe, is written to as it is. Not `alone`: that
    nobody reads stdout on, as with `| head`, does not end the other output.
    """
    if path == "-":
        yield sys.stdout if alone else _Stdout()
        return
    target = os.path.realpath(path)  # a link stays one
    stream = os.path.exists(path) and not os.path.isfile(path)
    partial = path if stream else f"{target}.{secrets.token_hex(4)}.part"
    try:
        # Names of files need not be UTF-8; what is not is written as \\udc.. escapes.
        with open(
            partial, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file:
            yield file
        if not stream:
            if os.path.exists(target):
                shutil.copymode(target, partial)
            os.replace(partial, target)
    except BaseException as error:
        if not stream:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        if isinstance(error, OSError) and error.filename in (None, partial):
            error.filename = path  # a full disk is not said to be this file's
        raise


class _Stdout:
    """stdout as long as somebody reads it."""

    @staticmethod
    def write(text: str) -> None:
        try:
            sys.stdout.write(text)
        except BrokenPipeError:
            discard_stdout()


def _same_file(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def discard_stdout() -> None:
    """Once nobody reads on; Python would complain again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_predictions(
    shown: Sequence[dict[str, Any]], classes: collections.Counter[str]
) -> None:
    rows = [
        (row["file"], row["class_name"], f"{row['probability']:.1%}") for row in shown
    ]
    if rows:
        _write(_table(("file", "class", "probability"), rows))
    hidden = classes.total() - len(shown)
    if hidden > 0:
        _write([f"and {hidden:,} more; {_HAS_ALL}", ""])
        counts = [(name, f"{count:,}") for name, count in classes.most_common()]
        _write(_table(("class", "images"), counts))


def _fault(entry: VersionStatus) -> str:
    if entry.error_code == "OK":
        return ""
    return f"{entry.error_code}: {entry.error_message}".rstrip(": ")


def _report_change(
    version: int, before: tuple[str, str] | None, now: tuple[str, str] | None
) -> None:
    if before == now:
        return
    if now is None:
        _stamp(f"version {version} is gone")
        return
    arrow = f"{before[0]} → {now[0]}" if before and before[0] != now[0] else now[0]
    _stamp(f"version {version} {arrow} {now[1]}".rstrip())


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "any"
    return f"[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, dict):
        return ", ".join(f"{count} x {code}" for code, count in value.items()) or "none"
    return "-" if value is None else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, *rows] if any(header) else list(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return [
        "  ".join(
            _printable(cell).ljust(width)
            for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


def _printable(text: str) -> str:
    """Without what could move the cursor or break a terminal's encoding."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _write(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _stamp(text: str) -> None:
    _write([f"{time.strftime('%H:%M:%S')}  {_printable(text)}"])
    sys.stdout.flush()


def complain(text: str) -> None:
    """A line on stderr, whatever names and servers put into it."""
    sys.stderr.write(f"{_printable(text)}\n")

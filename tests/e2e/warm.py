"""Processes that have loaded TensorFlow and TFX already.

A short run spends most of its time on loading them. These are forks of a process that has
done so; what belongs to the project they load themselves, from any copy of it. How a person
starts a run is what tests/e2e/test_pipeline.py does.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tensorflow",
        "tensorflow_transform",
        "tfx.components",
        "tfx.orchestration.local.local_dag_runner",
    ]
)


def call(function: Callable[..., Any], *arguments: Any, timeout: float) -> int | None:
    """Calls a function of a module in such a process; its exit status.

    None of what it imports may be the project's, before the function itself does.
    """
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return status(process, timeout)


def status(process: Any, timeout: float) -> int | None:
    """The exit status of a process that `start` has started, at its end."""
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def start(
    project: Path, words: Sequence[str], said: Path, environment: Mapping[str, str]
) -> Any:
    """Begins `python PROJECT/pipeline.py WORDS`; the process, as of multiprocessing.

    Args:
        project: Folder of the project, or of a copy.
        words: The command line.
        said: File for what it prints.
        environment: Variables to be set.
    """
    process = _CONTEXT.Process(
        target=_pipeline, args=(str(project), [*words], said, dict(environment))
    )
    process.start()
    return process


def pipeline(
    project: Path,
    words: Sequence[str],
    said: Path,
    environment: Mapping[str, str],
    *,
    timeout: float = 900,
) -> int | None:
    """As `start`, to its end; its exit status."""
    return status(start(project, words, said, environment), timeout)


def _pipeline(
    project: str, words: list[str], said: Path, environment: dict[str, str]
) -> None:
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    tempfile.tempdir = None  # as TMPDIR says now
    sys.path.insert(0, project)
    from pipeline import cli
    from studies import commands as studies

    assert cli.__file__ == os.path.join(project, "pipeline", "cli.py")
    sys.exit(cli.main(words, os.environ, [studies.add_parser]))

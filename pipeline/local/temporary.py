"""A temporary folder of a run's own: what libraries leave in theirs ends with the run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def own_folder() -> Iterator[None]:
    """Gives temporary files of this process and of its children a folder, and removes it.

    However the run ends, but for SIGKILL. (TFX, its Beam readers and TensorFlow Data
    Validation make folders and forget them.)
    """
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    # A short name: sockets in it have paths of 107 bytes at most (unix(7)).
    with tempfile.TemporaryDirectory(
        prefix="run-", ignore_cleanup_errors=True
    ) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield
        finally:
            os.environ.pop("TMPDIR")
            if before[0] is not None:
                os.environ["TMPDIR"] = before[0]
            tempfile.tempdir = before[1]

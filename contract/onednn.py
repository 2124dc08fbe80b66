"""oneDNN's operations for a training, also where TensorFlow leaves them off."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


@contextlib.contextmanager
def on() -> Iterator[None]:
    """Wraps the import of TensorFlow.

    By itself TensorFlow uses oneDNN where a processor has AVX512_VNNI or the like. On other
    x86-64 processors a training step takes up to three times as long without
    (docs/training.md). TensorFlow asks once, while it is loaded. The variable goes again, so
    that servers keep to TensorFlow's own choice: there single images are slower with oneDNN.
    """
    if VARIABLE in os.environ or platform.machine() != "x86_64":
        yield
        return
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)

"""Loads TFX, and with it TensorFlow, for a run."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator

from serving import imports

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@contextlib.contextmanager
def tfx() -> Iterator[None]:
    """Wraps imports of modules that load TFX.

    TensorFlow, which comes with it, is told to use oneDNN. By itself it does so only where a
    processor has AVX512_VNNI or the like, and a training step takes up to 2.7 times as long
    without (docs/training.md). It asks once, while it is loaded. The variable goes again, so
    that servers keep to TensorFlow's own choice: single images are slower with oneDNN there.
    """
    ours = ONEDNN not in os.environ and platform.machine() == "x86_64"
    if ours:
        os.environ[ONEDNN] = "1"
    try:
        with imports.without(
            *imports.TENSORFLOW,
            "torch",  # Beam could infer the types of its tensors
        ):
            yield
    finally:
        if ours:
            del os.environ[ONEDNN]

"""Loads TFX as a run needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from contract import onednn
from serving import imports


@contextlib.contextmanager
def tfx() -> Iterator[None]:
    """Wraps imports of modules that load TFX, and with it TensorFlow.

    Without what it takes along merely because it is installed, and with oneDNN.
    """
    with (
        onednn.on(),
        imports.without(
            *imports.TENSORFLOW,
            "torch",  # Beam could infer the types of its tensors
        ),
    ):
        yield

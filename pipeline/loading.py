"""Loads TFX without what it takes along merely because it is installed."""

from __future__ import annotations

from contextlib import AbstractContextManager

from serving import imports


def tfx() -> AbstractContextManager[None]:
    """Wraps imports of modules that load TFX."""
    return imports.without(
        *imports.TENSORFLOW,
        "torch",  # Beam could infer the types of its tensors
    )

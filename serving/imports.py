"""Keeps out of a process what it would load merely because it is installed.

TensorFlow imports Keras, and that tries optional packages. In .venv they are all there, for
others, and cost a process a second and a half in which a person waits.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator

TENSORFLOW = (
    "jax",  # tensorflow.lite could convert its functions
    "matplotlib",  # Keras could draw; the report imports it when it does
    "sklearn",  # Keras has wrappers for it
)


@contextlib.contextmanager
def without(*packages: str) -> Iterator[None]:
    """Wraps imports, to which `packages` are as good as not installed.

    For packages that the imported ones can do without. Those that are loaded stay, and
    afterwards all can be imported.
    """
    finder = _Hidden(packages)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hidden:
    """A finder that is asked before the others.

    (None in sys.modules hides as well, but SciPy looks there for what is loaded.)
    """

    def __init__(self, names: Collection[str]):
        self._names = names

    def find_spec(self, name: str, *_: object) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"{name!r} is not needed", name=name)

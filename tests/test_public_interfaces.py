"""Product code is written on public interfaces: they stay when a library gets a new version."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.test_architecture import ROOMS

PROJECT = Path(__file__).parents[1]
# What a program can reach past a library's Python: the memory of its process.
MEMORY = ("ctypes", "cffi")
# The operating system's rename that replaces nothing: Python has no other way to it.
ALLOWED = {"components/atomic_pusher/publish.py": {"ctypes"}}
PUBLIC = {"os._exit"}  # by its documentation


def hidden(source: str) -> set[str]:
    """Dotted names of libraries that a program uses and that are not for others' use."""
    tree = ast.parse(source)
    used, bound = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                used.add(alias.name)
                top = alias.name.partition(".")[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                used.add(name)
                bound[alias.asname or alias.name] = name
    for node in ast.walk(tree):
        attributes = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if attributes and isinstance(node, ast.Name) and node.id in bound:
            used.add(".".join([bound[node.id], *attributes]))
    return {name for name in used - PUBLIC if is_hidden(name.split("."))}


def is_hidden(parts: list[str]) -> bool:
    if parts[0] in (*ROOMS, "__future__"):
        return False
    return (
        parts[0] in MEMORY
        or parts[:2] == ["tensorflow", "python"]
        or any(part.startswith("_") and not part.endswith("__") for part in parts)
    )


def test_no_hidden_part_of_a_library_is_used():
    files = [*PROJECT.glob("*.py")]
    for room in (*ROOMS, "scripts"):
        files += (PROJECT / room).rglob("*.py")
    found = {
        path.relative_to(PROJECT).as_posix(): {
            # Of ctypes, whatever it is used for.
            name.partition(".")[0] if name.startswith(MEMORY) else name
            for name in names
        }
        for path in files
        if (names := hidden(path.read_text("utf-8")))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from grpc._cython import cygrpc", "grpc._cython.cygrpc"),
        ("import grpc._server", "grpc._server"),
        ("def f():\n    from grpc import _common", "grpc._common"),
        ("import tensorflow.python.eager", "tensorflow.python.eager"),
        ("import numpy as np\nnp.core._methods", "numpy.core._methods"),
        ("from aiohttp import web\nweb._app", "aiohttp.web._app"),
        ("import ctypes", "ctypes"),
        ("from ctypes import CDLL", "ctypes.CDLL"),
        ("import cffi", "cffi"),
    ],
)
def test_each_is_found(source, found):
    assert found in hidden(source)


def test_others_are_none():
    assert not hidden(
        "from __future__ import annotations\n"
        "import grpc, os.path, numpy as np\n"
        "from serving.server import _x\n"
        "from . import _y\n"
        "grpc.server(np.__version__, self._x, os._exit)"
    )

"""The server is written on public interfaces: they stay when a library gets a new version."""

import ast
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[3] / "serving" / "server"
# TensorFlow's C interface (c_api.h) is public and stable, and Python has no other way to it;
# why it is used, the file says.
BY_CTYPES = {"session.py"}


def private(source):
    """Modules of libraries that a program imports and that are not for others' use."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            hidden = any(part.startswith("_") for part in parts)
            if parts[0] not in ("serving", "__future__") and (
                hidden or parts[:2] == ["tensorflow", "python"] or parts[0] == "ctypes"
            ):
                found.add(name)
    return found


@pytest.mark.parametrize(
    "path", sorted(SERVER.rglob("*.py")), ids=lambda path: path.name
)
def test_no_private_module_of_a_library_is_imported(path):
    allowed = {"ctypes"} if path.name in BY_CTYPES else set()
    assert private(path.read_text()) == allowed


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from grpc._cython import cygrpc", "grpc._cython.cygrpc"),
        ("import grpc._server", "grpc._server"),
        ("def f():\n    from grpc import _common", "grpc._common"),
        (
            "from tensorflow.python.framework import ops",
            "tensorflow.python.framework.ops",
        ),
        ("import ctypes", "ctypes"),
        ("from ctypes import CDLL", "ctypes.CDLL"),
    ],
)
def test_each_is_found(line, found):
    assert private(line) == {found}


def test_others_are_none():
    source = (
        "import grpc\nimport os.path\nfrom serving.server import _x\nfrom . import _y"
    )
    assert private(f"from __future__ import annotations\n{source}") == set()

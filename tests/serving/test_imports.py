"""Packages that are hidden while others are imported."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from serving import imports

ROOT = Path(__file__).parents[2]


def test_a_hidden_package_is_missing_for_a_while(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with imports.without("wave", "no_such_package"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("wave")
    assert importlib.import_module("wave").open
    assert "no_such_package" not in sys.modules


def test_a_loaded_package_stays():
    with imports.without("json"):
        import json
    assert json is sys.modules["json"]


def test_what_was_hidden_is_there_after_an_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pytest.raises(KeyError), imports.without("wave"):
        raise KeyError
    assert importlib.import_module("wave").open


@pytest.mark.tf
def test_tensorflow_is_loaded_without_the_others():
    code = """
import sys
from serving import imports, quiet
with quiet.loading_tensorflow():
    import tensorflow as tf
assert not {*imports.TENSORFLOW} & sys.modules.keys()
assert tf.keras.activations.relu(tf.constant([-1.0])).numpy() == [0]
assert tf.lite.TFLiteConverter
import jax, matplotlib.figure, sklearn.datasets
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

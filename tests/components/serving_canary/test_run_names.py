"""The canary's look at a model's run.json, which may be anything."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components.serving_canary import canary
from components.serving_canary.judgement import Expected, NotComparable

EXPECTED = Expected(
    images=np.zeros((1, 32, 32, 3), np.uint8),
    probabilities=np.ones((1, 2), np.float32),
    class_names=("a", "b"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found = tmp_path_factory.mktemp("model")
    (found / "assets.extra").mkdir()
    return found


@settings(deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"class_names": value}).encode())
    | st.binary()
)
@example(content=b"[" * 500_000)
@example(content=b'{"class_names": 5}')
@example(content=b" " * (2 << 20) + b"{}")
def test_anything_is_judged_in_one_sentence(model, content):
    (model / "assets.extra/run.json").write_bytes(content)
    try:
        canary._check_run(model, EXPECTED)
    except NotComparable as error:
        assert str(error).isprintable() and len(str(error)) < 400
    else:
        assert json.loads(content).get("class_names") in (None, ["a", "b"])


@pytest.mark.parametrize("shape", [[8, 8, 1], [32, 32], [32, 32, -3], "x"])
def test_another_shape_is_refused(model, shape):
    (model / "assets.extra/run.json").write_text(json.dumps({"image_shape": shape}))
    with pytest.raises(NotComparable, match="image shapes|cannot be read"):
        canary._check_run(model, EXPECTED)
    (model / "assets.extra/run.json").write_text('{"image_shape": [32, 32, 3]}')
    canary._check_run(model, EXPECTED)


def test_the_same_names_pass(model):
    (model / "assets.extra/run.json").write_text('{"class_names": ["a", "b"]}')
    canary._check_run(model, EXPECTED)

"""JSON of any form: an object, or one sentence."""

import io
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract import stored

MOST = 1 << 20


@settings(max_examples=200, deadline=2000)
@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@example(b"[" * 500_000)
@example(b'{"a":' * 100_000)
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b'"\xff"')
@example(b" " * (MOST + 1))
def test_json_is_an_object_or_one_sentence(content):
    try:
        assert isinstance(stored.json_object(io.BytesIO(content), MOST), dict)
    except stored.Unreadable as error:
        assert str(error).isprintable() and len(str(error)) < 300

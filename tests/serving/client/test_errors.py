"""What servers say, as sentences for people."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.client.errors import InvalidInput, Unavailable, from_status

# Texts of TensorFlow's own errors as its servers pass them on.
TEXTS = {
    "Invalid PNG data, size 900\n\t [[{{function_node map_while_body_69}}{{node map/while"
    "/decode_image/DecodeImage}}]]": "Invalid PNG data, size 900",
    "assertion failed: [pictures of 32 x 32 are taken] [Condition x == y did not hold "
    "element-wise:] [x (map/while/Shape:0) = ] [301 450 3] [y (map/while/y:0) = ] "
    "[32 32 3]\n\t [[{{function_node map_while_body_69}}{{node map/while/Assert}}]]":
        "pictures of 32 x 32 are taken",
    "{{function_node __inference_signature_wrapper_12}} Incompatible shapes: [1,3] vs. "
    "[1,4]\n\t [[{{node StatefulPartitionedCall/add}}]] [Op:StatefulPartitionedCall]":
        "Incompatible shapes: [1,3] vs. [1,4]",
    "Graph execution error:\n\nDetected at node Div defined at (most recent call last):\n"
    '  File "a.py", line 1, in f\n': None,
    "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Cannot divide by zero\n\t [[{{node "
    "div}}]]\n  (1) INVALID_ARGUMENT: Cannot divide by zero\n\t [[{{node div}}]]\n0 "
    "successful operations.\n0 derived errors ignored.": "Cannot divide by zero",
    'Serving signature name: "nope" not found in signature def':
        'Serving signature name: "nope" not found in signature def',
    "Encountered list at unexpected size: 1 at level: 1 expected size: 2":
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    "shape [[1, 2], [3, 4]] is odd": "shape [[1, 2], [3, 4]] is odd",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), TEXTS.items())
def test_inner_parts_of_a_graph_are_left_out(text, message):
    error = from_status("INVALID_ARGUMENT", text, "localhost:8500")
    assert isinstance(error, InvalidInput)
    if message is not None:
        assert str(error) == message
    assert error.details == text
    assert str(error) and "\n" not in str(error) and "{{" not in str(error)


@given(st.text(max_size=300), st.sampled_from(["INVALID_ARGUMENT", "INTERNAL", "?"]))
@settings(max_examples=100, deadline=None)
def test_any_text_is_one_line_that_says_something(text, code):
    message = str(from_status(code, text, "localhost:8500"))
    assert message and message.isprintable()


@pytest.mark.parametrize("text", ["Socket closed", "recvmsg:Connection reset by peer"])
def test_ended_connections_are_named_without_addresses_of_grpc(text):
    error = from_status("UNAVAILABLE", f"UNAVAILABLE: ipv4:127.0.0.1:1: {text}", "h:1")
    assert isinstance(error, Unavailable)
    assert str(error) == "no answer from h:1 (it ends the connection)"

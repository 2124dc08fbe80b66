"""Entries of the ledger that somebody made up: each is whole, or refused in a sentence."""

import copy
import json
import resource
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.atomic_pusher import ledger
from components.atomic_pusher.publish import PublishError

ENTRY = json.loads(
    ledger.entry_text(
        ledger.Entry(
            version=5,
            published="2026-01-01T00:00:00+00:00",
            previous=4,
            rollback_of=None,
            files={"variables/variables.index": ledger.File(size=1, crc32c="AAAA")},
            origin=ledger.Origin(network="resnet8", metrics={"error": 0.1}),
        ),
        "me",
    )
)


def changed(path, value):
    found = copy.deepcopy(ENTRY)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(found).encode()


def test_what_was_written_is_read():
    entry = ledger.parse_entry(json.dumps(ENTRY).encode(), "w")
    assert entry is not None and json.loads(ledger.entry_text(entry, "me")) == ENTRY


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 500_000,
        b"[]",
        changed(["version"], "../../other"),
        changed(["version"], 2**63),
        changed(["version"], True),
        changed(["previous"], 5),
        changed(["previous"], 6),
        changed(["rollback_of"], 9),
        changed(["published"], ["2026"]),
        changed(["files"], {"../../../etc/profile": {"size": 1, "crc32c": ""}}),
        changed(["files"], {"/etc/profile": {"size": 1, "crc32c": ""}}),
        changed(["files"], {"a\nb": {"size": 1, "crc32c": ""}}),
        changed(["files"], {"a": {"size": "1", "crc32c": ""}}),
        changed(["origin", "metrics"], 5),
        changed(["origin", "network"], {"a": 1}),
        changed(["registered"], "x"),
        changed(["\x1b[2J\n"], 1),
    ],
)
def test_entries_of_another_form_are_refused(content):
    with pytest.raises(PublishError, match="is damaged") as refused:
        ledger.parse_entry(content, "ledger/5.json")
    assert str(refused.value).isprintable()


PATHS = [[key] for key in ENTRY] + [["origin", key] for key in ENTRY["origin"]]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(PATHS), JSON)
@example(["previous"], 5)
def test_whatever_stands_in_an_entry_ends(path, value):
    try:
        entry = ledger.parse_entry(changed(path, value), "ledger/5.json")
    except PublishError as error:
        assert str(error).isprintable()
    else:
        # The chain goes down, so that following it ends.
        assert entry is None or (entry.previous or 0) < entry.version
        assert entry is None or ledger.entry_text(entry, "me")


CIRCLE = """
from components.atomic_pusher import ledger
from tests.components.atomic_pusher.test_ledger import changed

try:
    entries = {
        5: ledger.parse_entry(changed(["previous"], 6), "5"),
        6: ledger.parse_entry(changed(["version"], 6), "6"),
    }
    print(len(ledger.chain(5, entries)))
except ledger.PublishError as error:
    print(error)
"""


def test_a_chain_that_bites_its_tail_ends():
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))

    done = subprocess.run(
        [sys.executable, "-c", CIRCLE], capture_output=True, text=True, timeout=60,
        preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not above the earlier ones" in done.stdout

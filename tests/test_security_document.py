"""docs/security.md names a test for every threat, and each of them is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_threat_has_a_test_that_is_there():
    text = (TESTS.parent / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| .* \|$", text, re.MULTILINE)[1:]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"([\w/]+\.py): `(test_\w+)`", row.split("|")[-2])
        assert named, row
        for file, name in named:
            assert f"\ndef {name}(" in (TESTS / file).read_text(), (file, name)

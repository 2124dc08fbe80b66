"""docs/security.md names a test for every threat, and each of them is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_threat_has_a_test_that_is_there():
    text = (TESTS.parent / "docs" / "security.md").read_text()
    threats = text.partition("\n## Threats\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .* \|$", threats, re.MULTILINE)[1:]
    assert len(rows) > 15
    for row in rows:
        for part in row.split("|")[-2].split(";"):
            files = re.findall(r"([\w/]+\.py)", part)
            names = re.findall(r"`(test_\w+)`", part)
            assert files and names, row
            for file in files:
                content = (TESTS / file).read_text()
                for name in names:
                    assert f"\ndef {name}(" in content, (file, name)

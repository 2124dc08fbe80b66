"""docs/serving.md names a test for every difference from tensorflow_model_server."""

import re
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[2] / "docs" / "serving.md"
TESTS = re.compile(r"(test_\w+\.py): `(test_\w+)`")


def test_every_difference_has_a_test_that_is_there():
    text = DOCUMENT.read_text()
    section = text.split("## How it differs from tensorflow_model_server")[1]
    rows = re.findall(r"^\| .* \|$", section.split("\n## ")[0], re.MULTILINE)[1:]
    assert len(rows) > 20
    for row in rows:
        named = TESTS.findall(row.split("|")[-2])
        assert named, row
        for file, name in named:
            assert f"\ndef {name}(" in (HERE / file).read_text(), (file, name)

"""docs/ml-test-score.md: its tests are there, and it counts as the paper does."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
SECTIONS = ("Data", "Model development", "Infrastructure", "Monitoring")


def test_every_point_has_a_test_that_is_there_and_the_least_sum_is_the_score():
    text = (TESTS.parent / "docs" / "ml-test-score.md").read_text()
    sums = []
    for section in SECTIONS:
        part = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        rows = [row.split("|")[1:-1] for row in re.findall(r"^\|.*\|$", part, re.M)[2:]]
        assert len(rows) == 7, section
        for name, points, what in rows:
            assert float(points) in (0, 0.5, 1), name
            found = re.findall(r"([\w/]+\.py): ((?:`test_\w+`(?:, )?)+)", what)
            assert bool(found) == (float(points) > 0), name
            for file, names in found:
                content = (TESTS / file).read_text()
                for test in re.findall(r"test_\w+", names):
                    assert f"\ndef {test}(" in content, (file, test)
        sums.append(sum(float(points) for _, points, _ in rows))
    told = ", ".join(
        f"{name.lower()} {total:.1f}"
        for name, total in zip(SECTIONS, sums, strict=True)
    )
    assert f"({told})" in text
    assert f"**{min(sums):.1f}**" in text

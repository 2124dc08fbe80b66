"""Page and Markdown: every number that was found, for eyes and for screen readers."""

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from studies.report import curves, markdown, page, words
from tests.studies.found import result

ONE = [0.30, 0.31, 0.32, 0.30, 0.31]
FOUND = result(
    {"one": ONE, "two": [0.80, 0.81, 0.82, 0.83, None], "three": [0.3] * 4 + [0.31]}
)


class Page(HTMLParser):
    """Words, and the cells of each table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.text, self.labels, self._cell = "", set(), False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True
            self.labels.add(dict(attributes).get("data-label"))

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data


def test_the_page_has_every_row_and_claim_with_its_numbers():
    found = Page(page.render(FOUND))
    claims, rows = found.tables
    assert claims[1][0].startswith("two is worse")
    assert claims[1][3] == "as published"
    assert claims[2][3] == "not distinguishable"
    assert [row[0].split("diverged")[0] for row in rows[1:]] == [
        "the one", "the other & more", "the third",
    ]  # fmt: skip
    assert rows[1][1:5] == ["6.61", "31.00", "30.80 ± 0.84", "reference"]
    assert rows[2][1:3] == ["fail", "82.00"]
    assert "diverged: seed 5 at step 7" in rows[2][0]
    assert rows[3][1] == "\u2013"
    assert "Small scale." in found.text
    assert "nobody 2016" in found.text


def test_each_cell_names_its_column_where_a_narrow_screen_hides_the_head():
    text = page.render(FOUND)
    found = Page(text)
    cells = re.findall(r"<td [^>]*>", text)
    assert cells and all("data-label=" in cell for cell in cells)
    assert {"Published", "Median here", "Verdict"} <= found.labels


def test_what_a_table_says_is_text_and_no_markup():
    text = page.render(FOUND)
    assert "A study &lt;of&gt; tests" in text
    assert "<of>" not in text
    assert "the other &amp; more" in text


def test_curves_are_svg_that_a_screen_reader_can_read():
    drawn = curves.panels(FOUND)
    assert [title for title, _ in drawn] == [row.title for row in FOUND.rows]
    name = "{http://www.w3.org/2000/svg}"
    for title, svg in drawn:
        root = ElementTree.fromstring(
            svg.replace("<svg", f'<svg xmlns="{name[1:-1]}"', 1)
        )
        told = {each.get("id"): each.text for each in root if each.get("id")}
        labels = root.get("aria-labelledby").split()
        assert root.get("role") == "img"
        assert told[labels[0]] == f"Learning curves of {title}"
        assert (
            "Seed 1: training error from 90.0 % at step 10 to 30.0 %" in told[labels[1]]
        )
        dashed = root.findall(f"{name}polyline[@class='row train']")
        assert len(dashed) == 5
    assert "Seed 5 diverged at step 7." in drawn[1][1]


def test_curves_go_from_left_to_right_and_high_errors_stand_high():
    _, svg = curves.panels(FOUND)[0]
    points = re.search(r'class="row train" points="([^"]+)"', svg)[1].split()
    xs, ys = zip(*(map(float, point.split(",")) for point in points), strict=True)
    assert list(xs) == sorted(xs)
    assert ys[0] < ys[-1]  # 90 % stands above 30 %


def test_long_training_curves_are_means_of_twentieths():
    trained = FOUND.rows[0].trained[0]
    history = tuple(
        {"step": step, "epoch": 1.0, "accuracy": (step % 2) / 1.0}
        for step in range(1, 101)
    )
    found = curves.curve(dataclasses.replace(trained, history=history), "train")
    assert len(found) == 20
    assert found[-1][0] == 100
    assert all(value == pytest.approx(100 * (2 / 5), abs=21) for _, value in found)
    assert sum(value for _, value in found) / 20 == pytest.approx(50)


def test_markdown_has_the_same_numbers_in_whole_tables():
    text = markdown.render(FOUND)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert counts == {5, 9}
    assert "| the one | 6.61 | 31.00 | 30.80 ± 0.84 | reference |" in text
    assert "**as published**" in text
    assert "Small scale" in text


def test_words():
    assert words.points(-0.0024) == "\u22120.24"
    assert words.p_value(0.0004) == "<0.001"
    assert words.p_value(None) == "\u2013"
    assert words.hours(90 * 60) == "1.50 h"
    assert words.hours(90) == "2 min"
    assert "16 x 16 pixels" in words.size(FOUND)
    assert words.open_claims(FOUND) == ["three is better"]

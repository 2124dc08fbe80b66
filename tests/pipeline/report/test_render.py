"""The report's files from plain numbers."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from contract.comparison import Slice
from pipeline.report import figures, render
from tests.pipeline.report.forms import (
    CANARY,
    CLASSES,
    comparison,
    evaluated,
    in_service,
    model,
    part,
    report,
    served,
)


class Tags(HTMLParser):
    """Collects tags, to see that they balance and that nothing is fetched."""

    VOID = {"meta", "img", "br", "wbr", "link", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.names, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("winner", ["baseline", "candidate", None])
def test_the_page_is_whole_self_contained_and_escaped(winner):
    page = render.html(report(winner))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.names
    assert all(link.startswith(("data:", "#")) for link in tags.links)
    assert "dog &lt;b&gt;" in page
    assert "because" in page
    assert ("No model is good enough" in page) == (winner is None)
    assert ("it is &lt;i&gt;broken&lt;/i&gt;" in page) == (winner is None)
    nothing = "Nothing was published; nothing is in service yet."
    assert (nothing in page) == (winner is None)
    assert "nobody looked" in page


def test_a_model_in_service_has_its_row_and_its_words():
    page = render.html(in_service(report()))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "The model in service, old_net, stays." in page
    assert page.count("old_net") >= 5
    assert "Nothing was published; old_net stays in service." in page
    assert "Minus the model in service" not in render.html(report())


def test_differences_from_the_model_in_service_are_told():
    made = in_service(report())
    words = re.sub(r"\s+", " ", render.html(made))
    assert (
        "Minus the model in service: baseline +5.00 points (95 % interval −1.00 to "
        "+11.00, p &lt; 0.001), candidate +5.00 points (95 % interval −1.00 to "
        "+11.00, p &lt; 0.001)." in words
    )


def test_a_failed_canary_is_told():
    reason = "serving_default answers 0.9 for class cat where training answered 0.1"
    failed = report(pushed=None, canary=CANARY | {"passed": False, "reasons": [reason]})
    page = render.html(failed)
    assert "failed when it was tried in a server" in page
    assert reason in page


def test_what_the_learning_curves_are_of_is_told():
    made = report()
    for words in ("labels smoothed", "moving average"):
        assert words not in render.html(made)
    made["page"]["config"]["train"] = {"label_smoothing": 0.1, "ema": 0.99}
    page = render.html(made)
    assert "is of labels smoothed by 0.1" in page
    assert "their moving average (<code>train.ema=0.99</code>)" in page


def test_what_the_engine_does_not_tell_is_left_out():
    known = render.html(report())
    assert '<th scope="col">duration</th>' in known
    assert '<span class="soft">1</span> A' in known
    quiet = report(
        components=[
            {"id": name, "state": "complete", "seconds": None, "cached": None}
            for name in ("RunConfiguration", "CifarExampleGen")
        ]
    )
    quiet["page"]["artifacts"][0]["id"] = None
    page = render.html(quiet)
    assert "RunConfiguration, CifarExampleGen." in page
    assert "duration</th>" not in page
    assert "<li>A, <b>k</b>" in page
    assert "None" not in page


def test_what_each_component_is_stands_below_its_name():
    rows = [
        {"id": name, "state": "complete", "seconds": 1.0, "cached": False}
        for name in ("CandidateTrainer", "OfAnotherRelease")
    ]
    page = render.html(report(components=rows))
    assert 'CandidateTrainer<br><span class="soft">trains a network</span></th>' in page
    assert "OfAnotherRelease</th>" in page


def test_a_registered_model_is_named():
    pushed = report()["pushed"]
    assert "Registered as" not in render.html(report())
    known = {"registered_model": "projects/p/models/5@2", "registered_alias": "best"}
    page = render.html(report(pushed=pushed | known))
    assert "Registered as <code>projects/p/models/5@2</code>, alias <b>best</b>" in page
    assert "Answers" not in page
    known |= {"endpoint": "projects/p/endpoints/6", "traffic_percent": 10}
    page = render.html(report(pushed=pushed | known))
    assert "Answers 10 % of the requests to <code>projects/p/endpoints/6</code>" in page


def test_the_lead_is_one_short_paragraph():
    assert render.lead(report()) == (
        "The candidate, preact_resnet20, wins with 10.0 % errors and is published as "
        "version 7. Nothing was in service before."
    )
    replaced = report()
    replaced["models"]["in_service"] = model("old_net", 0.12)
    assert render.lead(replaced).endswith("It replaces old_net (12.0 %).")


def test_the_worst_slices_come_first():
    rows = render.worst_slices(comparison(0.1), CLASSES, most=2)
    assert [row["name"] for row in rows] == ["class dog <b>", "class cat"]
    assert rows[0]["difference"].difference == -0.1


def test_the_model_in_service_does_not_decide_which_slices_are_worst():
    compared = served(comparison(0.1))
    worst = {**compared.models["baseline"].measured.slices}
    worst[Slice("brightness", "low")] = part(1.0)
    serving = dataclasses.replace(
        compared.models["in_service"],
        measured=dataclasses.replace(
            compared.models["in_service"].measured, slices=worst
        ),
    )
    compared = dataclasses.replace(
        compared, models={**compared.models, "in_service": serving}
    )
    assert render.worst_slices(compared, CLASSES)[0]["name"] == "class dog <b>"


def test_json_has_no_page_and_no_nan(tmp_path):
    path = render.write(report(), str(tmp_path / "report"))
    text = (tmp_path / "report/report.json").read_text()
    values = json.loads(text, parse_constant=pytest.fail)
    assert "page" not in values
    assert values["difference"]["p_value"] is None
    assert values["models"]["candidate"]["eval"]["error"] == 0.1
    assert path == str(tmp_path / "report/report.html")
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == [
        "images",
        "report.html",
        "report.json",
    ]


def test_the_pictures_are_those_of_the_last_data_set(tmp_path):
    made = report()
    render.write(made, str(tmp_path))
    assert (tmp_path / "images/cat.png").read_bytes() == b"\0\0\0"  # AAAA
    made["page"]["pictures"] = {"7": made["page"]["pictures"]["cat"]}
    render.write(made, str(tmp_path))
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["7.png"]


def test_a_failing_page_leaves_the_old_one(tmp_path):
    render.write(report(), str(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*.*")}
    broken = report(schema=2)
    del broken["page"]["histories"]
    with pytest.raises(KeyError, match="histories"):
        render.write(broken, str(tmp_path))
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*.*")} == before


def test_figures_are_valid_xml_with_unique_identifiers():
    page = report()["page"]
    drawings = [
        *figures.learning_curves(
            page["histories"], {"baseline": "a", "candidate": "b"}
        ),
        *figures.errors(report()["models"]),
        *figures.class_balance(page["class_counts"], CLASSES),
        figures.confusion_matrix([[1, 2], [3, 4]], CLASSES),
        figures.reliability(
            {"baseline": evaluated("a", 0.1).measured.reliability, "candidate": None},
            {"baseline": "a", "candidate": "b"},
        ),
        figures.confusion_matrix([[1] * 100] * 100, [str(i) for i in range(100)]),
    ]
    seen = set()
    for drawing in drawings[:-1]:
        root = ElementTree.fromstring(drawing)
        ids = {e.get("id") for e in root.iter() if e.get("id")}
        assert not ids & seen
        seen |= ids


@pytest.mark.parametrize(
    ("share", "text"), [(0.0325, "3.25 %"), (None, "–"), (0, "0.00 %"), (1, "100.00 %")]
)
def test_percentages(share, text):
    assert render.percent(share) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0139, "+1.39"), (-0.004, "−0.40"), (0.0, "0.00"), (-0.00001, "0.00")],
)
def test_differences(share, text):
    assert render.signed_points(share) == text

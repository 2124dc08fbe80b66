"""The report's files from plain numbers."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from contract.comparison import Slice, pairs_of
from pipeline.report import figures, looks, render, selection, tables, words
from tests.pipeline.report.forms import (
    CANARY,
    CLASSES,
    comparison,
    evaluated,
    in_service,
    model,
    pair,
    part,
    report,
    served,
    with_more,
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


def test_of_three_contenders_each_is_held_against_the_baseline():
    made = with_more(report(), {"wide": "preact_resnet14"})
    compared = made["comparison"]["eval"]
    page = render.html(made)
    told = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.replace("<wbr>", "")))
    assert "resnet20 against preact_resnet20 and preact_resnet14 on Digits" in told
    assert "corrected for both comparisons" in told
    table = page[page.index("<h2>Differences</h2>") :].split("</table>")[0]
    rows = [re.sub("<[^>]+>", " ", row).split() for row in table.split("<tr")[2:]]
    assert len(rows) == 2
    for words_of_row, name in zip(rows, ("candidate", "wide"), strict=True):
        found = compared.pairs[name, "baseline"]
        assert name in words_of_row
        for value in (found.difference, *found.ci95, *found.joint_ci95):
            assert words.signed_points(value) in words_of_row
        assert words_of_row[-2:] == [
            f"{found.p_value:.3f}",
            f"{found.holm_p_value:.3f}",
        ]
    # Nothing in service: nothing is said of it.
    assert "model in service" not in told
    assert "<h2>Differences</h2>" not in render.html(report())


def test_with_a_model_in_service_each_is_held_against_it_too():
    made = with_more(in_service(report()), {"wide": "preact_resnet14"})
    page = render.html(made)
    section = page[page.index("<h2>Differences</h2>") :].split("</section>")[0]
    assert section.count("<table") == 2
    rows = section.split("<table")[2].split("<tr")[2:]
    for row, name in zip(rows, ("baseline", "candidate", "wide"), strict=True):
        found = made["comparison"]["eval"].pairs[name, "in_service"]
        assert f">{name}<" in row
        assert words.points_interval(found.ci95) in row
    assert "Minus the model in service: " not in page


def test_a_further_contender_that_wins_is_named():
    made = with_more(report(), {"wide": "preact_resnet14"}, winner="wide")
    assert render.lead(made).startswith(
        "Contender wide, preact_resnet14, wins with 4.0 % errors and is published"
    )
    page = re.sub(r"\s+", " ", render.html(made))
    assert "eval images contender wide alone is wrong on 3" in page
    assert "Contender wide minus baseline: −16.00 points of error" in page
    assert "Where the baseline and contender wide disagree" in page


def test_of_more_contenders_than_can_be_told_apart_the_page_says_which_it_shows():
    made = with_more(report(), {f"n{n}": f"resnet{6 * n + 2}" for n in range(1, 10)})
    compared = made["comparison"]["eval"]
    rates = {
        name: found.measured.error
        for name, found in compared.models.items()
        if found.measured
    }
    others = sorted(rates.keys() - {"baseline", "candidate"}, key=lambda n: rates[n])
    page = render.html(made)
    told = re.sub(r"\s+", " ", page)
    left_out = sorted([*others[6:], "n9"])  # the last one could not be measured
    assert "Figures show 8 of the 11 contenders" in told
    assert f"Not shown in them: {', '.join(left_out[:-1])} and {left_out[-1]}." in told
    drawings = re.findall(r'aria-label="([^"]*)"', page)
    curves = [each for each in drawings if each.startswith("Learning curves")]
    assert len(curves) == 4  # loss and error of eval, then of train
    for name in compared.models:
        assert all((f"({name})" in curve) == (name not in left_out) for curve in curves)
        assert page.count(f'<br><span class="soft">{name}</span>') >= 3  # in the tables


@pytest.mark.parametrize(
    ("errors", "winner", "rival"),
    [
        ({"baseline": 0.1, "candidate": 0.2}, "baseline", "candidate"),
        ({"baseline": None, "candidate": None}, None, "candidate"),
        ({"baseline": 0.1, "candidate": 0.3, "wide": 0.2}, "baseline", "wide"),
        ({"baseline": 0.1, "candidate": 0.3, "wide": 0.2}, "candidate", "candidate"),
        ({"baseline": 0.1, "candidate": 0.2, "wide": 0.2}, None, "candidate"),
        ({"baseline": 0.1, "candidate": None, "wide": 0.9}, "in_service", "wide"),
    ],
)
def test_who_is_held_against_the_baseline_in_detail(errors, winner, rival):
    compared = compared_by(errors)
    assert selection.rival(compared, winner) == rival
    answered = [name for name, error in errors.items() if error is not None]
    two = selection.disagreeing(compared, winner, answered)
    if {"baseline", rival} <= set(answered):
        assert two == ("baseline", rival)
    else:
        assert two is None


def test_without_answers_of_the_baseline_the_two_best_are_shown():
    compared = compared_by({"baseline": None, "a": 0.3, "b": 0.1, "candidate": 0.2})
    two = selection.disagreeing(compared, "b", ["a", "b", "candidate"])
    assert two == ("b", "candidate")


def compared_by(errors):
    """A comparison of contenders with these errors; None: could not be measured."""
    models = {
        name: evaluated("net", error or 0.5)
        if error is not None
        else dataclasses.replace(
            evaluated("net", 0.5), problem="it broke", measured=None
        )
        for name, error in errors.items()
    }
    measured = [name for name, error in errors.items() if error is not None]
    return dataclasses.replace(
        comparison(0.1),
        models=models,
        pairs={two: pair(0.0, ()) for two in pairs_of(measured)},
    )


def test_a_failed_canary_is_told():
    reason = "serving_default answers 0.9 for class cat where training answered 0.1"
    failed = report(pushed=None, canary=CANARY | {"passed": False, "reasons": [reason]})
    page = render.html(failed)
    assert "failed when it was tried in a server" in page
    assert reason in page


def test_what_the_learning_curves_are_of_is_told():
    made = report()
    for told in ("labels smoothed", "moving average"):
        assert told not in render.html(made)
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
    rows = tables.worst_slices(
        comparison(0.1), ("baseline", "candidate"), "candidate", most=2
    )
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
    rows = tables.worst_slices(compared, [*compared.models], "candidate")
    assert rows[0]["name"] == "class dog <b>"


def test_beside_ones_own_pictures_stands_who_may_see_them():
    def told(name, extra=None):
        made = report()
        made["data"] |= {"name": name, "extra": extra}
        tags = Tags()
        tags.feed(page := render.html(made))
        assert tags.open == []
        assert ('href="#own"' in page) == ('id="own"' in page)
        return page

    assert 'id="own"' not in told("digits")
    for page, whose in (
        (told("folder"), "your own images"),
        (told("digits", {"sentence": "More"}), "some of them from live requests"),
    ):
        assert page.count(whose) == 2  # beside samples and disagreements
        assert "licence and the people that they show" in page
        assert "report_pictures=false" in page


def test_slices_by_size_are_explained_where_there_are_some():
    assert "shorter side" not in render.html(report())
    compared = comparison(0.1)
    candidate = compared.models["candidate"]
    slices = {**candidate.measured.slices, Slice("size", "up to 236 px"): part(1.0)}
    candidate = dataclasses.replace(
        candidate, measured=dataclasses.replace(candidate.measured, slices=slices)
    )
    models = {**compared.models, "candidate": candidate}
    compared = dataclasses.replace(compared, models=models)
    page = render.html(report(comparison={"eval": compared, "test": compared}))
    assert "up to 236 px" in page and "shorter side" in page


def test_numbers_of_a_list_are_on_a_line():
    given = report()
    eval_split = given["comparison"]["eval"]
    text = render.files(given)["report.json"]
    confusion = eval_split.models["candidate"].measured.confusion
    for row in confusion:
        assert f"[{', '.join(map(str, row))}]" in text
    # Nothing of it is another value.
    assert json.loads(text)["comparison"]["eval"] == json.loads(
        json.dumps(eval_split.plain())
    )


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


def test_a_picture_is_named_after_its_class_if_that_is_a_files_name(tmp_path):
    made = report()
    (picture,) = {*made["page"]["pictures"].values()}
    names = ["big cat", "../up", "a/b", ".hidden", "猫", "c" * 300, "nul\0", "/etc"]
    made["page"]["pictures"] = dict.fromkeys(names, picture)
    render.write(made, str(tmp_path / "report"))
    assert {path.name for path in (tmp_path / "report/images").iterdir()} == {
        "big cat.png", "猫.png", *(f"class {n}.png" for n in (1, 2, 3, 5, 6, 7))
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


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
    models = {
        name: figures.Drawn(network="net", title=name, look=look)
        for name, look in looks.assigned(["baseline", "candidate"]).items()
    }
    drawings = [
        *figures.learning_curves(page["histories"], models),
        *figures.errors(report()["models"], models),
        figures.differences({"candidate": (-0.1, (-0.2, 0.1))}, models, "the baseline"),
        *figures.class_balance(page["class_counts"], CLASSES),
        figures.confusion_matrix([[1, 2], [3, 4]], CLASSES),
        figures.reliability(
            {"baseline": evaluated("a", 0.1).measured.reliability, "candidate": None},
            models,
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
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0139, "+1.39"), (-0.004, "−0.40"), (0.0, "0.00"), (-0.00001, "0.00")],
)
def test_differences(share, text):
    assert words.signed_points(share) == text

"""The report's files from plain numbers; what a browser makes of the page."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from pipeline.report import figures, render

CLASSES = ["cat", "dog <b>", "ship"]


def evaluated(network: str, rate: float) -> dict:
    part = {"error": rate, "ci95": [rate / 2, rate * 1.5], "examples": 10, "errors": 1}
    return part | {
        "network": network,
        "problem": None,
        "top5": None,
        "cross_entropy": 0.5,
        "cross_entropy_ci95": [0.4, 0.6],
        "ece": 0.05,
        "ece_ci95": [0.02, 0.08],
        "latency_ms": 1.5,
        "reliability": [
            {
                "low": 0.4,
                "high": 0.5,
                "examples": 4,
                "confidence": 0.45,
                "accuracy": 0.5,
            },
            {
                "low": 0.9,
                "high": 1.0,
                "examples": 6,
                "confidence": 0.95,
                "accuracy": 0.9,
            },
        ],
        "confusion": [[8, 1, 1], [0, 10, 0], [2, 3, 5]],
        "slices": {
            "label=0": part,
            "label=1": part | {"error": 0.9},
            "brightness=low": part,
        },
    }


def comparison(error: float | None) -> dict:
    models = {
        "baseline": evaluated("resnet20", 0.2),
        "candidate": evaluated("preact_resnet20", 0.1)
        if error is not None
        else {"network": "preact_resnet20", "problem": "it is broken", "error": None},
        "in_service": None,
    }
    part = {"difference": -0.1, "interval": [-0.3, 0.1], "examples": 10}
    pair = {"slices": {name: part for name in models["baseline"]["slices"]}}
    return {
        "split": "eval",
        "examples": 1234,
        "models": models,
        "pairs": {
            "candidate_minus_baseline": None if error is None else pair,
            "candidate_minus_in_service": None,
            "baseline_minus_in_service": None,
        },
    }


def model(network: str, error: float | None, **changes) -> dict:
    measured = {
        "error": error,
        "ci95": None if error is None else [error / 2, error * 2],
    }
    known = error is not None
    return {
        "network": network,
        "parameters": 123_456,
        "eval": measured,
        "test": measured,
        "problem": None if known else "it is broken",
        "top5": None,
        "cross_entropy": 0.5 if known else None,
        "cross_entropy_ci95": [0.4, 0.6] if known else None,
        "ece": 0.05 if known else None,
        "ece_ci95": [0.02, 0.08] if known else None,
        "latency_ms": 1.5 if known else None,
        "train_seconds": 61.0,
        "images_per_second": 1000.0,
    } | changes


CANARY = {
    "passed": True, "reasons": [], "server": "embedded", "load_seconds": 0.4,
    "p50_ms": 1.2, "p99_ms": 3.4, "requests": 50, "max_abs_difference": 1e-7,
}  # fmt: skip


def report(winner: str | None = "candidate", **changes) -> dict:
    history = [
        {"step": 1, "epoch": 0.5, "loss": 2.0, "accuracy": 0.1, "learning_rate": 0.1},
        {"step": 2, "epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.4},
    ]
    error = 0.1 if winner else None
    said = {"class": "cat", "probability": 0.9}
    return {
        "schema": 1,
        "run": {
            "id": "r1",
            "preset": "quick",
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 75.0,
            "commit": "abc",
            "versions": {"python": "3.11"},
        },
        "data": {
            "name": "digits",
            "source": "made <script>alert(1)</script>",
            "verified": False,
            "verification": "nobody looked",
            "reason": "a test",
            "counts": {"train": 30, "eval": 10, "test": 10},
            "consistency": None,
            "warnings": [],
        },
        "models": {
            "baseline": model("resnet20", 0.2),
            "candidate": model("preact_resnet20", error),
            "in_service": None,
        },
        "difference": {
            "candidate_minus_baseline": -0.1,
            "ci95": [-0.2, 0.01],
            "bootstrap_ci95": [-0.19, 0.0],
            "only_candidate_wrong": 3,
            "only_baseline_wrong": 13,
            "p_value": float("nan"),
            "method": "by hand",
        },
        "decision": {
            "policy": "best",
            "winner": winner,
            "reason": "because",
            "blocked_by": [] if winner else ["candidate: it is <i>broken</i>"],
        },
        "canary": CANARY,
        "pushed": {"version": 7, "path": "/x/7"} if winner else None,
        "in_service": None,
        "published": {"baseline": None, "candidate": {"error": 0.0546, "source": "He"}},
        "comparison": {"eval": comparison(error), "test": comparison(error)},
        "components": [
            {"id": "A", "state": "complete", "seconds": 1.5, "cached": False}
        ],
        "page": {
            "config": {"preset": "quick"},
            "platform": "Linux",
            "dataset_title": "Digits",
            "classes": CLASSES,
            "histories": {"baseline": history, "candidate": history},
            "class_counts": {
                "train": [10, 10, 10],
                "eval": [3, 3, 4],
                "test": [3, 3, 4],
            },
            "samples": [["data:image/png;base64,AAAA"]] * 3,
            "pictures": {"cat": "data:image/png;base64,AAAA"},
            "disagreements": [
                {
                    "picture": "data:image/png;base64,AAAA",
                    "label": "dog <b>",
                    "right": "candidate",
                    "baseline": said,
                    "candidate": said | {"class": "dog <b>"},
                }
            ],
            "artifacts": [
                {"id": 1, "node": "A", "key": "k", "type": "T", "uri": "/tmp/a"}
            ],
        },
    } | changes


def in_service(report: dict) -> dict:
    """The same with a model in service that stays."""
    report["models"]["in_service"] = model(
        "old_net", 0.05, parameters=None, train_seconds=None, images_per_second=None
    )
    report["comparison"]["eval"]["models"]["in_service"] = evaluated("old_net", 0.05)
    report["decision"] |= {"winner": "in_service"}
    return report | {
        "pushed": None,
        "canary": CANARY
        | {"passed": False, "reasons": ["nothing to check"], "load_seconds": None},
    }


class Tags(HTMLParser):
    """Collects tags, to see that they balance and that nothing is fetched."""

    VOID = {"meta", "img", "br", "link", "input"}

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
    assert "Minus the model in service" not in page


def test_differences_from_the_model_in_service_are_told():
    made = in_service(report())
    pair = {"difference": 0.05, "ci95": [-0.01, 0.11], "p_value": 0.0001}
    made["comparison"]["eval"]["pairs"]["candidate_minus_in_service"] = pair
    words = re.sub(r"\s+", " ", render.html(made))
    assert (
        "Minus the model in service: candidate +5.00 points (95 % interval −1.00 to "
        "+11.00, p &lt; 0.001)." in words
    )


def test_a_failed_canary_is_told():
    reason = "serving_default answers 0.9 for class cat where training answered 0.1"
    failed = report(pushed=None, canary=CANARY | {"passed": False, "reasons": [reason]})
    page = render.html(failed)
    assert "failed when it was tried in a server" in page
    assert reason in page


def test_what_the_engine_does_not_tell_is_left_out():
    known = render.html(report())
    assert "<th>duration</th>" in known
    assert "<th>id</th>" in known
    quiet = report(
        components=[
            {"id": name, "state": "complete", "seconds": None, "cached": None}
            for name in ("RunConfiguration", "CifarExampleGen")
        ]
    )
    quiet["page"]["artifacts"][0]["id"] = None
    page = render.html(quiet)
    assert "RunConfiguration, CifarExampleGen." in page
    assert "<th>duration</th>" not in page
    assert "<th>id</th>" not in page
    assert "None" not in page


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
    assert rows[0]["difference"]["difference"] == -0.1


def test_the_model_in_service_does_not_decide_which_slices_are_worst():
    compared = comparison(0.1)
    serving = evaluated("old", 0.3)
    serving["slices"]["brightness=low"] = {"error": 1.0, "examples": 10}
    compared["models"]["in_service"] = serving
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
        figures.learning_curves(page["histories"], {"baseline": "a", "candidate": "b"}),
        figures.errors(report()["models"]),
        figures.class_balance(page["class_counts"], CLASSES),
        figures.confusion_matrix([[1, 2], [3, 4]], CLASSES),
        figures.reliability(
            {"baseline": evaluated("a", 0.1)["reliability"], "candidate": None},
            {"baseline": "a", "candidate": "b"},
        ),
        figures.confusion_matrix([[1] * 100] * 100, [str(i) for i in range(100)]),
    ]
    seen = set()
    for drawing in drawings[:5]:
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-label")
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


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_a_browser_draws_the_page(tmp_path):
    from PIL import Image

    page = render.write(report(), str(tmp_path / "report"))
    picture = tmp_path / "page.png"
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,2600",
            f"--screenshot={picture}", f"file://{page}",
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    with Image.open(picture) as image:
        colours = {c for _, c in image.convert("RGB").getcolors(1 << 24)}
    # The verdict's border and both networks' colours are on the page.
    for wanted in [(26, 127, 55), (0, 114, 178), (213, 94, 0)]:
        assert wanted in colours

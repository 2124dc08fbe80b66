"""The report as metrics and as a page: what is in it, and nothing that a client could add."""

import json
import re

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring import feedback, gauges, page, words
from monitoring.comparison import Window, compare
from monitoring.monitor import Report, VersionReport
from monitoring.traffic import Answer
from monitoring.unusual import most_unusual
from tests.monitoring import made

VERSION = 1_800_000_000


@pytest.fixture(scope="module")
def told():
    """A report of blurred requests, one of them odd, and its pictures."""
    before = made.baseline()
    pixels, _ = made.images(500, 4)
    pixels = made.blurred(pixels)
    pixels[17] = 255
    live = made.columns(pixels)
    answers = [
        Answer(
            version=VERSION,
            seconds=1_800_000_000 + n,
            id=f"{n:064x}",
            name="<b>cat</b>" if n == 17 else "dog",
            confidence=0.5,
            image=image,
        )
        for n, image in enumerate(pixels)
    ]
    unusual = most_unusual(answers, live, before)
    window = Window(
        images=500,
        first=answers[0].seconds,
        last=answers[-1].seconds,
        tests=compare(before, live),
        estimated_accuracy=(0.7, 0.75, 0.8),
    )
    labels = {str(n): "cat" for n in range(50)}
    each = VersionReport(
        images=1000,
        windows=(window, window),
        judged=2,
        differing=2,
        alarms=1,
        alarm=True,
        why=("sharpness",),
        eval_accuracy=0.9,
        accuracy=feedback.accuracy(dict.fromkeys(labels, "cat"), labels),
        unusual=tuple(image for image, _ in unusual),
    )
    report = Report(
        made=1_800_000_600,
        model="cifar",
        versions={str(VERSION): each},
        pairs=feedback.pairs({1: labels, 2: labels | {"1": "dog"}}, labels),
        unused=3,
        problems=("What digits, version 7, was trained on is not known",),
    )
    return report, {str(VERSION): [picture for _, picture in unusual]}


def samples(report):
    text = gauges.text(report).decode()
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "model_name")):
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip


def test_prometheus_reads_what_the_report_says(told):
    found = samples(told[0])
    own = str(VERSION)
    (sharpness,) = (
        test
        for test in told[0].versions[own].windows[-1].tests
        if test.name == "sharpness"
    )
    assert found["monitoring_alarm", own] == 1
    assert found["monitoring_alarms_total", own] == 1
    assert found["monitoring_differing_windows_total", own] == 2
    assert found["monitoring_test_p_value", "sharpness", own] == sharpness.p_value
    assert found["monitoring_accuracy", "value", own] == 1
    assert found["monitoring_accuracy", "low", own] < 1
    assert found["monitoring_estimated_accuracy", "value", own] == 0.75
    assert found["monitoring_version_published_seconds", own] == VERSION
    assert found[("monitoring_unused_records_total",)] == 3


def test_the_report_is_read_back(told):
    report, _ = told
    again = Report.from_json(report.to_json(), "monitoring.json")
    assert again == report
    assert json.loads(report.to_json())["schema"] == 1


def test_the_most_unusual_image_comes_first_with_its_picture(told):
    report, pictures = told
    first = report.versions[str(VERSION)].unusual[0]
    assert first.id == f"{17:064x}"
    # One colour throughout: no neighbours differ at all.
    assert (first.number, first.words) == ("sharpness", "blurrier")
    assert len(pictures[str(VERSION)]) == len(report.versions[str(VERSION)].unusual)


def test_the_page_shows_texts_as_texts_and_pictures_only_if_told(told):
    report, pictures = told
    shown = page.render(report, pictures)
    assert "<b>cat" not in shown
    assert "&lt;b&gt;cat&lt;/b&gt;" in shown
    count = len(report.versions[str(VERSION)].unusual)
    assert shown.count('<img src="data:image/png;base64,') == count
    hidden = page.render(report, {})
    assert ("Sent by users" in shown, "Sent by users" in hidden) == (True, False)
    assert "<img" not in hidden
    assert "blurrier" in hidden
    for text in (shown, hidden):
        # Nothing is fetched from elsewhere.
        assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
        assert "estimate" in text and "no measurement" in text
        assert "was trained on is not known" in text


def test_what_is_printed_names_test_direction_and_alarm(told):
    text = words.report(told[0])
    (line,) = (line for line in text.splitlines() if line.startswith("  sharpness"))
    assert "DIFFERS" in line and "blurrier" in line
    assert "ALARM: 2 of the last 2 windows differ, by sharpness." in text
    assert "accuracy by 50 labels 100.0% (95 % from 92.9% to 100.0%)" in text
    assert "version 2 against 1, on the 50 labelled images" in text
    assert np.all([ord(sign) < 128 for sign in text])

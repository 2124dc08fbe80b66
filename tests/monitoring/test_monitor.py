"""A log that grows: windows as they fill, labels, and the most unusual images."""

import hashlib

import numpy as np
import pytest

pytest.importorskip("tensorflow")
from monitoring.baselines import Baselines  # noqa: E402
from monitoring.monitor import Monitor, Rules  # noqa: E402
from monitoring.traffic import Log, columns  # noqa: E402
from tests.monitoring.logs import (  # noqa: E402
    CLASSES,
    images,
    predict_log,
    same_as_training,
    write,
    write_log,
)

pytestmark = pytest.mark.tf


def test_in_whatever_form_an_image_was_sent_it_is_the_same_image(tmp_path):
    classes = [CLASSES[i % 3] for i in range(64)]
    write_log(tmp_path, images(64, 77), classes, 5)
    answers = list(Log([str(tmp_path)], lambda *_: (32, 32, 3)).new())
    expected = images(64, 77).astype(float).mean(axis=(1, 2, 3)) / 255
    live = columns(answers)
    np.testing.assert_allclose(live["brightness"], expected, atol=1e-5)
    assert live["classes"].tolist() == classes
    # Raw pixels' id is their own digest, that of an example the image's.
    for n in (0, 16, 24):
        assert answers[n].id == hashlib.sha256(images(64, 77)[n].tobytes()).hexdigest()


def test_windows_are_judged_as_they_fill(runs, tmp_path):
    monitor = Monitor(
        Baselines(str(runs.output)), [str(tmp_path)], Rules(size=200, fewest=100)
    )
    write(tmp_path, same_as_training(150, 7, version=runs.first))
    assert monitor.take() == []
    assert monitor.report().versions[str(runs.first)].windows == ()
    write(tmp_path, same_as_training(250, 8, version=runs.first))
    assert monitor.take() == monitor.take() == []
    assert monitor.report().versions[str(runs.first)].judged == 2
    bright = predict_log(
        {"images": images(450, 5, brightness=200)}, ["cat"] * 450, version=runs.first
    )
    write(tmp_path, bright)
    (change,) = monitor.take()
    assert (change.event, change.version) == ("raised", runs.first)
    assert {"brightness", "classes", "one_class"} <= {*change.why}
    write(tmp_path, same_as_training(550, 9, version=runs.first))
    assert [each.event for each in monitor.take()] == ["resolved"]
    report = monitor.report().versions[str(runs.first)]
    assert (report.images, report.judged, report.differing) == (1400, 7, 3)
    assert (report.alarms, report.alarm) == (1, False)
    assert len(report.unusual) == len(monitor.pictures()[str(runs.first)]) == 12


def test_labels_that_come_later_tell_the_accuracy(runs, tmp_path):
    log, labels = tmp_path / "log", tmp_path / "labels.csv"
    pixels, classes = images(300, 7), [CLASSES[i % 3] for i in range(300)]
    for version in (runs.first, runs.second):
        wrong = 60 if version == runs.second else 30
        answered = ["ship"] * wrong + classes[wrong:]
        sent = {"images": pixels}
        write(log, predict_log(sent, answered, version=version, sure=0.8))
    labels.write_text("id,label\n")
    monitor = Monitor(
        Baselines(str(runs.output)), [str(log)], Rules(), labels=str(labels)
    )
    monitor.finish()
    assert monitor.report().versions[str(runs.first)].accuracy is None
    keys = [hashlib.sha256(each.tobytes()).hexdigest() for each in pixels]
    rows = [f"{key},{name}" for key, name in zip(keys, classes, strict=True)][:240]
    labels.write_text("\n".join(["id,label", *rows]))
    report = monitor.report()
    first = report.versions[str(runs.first)].accuracy
    assert (first.images, first.correct) == (240, 220)
    (pair,) = report.pairs
    assert (pair.first, pair.second) == (runs.first, runs.second)
    assert (pair.images, pair.only_first, pair.only_second) == (240, 20, 0)
    window = report.versions[str(runs.first)].windows[-1]
    assert window.estimated_accuracy is not None


def test_a_log_without_inputs_still_tells_of_the_answers(runs, tmp_path):
    answers = ["cat"] * 200 + ["dog"] * 100
    write(tmp_path, predict_log({}, answers, version=runs.first, sure=0.9))
    monitor = Monitor(Baselines(str(runs.output)), [str(tmp_path)], Rules(fewest=100))
    (change,) = monitor.finish()
    assert "classes" in change.why
    names = {test.name for test in change.window.tests}
    assert names == {
        *("confidence", "classes", "one_class", "class_share", "class_share_of_two")
    }
    assert monitor.report().versions[str(runs.first)].unusual == ()

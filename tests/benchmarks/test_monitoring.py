"""The benchmark of monitoring: what it counts, on made images."""

import numpy as np

from benchmarks import monitoring, monitoring_model
from tests.monitoring import made


def test_honest_windows_and_wrong_ones_are_counted_apart():
    before = made.baseline()
    pixels, labels = made.images(2000, 3)
    pools = {
        what: made.columns(pixels if what != "blur" else made.blurred(pixels))
        for what in (monitoring.HONEST, "blur")
    }
    for pool in pools.values():
        pool["right"] = made.model(pixels).argmax(axis=1) == labels
    result = monitoring.measure(before, pools, windows=6)
    rows = {(row["requests"], row["window"]): row for row in result["results"]}
    assert len(rows) == 2 * len(monitoring.SIZES)
    honest, blurred = rows[monitoring.HONEST, 500], rows["blur", 500]
    assert honest["alarms"] == 0
    assert (blurred["alarms"], blurred["alarm_within_two"]) == (1, 1.0)
    assert blurred["power"]["sharpness"] == 1.0
    assert 0.5 < result["test_accuracy"] < 1
    table = monitoring.table(result)
    assert {line.count("|") for line in table.splitlines()} == {len(made_heads(table))}
    assert "| blur | 500 | 100.0% | 1 | 100% |" in table


def made_heads(table):
    return table.splitlines()[0].split("|")[1:]


def test_what_is_wrong_is_wrong_with_the_right_images():
    pixels, _ = made.images(50, 4)
    found = monitoring.changes(pixels)
    np.testing.assert_array_equal(found["channels swapped"][..., 0], pixels[..., 2])
    np.testing.assert_array_equal(found["inverted"], 255 - pixels)
    sharp = np.abs(np.diff(pixels.astype(float), axis=1)).mean()
    assert np.abs(np.diff(found["blur"].astype(float), axis=1)).mean() < 0.7 * sharp


def test_the_classifier_learns_and_forgets_by_a_stale_normalisation(monkeypatch):
    monkeypatch.setattr(monitoring_model, "FEATURES", 100)
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    pixels = random.normal(128, 40, (900, 32, 32, 3))
    pixels += 40 * np.eye(3)[labels][:, None, None]
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    parts = (pixels[:600], labels[:600], pixels[600:750], labels[600:750])
    model = monitoring_model.train(*parts)
    given = model.answer(pixels[750:])
    np.testing.assert_allclose(given.sum(axis=1), 1)
    assert (given.argmax(axis=1) == labels[750:]).mean() > 0.9
    stale = model.answer(pixels[750:], stale=0.5)
    assert np.abs(stale - given).mean() > 0.02

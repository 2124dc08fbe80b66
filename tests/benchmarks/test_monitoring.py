"""The benchmark of monitoring: what it counts, on made images."""

import numpy as np

from benchmarks import monitoring
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
    assert 0.5 < result["accuracy"] < 1
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
    stale = found[monitoring.STALE].astype(float)
    # Twice as bright, as the mean of images half as bright leaves them.
    assert stale.mean() > pixels.mean() + 40
    sharp = np.abs(np.diff(pixels.astype(float), axis=1)).mean()
    assert np.abs(np.diff(found["blur"].astype(float), axis=1)).mean() < 0.7 * sharp

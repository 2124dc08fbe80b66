"""Same and other traffic than a model was trained on, both with known content."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")
from monitoring import traffic  # noqa: E402
from tests.monitoring.logs import CLASSES, images, write_log  # noqa: E402

pytestmark = pytest.mark.tf


def test_same_traffic_has_no_drift(runs, tmp_path, run):
    classes = [CLASSES[i % 3] for i in range(400)]
    write_log(tmp_path, images(400, 77), classes, runs.first)
    status, printed = run(tmp_path, runs.output)
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(
        f"400 live images of cifar, version {runs.first}, against the 600 it was trained "
        "on and its answers to 300 eval images\n"
    )
    assert printed.out.endswith("No drift.\n")
    _, tables = traffic.live_tables(str(tmp_path), 10_000, lambda *_: (32, 32, 3))
    expected = images(400, 77).astype(float).mean(axis=(1, 2, 3)) / 255
    # In whatever form an image was sent, it is the same image.
    np.testing.assert_allclose(tables[runs.first]["brightness"], expected, atol=1e-5)
    assert tables[runs.first]["class"].tolist() == classes


def test_darker_images_and_other_classes_are_drift(runs, tmp_path, run):
    classes = ["ship"] * 300 + ["cat"] * 100
    write_log(tmp_path, images(400, 5, brightness=60), classes, runs.first)
    status, printed = run(tmp_path, runs.output)
    assert status == 1
    lines = {line.split()[0]: line for line in printed.out.splitlines()}
    assert "DRIFT" in lines["brightness"] and lines["brightness"].endswith(": darker")
    assert "DRIFT" in lines["class"]
    assert "class ship is 75.00%, in evaluation 33.33%" in lines["class"]
    assert lines["Live"].startswith("Live traffic has drifted in brightness, ")

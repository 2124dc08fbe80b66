"""The comparison of the server's two loaders: what it prints, and that it runs."""

import json
import subprocess
import sys

import pytest

from benchmarks import serve_loaders


def test_the_table_says_what_the_functions_would_cost():
    table = serve_loaders.markdown(
        {
            "plan": {"network": "n", "swaps": 2},
            "rate": 400.0,
            "throughput": [
                {
                    "rows": 8,
                    "callers": 32,
                    "images_per_second": {
                        "session": [1000.0, 2000.0, 1000.0],
                        "functions": [700.0, 1600.0, 900.0],
                    },
                    "cpu_milliseconds": {
                        "session": [1.0, 1.0, 1.0],
                        "functions": [1.25, 1.25, 1.5],
                    },
                }
            ],
            "latency": {
                "bare": {"p50": 3.0, "p99": 5.0},
                "session": {"p50": 4.0, "p99": 6.5},
                "functions": {"p50": 4.5, "p99": 8.0},
            },
            "swap": {
                name: {"ratio": 2.0, "p99_swap": 40.0, "p99_quiet": 20.0, "failed": 0,
                       "requests": 5600}
                for name in ("session", "functions")
            },
        }
    )  # fmt: skip
    # Of each turn its own ratio: 0.7, 0.8, 0.9.
    assert "32 in flight: images/s | 1,000 | 900 | 0.80 (0.70 to 0.90) |" in table
    assert "time per image, ms | 1.00 | 1.25 | 1.25 (1.25 to 1.50) |" in table
    assert "p50 | 1.00 ms | 1.50 ms | +0.50 ms |" in table
    assert "p99 | 1.50 ms | 3.00 ms | +1.50 ms |" in table
    assert {line.count("|") for line in table.splitlines()} == {5}


@pytest.mark.bench
@pytest.mark.tf
def test_both_loaders_serve(tmp_path):
    output = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve_loaders", "--quick", "--output", output],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert all(
        min(rates) > 0 for rates in found["throughput"][0]["images_per_second"].values()
    )
    assert [each["failed"] for each in found["swap"].values()] == [0, 0]

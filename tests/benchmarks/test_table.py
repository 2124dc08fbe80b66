"""The table of what is promised: each row finds its figure, and a lost one is seen."""

import json
import shutil

import pytest

from benchmarks import __main__ as benchmarks


def test_each_row_finds_its_figure_in_what_was_measured():
    for row, value in benchmarks.table():
        if value is None:  # the last machine had no instructions for it
            assert "bfloat16" in row.what
        else:
            assert value > 0, row.what
        assert (row.least is None) != (row.most is None), row.what
        assert row.benchmark in benchmarks.BENCHMARKS


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(7.9, "kept"), (8.1, "missed"), (None, "not measured")]
)
def test_what_got_slower_is_called_so(tmp_path, capsys, monkeypatch, seconds, verdict):
    monkeypatch.setenv("COLUMNS", "160")
    results = tmp_path / "results"
    shutil.copytree(benchmarks.RESULTS, results)
    if seconds is None:
        (results / "ingest.json").unlink()
    else:
        runs = [{"compression": kind, "seconds": seconds} for kind in ("none", "gzip")]
        (results / "ingest.json").write_text(json.dumps({"runs": runs}))
    benchmarks.table(results)
    (line,) = (
        line for line in capsys.readouterr().out.splitlines() if "ingestion" in line
    )
    assert line.rstrip().endswith(verdict)

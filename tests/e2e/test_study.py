"""A study as a person runs it, on small digits: killed, gone on with, one row more."""

import collections
import io
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.e2e import warm
from tests.e2e.test_pipeline import metadata_of, temporary

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.timeout(1200)]

PROJECT = Path(__file__).parents[2]
# Two of the rows of the real table, in a few steps.
TINY = {
    "data.name": "digits",
    "data.image_size": "8",
    "data.shards": "1",
    "train.steps": "12",
    "train.evaluation_steps": "6",
    "train.global_batch_size": "32",
    "train.checkpoint_seconds": "0",
}


def start(output: Path, rows: str, **more: str):
    """Begins `pipeline.py study plain` with some of its rows and one seed."""
    settings = TINY | {k.replace("__", "."): v for k, v in more.items()}
    temporary(output).mkdir(parents=True, exist_ok=True)
    said = output.with_name("said.txt")
    said.parent.mkdir(exist_ok=True)
    words = ["study", "plain", "--rows", rows, "--seeds", "1", f"output_root={output}"]
    return said, warm.start(
        PROJECT,
        [*words, *(f"{name}={value}" for name, value in settings.items())],
        said,
        {"COLUMNS": "100", "TMPDIR": str(temporary(output))},
    )


def study(output: Path, rows: str, **more: str) -> str:
    """The same to its end; what it says."""
    said, process = start(output, rows, **more)
    status = warm.status(process, 400)
    assert status == 0, said.read_text()
    return said.read_text()


def kill_at(arrived: Callable[[], bool], output: Path, rows: str) -> None:
    """Begins it, and kills it when the moment has come."""
    said, process = start(output, rows)
    deadline = time.monotonic() + 200
    while not arrived():
        assert process.is_alive(), said.read_text()
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def executions(output: Path) -> dict[int, tuple[str, int]]:
    """Id -> node and state."""
    store = metadata_of(output / "studies")
    nodes = {}
    for context in store.get_contexts_by_type("node"):
        for each in store.get_executions_by_context(context.id):
            nodes[each.id] = (context.name.rpartition(".")[2], each.last_known_state)
    return nodes


def complete() -> int:
    """The state of an execution that ran to its end, and did not come from the cache."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    return mlmd.Execution.COMPLETE


def executed_since(output: Path, before: dict) -> set[str]:
    """Trainers, Answers and reports that ran to their end, not from the cache."""
    return {
        node
        for number, (node, state) in executions(output).items()
        if number not in before
        and state == complete()
        and node.endswith(("Trainer", "Answers", "StudyReport"))
    }


def result_of(output: Path) -> dict:
    return json.loads((output / "studies/plain/study.json").read_text())


def answers_of(output: Path, row: str) -> np.ndarray:
    (folder,) = (output / f"studies/artifacts/{row}s1Answers/answers").iterdir()
    with np.load(io.BytesIO((folder / "test.npz").read_bytes())) as found:
        return found[f"probabilities/{row.lower()}s1"]


def moments(output: Path) -> dict[str, tuple[Callable[[], bool], set[str]]]:
    """Five moments of a study: when each has come, and what must be whole by then."""
    artifacts, checkpoints = (
        output / "studies/artifacts",
        output / "studies/checkpoints",
    )

    def begun(node: str) -> Callable[[], bool]:
        return lambda: any(artifacts.glob(f"{node}/*/*"))

    def trains(row: str) -> Callable[[], bool]:
        return lambda: any(checkpoints.glob(f"{row}s1-*/*/ckpt-*.index"))

    first = {"Plain20s1Trainer", "Plain20s1Answers"}
    second = {"Residual20s1Trainer", "Residual20s1Answers"}
    return {
        "ingestion": (begun("CifarExampleGen"), set()),
        "the first row trains": (trains("plain20"), set()),
        "the first row is asked": (begun("Plain20s1Answers"), {"Plain20s1Trainer"}),
        "the second row trains": (trains("residual20"), first),
        "the report is written": (begun("StudyReport"), first | second),
    }


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """A study that was killed at five moments, and gone on with each time.

    Every time what was whole when it was killed stays as it is: one execution in all.
    """
    output = tmp_path_factory.mktemp("study") / "output"
    before: dict[int, tuple[str, int]] = {}
    for moment, (arrived, whole) in moments(output).items():
        kill_at(arrived, output, "plain20,residual20")
        assert whole <= executed_since(output, {}), moment
        before = executions(output)
    study(output, "plain20,residual20")
    (output / "executed").write_text(json.dumps(sorted(executed_since(output, before))))
    return output


def test_a_killed_study_repeats_the_row_under_way_and_nothing_else(output):
    # After the last kill the report alone was missing.
    assert json.loads((output / "executed").read_text()) == ["StudyReport"]
    ended = collections.Counter(
        node for node, state in executions(output).values() if state == complete()
    )
    for row in ("Plain20s1", "Residual20s1"):
        assert ended[f"{row}Trainer"] == ended[f"{row}Answers"] == 1


def test_it_ends_with_the_bits_of_an_undisturbed_one(output, tmp_path):
    assert "2 of 2 done" in study(tmp_path / "output", "plain20,residual20")
    for row in ("Plain20", "Residual20"):
        np.testing.assert_array_equal(
            answers_of(output, row), answers_of(tmp_path / "output", row)
        )
    ours, other = result_of(output), result_of(tmp_path / "output")
    for one, two in zip(ours["rows"], other["rows"], strict=True):
        for trained in (one["trained"][0], two["trained"][0]):
            trained["seconds"] = None
        assert one == two
    assert ours["claims"] == other["claims"]


def test_what_it_says_is_what_the_networks_answered(output):
    found = result_of(output)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["residual20"]["published"] is None  # of digits
    for name in ("plain20", "residual20"):
        (folder,) = (
            output / f"studies/artifacts/{name.capitalize()}s1Answers/answers"
        ).iterdir()
        with np.load(io.BytesIO((folder / "test.npz").read_bytes())) as answers:
            wrong = answers[f"probabilities/{name}s1"].argmax(1) != answers["labels"]
        (trained,) = rows[name]["trained"]
        assert trained["test_error"] == pytest.approx(wrong.mean())
        assert trained["steps"] == 12
        steps = [p["step"] for p in trained["history"] if "eval_accuracy" in p]
        assert steps == [6, 12]
    page = (output / "studies/plain/report.html").read_text()
    assert f"{100 * rows['plain20']['median']:.2f}" in page
    assert found["left_out"] and len(found["claims"]) == 0


def test_models_are_gone_and_their_records_stay(output):
    artifacts = output / "studies/artifacts"
    assert not list(artifacts.glob("*Trainer/model/**/saved_model.pb"))
    assert not list(artifacts.glob("*Trainer/model/**/variables*"))
    assert len(list(artifacts.rglob("assets.extra/run.json"))) == 2
    assert not list((output / "studies/checkpoints").rglob("*.index"))


def test_one_more_row_is_one_more_training(output):
    before = executions(output)
    study(output, "plain20,plain32,residual20")
    added = {"Plain32s1Trainer", "Plain32s1Answers", "StudyReport"}
    assert executed_since(output, before) == added
    assert len(result_of(output)["rows"]) == 3


def test_a_training_that_diverges_is_a_result_with_its_step(output):
    study(
        output, "residual20", train__learning_rate="100", train__schedule="constant",
        train__weight_decay="1",
    )  # fmt: skip
    (row,) = result_of(output)["rows"]
    assert row["state"] == "diverged"
    assert 0 < row["trained"][0]["steps"] < 12
    assert (
        "diverged: seed 1 at step" in (output / "studies/plain/report.md").read_text()
    )

"""Which training a version is held against, and what is said if that is lost."""

import shutil

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from components.drift.baseline import baseline  # noqa: E402
from contract.predictions import Predictions  # noqa: E402
from contract.records import BASELINE_FILE  # noqa: E402
from monitoring import lineage  # noqa: E402
from tests.monitoring.logs import (  # noqa: E402
    CLASSES,
    images,
    predict_log,
    same_as_training,
    write,
    write_examples,
)
from trainer.examples import dataset_of  # noqa: E402

pytestmark = pytest.mark.tf


def test_each_version_is_held_against_its_own_training(runs, tmp_path, run):
    """The same bright images and cats: as trained for one version, new to others."""
    cats = ["cat"] * 300
    bright = {"images": images(300, 50, brightness=200)}
    write(
        tmp_path,
        predict_log(bright, cats, version=runs.second),
        predict_log(bright, cats, version=runs.bright),
        same_as_training(300, 77, version=runs.again),
    )
    status, printed = run(tmp_path, runs.output)
    assert (status, printed.err) == (1, "")
    alarm, _, text = printed.out.partition("\n")
    assert alarm.startswith(f"ALARM cifar, version {runs.second}: ")
    blocks = text.split("cifar, version ")[1:]
    # A rollback publishes the model of the first run again, the highest number now.
    assert [int(block.split(":")[0]) for block in blocks] == [
        runs.bright,
        runs.second,
        runs.again,
    ]
    assert all(": 100 live images, " in block for block in blocks)
    assert "DIFFERS" not in blocks[0]
    assert blocks[0].endswith("No alarm: 0 of the last 3 windows differ.\n")
    assert "brighter" in blocks[1] and "cat is 100.0%" in blocks[1]
    assert "ALARM: 3 of the last 3 windows differ, by " in blocks[1]
    assert "DIFFERS" not in blocks[2]
    status, printed = run(tmp_path, runs.output, f"--version={runs.bright}")
    assert (status, printed.out.count("live images")) == (0, 1)


def test_a_baseline_in_the_versions_folder_goes_first_and_follows_a_rollback(
    runs, tmp_path, run
):
    """What the push wrote is read, and nothing of the run is asked for."""
    output = tmp_path / "output"
    for version, brightness in ((41, 128), (42, 200)):
        made = baseline(
            str(write_examples(tmp_path / str(version), images(600, 1, brightness))),
            dataset_of(str(tmp_path / str(version))),
            CLASSES,
            alike(),
            "candidate",
        )
        path = output / f"serving/cifar/{version}" / BASELINE_FILE
        path.parent.mkdir(parents=True)
        path.write_text(made.to_json())
    dark = {"images": images(300, 5)}
    classes = [CLASSES[i % 3] for i in range(300)]
    log = tmp_path / "log"
    write(log, predict_log(dark, classes, version=42))
    assert run(log, output)[0] == 1
    # Back to the version that was trained on such images: its own baseline counts.
    write(log, predict_log(dark, classes, version=41))
    assert run(log, output, "--version=41")[0] == 0
    elsewhere = output / "serving/cifar"
    status, _ = run(log, tmp_path, "--version=41", f"--model_base_path={elsewhere}")
    assert status == 0
    path.write_text(made.to_json().replace('"schema": 1', '"schema": 9'))
    status, printed = run(log, output, "--version=42")
    assert (status, printed.out) == (2, "")
    assert printed.err == (
        f"{path} has schema 9, and this version of the project reads 1: use the version "
        "that published the model\n"
    )


def alike():
    """Answers to 300 eval images, a third of each class."""
    return Predictions(
        ids=np.array([b"%d" % i for i in range(300)]),
        labels=np.zeros(300, np.int64),
        bands={},
        probabilities={"candidate": np.eye(3, dtype=np.float32)[np.arange(300) % 3]},
    )


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def answer(evaluation, **probabilities):
    """Other predictions beside the same comparison."""
    made = Predictions(
        ids=np.array([b"%d" % i for i in range(300)]),
        labels=np.zeros(300, np.int64),
        bands={},
        probabilities=probabilities,
    )
    with (evaluation / "predictions.npz").open("wb") as file:
        made.write(file)


@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (
            lambda output: (output / "metadata.sqlite").unlink(),
            "What cifar, version {first}, was trained on is not known: output_root={output}: ",
        ),
        (
            lambda output: shutil.rmtree(
                output / "artifacts/CifarExampleGen/examples/1"
            ),
            "The images that cifar, version {first}, was trained on are gone: there is no "
            "{output}/artifacts/CifarExampleGen/examples/1.\n",
        ),
        (
            lambda output: shutil.rmtree(output / "artifacts/Evaluator/evaluation/1"),
            "The answers of cifar, version {first}, to the eval images are gone: there is "
            "no {output}/artifacts/Evaluator/evaluation/1.\n",
        ),
        (
            lambda output: (
                output / "artifacts/Evaluator/evaluation/1/predictions.npz"
            ).unlink(),
            "{output}/artifacts/Evaluator/evaluation/1 cannot be read as an evaluation: ",
        ),
        (
            lambda output: edit(
                output / "artifacts/Evaluator/evaluation/1/comparison.json",
                '"error": 0.15,',
                '"error": 15,',
            ),
            "{output}/artifacts/Evaluator/evaluation/1 cannot be read as an evaluation: "
            "comparison.json: models.baseline.error=15: must be at least 0 and at most 1;",
        ),
        (
            lambda output: answer(
                output / "artifacts/Evaluator/evaluation/1",
                candidate=np.eye(4, dtype=np.float32)[[3] * 300],
            ),
            "{output}/artifacts/Evaluator/evaluation/1 cannot be read as an evaluation: "
            "predictions.npz: probabilities/candidate=float32 [300, 4]: must be numbers "
            "[300, 3], ",
        ),
        (
            lambda output: answer(output / "artifacts/Evaluator/evaluation/1"),
            "cifar, version {first}, cannot be compared with its training in {output}/"
            "artifacts/CifarExampleGen/examples/1 and {output}/artifacts/Evaluator/"
            "evaluation/1: there are no answers of the candidate to the eval images\n",
        ),
        (
            lambda output: [
                path.write_bytes(b"no gzip at all")
                for path in (
                    output / "artifacts/CifarExampleGen/examples/1/Split-train"
                ).iterdir()
            ],
            "cifar, version {first}, cannot be compared with its training in ",
        ),
    ],
)
def test_what_is_lost_is_said_and_others_are_compared(runs, tmp_path, run, lose, says):
    output = tmp_path / "moved"  # and so is compared where it is now
    shutil.copytree(runs.output, output)
    hidden = runs.output.with_name("hidden")
    runs.output.rename(hidden)
    for kind in ("CifarExampleGen/examples", "Evaluator/evaluation"):
        (runs.output / "artifacts" / kind / "1").mkdir(parents=True)  # of others, now
    try:
        log = tmp_path / "log"
        write(log, same_as_training(300, 77, version=runs.first))
        assert run(log, output)[0] == 0
        lose(output)
        status, printed = run(log, output)
        assert (status, printed.out) == (2, "")
        assert printed.err.startswith(says.format(first=runs.first, output=output))
        assert printed.err.count("\n") <= 2
        write(log, same_as_training(300, 78, version=runs.second))
        status, printed = run(log, output)
        assert printed.err.startswith(says.format(first=runs.first, output=output))
        known = (output / "metadata.sqlite").exists()
        assert (status, printed.out.count("live images")) == (
            (0, 1) if known else (2, 0)
        )
    finally:
        shutil.rmtree(runs.output)
        hidden.rename(runs.output)


def test_examples_of_an_earlier_version_are_what_their_artifact_is_called(
    runs, tmp_path, run
):
    output = tmp_path / "output"
    shutil.copytree(runs.output, output)
    for file in output.rglob("dataset.json"):
        file.unlink()
    write(tmp_path / "log", same_as_training(300, 77, version=runs.first))
    status, printed = run(tmp_path / "log", output)
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(f"cifar, version {runs.first}: 100 live images")


def test_unknown_version_is_said(runs, tmp_path, run):
    write(tmp_path, same_as_training(300, 77, version=7))
    status, printed = run(tmp_path, runs.output)
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith(
        "What cifar, version 7, was trained on is not known: version 7 was never "
        f"published from output_root={runs.output}; known: {runs.again}, "
    )
    status, printed = run(tmp_path, tmp_path / "nothing")
    assert (status, printed.out) == (2, "")
    assert printed.err.strip().endswith(
        f"output_root={tmp_path / 'nothing'}: no metadata is there, so nothing was "
        "published from it; it must be the folder of a run."
    )


def test_object_storage_is_asked_for_a_baseline_alone(tmp_path, run, monkeypatch):
    write(tmp_path, same_as_training(300, 77, version=7))
    monkeypatch.setattr(tf.io.gfile, "exists", lambda _: False)
    status, printed = run(tmp_path, "gs://bucket/output")
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith(
        "gs://bucket/output: --pipeline_output must be a folder"
    )

    def unreachable(path):
        raise tf.errors.UnavailableError(None, None, "no such host")

    monkeypatch.setattr(tf.io.gfile, "exists", unreachable)
    status, printed = run(tmp_path, "gs://bucket/output")
    assert (status, printed.err) == (
        2,
        "gs://bucket/output/serving/cifar/7/assets.extra/baseline.json cannot be read: "
        "no such host\n",
    )


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import time; time.sleep(60)", "`models show` gave no answer within 0.5 s."),
        ("import os; os.kill(os.getpid(), 9)", "`models show` ended with -9."),
        ("raise MemoryError('too large')", "MemoryError: too large."),
    ],
)
def test_a_pipeline_that_does_not_answer_is_said(
    runs, tmp_path, run, monkeypatch, program, says
):
    (tmp_path / "pipeline.py").write_text(program)
    monkeypatch.setattr(lineage, "_PIPELINE", tmp_path / "pipeline.py")
    monkeypatch.setattr(lineage, "_MOST_SECONDS", 0.5 if "sleep" in program else 60)
    write(tmp_path / "log", same_as_training(300, 77, version=runs.first))
    status, printed = run(tmp_path / "log", runs.output)
    assert (status, printed.out) == (2, "")
    assert printed.err == (
        f"What cifar, version {runs.first}, was trained on is not known: {says}\n"
    )

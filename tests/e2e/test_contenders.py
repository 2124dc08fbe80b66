"""Three contenders in one run, and what runs again when one of them is another network."""

import json

import pytest

from tests.e2e.test_pipeline import report_of, run_warm

pytestmark = [pytest.mark.e2e, pytest.mark.tf]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("contenders") / "output"


@pytest.fixture(scope="module")
def first(output):
    """The third is the baseline once more, and so wins nothing."""
    process = run_warm(output, contenders__wide="resnet8")
    assert process.returncode == 0, process.output
    return report_of(output)


def fresh(report: dict) -> set[str]:
    """The nodes that ran."""
    assert {each["state"] for each in report["components"]} <= {"complete", "cached"}
    return {each["id"] for each in report["components"] if not each["cached"]}


def test_the_third_is_treated_as_the_others_are(first, output):
    assert {"WideTrainer", "WideAnswers", "InServiceAnswers"} <= fresh(first)
    models = first["models"]
    assert models["wide"]["network"] == "resnet8"
    # The same network from the same seed, trained and asked by nodes of its own.
    for split in ("eval", "test"):
        assert models["wide"][split] == models["baseline"][split]
    compared = first["comparison"]["eval"]
    pair = compared["pairs"]["wide_minus_baseline"]
    assert (pair["difference"], pair["p_value"], pair["holm_p_value"]) == (0, 1, 1)
    assert compared["pairs"]["candidate_minus_baseline"]["joint_ci95"]
    assert first["decision"]["winner"] in ("baseline", "candidate")
    timed = {first["decision"]["winner"], "baseline"}
    assert first["canary"]["latency_ms"].keys() == timed
    assert models["wide"]["latency_ms"] is None
    for name in timed:
        assert models[name]["latency_ms"] == first["canary"]["latency_ms"][name] > 0


def test_answers_say_what_the_model_says_of_itself(first, output):
    for name in ("baseline", "candidate", "wide"):
        (file,) = output.glob(
            f"artifacts/{name.capitalize()}Answers/answers/*/answers.json"
        )
        told = json.loads(file.read_text())
        assert told["contender"] == name
        assert told["network"] == first["models"][name]["network"]
        assert told["seed"] == 1
    (file,) = output.glob("artifacts/InServiceAnswers/answers/*/answers.json")
    assert json.loads(file.read_text())["there"] is False


def test_another_network_runs_its_nodes_and_what_follows(first, output):
    process = run_warm(output, contenders__wide="preact_resnet14")
    assert process.returncode == 0, process.output
    report = report_of(output)
    follows = {"Evaluator", "ModelChooser", "ServingCanary", "AtomicPusher"}
    assert fresh(report) == {"WideTrainer", "WideAnswers"} | follows
    for name in ("baseline", "candidate"):
        for split in ("eval", "test"):
            assert report["models"][name][split] == first["models"][name][split]


def test_one_contender_less_runs_what_compares_them(first, output):
    """Nothing is trained or asked."""
    process = run_warm(output)
    assert process.returncode == 0, process.output
    report = report_of(output)
    assert "WideTrainer" not in {each["id"] for each in report["components"]}
    trained = {name for name in fresh(report) if name.endswith(("Trainer", "Answers"))}
    assert trained <= {"InServiceAnswers"}  # if the wide one is in service now
    assert "Evaluator" in fresh(report)

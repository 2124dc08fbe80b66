"""Published versions and their lineage, read from real metadata stores."""

from __future__ import annotations

import shutil

import pytest

from pipeline.history import commands, published, stores
from tests.pipeline.history.recorded import decision, first_decision, write_model


@pytest.mark.parametrize("own_properties", [True, False])
def test_what_was_published_and_why(pipeline, own_properties):
    """Also of the first pushes: fewer properties, an older form of decision.json."""
    first = pipeline.run("resnet8", own_properties=own_properties)
    second = pipeline.run("preact_resnet8", own_properties=own_properties)
    found = stores.read(pipeline.places)
    assert [each.version for each in found] == [second, first]
    assert [each.in_service for each in found] == [True, False]
    newest = found[0]
    assert newest.path == str(pipeline.serving / str(second))
    assert newest.exists
    assert (newest.by, newest.rollback_of) == ("run", None)
    assert (newest.network, newest.role) == ("preact_resnet8", "candidate")
    assert newest.eval_error == 0.0625
    assert newest.ci95 == (0.05, 0.08)
    assert newest.reason == "preact_resnet8 is better"
    assert newest.dataset == "digits"
    assert newest.run == "run-2"


def test_what_is_gone_is_not_in_service(pipeline):
    """As for the next run's Resolver: the newest version whose folder is still there."""
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    shutil.rmtree(pipeline.serving / str(second))
    found = stores.read(pipeline.places)
    assert [each.in_service for each in found] == [False, True]
    with pytest.raises(published.HistoryError, match="is in service already"):
        stores.rollback(pipeline.places, first)
    third = stores.rollback(pipeline.places, second)
    assert third.in_service and third.rollback_of == second


def test_verdicts_of_earlier_pipelines_are_found(pipeline):
    """The type of the verdict was once called Decision."""
    pipeline.decision_type = "Decision"
    pipeline.run("resnet8")
    assert stores.read(pipeline.places)[0].reason == "resnet8 is better"


@pytest.mark.parametrize(
    "content",
    [
        "[" * 500_000,
        "[]",
        '{"comparison": []}',
        '{"comparison": {"models": [1]}}',
        '{"comparison": {"models": {"candidate": {"error": "x", "ci95": 5}}}}',
        '{"comparison": {"models": {"candidate": {"eval": {"ci95": [null, "a"]}}}}}',
        '{"comparison": {"models": {"candidate": {"error": NaN, "ci95": [1]}}}}',
        '{"winner": ["candidate"], "models": {"candidate": {"network": {}}}}',
        " " * (17 << 20) + "{}",
        decision("resnet8").replace("0.0625", "6.25"),
        decision("resnet8").replace("0.05, 0.08", "-5, 0.08"),
        # Whoever reads a part of it only would not see this.
        decision("resnet8").replace('"only_first_wrong"', '"only_first_right"'),
        first_decision("resnet8").replace("0.0625", "6.25"),
    ],
)
def test_a_verdict_of_another_form_leaves_dashes(pipeline, capsys, content):
    pipeline.run()
    (file,) = pipeline.root.glob("artifacts/ModelChooser/decision/*/decision.json")
    file.write_text(content)
    assert pipeline.command("list") == 0
    assert " –  " in capsys.readouterr().out.splitlines()[1]
    (found,) = stores.read(pipeline.places)
    assert (found.eval_error, found.ci95) == (None, None)
    assert (found.network, found.role) == ("resnet8", "candidate")  # the push's own


def test_the_lineage_of_a_rollback_goes_back_to_the_training(pipeline):
    first, _ = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    third = stores.rollback(pipeline.places, first)
    found = stores.lineage(pipeline.places, third.version)
    assert [each["node"] for each in found["executions"]] == [
        "CifarExampleGen",
        "CandidateTrainer",
        "ModelChooser",
        "AtomicPusher",
        "Rollback",
    ]
    assert found["config"] == {"preset": "resnet8"}


@pytest.mark.parametrize("told", ["", "{", "[]", '{"config": {}, "commit": "abc"}'])
def test_facts_of_a_run_of_another_form_are_not_known(pipeline, told):
    """The lineage is what monitoring asks for; it does not depend on them."""
    version = pipeline.run("resnet8")
    run = pipeline.context("pipeline_run", "run-1")
    run.custom_properties["run_facts"].string_value = told
    pipeline.store.put_contexts([run])
    found = stores.lineage(pipeline.places, version)
    assert (found["config"], found["commit"]) == (None, None)
    assert len(found["executions"]) == 4


def test_a_version_that_was_found_has_no_run(pipeline):
    path = pipeline.serving / "5"
    write_model(path, "resnet20")
    pipeline.artifact(
        "PushedModel",
        path,
        pushed=1,
        pushed_destination=str(path),
        pushed_version="5",
        network="resnet20",
    )
    (found,) = stores.read(pipeline.places)
    assert (found.by, found.run, found.in_service) == ("found", None, True)
    assert "found" in commands.as_text([found])

"""AtomicPusher and ModelInService on object storage, run after run, as Vertex AI calls them.

A run is what its artifacts are: folders of models, and properties that went through JSON.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from components.atomic_pusher import ledger
from components.evaluator import measures
from components.model_chooser import choice
from contract.canary import CanaryResult
from contract.config.evaluation import EvaluationConfig
from contract.run_facts import RunFacts, RunRecord

pytestmark = pytest.mark.tf


def decided(winner, reason):
    """A decision by 16 images, of which the winner takes one for another class."""
    labels = np.arange(16) % 4
    answers = {}
    for role in ("baseline", "candidate"):
        said = labels.copy()
        said[: 1 if role == winner else 8] = 3
        answers[role] = measures.Answered(
            network="resnet8",
            probabilities=(0.01 + 0.96 * np.eye(4)[said]).astype(np.float32),
        )
    images = measures.Images(ids=np.arange(16).astype("S"), labels=labels, bands={})
    comparison = measures.compare("eval", images, answers, "abcd", ())
    decision = choice.choose(comparison, EvaluationConfig())
    assert decision.winner == winner
    return dataclasses.replace(decision, reason=reason)


class Runs:
    """Runs of a pipeline on Vertex AI, as far as these two components see them."""

    def __init__(self, storage):
        self.storage = storage
        self.destination = storage.url("out/serving/cifar")
        self.folder = ledger.open_folder(self.destination)
        self.bucket = self.folder.bucket

    def artifact(self, kind, path, **properties):
        from tfx.types import standard_artifacts

        made = getattr(standard_artifacts, kind)()
        made.uri = self.storage.url(f"out/artifacts/12345/{path}")
        for name, value in properties.items():
            # As tfx.orchestration.kubeflow.v2 hands them on: numbers become floats.
            value = float(value) if isinstance(value, int) else value
            made.set_json_value_custom_property(name, value)
        made.set_mlmd_artifact(made.mlmd_artifact)  # where getters look
        return made

    def write(self, uri, content):
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        self.bucket.client.bucket(bucket).blob(name).upload_from_string(content)

    def models(self, run):
        """The contenders that a run trained."""
        return [
            self.artifact("Model", f"{run}/{role}Trainer_1/model")
            for role in ("Baseline", "Candidate")
        ]

    def push(self, run, *, job=None, role="candidate", blessed=True):
        """AtomicPusher on the winner of `run`, in the job `job` (else the same)."""
        from tfx.types import standard_artifacts

        from components.artifacts import Decision, RunConfiguration
        from components.atomic_pusher.executor import Executor

        job = job or run
        baseline, candidate = self.models(run)
        winner = candidate if role == "candidate" else baseline
        chosen = self.artifact(
            "Model", f"{job}/ModelChooser_2/model", network="resnet8", role=role,
            model_id=2**62 + 1, tfx_version="1.21.0",
        )  # fmt: skip
        self.write(f"{chosen.uri}/Format-Serving/saved_model.pb", f"model of {run}")
        self.write(f"{chosen.uri}/Format-Serving/variables/variables.index", "index")
        blessing = self.artifact(
            "ModelBlessing", f"{job}/ModelChooser_2/blessing",
            blessed=int(blessed), current_model=winner.uri,
        )  # fmt: skip
        self.write(f"{blessing.uri}/{'' if blessed else 'NOT_'}BLESSED", "")
        decision = Decision()
        decision.uri = self.storage.url(f"out/artifacts/12345/{job}/ModelChooser_2/d")
        self.write(
            f"{decision.uri}/decision.json",
            decided(role, f"the verdict of {run}").to_json(),
        )
        canary = self.artifact(
            "InfraBlessing", f"{job}/ServingCanary_6/blessing", blessed=1
        )
        self.write(f"{canary.uri}/INFRA_BLESSED", "")
        told = CanaryResult(
            passed=True, reasons=(), server="embedded", latency_ms={role: 1.5}
        )
        self.write(f"{canary.uri}/canary.json", told.to_json())
        configuration = RunConfiguration()
        configuration.uri = self.storage.url(f"out/artifacts/12345/{job}/RunC_3/c")
        facts = RunFacts(
            config={"pipeline_name": "cifar-resnet", "data": {"name": "digits"}},
            data_reason="a test",
            started=1.7e9,
            commit="abc",
            versions={},
            platform="Vertex AI",
        )
        self.write(
            f"{configuration.uri}/run.json",
            RunRecord(run_id=job, facts=facts).to_json(),
        )
        pushed = standard_artifacts.PushedModel()
        pushed.uri = self.storage.url(
            f"out/artifacts/12345/{job}/AtomicPusher_4/pushed_model"
        )
        Executor().Do(
            {
                "model": [chosen],
                "model_blessing": [blessing],
                "infra_blessing": [canary],
                "decision": [decision],
                "configuration": [configuration],
            },
            {"pushed_model": [pushed]},
            {"destination": self.destination},
        )
        return pushed

    def in_service(self, run):
        """What ModelInService hands to the evaluation of a run."""
        from tfx.types import standard_artifacts

        from components.model_in_service.executor import Executor

        baseline, candidate = self.models(run)
        pushed = standard_artifacts.PushedModel()
        pushed.uri = self.storage.url(f"out/artifacts/12345/{run}/ModelInService_5/p")
        Executor().Do(
            {"model_000": [baseline], "model_001": [candidate]},
            {"pushed": [pushed]},
            {"destination": self.destination},
        )
        return pushed


@pytest.fixture
def runs(object_storage):
    return Runs(object_storage)


def version(pushed) -> int:
    assert pushed.get_int_custom_property("pushed") == 1
    return int(pushed.get_string_custom_property("pushed_version"))


def test_before_the_first_push_nothing_is_in_service(runs):
    assert runs.in_service("one").get_int_custom_property("pushed") == 0
    runs.push("one", blessed=False)
    assert runs.in_service("two").get_int_custom_property("pushed") == 0
    assert ledger.published(runs.folder)[1] == []


def test_a_push_is_in_service_for_the_next_run(runs):
    pushed = runs.push("one")
    number = version(pushed)
    assert pushed.get_string_custom_property("pushed_destination") == (
        f"{runs.destination}/{number}"
    )
    found = runs.in_service("two")
    assert version(found) == number
    assert found.uri == f"{runs.destination}/{number}"
    content = runs.folder.blob(f"{number}/saved_model.pb").download_as_bytes()
    assert content == b"model of one"
    for artifact in (pushed, found):
        assert artifact.get_string_custom_property("network") == "resnet8"
        assert artifact.get_string_custom_property("role") == "candidate"
        assert artifact.get_string_custom_property("model_uri") == (
            runs.storage.url("out/artifacts/12345/one/CandidateTrainer_1/model")
        )
    # The artifact keeps a copy, and the ledger says where from and why.
    copied = f"{pushed.uri}/saved_model.pb".removeprefix(f"gs://{runs.bucket.name}/")
    assert runs.bucket.blob(copied).download_as_bytes() == b"model of one"
    ((entry,)) = ledger.published(runs.folder)[1]
    origin = entry.origin
    assert (origin.run, origin.pipeline, origin.dataset, origin.commit) == (
        "one", "cifar-resnet", "digits", "abc",
    )  # fmt: skip
    assert (origin.policy, origin.reason) == ("best", "the verdict of one")
    measured = decided("candidate", "").comparison.models["candidate"].measured
    assert origin.metrics == {
        "error": 1 / 16,
        "ci95": list(measured.ci95),
        "cross_entropy": measured.cross_entropy,
        "ece": measured.ece,
        "latency_ms": 1.5,
    }
    assert origin.artifact_uri == pushed.uri


def test_a_run_is_not_compared_with_its_own_model(runs):
    """Retried, or repeated by another job from the cache: the models stay the same."""
    first = version(runs.push("one"))
    assert runs.in_service("one").get_int_custom_property("pushed") == 0
    second = version(runs.push("two", role="baseline"))
    assert version(runs.in_service("two")) == first
    assert version(runs.in_service("one")) == second
    assert version(runs.in_service("three")) == second


def test_a_repetition_publishes_nothing_new(runs):
    first = version(runs.push("one"))
    assert version(runs.push("one")) == first  # the task was retried
    assert version(runs.push("one", job="later")) == first  # all from the cache
    second = version(runs.push("two"))
    assert version(runs.push("one")) == first  # retried after another one was faster
    assert [each.version for each in ledger.published(runs.folder)[1]] == [
        second, first,
    ]  # fmt: skip
    # A later run that chooses the earlier model again publishes it again.
    third = version(runs.push("one", job="much-later"))
    assert third > second
    assert version(runs.in_service("four")) == third


def test_after_a_rollback(runs):
    from components.atomic_pusher import object_storage

    first, second = version(runs.push("one")), version(runs.push("two"))
    served, history = ledger.published(runs.folder)
    assert [each.version for each in history] == [second, first]
    third = object_storage.roll_back(runs.folder, history[1], served).version
    found = runs.in_service("three")
    assert version(found) == third
    assert found.get_string_custom_property("rollback_of") == str(first)
    # As pushed_model.to_beat: the run whose model it is had nothing to beat.
    assert runs.in_service("one").get_int_custom_property("pushed") == 0
    assert version(runs.in_service("two")) == third


def test_what_was_removed_is_not_in_service(runs):
    first, second = version(runs.push("one")), version(runs.push("two"))
    runs.folder.blob(f"{second}/saved_model.pb").delete()
    assert version(runs.in_service("three")) == first
    # A repetition whose opponent was removed takes the copy that the artifact keeps.
    runs.push("three")
    runs.folder.blob(f"{second}/variables/variables.index").delete()
    found = runs.in_service("three")
    assert version(found) == second
    assert found.uri.endswith("/two/AtomicPusher_4/pushed_model")


def test_the_node_has_the_resolvers_output():
    from tfx.types import channel, standard_artifacts

    from components.model_in_service import strategy
    from components.model_in_service.component import ModelInService

    model = channel.Channel(type=standard_artifacts.Model)
    node = ModelInService(destination="gs://b/x", model_000=model, model_098=model)
    assert list(node.outputs) == [strategy._PUSHED]
    assert node.outputs["pushed"].type is standard_artifacts.PushedModel

"""When the AtomicPusher runs again: a new version for a new model only."""

from pathlib import Path

import numpy as np
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.atomic_pusher.component import AtomicPusher
from components.atomic_pusher.executor import push
from components.model_in_service import strategy
from contract.baseline import Baseline
from contract.records import BASELINE_FILE

pytestmark = pytest.mark.tf


def write_model(uri: Path, weights: str = "a") -> None:
    folder = uri / "Format-Serving/variables"
    folder.mkdir(parents=True)
    (folder.parent / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables.index").write_text(weights)


@component
def Chooser(
    model: OutputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    weights: Parameter[str],
):
    """A winner, and its blessing."""
    write_model(Path(model.uri), weights)
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    Path(blessing.uri, "BLESSED").touch()
    blessing.set_int_custom_property("blessed", 1)
    blessing.set_string_custom_property("current_model", "the Trainer's")


@component
def Canary(
    blessing: OutputArtifact[standard_artifacts.InfraBlessing], code: Parameter[str]
):
    """Lets everything pass, in whatever way."""
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    Path(blessing.uri, "INFRA_BLESSED").touch()
    blessing.set_int_custom_property("blessed", 1)


class Flow:
    """Runs of one pipeline into one folder."""

    def __init__(self, root: Path):
        self.root = root
        self.destination = root / "serving/cifar"

    def run(self, weights: str, code: str = "first") -> tuple[list[int], bool]:
        """The versions that are there then, and whether the AtomicPusher ran."""
        chooser, canary = Chooser(weights=weights), Canary(code=code)
        pusher = AtomicPusher(
            model=chooser.outputs["model"],
            model_blessing=chooser.outputs["blessing"],
            infra_blessing=canary.outputs["blessing"],
            destination=str(self.destination),
        )
        tfx.orchestration.LocalDagRunner().run(
            tfx.dsl.Pipeline(
                pipeline_name="flow",
                pipeline_root=str(self.root / "artifacts"),
                components=[chooser, canary, pusher],
                enable_cache=True,
                metadata_connection_config=(
                    tfx.orchestration.metadata.sqlite_metadata_connection_config(
                        str(self.root / "metadata.sqlite")
                    )
                ),
            )
        )
        states = mlmd.Execution.State
        newest = max(
            self.store.get_executions_by_type(pusher.type), key=lambda each: each.id
        )
        return self.versions(), newest.last_known_state == states.COMPLETE

    def versions(self) -> list[int]:
        return sorted(
            int(p.name) for p in self.destination.iterdir() if p.name.isdigit()
        )

    @property
    def store(self) -> metadata_store.MetadataStore:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(self.root / "metadata.sqlite")
        return metadata_store.MetadataStore(config)

    def recorded(self) -> list[tuple[str, str]]:
        """What ML Metadata says was pushed, as the next run and the history read it."""
        return [
            (
                push.custom_properties["pushed_version"].string_value,
                push.custom_properties["model_uri"].string_value,
            )
            for push in strategy.pushes(self.store, str(self.destination))
        ]


def test_only_a_new_model_becomes_a_new_version(tmp_path):
    flow = Flow(tmp_path)
    first, ran = flow.run("a")
    assert len(first) == 1
    assert ran
    assert flow.run("a") == (first, False), "the cache"
    # Edited code of the server: the canary runs again, and with it the AtomicPusher.
    assert flow.run("a", code="edited") == (first, True)
    assert flow.recorded() == [(str(first[0]), "the Trainer's")]
    second, ran = flow.run("b", code="edited")
    assert ran
    assert (len(second), second[0]) == (2, first[0])
    # The first model again, after another one: it is not in service any more.
    third, ran = flow.run("a", code="edited again")
    assert ran
    assert (len(third), third[:2]) == (3, second)
    assert [version for version, _ in flow.recorded()] == [str(v) for v in third]
    pushed = flow.destination / str(third[-1]) / "variables/variables.index"
    assert pushed.read_text() == "a"


def test_a_version_that_was_removed_is_published_again(tmp_path):
    flow = Flow(tmp_path)
    (first,), _ = flow.run("a")
    (flow.destination / str(first)).rename(tmp_path / "removed")
    (again,), ran = flow.run("a", code="edited")
    assert ran
    assert again >= first
    assert (flow.destination / str(again) / "saved_model.pb").read_bytes() == b"graph"


def test_the_version_gets_a_baseline_and_stays_the_same_model(tmp_path):
    """Written by the push alone: no byte of the SavedModel changes, nor which model it is."""
    from tests.monitoring import logs

    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path / "examples")
    logs.write_examples(Path(examples.uri), logs.images(600, 1))
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(tmp_path / "evaluation")
    logs.write_evaluation(Path(evaluation.uri), np.arange(300) % 3, np.zeros(300, int))
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    write_model(Path(model.uri))
    model.set_string_custom_property("role", "candidate")
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(tmp_path / "blessing")
    Path(blessing.uri).mkdir()
    Path(blessing.uri, "BLESSED").touch()
    blessing.set_int_custom_property("blessed", 1)

    def pushed(number, **inputs):
        made = standard_artifacts.PushedModel()
        made.uri = str(tmp_path / f"pushed{number}")
        push(
            model=model,
            model_blessing=blessing,
            infra_blessing=None,
            decision=None,
            configuration=None,
            destination=str(tmp_path / "serving/cifar"),
            pushed_model=made,
            **inputs,
        )
        return Path(made.get_string_custom_property("pushed_destination"))

    given = {"examples": examples, "evaluation": evaluation}
    version = pushed(1, **given)
    trained = Path(model.uri, "Format-Serving")
    for path in trained.rglob("*"):
        if path.is_file():
            there = version / path.relative_to(trained)
            assert there.read_bytes() == path.read_bytes()
    assert (tmp_path / "pushed1" / BASELINE_FILE).is_file()
    path = version / BASELINE_FILE
    assert path.stat().st_size < 100_000
    found = Baseline.from_json(path.read_text(), str(path))
    assert (found.class_names, found.answers) == (logs.CLASSES, (100, 100, 100))
    pixels = logs.images(600, 1).astype(float) / 255
    brightness = np.sort(pixels.mean(axis=(1, 2, 3)))
    told = found.numbers["brightness"]
    assert told.count == 600
    assert told.quantiles[0] == pytest.approx(brightness[0], abs=1e-5)
    assert told.quantiles[128] == pytest.approx(brightness[299], abs=1e-4)
    assert pushed(2, **given) == version, "the same model is no other version"
    assert pushed(3, examples=None, evaluation=None) == version
    # A model without a baseline is as good a model.
    (Path(evaluation.uri) / "predictions.npz").write_bytes(b"damaged")
    (trained / "variables/variables.index").write_text("another")
    other = pushed(4, **given)
    assert other != version
    assert not (other / BASELINE_FILE).exists()

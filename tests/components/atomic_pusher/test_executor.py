"""When the AtomicPusher runs again: a new version for a new model only."""

from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.atomic_pusher.component import AtomicPusher
from components.model_in_service import strategy

pytestmark = pytest.mark.tf


@component
def Chooser(
    model: OutputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    weights: Parameter[str],
):
    """A winner, and its blessing."""
    folder = Path(model.uri, "Format-Serving/variables")
    folder.mkdir(parents=True)
    (folder.parent / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables.index").write_text(weights)
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

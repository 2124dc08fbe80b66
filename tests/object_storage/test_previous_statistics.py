"""What data are compared with where no ML Metadata remembers: records in a bucket."""

import json
from typing import Any

import pytest

from components.dataset_schema.text import invariants_text, schema_text
from contract.config.data import DataConfig
from contract.config.drift import DriftConfig
from contract.datasets import known
from tests.object_storage.emulator import ObjectStorage

pytestmark = pytest.mark.tf


class World:
    """The executors of one flow, run after run, on one bucket."""

    def __init__(self, storage: ObjectStorage) -> None:
        self.storage = storage
        self.records = storage.url("accepted_statistics")

    def examples(self, run: str, name: str, data: str) -> tuple[Any, Any]:
        """Examples and their statistics, as tests/components/example_validator has them."""
        import pandas as pd
        import tensorflow_data_validation as tfdv
        from google.protobuf import text_format
        from tensorflow_metadata.proto.v0 import schema_pb2
        from tfx.types import artifact_utils, standard_artifacts

        import tensorflow as tf  # isort: skip - after TFX, whose libraries it must share

        from tests.components.example_validator.test_flow import images_and_labels

        examples = self.artifact(standard_artifacts.Examples, run)
        statistics = self.artifact(standard_artifacts.ExampleStatistics, run)
        names = artifact_utils.encode_split_names(["eval"])
        examples.split_names = statistics.split_names = names
        examples.set_string_custom_property("name", name)
        images, labels = images_and_labels("eval", data)
        raw = [image.tobytes() for image in images]
        file = f"{examples.uri}/Split-eval/data-00000-of-00001.gz"
        with tf.io.TFRecordWriter(file, "GZIP") as writer:
            for image, label in zip(raw, labels, strict=True):
                example = tf.train.Example()
                example.features.feature["image"].bytes_list.value.append(image)
                example.features.feature["label"].int64_list.value.append(label)
                writer.write(example.SerializeToString())
        ids = [str(index).encode() for index in range(len(raw))]
        found = tfdv.generate_statistics_from_dataframe(
            pd.DataFrame({"image": raw, "label": labels, "example_id": ids}),
            tfdv.StatsOptions(
                schema=text_format.Parse(schema_text(known(name)), schema_pb2.Schema())
            ),
            n_jobs=1,
        )
        with tf.io.gfile.GFile(
            f"{statistics.uri}/Split-eval/FeatureStats.pb", "wb"
        ) as target:
            target.write(found.SerializeToString())
        return examples, statistics

    def artifact(self, kind: Any, run: str) -> Any:
        made = kind()
        made.uri = self.storage.url(f"{run}/{kind.TYPE_NAME}")
        return made

    def schema(self, run: str, text: str) -> Any:
        from tfx.types import standard_artifacts
        from tfx.utils import io_utils

        made = standard_artifacts.Schema()
        made.uri = self.storage.url(run)
        io_utils.write_string_file(f"{made.uri}/schema.pbtxt", text)
        return made

    def previous(self, run: str, examples: Any, invariants: Any) -> Any:
        from tfx.types import standard_artifacts

        from components.previous_statistics.executor import Executor

        found = standard_artifacts.ExampleStatistics()
        found.uri = self.storage.url(f"{run}/previous")
        Executor().Do(
            {"examples": [examples], "invariants": [invariants]},
            {"previous_statistics": [found]},
            {"records": self.records},
        )
        return found

    def validate(
        self, run: str, name: str, data: str, thresholds: str = "same"
    ) -> tuple[Any, Any, list[dict[str, Any]]]:
        """One run; `thresholds`: "same" ones come from the cache, with their address.

        Returns:
            What it was compared with, what it accepted, and the distances.
        """
        from tfx.types import standard_artifacts

        from components.example_validator.executor import Executor

        examples, statistics = self.examples(run, name, data)
        rules = DriftConfig(images=None) if thresholds == "off" else DriftConfig()
        invariants = self.schema(
            f"invariants-{thresholds}", invariants_text(known(name), rules)
        )
        previous = self.previous(run, examples, invariants)
        anomalies = self.artifact(standard_artifacts.ExampleAnomalies, run)
        accepted = standard_artifacts.ExampleStatistics()
        accepted.uri = self.storage.url(f"{run}/accepted")
        Executor().Do(
            {
                "statistics": [statistics],
                "schema": [self.schema(f"{run}/schema", schema_text(known(name)))],
                "examples": [examples],
                "invariants": [invariants],
                "previous_statistics": [previous],
            },
            {"anomalies": [anomalies], "accepted_statistics": [accepted]},
            {"exclude_splits": "[]", "records": self.records},
        )
        distances = anomalies.get_json_value_custom_property("distances")
        return previous, accepted, distances


def is_empty(previous: Any) -> bool:
    return previous.get_int_custom_property("empty") == 1


def test_runs_are_compared_with_the_newest_accepted_one_of_the_same_data(
    object_storage: ObjectStorage,
) -> None:
    from components.example_validator.executor import AnomalyError

    world = World(object_storage)
    previous, first, distances = world.validate("1", "cifar10", "honest")
    assert is_empty(previous) and not distances

    previous, second, distances = world.validate("2", "cifar10", "again")
    assert not is_empty(previous) and previous.uri == first.uri
    assert previous.split_names == '["eval"]'
    assert {d["kind"] for d in distances} == {"drift"}
    assert all(d["value"] > 0 for d in distances)

    # Another data set has no earlier run.
    previous, _, _ = world.validate("3", "digits", "bright")
    assert is_empty(previous)

    # Data that are refused leave no record, and are refused again.
    before = object_storage.names("accepted_statistics/")
    for run in ("4", "5"):
        with pytest.raises(AnomalyError, match="brightness: the mean is"):
            world.validate(run, "cifar10", "bright")
    assert object_storage.names("accepted_statistics/") == before

    # The same examples with the same thresholds: what was compared with then.
    examples, _ = world.examples("2", "cifar10", "again")
    same = world.schema(
        "invariants-same", invariants_text(known("cifar10"), DriftConfig())
    )
    assert world.previous("6", examples, same).uri == first.uri
    # With other thresholds: accepted once more, and so with itself.
    other = world.schema(
        "other", invariants_text(known("cifar10"), DriftConfig(labels=1.0))
    )
    assert world.previous("6", examples, other).uri == second.uri

    # Accepted with a threshold off, they are the measure when it is back.
    previous, third, _ = world.validate("7", "cifar10", "bright", "off")
    assert previous.uri == second.uri
    previous, _, distances = world.validate("7", "cifar10", "bright")
    assert previous.uri == third.uri
    assert all(d["value"] == pytest.approx(0, abs=1e-9) for d in distances)


def test_statistics_that_were_removed_are_no_earlier_run(
    object_storage: ObjectStorage,
) -> None:
    import tensorflow as tf

    world = World(object_storage)
    _, first, _ = world.validate("1", "digits", "honest")
    _, second, _ = world.validate("2", "digits", "again")
    examples, _ = world.examples("3", "digits", "honest")
    rules = world.schema("rules", invariants_text(known("digits"), DriftConfig()))
    assert world.previous("3", examples, rules).uri == second.uri
    for accepted, left in ((second, first.uri), (first, None)):
        tf.io.gfile.rmtree(accepted.uri)
        found = world.previous("4", examples, rules)
        assert (None if is_empty(found) else found.uri) == left


def test_a_record_is_an_object_of_its_own(object_storage: ObjectStorage) -> None:
    world = World(object_storage)
    _, accepted, _ = world.validate("1", "digits", "honest")
    files = [
        name
        for name in object_storage.names("accepted_statistics/")
        if not name.endswith("/")
    ]
    (name,) = files
    bucket = object_storage.client().bucket(object_storage.bucket)
    assert json.loads(bucket.blob(name).download_as_bytes()) == {
        "uri": accepted.uri,
        "split_names": ["eval"],
        "name": "digits",
        "examples_uri": object_storage.url("1/Examples"),
        "invariants_uri": object_storage.url("invariants-same"),
    }


def test_the_mark_of_an_empty_artifact_survives_json() -> None:
    """Numbers come back as float from Vertex AI, whose metadata are JSON."""
    from tfx.types import standard_artifacts

    from components import own_record
    from components.example_validator import executor as validator

    def from_json(kind: Any, name: str, value: Any) -> Any:
        made = kind()
        made.uri = "folder"
        made.set_json_value_custom_property(name, value)
        made.set_mlmd_artifact(made.mlmd_artifact)
        return made

    statistics = from_json(standard_artifacts.ExampleStatistics, validator.EMPTY, 1.0)
    assert is_empty(statistics)

    for key, value, there in (
        ("pushed", 0.0, False),
        ("pushed", 1.0, True),
        ("other", 0, True),
    ):
        served = from_json(standard_artifacts.PushedModel, key, value)
        assert own_record.is_in_service(served) is there
    served = standard_artifacts.PushedModel()
    for value in (0, 1):
        served.set_int_custom_property("pushed", value)
        assert own_record.is_in_service(served) is bool(value)
    assert not own_record.is_in_service(None)


def test_a_local_flow_says_nothing_of_records() -> None:
    """Else every local run would validate anew: parameters are part of the cache's key."""
    from tfx import v1 as tfx
    from tfx.dsl.compiler import compiler

    from components.dataset_schema.component import DatasetSchema
    from components.example_gen.component import CifarExampleGen
    from components.example_validator.component import BlockingExampleValidator

    def parameters(**records: str) -> set[str]:
        examples = CifarExampleGen(data=DataConfig(), fingerprint="")
        schema = DatasetSchema(examples=examples.outputs["examples"])
        statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
        validator = BlockingExampleValidator(
            statistics=statistics.outputs["statistics"],
            schema=schema.outputs["schema"],
            examples=examples.outputs["examples"],
            invariants=schema.outputs["schema"],
            **records,
        )
        pipeline = tfx.dsl.Pipeline(
            pipeline_name="flow",
            pipeline_root="folder",
            components=[examples, schema, statistics, validator],
        )
        compiled = compiler.Compiler().compile(pipeline)
        return set(compiled.nodes[-1].pipeline_node.parameters.parameters)

    assert parameters() == {"exclude_splits", "source"}
    assert parameters(records="gs://a/b") == {"exclude_splits", "source", "records"}

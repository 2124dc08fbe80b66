"""The node in a real flow, with ML Metadata: what is compared with what, and when."""

import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

import tensorflow as tf  # isort: skip - after TFX, whose libraries it must share

from components.dataset_schema.component import DatasetSchema
from components.dataset_schema.text import schema_text
from components.example_validator.component import BlockingExampleValidator
from components.example_validator.executor import AnomalyError
from components.previous_statistics.strategy import PreviousStatistics
from contract.config.drift import DriftConfig
from contract.datasets import known

pytestmark = pytest.mark.tf

COUNTS = {"train": 600, "eval": 200, "test": 200}


def images_and_labels(split: str, data: str) -> tuple[np.ndarray, np.ndarray]:
    """`data`: "honest", "again" (the same source, other images), or what is wrong."""
    count = COUNTS[split]
    dice = np.random.default_rng([*split.encode(), data == "again"])
    level = dice.normal(120, 25, (count, 1, 1, 1))
    spread = dice.uniform(10, 40, (count, 1, 1, 1))
    images = level + spread * dice.standard_normal((count, 32, 32, 3))
    labels = dice.integers(0, 10, count)
    if data == "bright":
        images += 40
    if data == "relabelled":
        labels[labels == 3] = 5
    if data == "eval lacks 7" and split == "eval":
        images, labels = images[labels != 7], labels[labels != 7]
    if data == "dark test" and split == "test":
        images -= 40
    if data == "leaked" and split == "test":
        kept, theirs = images_and_labels("train", data)
        images[:50], labels[:50] = kept[:50], theirs[:50]
        images[60:80], labels[60:80] = images[50], [labels[50]] * 19 + [9 - labels[50]]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), labels


@component
def Source(
    examples: OutputArtifact[standard_artifacts.Examples],
    statistics: OutputArtifact[standard_artifacts.ExampleStatistics],
    name: Parameter[str],
    data: Parameter[str],
):
    """ExampleGen and StatisticsGen in one, without Beam."""
    import pandas as pd
    import tensorflow_data_validation as tfdv

    examples.split_names = statistics.split_names = artifact_utils.encode_split_names(
        list(COUNTS)
    )
    examples.set_string_custom_property("name", name)
    for split in COUNTS:
        images, labels = images_and_labels(split, data)
        raw = [image.tobytes() for image in images]
        ids = [f"{split}-{index}".encode() for index in range(len(raw))]
        folder = Path(examples.uri, f"Split-{split}")
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(f"{folder}/data-00000-of-00001.gz", "GZIP") as file:
            for image, label in zip(raw, labels, strict=True):
                example = tf.train.Example()
                example.features.feature["image"].bytes_list.value.append(image)
                example.features.feature["label"].int64_list.value.append(label)
                file.write(example.SerializeToString())
        schema = text_format.Parse(schema_text(known(name)), schema_pb2.Schema())
        found = tfdv.generate_statistics_from_dataframe(
            pd.DataFrame({"image": raw, "label": labels, "example_id": ids}),
            tfdv.StatsOptions(schema=schema),
            n_jobs=1,
        )
        target = Path(statistics.uri, f"Split-{split}")
        target.mkdir(parents=True)
        (target / "FeatureStats.pb").write_bytes(found.SerializeToString())


def flow(root: Path, name: str, data: str, **thresholds: float | None) -> None:
    source = Source(name=name, data=data)
    schema = DatasetSchema(examples=source.outputs["examples"])
    invariants = DatasetSchema(
        examples=source.outputs["examples"], drift=DriftConfig(**thresholds)
    ).with_id("DataInvariants")
    previous = tfx.dsl.Resolver(
        strategy_class=PreviousStatistics,
        examples=source.outputs["examples"],
        invariants=invariants.outputs["schema"],
        previous_statistics=tfx.dsl.Channel(type=standard_artifacts.ExampleStatistics),
    ).with_id("PreviousStatistics")
    validator = BlockingExampleValidator(
        statistics=source.outputs["statistics"],
        schema=schema.outputs["schema"],
        examples=source.outputs["examples"],
        invariants=invariants.outputs["schema"],
        previous_statistics=previous.outputs["previous_statistics"],
    ).with_id("ExampleValidator")
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="flow",
            pipeline_root=str(root / "artifacts"),
            components=[source, schema, invariants, previous, validator],
            enable_cache=True,
            metadata_connection_config=(
                tfx.orchestration.metadata.sqlite_metadata_connection_config(
                    str(root / "metadata.sqlite")
                )
            ),
        )
    )


def store(root: Path) -> metadata_store.MetadataStore:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    return metadata_store.MetadataStore(config)


def last_validation(root: Path) -> str:
    (kind,) = (
        t for t in store(root).get_execution_types() if "ExampleValidator" in t.name
    )
    newest = max(store(root).get_executions_by_type(kind.name), key=lambda e: e.id)
    return mlmd.Execution.State.Name(newest.last_known_state)


def distances(root: Path) -> list[dict]:
    """What the newest anomalies say, by TFX's own reading of the property."""
    newest = max(
        store(root).get_artifacts_by_type("ExampleAnomalies"), key=lambda a: a.id
    )
    made = standard_artifacts.ExampleAnomalies()
    made.set_mlmd_artifact(newest)
    return made.get_json_value_custom_property("distances")


def counted(root: Path) -> dict:
    newest = max(
        store(root).get_artifacts_by_type("ExampleAnomalies"), key=lambda a: a.id
    )
    return json.loads(newest.custom_properties["consistency"].string_value)


def newest_folder(root: Path, output: str) -> Path:
    folders = (root / "artifacts/ExampleValidator" / output).iterdir()
    return max(folders, key=lambda folder: int(folder.name))


def refused(root: Path, name: str, data: str, **thresholds: float | None) -> list[str]:
    with pytest.raises(AnomalyError) as caught:
        flow(root, name, data, **thresholds)
    assert last_validation(root) == "FAILED"
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_runs_are_compared_with_the_last_accepted_one_of_the_same_data_set(tmp_path):
    flow(tmp_path, "cifar10", "honest")
    assert last_validation(tmp_path) == "COMPLETE"
    assert {(d["split"], d["kind"]) for d in distances(tmp_path)} == {
        ("eval", "skew"), ("test", "skew")
    }  # fmt: skip

    # The same command again: nothing to do.
    flow(tmp_path, "cifar10", "honest")
    assert last_validation(tmp_path) == "CACHED"

    # Other images of the same kind.
    flow(tmp_path, "cifar10", "again")
    assert last_validation(tmp_path) == "COMPLETE"
    drift = [d for d in distances(tmp_path) if d["kind"] == "drift"]
    assert {d["split"] for d in drift} == set(COUNTS)
    assert all(d["value"] > 0 for d in drift)

    # Another data set in the same folder has no earlier run.
    flow(tmp_path, "digits", "bright")
    assert all(d["kind"] == "skew" for d in distances(tmp_path))

    # Data that were refused are refused again.
    for _ in range(2):
        lines = refused(tmp_path, "cifar10", "bright")
        assert [line.partition(":")[0] for line in lines] == [
            f"split {split}, feature {feature}"
            for split in COUNTS
            for feature in ("brightness", "red", "green", "blue")
        ]
    before, after = (images_and_labels("train", d)[0] for d in ("again", "bright"))
    assert (
        f": the mean is {after.mean() / 255:.3f}, but {before.mean() / 255:.3f} in the "
        "last accepted run (Jensen-Shannon divergence "
    ) in lines[0]
    assert "threshold 0.02); correct the data, or accept the change" in lines[0]
    assert "--runtime_parameter drift.images=none" in lines[0]

    # Accepted once, they are the measure of what follows, with the thresholds back.
    flow(tmp_path, "cifar10", "bright", images=None)
    flow(tmp_path, "cifar10", "bright")
    assert last_validation(tmp_path) == "COMPLETE"
    flow(tmp_path, "cifar10", "bright")
    assert last_validation(tmp_path) == "CACHED"
    assert "brightness" in refused(tmp_path, "cifar10", "again")[0]


def test_splits_and_labels_that_differ_are_named(tmp_path):
    (line,) = refused(tmp_path, "digits", "eval lacks 7")
    assert line.startswith(
        "split eval, feature label: class 7 is 0.00%, but "
    ) and line.endswith(
        "allow the difference with --runtime_parameter drift.skew_labels=none"
    )
    lines = refused(tmp_path, "digits", "dark test")
    assert {line.partition(":")[0] for line in lines} == {
        f"split test, feature {name}" for name in ("brightness", "red", "green", "blue")
    }
    flow(tmp_path, "digits", "honest")
    lines = refused(tmp_path, "digits", "relabelled")
    assert [line.partition(": class")[0] for line in lines] == [
        f"split {split}, feature label" for split in COUNTS
    ]
    assert all("last accepted run (L-infinity norm" in line for line in lines)


def test_what_was_measured_is_on_disk_in_tfdv_form(tmp_path):
    flow(tmp_path, "digits", "honest")
    flow(tmp_path, "digits", "again")
    assert json.dumps(distances(tmp_path))
    for split in COUNTS:
        newest = newest_folder(tmp_path, "accepted_statistics")
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(
            (newest / f"Split-{split}/FeatureStats.pb").read_bytes()
        )
        images, _ = images_and_labels(split, "again")
        by_name = {f.path.step[0]: f for f in statistics.datasets[0].features}
        assert statistics.datasets[0].num_examples == COUNTS[split]
        assert by_name["brightness"].num_stats.mean == pytest.approx(
            images.mean() / 255, rel=1e-5
        )
        newest = newest_folder(tmp_path, "anomalies")
        anomalies = anomalies_pb2.Anomalies.FromString(
            (newest / f"Split-{split}/SchemaDiff.pb").read_bytes()
        )
        assert not anomalies.anomaly_info
        for info in anomalies.drift_skew_info:
            assert len(info.drift_measurements) == 1
            assert len(info.skew_measurements) == (split != "train")
        assert len(anomalies.drift_skew_info) == 7


def test_images_that_stand_in_two_places_are_counted_and_told(tmp_path, caplog):
    with caplog.at_level("WARNING", "pipeline.progress"):
        flow(tmp_path, "cifar10", "leaked", skew_labels=None, skew_images=None)
    assert counted(tmp_path) == {
        "test_in_train": 50, "test_in_eval": 0, "superclass_conflicts": 0,
        "copies": {"train": 0, "eval": 0, "test": 20}, "label_conflicts": 21,
    }  # fmt: skip
    told = [r.getMessage() for r in caplog.records if r.name == "pipeline.progress"]
    assert [line.partition(" images ")[0] for line in told] == [
        "warning: 50 of 200 test", "warning: 20 of 200 test", "warning: 21 of 1,000"
    ]  # fmt: skip


def test_a_deleted_folder_is_no_earlier_run(tmp_path):
    import shutil

    flow(tmp_path, "digits", "honest")
    shutil.rmtree(tmp_path / "artifacts/ExampleValidator/accepted_statistics")
    flow(tmp_path, "digits", "bright")
    assert all(d["kind"] == "skew" for d in distances(tmp_path))


def test_invariants_need_examples():
    with pytest.raises(ValueError, match="'examples'"):
        BlockingExampleValidator(
            statistics=tfx.dsl.Channel(type=standard_artifacts.ExampleStatistics),
            schema=tfx.dsl.Channel(type=standard_artifacts.Schema),
            invariants=tfx.dsl.Channel(type=standard_artifacts.Schema),
        )

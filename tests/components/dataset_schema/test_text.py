"""The schema text parses, and says what the contract of all stages says."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.dataset_schema.text import invariants_text, schema_text
from components.drift.image_statistics import NUMBERS
from contract import features
from contract.config.drift import DriftConfig
from contract.datasets import DATASETS, Dataset, known


@pytest.mark.parametrize("dataset", DATASETS)
def test_schema_requires_exactly_the_features_of_the_data_set(dataset: str):
    schema = text_format.Parse(schema_text(known(dataset)), schema_pb2.Schema())
    by_name = {feature.name: feature for feature in schema.feature}
    expected = {features.IMAGE, features.LABEL, features.EXAMPLE_ID}
    if dataset == "cifar100":
        expected.add(features.COARSE_LABEL)
    assert set(by_name) == expected
    for feature in by_name.values():
        assert feature.presence.min_fraction == 1
        assert [dimension.size for dimension in feature.shape.dim] == [1]
    assert by_name[features.IMAGE].image_domain.max_image_byte_size == 32 * 32 * 3


@pytest.mark.parametrize(
    ("dataset", "feature", "highest"),
    [
        ("cifar10", features.LABEL, 9),
        ("cifar100", features.LABEL, 99),
        ("cifar100", features.COARSE_LABEL, 19),
        ("digits", features.LABEL, 9),
    ],
)
def test_labels_are_indices_of_class_names(dataset, feature, highest):
    schema = text_format.Parse(schema_text(known(dataset)), schema_pb2.Schema())
    (found,) = (item for item in schema.feature if item.name == feature)
    assert found.type == schema_pb2.INT
    assert (found.int_domain.min, found.int_domain.max) == (0, highest)


@pytest.mark.tf
def test_component_writes_what_tfx_reads(tmp_path):
    from tfx.types import channel_utils, standard_artifacts
    from tfx.utils import io_utils

    from components.dataset_schema.component import DatasetSchema
    from components.dataset_schema.executor import Executor

    dataset = known("cifar100", image_size=16, channels=1)
    drift = DriftConfig(labels=0.5)
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path / "examples")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/dataset.json").write_text(dataset.to_json())
    for name, given, expected in (
        ("schema", {}, schema_text(dataset)),
        ("invariants", {"drift": drift}, invariants_text(dataset, drift)),
    ):
        node = DatasetSchema(examples=channel_utils.as_channel([examples]), **given)
        artifact = standard_artifacts.Schema()
        artifact.uri = str(tmp_path / name)
        Executor().Do(
            {"examples": [examples]}, {"schema": [artifact]}, node.exec_properties
        )
        written = io_utils.SchemaReader().read(
            io_utils.get_only_uri_in_dir(artifact.uri)
        )
        assert written == text_format.Parse(expected, schema_pb2.Schema())


@pytest.mark.tf
def test_examples_of_an_earlier_version_are_what_they_are_called(tmp_path):
    from tfx.types import standard_artifacts

    from components.dataset_schema.executor import Executor

    examples, artifact = standard_artifacts.Examples(), standard_artifacts.Schema()
    examples.uri, artifact.uri = str(tmp_path / "examples"), str(tmp_path / "schema")
    with pytest.raises(FileNotFoundError, match="dataset.json is missing.*ingest them"):
        Executor().Do({"examples": [examples]}, {"schema": [artifact]}, {})
    examples.set_string_custom_property("name", "digits")
    Executor().Do({"examples": [examples]}, {"schema": [artifact]}, {})
    found = text_format.Parse(
        (tmp_path / "schema/schema.pbtxt").read_text(), schema_pb2.Schema()
    )
    assert found == text_format.Parse(schema_text(known("digits")), schema_pb2.Schema())


def test_grey_images_have_no_colours_to_compare():
    text = invariants_text(known("digits", channels=1), DriftConfig())
    schema = text_format.Parse(text, schema_pb2.Schema())
    assert {feature.name for feature in schema.feature} == {
        "label", "brightness", "contrast", "sharpness",
    }  # fmt: skip


def invariants(
    dataset: str, **thresholds: float | None
) -> dict[str, schema_pb2.Feature]:
    text = invariants_text(known(dataset), DriftConfig(**thresholds))
    schema = text_format.Parse(text, schema_pb2.Schema())
    return {feature.name: feature for feature in schema.feature}


@pytest.mark.parametrize("dataset", DATASETS)
def test_invariants_have_thresholds_in_the_schema(dataset: str):
    found = invariants(dataset, labels=0.5, skew_labels=0.25, images=0.1)
    labels = {features.LABEL: known(dataset).class_names}
    if dataset == "cifar100":
        labels[features.COARSE_LABEL] = known(dataset, "coarse").class_names
    assert set(found) == set(NUMBERS) | set(labels)
    for name, classes in labels.items():
        feature = found[name]
        assert tuple(feature.string_domain.value) == classes
        drift, skew = feature.drift_comparator, feature.skew_comparator
        assert drift.infinity_norm.threshold == pytest.approx(0.5 / len(classes))
        assert skew.infinity_norm.threshold == pytest.approx(0.25 / len(classes))
    for name in NUMBERS:
        drift, skew = found[name].drift_comparator, found[name].skew_comparator
        assert drift.jensen_shannon_divergence.threshold == pytest.approx(0.1)
        assert skew.jensen_shannon_divergence.threshold == pytest.approx(
            DriftConfig().skew_images
        )


def test_a_threshold_of_none_is_no_comparator():
    found = invariants("digits", labels=None, skew_images=None)
    assert not found[features.LABEL].HasField("drift_comparator")
    assert found[features.LABEL].HasField("skew_comparator")
    assert not found["contrast"].HasField("skew_comparator")
    assert found["contrast"].HasField("drift_comparator")


def test_class_names_may_hold_any_sign():
    """Those of people's folders: quotation marks, accents, a backslash."""
    names = ('a "cat"', "l'été", "back\\slash", "猫", "a: {b} #c")
    dataset = Dataset(
        name="folder", title="x", image_shape=(8, 8, 3), labels={"label": names}
    )
    text = invariants_text(dataset, DriftConfig())
    schema = text_format.Parse(text, schema_pb2.Schema())
    assert tuple(schema.feature[0].string_domain.value) == names


def test_files_may_have_any_length_but_none():
    dataset = Dataset(
        name="folder",
        title="x",
        image_shape=(None, None, 3),
        crop=16,
        labels={"label": ("a", "b")},
    )
    schema = text_format.Parse(schema_text(dataset), schema_pb2.Schema())
    (image,) = (each for each in schema.feature if each.name == features.IMAGE)
    assert image.HasField("image_domain")
    assert not image.image_domain.max_image_byte_size
    assert image.annotation.tag == ["minimum_bytes:1"]
    numbers = text_format.Parse(
        invariants_text(dataset, DriftConfig()), schema_pb2.Schema()
    )
    assert {"red", "sharpness"} <= {each.name for each in numbers.feature}

"""The schema text parses, and says what the contract of all stages says."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.dataset_schema.text import invariants_text, schema_text
from components.drift.image_statistics import NUMBERS
from contract import features
from contract.config.drift import DriftConfig
from contract.datasets import DATASETS, class_names


@pytest.mark.parametrize("dataset", DATASETS)
def test_schema_requires_exactly_the_features_of_the_data_set(dataset: str):
    schema = text_format.Parse(schema_text(dataset), schema_pb2.Schema())
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
    schema = text_format.Parse(schema_text(dataset), schema_pb2.Schema())
    (found,) = (item for item in schema.feature if item.name == feature)
    assert found.type == schema_pb2.INT
    assert (found.int_domain.min, found.int_domain.max) == (0, highest)


@pytest.mark.tf
def test_component_writes_what_tfx_reads(tmp_path):
    from tfx.types import standard_artifacts
    from tfx.utils import io_utils

    from components.dataset_schema.component import DatasetSchema
    from components.dataset_schema.executor import Executor

    text = schema_text("cifar100")
    node = DatasetSchema(text=text)
    assert node.exec_properties["text"] == text, "the cache must see the text"
    artifact = standard_artifacts.Schema()
    artifact.uri = str(tmp_path)
    Executor().Do({}, {"schema": [artifact]}, node.exec_properties)
    written = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(str(tmp_path)))
    assert written == text_format.Parse(text, schema_pb2.Schema())


@pytest.mark.tf
def test_text_that_is_no_schema_is_refused(tmp_path):
    from tfx.types import standard_artifacts

    from components.dataset_schema.executor import Executor

    artifact = standard_artifacts.Schema()
    artifact.uri = str(tmp_path)
    with pytest.raises(text_format.ParseError):
        Executor().Do({}, {"schema": [artifact]}, {"text": "feature { nme: 1 }"})
    assert list(tmp_path.iterdir()) == []


def invariants(
    dataset: str, **thresholds: float | None
) -> dict[str, schema_pb2.Feature]:
    text = invariants_text(dataset, DriftConfig(**thresholds))
    schema = text_format.Parse(text, schema_pb2.Schema())
    return {feature.name: feature for feature in schema.feature}


@pytest.mark.parametrize("dataset", DATASETS)
def test_invariants_have_thresholds_in_the_schema(dataset: str):
    found = invariants(dataset, labels=0.5, skew_labels=0.25, images=0.1)
    labels = {features.LABEL: class_names(dataset)}
    if dataset == "cifar100":
        labels[features.COARSE_LABEL] = class_names(dataset, "coarse")
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

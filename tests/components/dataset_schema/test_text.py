"""The schema text parses, and says what the contract of all stages says."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.dataset_schema.text import schema_text
from trainer import features


@pytest.mark.parametrize("dataset", features.DATASETS)
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
    node = DatasetSchema(schema=text)
    assert node.exec_properties == {"text": text}, "the cache must see the text"
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

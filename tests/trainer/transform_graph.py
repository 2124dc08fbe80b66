"""A Transform graph as the Transform component writes it, for tests."""

from collections.abc import Iterable
from pathlib import Path

from contract import features
from contract.config.preprocessing import PreprocessingConfig
from contract.datasets import Dataset, known
from contract.fields import to_json


def write(
    folder: Path,
    images: Iterable[bytes],
    config: PreprocessingConfig | None = None,
    dataset: Dataset | None = None,
) -> str:
    """Writes the graph of some images, raw bytes, to `folder`; returns its path."""
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    from trainer.preprocessing import preprocessing_fn

    metadata = dataset_metadata.DatasetMetadata(
        schema_utils.schema_from_feature_spec(
            {features.IMAGE: tf.io.FixedLenFeature([1], tf.string)}
        )
    )
    rows = [{features.IMAGE: [image]} for image in images]
    settings = {
        "preprocessing": to_json(config or PreprocessingConfig()),
        "dataset": (dataset or known("cifar10")).to_json(),
    }
    with (
        beam.Pipeline("FnApiRunner") as p,
        tft_beam.Context(temp_dir=f"{folder}/tmp"),
    ):
        _ = (
            (p | beam.Create(rows), metadata)
            | tft_beam.AnalyzeDataset(lambda inputs: preprocessing_fn(inputs, settings))
            | tft_beam.WriteTransformFn(f"{folder}/graph")
        )
    return f"{folder}/graph"

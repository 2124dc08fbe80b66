"""Real examples, real statistics, real schema: what is wrong stops the flow by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.beam import IN_PROCESS

pytestmark = pytest.mark.tf


def rows(split: str, count: int = 120) -> list[dict[str, list[Any]]]:
    dice = np.random.default_rng(len(split))
    return [
        {
            "image": [dice.integers(0, 256, 3072, dtype=np.uint8).tobytes()],
            "label": [index % 100],
            "coarse_label": [index % 20],
            "example_id": [f"{split}-{index:05}".encode()],
        }
        for index in range(count)
    ]


Splits = dict[str, list[dict[str, list[Any]]]]


def artifact(kind: Any, root: Path) -> Any:
    made = kind()
    made.uri = str(root / kind.TYPE_NAME)
    Path(made.uri).mkdir(parents=True, exist_ok=True)
    return made


def tfx_statistics(root: Path, splits: Splits, schema: Any) -> Any:
    """What StatisticsGen makes of TFRecords."""
    from tfx.components.statistics_gen.executor import Executor
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import artifact_utils, standard_artifacts

    import tensorflow as tf  # isort: skip - after TFX, whose libraries it must share

    def feature(values: list[Any]) -> tf.train.Feature:
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    examples = artifact(standard_artifacts.Examples, root)
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    for split, contents in splits.items():
        folder = Path(examples.uri) / f"Split-{split}"
        folder.mkdir()
        with tf.io.TFRecordWriter(f"{folder}/data-00000-of-00001.gz", "GZIP") as file:
            for row in contents:
                mapping = {name: feature(values) for name, values in row.items()}
                example = tf.train.Example(features=tf.train.Features(feature=mapping))
                file.write(example.SerializeToString())
    statistics = artifact(standard_artifacts.ExampleStatistics, root)
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=[*IN_PROCESS], tmp_dir=str(root), unique_id="1"
    )
    Executor(context).Do(
        {"examples": [examples], "schema": [schema]}, {"statistics": [statistics]}, {}
    )
    return statistics


def memory_statistics(
    root: Path, splits: Splits, schema: Any, *, use_schema: bool = True
) -> Any:
    """The same by TFDV's generators, without Beam: seconds less per split."""
    import pyarrow
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl
    from tfx.types import artifact_utils, standard_artifacts

    statistics = artifact(standard_artifacts.ExampleStatistics, root)
    statistics.split_names = artifact_utils.encode_split_names(list(splits))
    options = tfdv.StatsOptions(
        schema=tfdv.load_schema_text(f"{schema.uri}/schema.pbtxt")
        if use_schema
        else None
    )
    for split, contents in splits.items():
        names = sorted({name for row in contents for name in row})
        batch = pyarrow.RecordBatch.from_arrays(
            [pyarrow.array([row.get(name) for row in contents]) for name in names],
            names,
        )
        found = stats_impl.generate_statistics_in_memory(batch, options)
        folder = Path(statistics.uri) / f"Split-{split}"
        folder.mkdir()
        (folder / "FeatureStats.pb").write_bytes(found.SerializeToString())
    return statistics


def validate(
    root: Path, splits: Splits, statistics: Any = memory_statistics, **options: Any
) -> Any:
    from tfx.types import standard_artifacts

    from components.dataset_schema.executor import Executor as DatasetSchema
    from components.example_validator.executor import Executor

    schema = artifact(standard_artifacts.Schema, root)
    nothing = standard_artifacts.Examples()  # that would be compared with another run's
    nothing.split_names = "[]"
    nothing.uri = str(root / "nothing")
    nothing.set_string_custom_property("name", "cifar100")
    DatasetSchema().Do({"examples": [nothing]}, {"schema": [schema]}, {})
    anomalies = artifact(standard_artifacts.ExampleAnomalies, root)
    accepted = artifact(standard_artifacts.ExampleStatistics, root / "accepted")
    Executor().Do(
        {
            "statistics": [statistics(root, splits, schema, **options)],
            "schema": [schema],
            "examples": [nothing],
            "invariants": [schema],
        },
        {"anomalies": [anomalies], "accepted_statistics": [accepted]},
        {"exclude_splits": "[]"},
    )
    return anomalies


def test_statistics_gen_and_validator_pass_what_is_good_and_name_what_is_not(
    tmp_path: Path,
):
    from components.example_validator.executor import AnomalyError

    splits = {"train": rows("train"), "eval": rows("eval"), "empty": []}
    splits["eval"][70]["image"] = [b"\0" * 3071]
    with pytest.raises(AnomalyError) as caught:
        validate(tmp_path, splits, tfx_statistics)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    assert lines == [
        "split eval, feature image: Values too short: The shortest value has 3,071 "
        "bytes; each must have 3,072.",
        "split empty, feature (all): No examples: The split is empty.",
    ]


def test_good_examples_pass(tmp_path: Path):
    splits = {split: rows(split) for split in ("train", "eval", "test")}
    anomalies = validate(tmp_path, splits)
    assert anomalies.get_json_value_custom_property("blessed") == {
        "train": 1, "eval": 1, "test": 1
    }  # fmt: skip


# Split -> what one of its examples has, the feature that is to be named, and the words.
CORRUPTIONS = {
    "high": ({"label": [100]}, "label", "Unexpectedly large value: 100"),
    "negative": ({"label": [-1]}, "label", "Unexpectedly small value: -1"),
    "coarse": ({"coarse_label": [20]}, "coarse_label", "large value: 20"),
    "unlabelled": ({"label": []}, "label", "value lengths vary"),
    "two": ({"label": [1, 2]}, "label", "value lengths vary"),
    "long": ({"image": [b"\0" * 3073]}, "image", "largest image has bytes: 3073"),
    "short": ({"image": [b"\0" * 3071]}, "image", "shortest value has 3,071 bytes"),
    "none": ({"image": None}, "image", "present in fewer examples than expected"),
    "twice": ({"example_id": [b"twice-00001"]}, "example_id", "only 39 different ones"),
    "new": ({"surprise": [1]}, "surprise", "New column"),
}


def test_one_bad_example_per_split_stops_the_flow(tmp_path: Path):
    from components.example_validator.executor import AnomalyError

    splits = {split: rows(split, 40) for split in ("good", *CORRUPTIONS)}
    for split, (change, _, _) in CORRUPTIONS.items():
        row = splits[split][17] | change
        splits[split][17] = {name: row[name] for name in row if row[name] is not None}
    with pytest.raises(AnomalyError) as caught:
        validate(tmp_path, splits)
    *lines, remedy = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert remedy.startswith("remedy: ")
    assert len(lines) == len(CORRUPTIONS), lines
    for line, (split, (_, feature, words)) in zip(
        lines, CORRUPTIONS.items(), strict=True
    ):
        assert line.startswith(f"split {split}, feature {feature}: "), line
        assert words in line, line


def test_short_images_are_found_without_lengths_too(tmp_path: Path):
    """Statistics made without the schema know average lengths only."""
    from components.example_validator.executor import AnomalyError

    contents = rows("eval")
    contents[70]["image"] = [b"\0" * 3071]
    with pytest.raises(AnomalyError, match="on average"):
        validate(tmp_path, {"eval": contents}, use_schema=False)


def test_node_is_tfx_own_but_for_its_executor():
    from tfx import types
    from tfx.types import standard_artifacts

    from components.example_validator.component import BlockingExampleValidator

    node = BlockingExampleValidator(
        statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        schema=types.Channel(type=standard_artifacts.Schema),
        examples=types.Channel(type=standard_artifacts.Examples),
        invariants=types.Channel(type=standard_artifacts.Schema),
    ).with_id("ExampleValidator")
    assert node.id == "ExampleValidator"
    assert set(node.outputs) == {"anomalies", "accepted_statistics"}

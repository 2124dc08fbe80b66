"""How often the verdict is right: contenders of known skill through the real components.

    python -m benchmarks.verdict [--draws 200] [--workers 2] [--output FILE]

Contenders that answer from a table, so that their true error rates are known and nothing
is trained, go through Answers, the Evaluator, the ModelChooser and the AtomicPusher with
the policy `superior`: 200 draws of a candidate that is as good as the baseline (whoever
pushes it was fooled by chance), 200 of one that is 2 points better, 10,000 images each.
Then the cost of evaluating: the time of Answers and Evaluator for two networks and 10,000
images, half of them eval's and half test's, against the bare forward passes of their
SavedModels at the same batch size.

Writes benchmarks/results/verdict.json; with `--draws 0` the draws of an earlier run stay in it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.beam import IN_PROCESS
from contract.datasets import PUBLISHED_SHAPE, Dataset

RESULT = Path(__file__).parent / "results" / "verdict.json"
CLASSES, EXAMPLES = 10, 10_000
ERROR = 0.06  # of the baseline
BOTH_WRONG = 0.03  # at once: networks share hard images
CLASS_NAMES = [f"class{i}" for i in range(CLASSES)]
DATASET = Dataset(
    name="random",
    title="Random pixels",
    image_shape=PUBLISHED_SHAPE,
    labels={"label": tuple(CLASS_NAMES)},
)
BATCH_SIZE = 128


def draw_wrong(examples: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """On which images the baseline and a candidate, better by `gain`, are wrong.

    Returns:
        Two bool [examples], of rates ERROR and ERROR - gain; both at once: BOTH_WRONG.
    """
    kind = np.random.default_rng(seed).choice(
        4,
        size=examples,
        p=[
            BOTH_WRONG,
            ERROR - BOTH_WRONG,
            ERROR - BOTH_WRONG - gain,
            1 - 2 * ERROR + BOTH_WRONG + gain,
        ],
    )
    return (kind == 0) | (kind == 1), (kind == 0) | (kind == 2)


class World:
    """Examples, a Transform graph and places for artifacts, made once per process."""

    def __init__(
        self, folder: Path, examples: int = EXAMPLES, test_examples: int = 10
    ) -> None:
        import apache_beam as beam
        import tensorflow as tf
        import tensorflow_transform as tft
        import tensorflow_transform.beam as tft_beam
        from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

        from contract import features
        from contract.config.preprocessing import PreprocessingConfig
        from contract.fields import to_json
        from contract.records import DATASET_FILE
        from trainer.preprocessing import preprocessing_fn

        self.folder, self.examples = folder, examples
        rng = np.random.default_rng(0)
        every = examples + test_examples
        self.all_labels = rng.integers(CLASSES, size=every)
        self.labels = self.all_labels[:examples]
        images = rng.integers(0, 256, (every, DATASET.image_bytes), dtype=np.uint8)
        # A table model finds its row by the number in the first four pixels.
        images[:, :4] = np.arange(every, dtype="<u4")[:, None].view(np.uint8)
        self.images = images
        splits = {
            features.EVAL: range(examples),
            features.TEST: range(examples, every),
        }
        for split, rows in splits.items():
            place = folder / "examples" / f"Split-{split}"
            place.mkdir(parents=True)
            with tf.io.TFRecordWriter(
                str(place / "data-00000-of-00001.gz"), "GZIP"
            ) as writer:
                for row in rows:
                    values = {
                        features.IMAGE: _bytes(images[row].tobytes()),
                        features.EXAMPLE_ID: _bytes(b"%d" % row),
                        features.LABEL: tf.train.Feature(
                            int64_list=tf.train.Int64List(value=[self.all_labels[row]])
                        ),
                    }
                    example = tf.train.Example(
                        features=tf.train.Features(feature=values)
                    )
                    writer.write(example.SerializeToString())
        (folder / "examples" / DATASET_FILE).write_text(DATASET.to_json())
        spec = {features.IMAGE: tf.io.FixedLenFeature([1], tf.string)}
        metadata = dataset_metadata.DatasetMetadata(
            schema_utils.schema_from_feature_spec(spec)
        )
        rows = [{features.IMAGE: [image.tobytes()]} for image in images[:200]]
        settings = {
            "preprocessing": to_json(PreprocessingConfig()),
            "dataset": DATASET.to_json(),
        }
        with (
            beam.Pipeline("FnApiRunner") as pipeline,
            tft_beam.Context(temp_dir=str(folder / "tmp")),
        ):
            function = (
                (pipeline | beam.Create(rows)),
                metadata,
            ) | tft_beam.AnalyzeDataset(
                lambda inputs: preprocessing_fn(inputs, settings)
            )
            _ = function | tft_beam.WriteTransformFn(str(folder / "transform"))
        self.transform = tft.TFTransformOutput(str(folder / "transform"))

    def write_table(self, name: str, wrong: np.ndarray) -> Path:
        """A SavedModel that is wrong exactly on these eval images, and right on test.

        Args:
            name: Of its folder; what is behind the last slash is the contender's name.
            wrong: bool [examples].

        Returns:
            Folder of a Model.
        """
        import tensorflow as tf

        from contract import features
        from contract.model_run import ModelRun
        from contract.records import MODEL_RUN_FILE

        flags = np.zeros(len(self.all_labels), bool)
        flags[: self.examples] = wrong
        answers = np.where(flags, (self.all_labels + 1) % CLASSES, self.all_labels)

        class Table(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                self.answers = tf.Variable(answers, dtype=tf.int64)
                self.names = tf.constant(CLASS_NAMES)

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
            def serve(self, examples: Any) -> Any:
                parsed = tf.io.parse_example(
                    examples, {features.IMAGE: tf.io.FixedLenFeature([], tf.string)}
                )
                pixels = tf.io.decode_raw(parsed[features.IMAGE], tf.uint8)
                rows = tf.reshape(tf.bitcast(pixels[:, :4], tf.int32), [-1])
                label = tf.gather(self.answers, rows)
                probabilities = tf.one_hot(label, CLASSES, 0.91, 0.01)
                return {
                    features.PROBABILITIES: probabilities,
                    features.PREDICTED_LABEL: label,
                    features.CLASS_NAME: tf.gather(self.names, label),
                }

        table, folder = Table(), self.folder / name
        tf.saved_model.save(
            table,
            str(folder / "Format-Serving"),
            signatures={features.SIGNATURE_EXAMPLES: table.serve},
        )
        contender = name.rpartition("/")[2]
        record = folder / "Format-Serving" / MODEL_RUN_FILE
        record.parent.mkdir(exist_ok=True)
        record.write_text(ModelRun(network=contender, role=contender).to_json())
        return folder

    def answer(self, contender: str, model: Path | None, output: Path) -> Any:
        """Answers of one model; returns the artifact. None: nothing is in service."""
        from tfx.types import artifact_utils, standard_artifacts

        from components import artifacts
        from components.answers.executor import Executor

        examples = _artifact(standard_artifacts.Examples, self.folder / "examples")
        examples.split_names = artifact_utils.encode_split_names(["eval", "test"])
        graph = _artifact(standard_artifacts.TransformGraph, self.folder / "transform")
        inputs = {"examples": [examples], "transform_graph": [graph]}
        if contender == "in_service":
            kind, key = standard_artifacts.PushedModel, "pushed"
        else:
            kind, key = standard_artifacts.Model, "model"
        if model is not None:
            inputs[key] = [_artifact(kind, model)]
        made = _artifact(artifacts.Answers, output)
        Executor().Do(
            inputs,
            {"answers": [made]},
            {"contender": contender, "batch_size": BATCH_SIZE},
        )
        return made

    def evaluate(self, models: dict[str, Path], output: Path) -> dict[str, Any]:
        """Answers of these models, and the Evaluator on them.

        Args:
            models: Contender's name, or "in_service" -> folder.
            output: Gets the evaluation of eval, and that of test and the answers below.

        Returns:
            comparison.json of eval.
        """
        given = [
            self.answer(name, folder, output / "answers" / name)
            for name, folder in models.items()
        ]
        return self.compare(given, output)

    def compare(self, answers: Sequence[Any], output: Path) -> dict[str, Any]:
        """The Evaluator on artifacts of Answers; returns comparison.json of eval."""
        from tfx.dsl.components.base import base_beam_executor
        from tfx.types import standard_artifacts

        from components import numbered
        from components.evaluator.executor import Executor
        from contract.records import COMPARISON_FILE

        made = {
            "evaluation": _artifact(standard_artifacts.ModelEvaluation, output),
            "test_evaluation": _artifact(
                standard_artifacts.ModelEvaluation, output / "test"
            ),
        }
        context = base_beam_executor.BaseBeamExecutor.Context(
            beam_pipeline_args=[*IN_PROCESS],
            tmp_dir=str(output),
            unique_id="1",
        )
        Executor(context).Do(
            {key: [each] for key, each in numbered.given("answers", answers).items()},
            {key: [each] for key, each in made.items()},
            {},
        )
        return json.loads((output / COMPARISON_FILE).read_text())

    def decide(
        self, models: dict[str, Path], evaluation: Path, policy: str
    ) -> str | None:
        """The ModelChooser and the AtomicPusher; returns the pushed contender's name."""
        from tfx.types import standard_artifacts

        from components import artifacts, numbered
        from components.atomic_pusher.executor import Executor as Pusher
        from components.model_chooser.executor import Executor as Chooser
        from contract.config.evaluation import EvaluationConfig
        from contract.fields import to_json

        made = {
            "model": _artifact(standard_artifacts.Model, evaluation / "chosen"),
            "blessing": _artifact(
                standard_artifacts.ModelBlessing, evaluation / "blessing"
            ),
            "decision": _artifact(artifacts.Decision, evaluation / "decision"),
        }
        trained = [
            [_artifact(standard_artifacts.Model, folder)]
            for name, folder in models.items()
            if name != "in_service"
        ]
        inputs = numbered.given("model", trained)
        measured = _artifact(standard_artifacts.ModelEvaluation, evaluation)
        rule = to_json(EvaluationConfig(policy=policy))
        Chooser().Do(
            inputs | {"evaluation": [measured]},
            {key: [value] for key, value in made.items()},
            {"rule": rule},
        )
        pushed = _artifact(standard_artifacts.PushedModel, evaluation / "pushed")
        Pusher().Do(
            {"model": [made["model"]], "model_blessing": [made["blessing"]]},
            {"pushed_model": [pushed]},
            {"destination": str(evaluation / "serving" / "table")},
        )
        if not pushed.get_int_custom_property("pushed"):
            return None
        return pushed.get_string_custom_property("role")


def pushed_candidates(
    gain: float, seeds: Sequence[int], examples: int = EXAMPLES
) -> int:
    """In how many draws the policy `superior` pushed the candidate."""
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), examples)
        for seed in seeds:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                name = os.path.basename(place)
                wrong = draw_wrong(examples, gain, seed)
                models = {
                    role: world.write_table(f"{name}/{role}", found)
                    for role, found in zip(
                        ("baseline", "candidate"), wrong, strict=True
                    )
                }
                world.evaluate(models, Path(place) / "evaluation")
                role = world.decide(models, Path(place) / "evaluation", "superior")
                count += role == "candidate"
    return count


def evaluation_cost(network: str) -> dict[str, float]:
    """Seconds of evaluating and of the bare forward passes, two networks of a kind."""
    import tensorflow as tf

    from contract.model_run import ModelRun
    from trainer import export
    from trainer import network as networks

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = World(folder, EXAMPLES // 2, EXAMPLES // 2)
        models = {}
        for role, name in (("baseline", network), ("candidate", f"preact_{network}")):
            model = networks.build(name, classes=CLASSES)
            pixels = world.images[:256].reshape(-1, *DATASET.pixels)
            for _ in range(
                3
            ):  # moving statistics, without which deep networks overflow
                model((pixels - 127.5) / 73.9, training=True)
            models[role] = folder / role
            export.save(
                model,
                world.transform,
                DATASET,
                directory=str(models[role] / "Format-Serving"),
                run=ModelRun(network=name, role=role),
            )
        files = sorted(map(str, (folder / "examples").glob("Split-*/*")))
        records = [
            record.numpy()
            for record in tf.data.TFRecordDataset(files, compression_type="GZIP")
        ]
        bare = []
        for path in models.values():
            loaded = tf.saved_model.load(str(path / "Format-Serving"))
            call = loaded.signatures["serialized_examples"]
            call(examples=tf.constant(records[:BATCH_SIZE]))
            began = time.perf_counter()
            for start in range(0, len(records), BATCH_SIZE):
                call(examples=tf.constant(records[start : start + BATCH_SIZE]))
            bare.append(time.perf_counter() - began)
        began = time.perf_counter()
        world.evaluate(models, folder / "evaluation")
        seconds = time.perf_counter() - began
    return {
        "bare_seconds": sum(bare),
        "evaluating_seconds": seconds,
        "ratio": seconds / sum(bare),
    }


def main() -> None:
    """Runs the simulation and the cost, prints both and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--networks", default="resnet20,resnet164")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    result: dict[str, Any] = {"draws": options.draws, "examples": EXAMPLES}
    if not options.draws and options.output.is_file():
        result = json.loads(options.output.read_text())
    # One at a time and before the workers: seconds count here.
    for network in filter(None, options.networks.split(",")):
        result[f"cost_{network}"] = cost = evaluation_cost(network)
        print(
            f"two {network}, {EXAMPLES:,} images: forward passes "
            f"{cost['bare_seconds']:.1f} s, Answers and Evaluator "
            f"{cost['evaluating_seconds']:.1f} s, "
            f"{cost['ratio']:.2f} times",
            flush=True,
        )
        result["load_average"] = os.getloadavg()
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        options.workers, mp_context=spawn
    ) as pool:
        for gain in (0.0, 0.02) if options.draws else ():
            began = time.perf_counter()
            parts = [
                range(options.draws)[i :: options.workers]
                for i in range(options.workers)
            ]
            counts = pool.map(pushed_candidates, [gain] * len(parts), parts)
            pushed = sum(counts)
            result[f"pushed_at_gain_{gain:g}"] = pushed
            print(
                f"candidate better by {100 * gain:g} points: pushed in {pushed} of "
                f"{options.draws} draws ({time.perf_counter() - began:.0f} s)",
                flush=True,
            )
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {options.output}")


def _artifact(kind: Any, folder: Path) -> Any:
    made = kind()
    made.uri = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _bytes(value: bytes) -> Any:
    import tensorflow as tf

    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


if __name__ == "__main__":
    main()

"""How soon monitoring tells what is wrong, and how often it is wrong itself.

    python -m benchmarks.monitoring --images cifar-10-batches-bin [--windows 200]
    python -m benchmarks.monitoring --pipeline_output OUTPUT

Of CIFAR-10's files: trains a small classifier in NumPy (monitoring_model.py) on 45,000
images and makes the baseline of these and of 5,000 eval images. Of a run's output folder:
takes the version in service, its own baseline, and that run's test images. These have been
seen neither in training nor by the baseline. Requests are drawn from them with
replacement: honest ones, and such as something is wrong with. Of windows of 500, 1,000 and
2,000 images it counts in how many each test differs (its power; of honest ones its false
calls), how many alarms there are, and how often two windows suffice.

Inputs are changed before the model sees them, but for the stale normalisation: there the
logged images are as ever, and the model normalises by half of the mean and the deviation.

Writes benchmarks/results/monitoring.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks import monitoring_model
from components.drift import baseline as measuring
from contract import features
from contract.baseline import Baseline
from contract.datasets import DATASETS, Dataset
from contract.model_run import ModelRun
from contract.records import BASELINE_FILE, MODEL_RUN_FILE
from monitoring.comparison import (
    CLASSES,
    CONFIDENCE,
    PROBABILITIES,
    Window,
    compare,
    of_two,
    seen,
)
from monitoring.windows import State

RESULT = Path(__file__).parent / "results" / "monitoring.json"
SIZES = (500, 1000, 2000)
BATCH = 250
HONEST, STALE = "honest", "stale normalisation"
MISSING, HALF = "one class missing", "half of one class missing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints a table and writes the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="FOLDER")
    source.add_argument("--pipeline_output", type=Path, metavar="OUTPUT")
    parser.add_argument("--model", default="cifar")
    parser.add_argument("--windows", type=int, default=200, help="of each size")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    made = of_files if options.images else of_run
    place = options.images or options.pipeline_output / "serving" / options.model
    before, found, named = made(place)
    result = {
        **named,
        "test_images": len(found[HONEST][CLASSES]),
        "baseline": {
            "training_images": max(d.count for d in before.numbers.values()),
            "eval_images": sum(before.answers),
            "bytes": len(before.to_json()),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        **measure(before, found, options.windows),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    return 0


Pools = dict[str, dict[str, np.ndarray]]  # what is wrong -> columns of all test images


def of_files(folder: Path) -> tuple[Baseline, Pools, dict[str, Any]]:
    """Baseline, pools and what they are of, with the classifier in NumPy."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    pixels, labels = monitoring_model.read_batches(folder, names)
    order = np.random.default_rng(1).permutation(len(pixels))
    train, evaluated = order[:45_000], order[45_000:]
    model = monitoring_model.train(
        pixels[train], labels[train], pixels[evaluated], labels[evaluated]
    )
    class_names = DATASETS["cifar10"].class_names
    before = dataclasses.replace(
        measuring.of_answers(
            model.answer(pixels[evaluated]),
            labels[evaluated],
            class_names,
            np.bincount(labels[train], minlength=len(class_names)),
        ),
        image_shape=(32, 32, 3),
        numbers={
            name: measuring.distribution(values)
            for name, values in measuring.measure(pixels[train]).items()
        },
    )
    tested, told = monitoring_model.read_batches(folder, ["test_batch.bin"])
    found = pools(model.answer, tested, told, before)
    given = model.answer(tested, stale=0.5)
    found[STALE] = columns(tested, given, told, before)
    return before, found, {"dataset": "cifar10", "model": "ridge regression in NumPy"}


def of_run(base: Path) -> tuple[Baseline, Pools, dict[str, Any]]:
    """The same of the version in service, below a folder of versions."""
    import tensorflow as tf

    version = base / str(max(int(p.name) for p in base.iterdir() if p.name.isdigit()))
    path = version / BASELINE_FILE
    with path.open("rb") as file:
        before = Baseline.read(file, str(path))
    pixels, labels, dataset = test_images(base.parents[1])
    model = tf.saved_model.load(str(version))
    signature = model.signatures[features.SIGNATURE_IMAGES]

    def answer(seen: np.ndarray) -> np.ndarray:
        parts = [
            signature(images=tf.constant(np.ascontiguousarray(seen[i : i + BATCH])))
            for i in range(0, len(seen), BATCH)
        ]
        given = [part[features.PROBABILITIES].numpy() for part in parts]
        return np.concatenate(given).astype(np.float64)

    found = pools(answer, pixels, labels, before)
    # (x - mean / 2) / (deviation / 2), as the model's own normalisation makes it.
    values = pixels.astype(np.float32)
    mean, deviation = values.mean(axis=(0, 1, 2)), values.std(axis=(0, 1, 2))
    stale = mean + deviation * (values - mean / 2) / (deviation / 2)
    given = answer(np.clip(stale, 0, 255).astype(np.uint8))
    found[STALE] = columns(pixels, given, labels, before)
    with (version / MODEL_RUN_FILE).open("rb") as file:
        network = ModelRun.read(file, MODEL_RUN_FILE).network
    return before, found, {"dataset": dataset.name, "model": network}


def test_images(output: Path) -> tuple[np.ndarray, np.ndarray, Dataset]:
    """Pixels and labels of the newest run's test split."""
    from trainer.examples import batches, dataset_of, pixels_of

    folder = max(
        (output / "artifacts/CifarExampleGen/examples").iterdir(),
        key=lambda each: int(each.name),
    )
    dataset = dataset_of(str(folder))
    files = [
        str(p) for p in (folder / f"Split-{features.TEST}").glob("data_tfrecord-*")
    ]
    images: list[bytes] = []
    labels: list[int] = []
    for batch in batches(files, [features.IMAGE, dataset.label_key]):
        images += batch[features.IMAGE].numpy().tolist()
        labels += batch[dataset.label_key].numpy().tolist()
    return pixels_of(images, dataset), np.array(labels), dataset


def changes(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What is wrong with the requests -> the images that are sent."""
    return {
        HONEST: pixels,
        "channels swapped": pixels[..., ::-1],
        "blur": ndimage.uniform_filter(pixels, (0, 3, 3, 0)),
        "inverted": 255 - pixels,
    }


def columns(
    pixels: np.ndarray, given: np.ndarray, labels: np.ndarray, before: Baseline
) -> dict[str, np.ndarray]:
    """As monitoring/traffic.py makes them, and whether each answer is right."""
    names = np.array(before.class_names, object)
    return {
        CLASSES: names[given.argmax(axis=1)],
        CONFIDENCE: np.minimum(given.max(axis=1), 1.0),
        PROBABILITIES: given,
        "right": given.argmax(axis=1) == labels,
        **measuring.measure(pixels),
    }


def pools(
    answer: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    labels: np.ndarray,
    before: Baseline,
) -> Pools:
    """All but that of the stale normalisation."""
    found = {
        what: columns(seen, answer(seen), labels, before)
        for what, seen in changes(pixels).items()
    }
    one = labels == 7 % len(before.class_names)
    # The second half of the images of that class: which those are says nothing of them.
    half = one & (np.cumsum(one) > one.sum() / 2)
    for what, gone in ((MISSING, one), (HALF, half)):
        found[what] = {name: each[~gone] for name, each in found[HONEST].items()}
    return found


def measure(
    before: Baseline, found: Mapping[str, Mapping[str, np.ndarray]], windows: int
) -> dict[str, Any]:
    """Counts, for every kind of requests and every size of window."""
    results = []
    for number, (what, columns) in enumerate(found.items()):
        for size in SIZES:
            random = np.random.default_rng([number, size])
            state, pairs, pair = State(), 0, State()
            counts: dict[str, list[bool]] = {}
            last = None
            for at in range(windows):
                index = random.integers(0, len(columns[CLASSES]), size)
                live = {name: values[index] for name, values in columns.items()}
                now = seen(live)
                tests = (*compare(before, live), *of_two(before, last, now))
                window = Window(images=size, first=at, last=at, tests=tests)
                for test in tests:
                    counts.setdefault(test.name, []).append(test.differs)
                state.add(window)
                if at % 2 == 0:  # of pairs, which each begin anew
                    pair = State()
                    tests = tests[:-1] if last else tests
                    window = dataclasses.replace(window, tests=tests)
                pairs += pair.add(window) == "raised"
                last = now
            results.append(
                {
                    "requests": what,
                    "window": size,
                    "windows": windows,
                    "differing": state.differing / windows,
                    "alarms": state.alarms,
                    "alarm_within_two": pairs / (windows // 2),
                    "power": {
                        name: sum(each) / len(each) for name, each in counts.items()
                    },
                }
            )
    honest = found[HONEST]["right"]
    return {"test_accuracy": float(honest.mean()), "results": results}


def table(result: Mapping[str, Any]) -> str:
    """The rows of the documentation: power in per cent."""
    tests = list(result["results"][0]["power"])
    heads = ["requests", "window", "differ", "alarms", "within two", *tests]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in result["results"]:
        cells = [
            row["requests"],
            f"{row['window']:,}",
            f"{row['differing']:.1%}",
            str(row["alarms"]),
            f"{row['alarm_within_two']:.0%}",
            *(f"{row['power'].get(name, 0):.1%}" for name in tests),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

"""Speed of the training input alone, from pictures on disk: images per second.

    python -m benchmarks.picture_rate FOLDER [--size 64] [--seconds 20]

FOLDER holds class folders, or is a .tar of them, as `data.path`. The pictures are ingested
with data.encoded=true into a temporary folder, which is timed; then batches are drawn as in
training: read, shuffled, decoded, cut at random sizes and places, mirrored, tinted. Nothing
consumes them. Where torchvision is installed (in no extra of this project) and FOLDER is
one, its ImageFolder and torch's DataLoader, with one worker a processor and the same crops
and mirrors, take turns with ours, each turn in a process of its own. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from contract import features
from contract.config.data import DataConfig
from contract.config.train import TrainConfig
from contract.crops import TRAINING_SIDES, side_of

_WARM_UP = 0.2  # of the seconds
_TURNS = 3


def main() -> None:
    """Ingests, draws batches, prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=64, help="pixels per side")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn")
    arguments = parser.parse_args()
    from benchmarks.ingest import measure_into  # loads TensorFlow

    data = DataConfig(
        name="folder",
        path=arguments.folder,
        encoded=True,
        image_size=arguments.size,
        unreadable_limit=0.5,
    )
    names = ["ours"]
    if importlib.util.find_spec("torchvision") and os.path.isdir(arguments.folder):
        names.append("torchvision")
    rates: dict[str, list[float]] = {name: [] for name in names}
    # TensorFlow 2.21 and PyTorch 2.14 in one process ended it with a segmentation fault.
    alone = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="pictures-") as work,
        ProcessPoolExecutor(1, mp_context=alone, max_tasks_per_child=1) as processes,
    ):
        ingested = measure_into(work, data)
        for _, name in itertools.product(range(_TURNS), names):
            found = processes.submit(_turn, name, work, arguments).result()
            rates[name].append(found)
    best = {name: max(found) for name, found in rates.items()}
    print(
        json.dumps(
            {
                "size": arguments.size,
                "processors": len(os.sched_getaffinity(0)),
                "ingest": ingested,
                "images_per_second": best,
                "turns": rates,
            }
        )
    )


def _turn(name: str, ingested: str, arguments: argparse.Namespace) -> float:
    drawn = ours(ingested, arguments) if name == "ours" else torchvision(arguments)
    return rate(drawn, arguments.seconds)


def rate(batches: Iterable[int], seconds: float) -> float:
    """Images per second, after a warm-up, of batches of so many images."""
    drawn, start, began = 0, 0.0, time.perf_counter()
    for count in batches:
        now = time.perf_counter()
        if start:
            drawn += count
            if now - start >= seconds:
                return drawn / (now - start)
        elif now - began >= _WARM_UP * seconds:
            start = now
    raise RuntimeError("the batches have ended")


def ours(folder: str, arguments: argparse.Namespace) -> Iterator[int]:
    """Sizes of batches, as they are drawn from the ingested shards."""
    import tensorflow as tf

    from trainer.examples import dataset_of
    from trainer.streaming import Stream, training_batches

    dataset = dataset_of(folder)
    files = tf.io.gfile.glob(os.path.join(folder, f"Split-{features.TRAIN}", "*"))
    stream = Stream(
        files=tuple(sorted(files)),
        count=dataset.counts[features.TRAIN],
        label_key=dataset.label_key,
        crop=arguments.size,
        mean=tf.fill([3], 120.0),
        std=tf.fill([3], 70.0),
        covariance=tf.eye(3) * 4900,
    )
    config = TrainConfig(global_batch_size=arguments.batch)
    for images, _ in training_batches(stream, config, first_step=0, steps=10**9):
        yield int(images.shape[0])


def torchvision(arguments: argparse.Namespace) -> Iterator[int]:
    """The same by torchvision's ImageFolder and torch's DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    low, high = (side_of(side, arguments.size) for side in TRAINING_SIDES)

    def scaled(picture: Any) -> Any:
        return transforms.functional.resize(picture, random.randint(low, high))

    transform = transforms.Compose(
        [
            transforms.Lambda(scaled),
            transforms.RandomCrop(arguments.size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
        ]
    )
    loader = DataLoader(
        datasets.ImageFolder(arguments.folder, transform),
        batch_size=arguments.batch,
        shuffle=True,
        drop_last=True,
        num_workers=len(os.sched_getaffinity(0)),
        persistent_workers=True,
        multiprocessing_context="fork",  # this process was spawned; it has no TensorFlow
    )
    while True:
        for images, _ in loader:
            yield len(images)


if __name__ == "__main__":
    main()

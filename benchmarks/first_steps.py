"""Original against pre-activation ResNet-1001 over the same first steps on CIFAR-10.

    TFDS_DATA_DIR=DIR python -m benchmarks.first_steps [--steps 30] [--depth 1001]

Both networks see the same augmented batches in the same order (seed 1), with the recipe
`released` (batch 64, learning rate 0.1, Nesterov momentum, decay 1e-4), in bfloat16 and
rematerialised. Writes benchmarks/results/first_steps.json after each network, and at the
end docs/first-steps-1001.svg: the loss and the norm of the gradient of each step.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "first_steps.json"
COLOURS = {"resnet": "#0072B2", "preact_resnet": "#D55E00"}


def main() -> None:
    """Trains both, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--depth", type=int, default=1001)
    options = parser.parse_args()
    images, labels = load_cifar10()
    curves: dict[str, Any] = {"steps": options.steps, "batch_size": 64}
    for family in COLOURS:
        name = f"{family}{options.depth}_bottleneck"
        curves[family] = train(name, images, labels, options.steps)
        RESULT.write_text(json.dumps(curves, indent=2) + "\n")
    draw(curves, options.depth, ROOT / "docs" / f"first-steps-{options.depth}.svg")


def load_cifar10() -> tuple[np.ndarray, np.ndarray]:
    """The 50,000 training images, uint8 [n, 32, 32, 3], and their classes, int64 [n]."""
    import tensorflow_datasets as tfds

    data: Any = tfds.as_numpy(tfds.load("cifar10", split="train", batch_size=-1))
    return data["image"], data["label"].astype(np.int64)


def train(
    name: str, images: np.ndarray, labels: np.ndarray, steps: int
) -> list[dict[str, float]]:
    """Loss, accuracy and gradient norm of each step."""
    import keras
    import tensorflow as tf

    from contract.config.train import TrainConfig
    from trainer import fit, network
    from trainer.examples import Examples
    from trainer.input import training_batches

    config = TrainConfig(
        recipe="released",
        schedule="constant",
        initialiser="released",
        global_batch_size=64,
        last_batch="keep",
        precision="mixed_bfloat16",
        rematerialise=True,
    )
    keras.utils.set_random_seed(config.seed)
    model = network.build(
        name,
        classes=10,
        seed=config.seed,
        initialiser=config.initialiser,
        rematerialise=True,
        dtype=config.precision,
    )
    mean = images.mean(axis=(0, 1, 2)).astype(np.float32)
    std = images.std(axis=(0, 1, 2)).astype(np.float32)

    def normalise(raw: Any) -> Any:
        pixels = tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, 32, 32, 3])
        return (tf.cast(pixels, tf.float32) - mean) / std

    examples = Examples(
        images=tf.constant([image.tobytes() for image in images]),
        labels=tf.constant(labels),
    )
    batches = training_batches(examples, normalise, config, first_step=0, steps=steps)
    execute = fit._execution(model, fit._optimizer(model, config), config)
    iterator, points = iter(batches), []
    for step in range(1, steps + 1):
        began = time.perf_counter()
        totals = execute(iterator, tf.constant([config.learning_rate])).numpy()
        points.append(
            {
                "step": step,
                "loss": float(totals[0]),
                "accuracy": float(totals[1]),
                "gradient_norm": float(totals[2]),
                "seconds": time.perf_counter() - began,
            }
        )
        print(name, json.dumps(points[-1]), flush=True)
    return points


def draw(curves: dict[str, Any], depth: int, path: Path) -> None:
    """Two panels: loss and gradient norm over steps."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "first steps"
    figure = Figure(figsize=(9.2, 3.2), layout="constrained")
    panels = zip(figure.subplots(1, 2), ("loss", "gradient_norm"), strict=True)
    for axes, key in panels:
        for family, colour in COLOURS.items():
            points = curves[family]
            axes.plot(
                [p["step"] for p in points],
                [p[key] for p in points],
                color=colour,
                label=f"{family}{depth}",
            )
        axes.set(xlabel="step of 64 images", ylabel=key.replace("_", " "))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[1].set_yscale("log")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()

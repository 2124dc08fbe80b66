"""`python -m studies.propagation`: signals at initialisation; `lesions`: trained networks.

    make propagation                  five minutes on two cores; nothing is trained or read
    make lesions                      the networks of the last run in output/

Exit status: 0 done, 1 an equation of the papers does not hold (a fault of this program; that a
claim about sizes does not hold is a result), 2 the command cannot be carried out.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from contract.fields import ConfigError
from pipeline.failures import INTERRUPTED, RUN_FAILED, USAGE_ERROR
from serving import quiet
from studies.propagation import page, plan

_SIGNAL_IMAGES = 64  # of a trained network's; its gradients are kept in float64


def main(arguments: Sequence[str]) -> int:
    """Runs one command; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.propagation",
        description="How signals and gradients travel through the networks.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["untrained", "lesions"],
        default="untrained",
        help="untrained networks (the default), or lesions of the last run's networks",
    )
    parser.add_argument(
        "--output_root",
        "--output-root",
        default="output",
        metavar="DIR",
        help="the pipeline's output folder (default: output); findings go to studies/ in it",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help="lesions: at most so many eval images (default: 1000)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.images < 1:
            raise ConfigError(f"--images={options.images}: must be at least 1")
        return (_lesions if options.command == "lesions" else _untrained)(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def _untrained(options: argparse.Namespace) -> int:
    from rich.console import Console

    out = Console()
    began = time.monotonic()
    with out.status("loading TensorFlow") as status:
        with quiet.loading_tensorflow():
            from studies.propagation import measure, walk

            walk.warm_up()
        result: dict[str, Any] = {
            "schema": 1,
            "images": plan.IMAGES,
            "seed": plan.SEED,
            "machine": _machine(),
        } | measure.untrained(status.update)
    result["seconds"] = time.monotonic() - began
    folder = os.path.join(options.output_root, "studies", "propagation")
    path = page.write(folder, "propagation", result, page.propagation(result))
    out.print(page.screen(result))
    findings = result["findings"]
    held = sum(each["holds"] for each in findings)
    out.print(
        f"{held} of {len(findings)} claims hold; {result['seconds']:.0f} s: {path}",
        soft_wrap=True,
        highlight=False,
    )
    faults = any(each["exact"] and not each["holds"] for each in findings)
    return RUN_FAILED if faults else 0


def _lesions(options: argparse.Namespace) -> int:
    import dataclasses

    from rich.console import Console

    out = Console()
    began = time.monotonic()
    with out.status("loading TensorFlow") as status:
        with quiet.loading_tensorflow():
            import tensorflow as tf

            from studies.propagation import lesions, measure, trained, walk

            walk.warm_up()
        run = trained.last_run(options.output_root, options.images)
        some = tf.cast(run.images[:_SIGNAL_IMAGES], tf.float64)
        channels = run.channels
        models = []
        for each in run.models:
            status.update(each.network)

            def laid_out(weights: Any, dtype: str, name: str = each.network) -> Any:
                return walk.network_of(
                    name, run.classes, weights, dtype=dtype, channels=channels
                )

            initial = walk.initial_weights(
                each.network, run.classes, plan.SEED, channels
            )
            signals = {}
            for when, weights in (("initial", initial), ("trained", each.weights)):
                network = laid_out(weights, "float64")
                walked = walk.walk(network, some, run.labels[:_SIGNAL_IMAGES])
                signals[when] = {
                    "output_gradient": walked.lengths[-1],
                    "units": measure.signals_of(network, walked),
                }
            network = laid_out(each.weights, "float32")
            found = lesions.lesions(
                network,
                run.images,
                run.labels,
                lambda text, name=each.network: status.update(f"{name}: {text}"),
            )
            models.append(
                {"contender": each.contender, "network": each.network}
                | {"units": [part.name for part in network.units]}
                | dataclasses.asdict(found)
                | signals
            )
    result = {
        "schema": 1,
        "run": run.id,
        "dataset": run.dataset,
        "images": len(run.images),
        "signal_images": len(some),
        "machine": _machine(),
        "models": models,
        "seconds": time.monotonic() - began,
    }
    folder = os.path.join(options.output_root, "studies", "lesions")
    path = page.write(folder, "lesions", result, page.lesions(result))
    out.print(page.lesions_screen(result))
    out.print(
        f"{result['images']:,} images of {run.dataset}, {result['seconds']:.0f} s: {path}",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}"


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "tensorflow"
    sys.exit(main(sys.argv[1:]))

"""`python -m monitoring`: has what a server is asked drifted from its model's training?

A request log holds all models of its server, and their versions: one model is compared,
each version with its own training. A version that cannot be compared is named on stderr and
passed over.

Exit status: 0 no drift, 1 drift, 2 no version could be compared, or a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from components.drift.image_statistics import BRIGHTNESS
from monitoring import NothingToCompare, lineage, statistics, traffic
from serving import quiet


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring",
        description="compare logged requests with the training data",
    )
    parser.add_argument(
        "--request_log_dir", required=True, help="the server's --request_log_dir"
    )
    parser.add_argument(
        "--model", help="the model's name; needed if the log has several"
    )
    parser.add_argument(
        "--version", type=int, help="one of its versions instead of each"
    )
    parser.add_argument(
        "--pipeline_output",
        default="output",
        help="the output folder of the runs that published the versions",
    )
    parser.add_argument(
        "--most_divergence", type=_share, default=0.1,
        help="Jensen-Shannon divergence of a number that is still no drift (0 to 1)",
    )  # fmt: skip
    parser.add_argument(
        "--most_class_change", type=_share, default=0.15,
        help="change of a class's share that is still no drift (0 to 1)",
    )  # fmt: skip
    parser.add_argument(
        "--fewest", type=_count, default=200, help="images needed on either side"
    )
    parser.add_argument(
        "--most", type=_count, default=20_000, help="images used of either side"
    )
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (NothingToCompare, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except Exception:  # which would end with 1, and that says drift
        traceback.print_exc()
        return 2


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 on")


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) <= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0 to 1")


def _run(options: argparse.Namespace) -> int:
    """Compares each version; returns the exit status."""
    _check_log(options.request_log_dir)
    with quiet.loading_tensorflow():
        import tensorflow as tf
        import tensorflow_data_validation  # noqa: F401

        tf.config.list_physical_devices()
    origins: dict[int, lineage.Origin] = {}

    def shape_of(model: str, version: int) -> traffic.Shape | None:
        try:
            origin = lineage.origin(options.pipeline_output, model, version)
            shape = origin.dataset.pixels
        except (NothingToCompare, ValueError) as problem:
            sys.stderr.write(f"{problem}\n")
            return None
        origins[version] = origin
        return shape

    model, tables = traffic.live_tables(
        options.request_log_dir, options.most, shape_of, options.model, options.version
    )
    measured: dict[Path, dict[str, np.ndarray]] = {}
    drift, compared = False, False
    for version, live in sorted(tables.items()):
        named = f"{model}, version {version},"
        try:
            _check_enough({"live": live[statistics.CLASS]}, named, options.fewest)
            examples, dataset, answers = origins[version]
            if examples not in measured:
                measured[examples] = lineage.training_table(
                    examples, dataset, options.most
                )
            training = measured[examples] | {statistics.CLASS: answers}
            there = {"training": training[BRIGHTNESS], "eval": answers}
            _check_enough(there, named, options.fewest)
        except NothingToCompare as problem:
            sys.stderr.write(f"{problem}\n")
            continue
        distances = statistics.compare(
            training, live, options.most_divergence, options.most_class_change
        )
        sys.stdout.write(statistics.report(distances, training, live, named))
        compared = True
        drift = drift or any(distance.violated for distance in distances)
    return int(drift) if compared else 2


def _check_log(directory: str) -> None:
    if not Path(directory).is_dir():
        raise NothingToCompare(f"{directory}: there is no such request log.")


def _check_enough(columns: Mapping[str, np.ndarray], named: str, fewest: int) -> None:
    for what, column in columns.items():
        if len(column) < fewest:
            raise NothingToCompare(
                f"There are {len(column)} {what} images of {named} but a comparison "
                f"needs {fewest}: wait for more, or pass --fewest."
            )


if __name__ == "__main__":
    sys.exit(main())

"""`python pipeline.py predict --images DIR`: the model in service over many images.

What is wrong with a folder is said at once; ML Metadata, and then TensorFlow and Beam, load
after that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from components.batch_predict import plan as plans
from contract.config.run import RunConfig
from contract.fields import ConfigError, override, parse_assignments
from pipeline.history import stores
from pipeline.history.published import Places, Published, find, places
from pipeline.resolve import absolute
from pipeline.vertex import jobs, place, rules
from serving import quiet


def add_parser(
    commands: Any, add_overrides: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Adds the command to the command line."""
    meaning = "answer all images of a folder with the model in service"
    parser = commands.add_parser("predict", help=meaning, description=meaning)
    parser.add_argument(
        "--images",
        required=True,
        metavar="DIR",
        help="pictures at any depth, or TFRecords of tf.Examples as ingested; "
        "local or gs://",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="gets a JSON object per image (default: predictions/<DIR>-v<version>.jsonl in "
        "output_root)",
    )
    parser.add_argument(
        "--model_version",
        "--model-version",
        type=int,
        metavar="N",
        help="published version (default: the one in service)",
    )
    add_overrides(parser)
    parser.set_defaults(command=_predict)


def _predict(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    config = override(RunConfig(), parse_assignments(options.runtime_parameter))
    where = places(options.runtime_parameter, os.getcwd())
    if not options.images:  # of a variable that is not set; it would mean this folder
        raise ConfigError(
            "--images=: must be a folder with pictures, or with TFRecords"
        )
    folder = absolute(options.images, os.getcwd())
    _check_beam(config, where, folder, options.output)
    found = plans.find_files(folder)
    chosen = _chosen(options.model_version, where)
    if options.output:
        output = absolute(options.output, os.getcwd())
    else:
        predictions = f"{where.output_root}/{plans.FOLDER}"
        output = plans.output_file(predictions, folder, chosen.version)
    if os.path.isdir(output):
        raise ConfigError(f"--output={output}: is a folder; give a file's name")
    model = plans.Model(chosen.path, chosen.version)
    plan = plans.Plan(model, found, output)
    _carry_out(plan, config)
    return 0


def _carry_out(plan: plans.Plan, config: RunConfig) -> None:
    there = plans.done(plan)
    if there.parts:
        _say(f"{len(there.parts)} parts are there from an earlier attempt")
    began = time.monotonic()
    if len(there.whole) < len(plan.items):
        with quiet.loading_tensorflow():
            import apache_beam
            from apache_beam.options.pipeline_options import PipelineOptions

            from components.batch_predict.answering import predict
        _say(f"loaded TensorFlow and Beam in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        with _beam_arguments(plan, config) as arguments:
            options = PipelineOptions(arguments)
            predict(plan, lambda: apache_beam.Pipeline(options=options))
    plans.join(plan)
    seconds = time.monotonic() - began
    kind = "files of records" if plan.found.records else "images"
    _say(
        f"{len(plan.found.names):,} {kind}, version {plan.model.version}, "
        f"{seconds:.1f} s: {plan.output}"
    )


@contextlib.contextmanager
def _beam_arguments(plan: plans.Plan, config: RunConfig) -> Iterator[list[str]]:
    """Options of Beam; a job on Dataflow ends with the command, as a step's does."""
    arguments = jobs.beam_arguments(config)
    if config.vertex.beam != "dataflow":
        yield arguments
        return
    from pipeline.vertex import remote
    from pipeline.vertex.steps import on_dataflow

    prediction = plan.parts_folder.rpartition(".")[2]
    where = place.find(config.vertex, os.environ)
    with on_dataflow.taken_along(where, remote.of_node(prediction, "predict")) as own:
        yield [*arguments, *own]


def _chosen(version: int | None, where: Places) -> Published:
    """The version that is asked for, or that is in service."""
    history = stores.read(where)
    if version is not None:
        chosen = find(history, version, where)
    else:
        serving = [
            each
            for each in history
            if each.in_service and each.folder == where.destination
        ]
        if not serving:
            raise ConfigError(
                f"output_root={where.output_root}: has no model in service; run "
                "`python pipeline.py run` first, or give another output_root"
            )
        chosen = serving[0]
    if not chosen.exists:
        raise ConfigError(
            f"--model_version={chosen.version}: {chosen.path} is gone; choose another one"
        )
    return chosen


def _check_beam(
    config: RunConfig, where: Places, folder: str, output: str | None
) -> None:
    """Of other machines: what they need to know, and that they can reach everything."""
    if config.vertex.beam == "in_process":
        return
    if config.vertex.beam == "dataflow" and config.vertex.project is None:
        raise ConfigError(
            "vertex.project: is not given, and vertex.beam=dataflow needs it"
        )
    rules.check_beam(config)
    for name, path in (
        ("output_root", where.output_root),
        ("--images", folder),
        ("--output", output or where.output_root),
    ):
        if "://" not in path:
            raise ConfigError(
                f"{name}={path}: is on this machine, and the workers of "
                f"vertex.beam={config.vertex.beam} are on others; put it into a bucket"
            )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

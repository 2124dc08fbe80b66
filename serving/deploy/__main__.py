"""`python -m serving.deploy [--output_root output]`: see docs/deploy.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from serving.deploy.choices import GPU_IMAGE, IMAGE, Choices
from serving.deploy.generate import generate
from serving.deploy.outputs import DeployError, read_outputs

PROGRAM = "python -m serving.deploy"


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the folder; returns the exit status."""
    options = vars(_parser().parse_args(arguments))
    root, base, target, wanted = (
        options.pop(key) for key in ("output_root", "base_directory", "to", "model")
    )
    base = base or os.path.join(root, "serving")
    target = target or os.path.join(root, "deploy")
    try:
        choices = Choices(**options)
        models = read_outputs(base)
        unknown = set(wanted) - {model.name for model in models}
        if unknown:
            raise DeployError(
                f"--model={', '.join(sorted(unknown))}: not published; there is "
                f"{', '.join(model.name for model in models)}"
            )
        chosen = [model for model in models if not wanted or model.name in wanted]
        files = generate(chosen, choices, target)
    except DeployError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{PROGRAM}: {error.filename}: {error.strerror}\n")
        return 2
    for model in chosen:
        sys.stdout.write(
            f"{model.name}: versions {', '.join(map(str, model.versions))}\n"
        )
    sys.stdout.write(
        f"{len(files)} files in {target}; how to use them: docs/deploy.md\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Writes files to serve a run's models with TensorFlow Serving.",
        allow_abbrev=False,
    )
    default = Choices()
    add = parser.add_argument
    add("--output_root", default="output", help="of the run (default %(default)s)")
    add(
        "--base_directory",
        metavar="FOLDER",
        help="of the models, the run's serving.base_directory "
        "(default <output_root>/serving)",
    )
    add("--to", metavar="FOLDER", help="where to write (default <output_root>/deploy)")
    add("--model", action="append", default=[], help="only this one (repeatable)")
    add(
        "--versions",
        choices=("latest", "pinned"),
        default=default.versions,
        help="follow each push, or stay with the version in service and the one before",
    )
    add("--image", default="", help=f"default {IMAGE}, with --gpus {GPU_IMAGE}")
    add(
        "--storage",
        default=default.storage,
        help="URI of the models' folders: a volume claim, gs:// or s3:// "
        "(default %(default)s)",
    )
    add("--cpus", type=int, default=default.cpus, help="of a replica")
    add(
        "--gpus", type=int, help="of a replica (default: 1 if --image is made for GPUs)"
    )
    add("--memory", help="of a replica (default: by number and size of the models)")
    add("--min_replicas", type=int, default=default.min_replicas)
    add("--max_replicas", type=int, default=default.max_replicas)
    return parser


if __name__ == "__main__":
    sys.exit(main())

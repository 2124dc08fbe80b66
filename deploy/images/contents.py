"""What of the locked packages is in an image, and what is taken out of them again.

Runs while the images are built (deploy/images/Dockerfile), with the standard library
alone. In: requirements.txt, an environment into which pip installs. Out: the part of the
lock that an image needs, the environment without what no container reads, and the
bytecode of what they load.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import os
import py_compile
import re
import shutil
import sys
from collections.abc import Iterator, Sequence

# Locked packages that no container imports; what they alone need goes with them.
LEFT_OUT = {
    "libclang": "TensorFlow names it, but only its build uses it (64 MB)",
    "tensorboard-data-server": "the web page's server; TensorBoard's logs need none",
    # TensorFlow Model Analysis and TFX load these in notebooks only (50 MB).
    "ipython": "notebooks",
    "ipywidgets": "notebooks",
    "jupyterlab-widgets": "notebooks",
    "widgetsnbextension": "notebooks",
    "jedi": "IPython's completion",
    "parso": "jedi's parser",
    "prompt-toolkit": "IPython's prompt",
}

# These have no wheel, and are built by the locked setuptools and wheel.
BUILT = ("google-apitools", "kfp-server-api", "promise", "pyfarmhash", "rouge-score")

# Below site-packages: 471 MB of C++ headers above all.
PRUNED = (
    "tensorflow/include",
    "pyarrow/include",
    "pyarrow/src",
    "numpy/*/include",
    "*/tests",
    # Not everywhere: scipy.stats._page_trend_test is no test.
    "apache_beam/*_test.py",
    "tfx/*_test.py",
    "*/testdata",
    "tfx/examples",
    "tensorflow_model_analysis/static",
    "tensorboard/webfiles.zip",
)

# They match a path or a folder above it.
_PRUNED = re.compile(
    "|".join(fnmatch.translate(p).replace(r"\Z", r"(?:/|\Z)") for p in PRUNED)
)

# Most that the pipeline image's environment may take, bytecode included; the base image
# adds 130 MB. TensorFlow alone is 1.2 GB of it.
BUDGET_MB = 2450

# What the containers run, and the modules that those name as text only. Importing them
# while the image is built shows that nothing needed has been left out.
LOADED = (
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
    "tfx.scripts.run_executor",
    "pipeline.vertex.steps.train.executor",
    "pipeline.vertex.steps.on_dataflow",
    "apache_beam.runners.worker.sdk_worker_main",
    "apache_beam.runners.dataflow.dataflow_runner",
    "apache_beam.runners.portability.portable_runner",
    "google.cloud.aiplatform",
    "tensorflow_datasets",
    "sklearn.datasets",
    "scipy.stats",
    "matplotlib.pyplot",
    "jinja2",
    "pipeline.dag",
    "studies.report.executor",
    "trainer.preprocessing",
    "trainer.run",
    "serving.server.__main__",
    "serving.server.application",
)


def selected(lock: str, *, built: bool) -> str:
    """The requirements of one of the two installations, with their hashes.

    Args:
        lock: Text of requirements.txt.
        built: Those that are built here, else those that come as wheels.
    """
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(
        entry
        for entry in entries[1:]
        if name_of(entry) not in LEFT_OUT and (name_of(entry) in BUILT) == built
    )


def name_of(entry: str) -> str:
    """The package of an entry such as `numpy==2.4.6 --hash=...`."""
    return entry.partition("==")[0].lower().replace("_", "-").replace(".", "-")


def pruned(path: str) -> bool:
    """Whether a file or folder, relative to site-packages, is taken out."""
    return _PRUNED.match(path) is not None


def prune(site_packages: str) -> None:
    """Takes out of an environment what no container reads."""
    for folder, names, files in os.walk(site_packages):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            if pruned(os.path.relpath(path, site_packages)):
                shutil.rmtree(path) if name in names else os.unlink(path)
        names[:] = [name for name in names if os.path.isdir(os.path.join(folder, name))]


def compile_loaded() -> int:
    """Writes the bytecode of everything that `LOADED` loads; returns how many files.

    It is marked as unchecked, so that the same sources make the same bytes, and no
    container looks whether a source has changed.
    """
    for module in LOADED:
        importlib.import_module(module)
    sources = sorted(set(_sources()))
    for source in sources:
        py_compile.compile(
            source,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    return len(sources)


def megabytes(folder: str) -> float:
    """What the files below a folder hold."""
    return sum(
        os.lstat(os.path.join(path, name)).st_size / 1e6
        for path, _, names in os.walk(folder)
        for name in names
    )


def _sources() -> Iterator[str]:
    """Files of all loaded modules outside the interpreter's own library."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and not path.startswith(sys.base_prefix):
            yield path


def main(arguments: Sequence[str]) -> int:
    """One command per step of the Dockerfile; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    select = commands.add_parser("requirements", help="print a part of the lock")
    select.add_argument("lock")
    select.add_argument("--built", action="store_true", help="those without a wheel")
    commands.add_parser("prune", help="take out what no container reads").add_argument(
        "site_packages"
    )
    commands.add_parser("compile", help="load everything, and write its bytecode")
    measure = commands.add_parser("measure", help="fail if a folder is over the budget")
    measure.add_argument("folder")
    options = parser.parse_args(arguments)
    if options.command == "requirements":
        with open(options.lock, encoding="utf-8") as file:
            lock = file.read()
        sys.stdout.write(selected(lock, built=options.built))
    elif options.command == "prune":
        prune(options.site_packages)
    elif options.command == "compile":
        sys.stdout.write(f"{compile_loaded()} modules compiled\n")
    else:
        size = megabytes(options.folder)
        sys.stdout.write(f"{options.folder}: {size:.0f} of {BUDGET_MB} MB\n")
        return int(size > BUDGET_MB)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Teaches the stock `tfx` command line this project's form; loaded by no one else.

A line in `.venv`'s site-packages executes this file when the script `tfx` starts,
before anything of TFX is imported. In: the script's arguments. Out:

- `tfx run create` for the engines auto, local and vertex is carried out here, within
  the second: it takes `--pipeline_path` as well as `--pipeline_name`, checks what was
  typed, and becomes `python PIPELINE_PATH run ...`. Upstream's knows the name alone.
- `tfx pipeline create|update|compile --engine vertex` is refused for this project's
  form: upstream knows no overrides there, and would run the pipeline on this machine.
- Everything else, and the engines kubeflow, airflow and beam, stays upstream's. Of
  that, one function is replaced when it is imported, `handler_factory.create_handler`:
  no engine means local (upstream would guess kubeflow, because the package kfp is
  installed), a pipeline's path is stored absolute, and no `pip` on PATH is needed.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Sequence

    import click

HERE = ("auto", "local", "vertex")  # engines that this file carries out
UPSTREAM = ("kubeflow", "airflow", "beam")
HANDLER_FACTORY = "tfx.tools.cli.handler.handler_factory"


class TfxImports:
    """Finder that sees the imports of `tfx` before all others (see `sys.meta_path`)."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Acts on two names; None leaves the import to the next finder."""
        if name == "tfx":
            before_tfx(sys.argv)
        elif name == HANDLER_FACTORY:
            spec = importlib.machinery.PathFinder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _after_execution(spec.loader, patch_handler_factory)
            return spec
        return None


def install() -> None:
    """Puts the finder first; once, although Python reads the line twice."""
    if not any(
        type(finder).__name__ == TfxImports.__name__ for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, TfxImports())


def before_tfx(argv: Sequence[str]) -> None:
    """Carries out `tfx run create`, or returns to let upstream do its part."""
    if list(argv[1:3]) == ["run", "create"]:
        run_create(argv[3:])
    elif argv[1:2] == ["pipeline"] and (path := _value("pipeline_path", argv[2:])):
        problem = path_problem(path)
        if not problem and _value("engine", argv[2:]) == "vertex":
            problem = vertex_problem(path)
        if problem:
            _refuse(f"tfx pipeline {argv[2]}", problem)


# ---- tfx run create ------------------------------------------------------------------


def run_create(arguments: Sequence[str]) -> None:
    """Parses the arguments and replaces this process by the run.

    Returns:
        Only when the engine is upstream's to handle.
    """
    import click

    command = _run_create_command()
    try:
        values = command.main(list(arguments), "tfx run create", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    if not isinstance(values, dict):  # --help was asked for, and shown
        sys.exit(0)
    replacement = plan_run(values)
    if replacement is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(replacement[0], replacement)


def _run_create_command() -> click.Command:
    """Upstream's options with its spellings, and `--pipeline_path`."""
    import click

    def option(*names: str, **settings: Any) -> click.Option:
        dashes = [name.replace("_", "-") for name in names if "_" in name]
        return click.Option([*names, *dashes], type=str, **settings)

    cloud = "vertex only: Google Cloud "
    kubeflow = "kubeflow only: "
    return click.Command(
        "create",
        help="Run a pipeline, given by its file or by the name under which "
        "`tfx pipeline create` stored it.",
        callback=lambda **values: values,
        params=[
            option("--pipeline_path", help="Python file of the pipeline."),
            option("--pipeline_name", help="Name of a stored pipeline."),
            option(
                "--engine",
                default="auto",
                show_default=True,
                help="local (auto means that here), vertex, kubeflow, airflow, beam.",
            ),
            option(
                "--runtime_parameter",
                multiple=True,
                metavar="NAME=VALUE",
                help="Override a configuration field: train.epochs=3 (repeatable).",
            ),
            option("--project", default="", help=cloud + "project."),
            option("--region", default="", help=cloud + "region."),
            option(
                "--endpoint", default="", help=kubeflow + "API service to connect to."
            ),
            option("--iap_client_id", default="", help=kubeflow + "client ID for IAP."),
            option(
                "-n", "--namespace", default="kubeflow", help=kubeflow + "namespace."
            ),
        ],
    )


def plan_run(values: dict[str, Any]) -> list[str] | None:
    """The command line that carries out `tfx run create`; None leaves it to upstream.

    Exits with 2 and one sentence when the values cannot be carried out.
    """
    path, name = values["pipeline_path"], values["pipeline_name"]
    engine, parameters = values["engine"], values["runtime_parameter"]

    def refuse(sentence: str) -> NoReturn:
        _refuse("tfx run create", sentence)

    if engine in UPSTREAM:
        if path is not None:
            refuse(
                f"--pipeline_path works with the engines local and vertex, not {engine}"
            )
        return None
    if engine not in HERE:
        refuse(f"--engine {engine}: must be one of {', '.join(HERE + UPSTREAM)}")
    if path is not None and name is not None:
        refuse("give either --pipeline_path or --pipeline_name, not both")
    for parameter in parameters:
        if not parameter.partition("=")[0].strip() or "=" not in parameter:
            refuse(
                f"--runtime_parameter {parameter!r}: must be NAME=VALUE, "
                "for example train.epochs=3"
            )
    if name is not None:
        if engine == "vertex" and os.path.isdir(os.path.join(_home("vertex"), name)):
            return None  # its compiled form is stored, upstream submits that
        path, problem = stored_path(name)
    elif path is None:
        refuse(
            "give --pipeline_path FILE, or --pipeline_name NAME of a pipeline "
            "stored by `tfx pipeline create`"
        )
    else:
        problem = path_problem(path)
    if problem:
        refuse(problem)

    path = os.path.abspath(os.path.expanduser(path))
    if not is_our_pipeline(path):
        if engine == "vertex" or parameters:
            what = "--engine vertex" if engine == "vertex" else "--runtime_parameter"
            refuse(
                f"{what} needs a pipeline.py beside pipeline/dag.py (this project's "
                f"form); {path} is another kind of file"
            )
        return [sys.executable, path]  # what upstream does for a stored pipeline
    command = [sys.executable, path, "run"]
    command += ["--engine", "vertex" if engine == "vertex" else "local"]
    for option in ("project", "region"):
        if values[option] and engine == "vertex":
            command += [f"--{option}", values[option]]
    for parameter in parameters:
        command += ["--runtime_parameter", parameter]
    return command


def is_our_pipeline(path: str) -> bool:
    """Whether a file understands the command `run`: pipeline.py of this layout."""
    folder = os.path.dirname(os.path.realpath(path))
    return os.path.basename(path) == "pipeline.py" and os.path.isfile(
        os.path.join(folder, "pipeline", "dag.py")
    )


def path_problem(path: str) -> str | None:
    """What is wrong with a pipeline's path, in one sentence; None when nothing is."""
    local = os.path.expanduser(path)
    if os.path.isdir(local):
        inside = os.path.join(path, "pipeline.py")
        hint = f"; did you mean {inside}?" if os.path.isfile(inside) else ", not a file"
        return f"pipeline path {path}: is a folder{hint}"
    if not os.path.exists(local):
        return f"pipeline path {path}: there is no such file (in {os.getcwd()})"
    return None


def stored_path(name: str) -> tuple[str, str | None]:
    """Where a pipeline stored by `tfx pipeline create` lies.

    Returns:
        Its path, and what is wrong with it (None when nothing is).
    """
    home = _home("local")
    stored = os.path.join(home, name, "pipeline_args.json")
    try:
        with open(stored, encoding="utf-8") as file:
            path = json.load(file)["pipeline_dsl_path"]
    except FileNotFoundError:
        folders = sorted(os.listdir(home)) if os.path.isdir(home) else []
        known = ", ".join(folders) or "none; store one with `tfx pipeline create`"
        return "", f"pipeline {name} is not stored in {home}; stored there: {known}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return (
            "",
            f"{stored} cannot be read ({error}); delete it and store {name} again",
        )
    again = "store it again with `tfx pipeline update --pipeline_path FILE`"
    if not os.path.isabs(path):
        return (
            path,
            f"pipeline {name} was stored with the relative path {path}; {again}",
        )
    if not os.path.isfile(path):
        return path, f"pipeline {name} was stored for {path}, which is gone; {again}"
    return path, None


def _home(engine: str) -> str:
    """Folder where upstream stores an engine's pipelines."""
    given = os.environ.get(f"{engine.upper()}_HOME")
    return given or os.path.join(os.path.expanduser("~"), "tfx", engine)


def _refuse(command: str, sentence: str) -> NoReturn:
    sys.stderr.write(f"{command}: {sentence}\n")
    sys.exit(2)


# ---- the rest of upstream's command line ---------------------------------------------


def patch_handler_factory(module: types.ModuleType) -> None:
    """Replaces `create_handler`, by which every upstream command finds its engine."""
    original = getattr(module, "create_handler", None)
    if not callable(original):
        sys.stderr.write(
            f"{__file__}: this TFX has no {HANDLER_FACTORY}.create_handler; "
            "`tfx` behaves as upstream's (give --engine local)\n"
        )
        return

    def create_handler(flags: dict[str, Any]) -> Any:
        if "pipeline_dsl_path" in flags:
            flags["pipeline_dsl_path"] = os.path.abspath(
                os.path.expanduser(flags["pipeline_dsl_path"])
            )
        if flags["engine"] == "auto":
            flags["engine"] = "local"
        if flags["engine"] == "local":
            from tfx.tools.cli.handler import local_handler

            return local_handler.LocalHandler(flags)
        # Upstream starts `pip freeze`: let it find the pip of this environment.
        folder = os.path.dirname(sys.executable)
        os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", os.defpath)
        return original(flags)

    module.create_handler = create_handler


def _after_execution(loader: Any, action: Callable[[types.ModuleType], None]) -> None:
    """Lets a loader call `action` with the module that it has executed."""
    execute = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        execute(module)
        action(module)

    loader.exec_module = exec_module


def vertex_problem(path: str) -> str | None:
    """Why upstream cannot compile a pipeline for Vertex AI; None when it can."""
    path = os.path.abspath(os.path.expanduser(path))
    if not is_our_pipeline(path):
        return None
    return (
        "--engine vertex: this pipeline is compiled with what it is run with; `python "
        f"{path} compile --engine vertex` does that, and `tfx run create "
        f"--pipeline_path {path} --engine vertex` runs it without a stored form"
    )


def _value(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option among arguments that upstream will parse."""
    spellings = (f"--{option}", f"--{option.replace('_', '-')}")
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in spellings:
            return value if equals else next(iter(arguments[place + 1 :]), None)
    return None


if __name__ == "cifar_resnet_tfx_cli":
    install()

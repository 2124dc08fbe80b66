"""`python pipeline.py run`, `report` and `config`: commands of local runs."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from typing import Any

from components.batch_predict import plan as predictions
from contract import paths, signals
from contract.config.run import RunConfig
from contract.fields import (
    ConfigError,
    parse_assignments,
    to_dict,
)
from contract.records import REPORT_FOLDER
from pipeline import loading
from pipeline.failures import RUN_FAILED, root_message
from pipeline.history import commands as history
from pipeline.history import published, stores
from pipeline.local import database, relocation, rules, session, temporary
from pipeline.resolve import Resolved, resolve


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Runs the whole pipeline in the output folder, under its lock."""
    began = time.time()
    resolved = resolve(options.runtime_parameter, environment, os.getcwd(), rules)
    config = resolved.config
    fingerprint = rules.fingerprint(config)
    _check_serving(config)
    return session.carry_out(
        config,
        _heading(resolved),
        lambda out: _run_pipeline(out, resolved, fingerprint, began),
    )


def dry_run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Prints what a run would do and why; changes nothing."""
    from rich.text import Text

    from pipeline import console
    from pipeline.local import dry_run

    resolved = resolve(options.runtime_parameter, environment, os.getcwd(), rules)
    fingerprint = rules.fingerprint(resolved.config)
    _check_serving(resolved.config)
    with (
        signals.handled(signals.stop),
        temporary.own_folder(),
        console.captured_output(os.devnull) as screen,
    ):
        out = console.console_on(screen)
        try:
            dry_run.show(out, resolved, fingerprint, _heading(resolved))
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - as a run, in one line
            message = f"error: {root_message(error)}"
            out.print(Text(message, style="red"), soft_wrap=True)
            return RUN_FAILED
    return 0


def for_tfx(environment: Mapping[str, str]) -> None:
    """Hands the pipeline to TFX's own command line, which has patched the runner."""
    from components.example_gen import sources
    from pipeline.dag import create_pipeline
    from pipeline.local.engine import Local
    from pipeline.local.runner import LocalRunner

    resolved = resolve([], environment, os.getcwd(), rules)
    config = resolved.config
    fingerprint = sources.fingerprint(config.data)
    LocalRunner(_Silent()).run(create_pipeline(config, fingerprint, Local(config)))


class _Silent:
    def start(self, name: str) -> None: ...

    def end(self, state: str, note: str = "") -> None: ...


def _check_serving(config: RunConfig) -> None:
    """A folder of models elsewhere is written to last, and must be known to be first."""
    if (base := config.serving.base_directory) is None:
        return
    folder = os.path.join(base, config.serving.model_name)
    if (problem := paths.writing_problem(os.path.abspath(folder))) is not None:
        raise ConfigError(f"serving.base_directory={base}: {problem}")


def _run_pipeline(out: Any, resolved: Resolved, fingerprint: str, began: float) -> None:
    from pipeline import console
    from pipeline.local import verdict

    config = resolved.config
    with console.RunDisplay(out, width=len("loading TensorFlow and TFX")) as display:
        display.start("loading TensorFlow and TFX")
        with loading.tfx():
            from components.example_gen import sources
            from pipeline.dag import create_pipeline
            from pipeline.local.engine import Local
            from pipeline.local.runner import LocalRunner
            from trainer.strategy import prepare_devices

        prepare_devices(config.train)
        # Of data in an object store, more than the address can be asked for now.
        fingerprint = sources.fingerprint(config.data, fingerprint)
        pipeline = create_pipeline(config, fingerprint, Local(config))
        display.end("done")
        runner = LocalRunner(display)
        runner.run(pipeline)
        display.start("Report")
        page, report = _write_report(
            config, str(runner.run_id), resolved.data_reason, began
        )
        display.end("done")
    verdict.show(out, report, page, _predictions(config, report))


def _predictions(config: RunConfig, report: dict[str, Any]) -> str | None:
    """The file that BatchPredict has written."""
    images, pushed = config.batch_predict.images, report["pushed"]
    if images is None or not pushed:
        return None
    folder = f"{config.output_root}/{predictions.FOLDER}"
    return predictions.output_file(folder, images, pushed["version"])


def _write_report(
    config: RunConfig, run_id: str, data_reason: str, began: float
) -> tuple[str, dict[str, Any]]:
    from pipeline.report import collect, render
    from pipeline.report.facts import run_facts

    metadata = database.path(config.output_root)
    facts = run_facts(to_dict(config), data_reason, began, time.time() - began)
    collect.record_run(metadata, run_id, facts)
    served = stores.in_service(published.places_of(config, os.getcwd()))
    report = collect.collect(metadata, run_id, in_service=served)
    folder = os.path.join(config.output_root, REPORT_FOLDER)
    return render.write(report, folder), report


def _heading(resolved: Resolved) -> dict[str, str]:
    config = resolved.config
    classes = ", coarse classes" if config.data.label == "coarse" else ""
    size = config.data.image_size  # None: as published
    form = f" at {size} x {size} pixels" if size else ""
    form += ", grey" if config.data.channels == 1 else ""
    return {
        "data": f"{config.data.name}{form}{classes} ({resolved.data_reason})",
        "networks": ", ".join(
            f"{each.name} {each.network}" for each in config.all_contenders
        )
        + f"; preset {config.preset}",
        "output": config.output_root,
    }


def report(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Writes the last run's report again."""
    given = parse_assignments(options.runtime_parameter)
    root = given.get("output_root", "").rstrip("/")
    if "://" in root:
        raise ConfigError(
            f"output_root={root}: a run on Vertex AI writes its report itself; fetch it "
            f"with `gcloud storage cp {root}/report/report.html .`"
        )
    # Where the data were, or whether they can be downloaded now, is nobody's question.
    root = published.places(options.runtime_parameter, os.getcwd()).output_root
    database.check(root)
    relocation.settle(root)
    page = None
    # Else TensorFlow would be loaded for nothing.
    if os.path.isfile(database.path(root)):
        page = history.write_report_again(root)
    if page is None:
        raise ConfigError(
            f"output_root={root}: no finished run is recorded there; run the pipeline first"
        )
    print(page)  # noqa: T201
    return 0

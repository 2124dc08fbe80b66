"""What a run on Vertex AI would do, where, for how long and at what price, for people.

Prints the plan of `python pipeline.py compile` and `submit`; nothing is started, nobody
is asked.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.config.run import RunConfig
from pipeline.vertex import hardware, images, jobs
from pipeline.vertex.estimate import cost
from pipeline.vertex.estimate.prices import PRICES


def show(console: Console, config: RunConfig, estimate: cost.Estimate) -> None:
    """Prints the plan.

    Args:
        console: Where.
        config: Complete and checked.
        estimate: Of the same configuration.
    """
    vertex = config.vertex
    where = hardware.of(vertex)
    _lines(
        console,
        {
            "run": f"{config.pipeline_name}, preset {config.preset}, data {config.data.name}",
            "project": f"{vertex.project}, region {vertex.region}",
            "output": config.output_root,
            "account": vertex.service_account
            or "the project's Compute Engine service account",
            "training": f"vertex.hardware={vertex.hardware}: {where.machine}"
            + (f", {where.accelerators}" if where.accelerators else "")
            + ("" if vertex.scheduling == "on_demand" else f", {vertex.scheduling}"),
        },
    )
    console.print()
    console.print(_trainings(config, estimate))
    console.print()
    console.print(_machines(estimate))
    console.print()
    lines = {"images": "\n".join(_images(config))}
    lines["Beam"] = _BEAM[vertex.beam].format(vertex)
    lines["push"] = _push(config)
    lines["takes"] = f"about {_hours(estimate.hours)}, waiting for machines not counted"
    lines["costs"] = _costs(config, estimate)
    if config.batch_predict.images is not None:
        lines["predicts"] = (
            f"{config.batch_predict.images}; how many images that are is not known, and "
            "assumed"
        )
    _lines(console, lines)


_BEAM = {
    "in_process": "in each step's own machine",
    "dataflow": "Dataflow, at most {0.beam_max_workers} x {0.beam_machine_type}",
    "flink": "Flink at {0.beam_endpoint}; what that cluster costs is not in the estimate",
    "spark": "Spark at {0.beam_endpoint}; what that cluster costs is not in the estimate",
}


def _trainings(config: RunConfig, estimate: cost.Estimate) -> Table:
    table = _table("training", ["network"], ["steps", "batch", "images/s", "time"])
    for training in estimate.trainings:
        table.add_row(
            training.role,
            training.network,
            f"{training.steps:,}",
            str(config.train.global_batch_size),
            f"{_two_digits(training.images_per_second):,}",
            _hours(training.hours),
        )
    return table


def _machines(estimate: cost.Estimate) -> Table:
    table = _table("step", ["machine", "accelerators"], ["disk", "time", "USD"])
    for line in estimate.lines:
        is_job = line.what == cost.JOB
        table.add_row(
            f"  {line.what}" if is_job else line.what,
            line.machine or "–",
            line.accelerators or "–",
            f"{line.disk_gb} GB" if line.disk_gb else "–",
            _hours(line.hours) if line.hours else "–",
            _usd(line.usd),
            style="bold" if is_job else "",
        )
    table.add_section()
    table.add_row("together", "", "", "", "", _usd(estimate.total_usd), style="bold")
    return table


def _table(first: str, words: list[str], numbers: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for heading in words:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _images(config: RunConfig) -> list[str]:
    """Of the steps, of the training jobs, of Beam's workers, where they differ."""
    pool, *_ = jobs.training_job(config, "baseline")["job_spec"]["worker_pool_specs"]
    found = [
        images.image(config.vertex, "pipeline"),
        pool["container_spec"]["image_uri"],
    ]
    if config.vertex.beam != "in_process":
        found.append(images.image(config.vertex, "beam-worker"))
    return list(dict.fromkeys(found))


def _push(config: RunConfig) -> str:
    folder = f"{config.serving_root}/{config.serving.model_name}"
    serving = config.serving
    if serving.push == "directory":
        return folder
    registry = f"{folder}, Model Registry with the alias {serving.registry_alias}"
    if serving.push == "registry":
        return registry
    endpoint = serving.endpoint or "an endpoint made on the first push"
    return f"{registry}, {serving.canary_percent} % of the traffic of {endpoint}"


def _costs(config: RunConfig, estimate: cost.Estimate) -> str:
    text = (
        f"about {_usd(estimate.total_usd)} USD, by the list prices of "
        f"{estimate.prices_date} in pipeline/vertex/estimate/{PRICES.name}"
    )
    if config.vertex.budget_usd is not None:
        text += f"; vertex.budget_usd is {config.vertex.budget_usd:g}"
    if estimate.unchecked:
        rows = ", ".join(estimate.unchecked)
        text += f"\nfrom memory, held against no public figure: {rows}"
    if estimate.monthly_usd:
        text += (
            f"\nand {_usd(estimate.monthly_usd)} USD a month for each version that the "
            "endpoint serves"
        )
    return text


def _lines(console: Console, lines: dict[str, str]) -> None:
    for name, value in lines.items():
        for index, part in enumerate(value.splitlines()):
            # Not wrapped: addresses can be copied.
            heading = (f"{name if index == 0 else '':<9} ", "bold")
            console.print(Text.assemble(heading, part), soft_wrap=True)


def _hours(hours: float) -> str:
    """A duration that is an estimate: 4 min, 2.5 h, 3.1 days."""
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _usd(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"


def _two_digits(value: float) -> int:
    """Rounded to what an estimate can promise."""
    rounded = float(f"{value:.2g}")
    return max(1, round(rounded))

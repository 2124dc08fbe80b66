"""What a person is shown before a run: everything that runs, in lines that fit."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from contract.config.run import RunConfig
from pipeline.nodes import KINDS
from pipeline.resolve import resolve
from pipeline.vertex import hardware, machines
from pipeline.vertex import rules as vertex_rules
from pipeline.vertex.estimate import cost, plan
from pipeline.vertex.estimate.prices import PRICES

PROJECT = Path(__file__).parents[4]
BASE = ["vertex.project=my-project", "output_root=gs://my-bucket/cifar"]


def _shown(typed: str = "", width: int | None = None) -> tuple[str, RunConfig]:
    config = resolve([*BASE, *typed.split()], {}, "/", vertex_rules).config
    # As the command line makes it: a file, or a pipe.
    screen = Console(file=io.StringIO(), highlight=False, width=width)
    plan.show(screen, config, cost.estimate(config))
    return screen.file.getvalue(), config


def _line(text: str, start: str) -> str:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line


def test_it_says_what_would_run_where_for_how_long_and_at_what_price():
    text, config = _shown(
        "preset=resnet164 vertex.hardware=gpu8 vertex.scheduling=spot vertex.disk_gb=200 "
        "vertex.beam=dataflow vertex.beam_max_workers=7 vertex.budget_usd=99 "
        "vertex.region=europe-west4 serving.push=endpoint serving.canary_percent=15 "
        "batch_predict.images=gs://my-bucket/photos"
    )
    found = cost.estimate(config)
    assert "europe-west4" in _line(text, "project")
    assert "gs://my-bucket/cifar" in _line(text, "output")
    assert "g2-standard-96, 8 NVIDIA_L4, spot" in _line(text, "training  vertex")
    assert "64,000" in _line(text, "candidate")
    for step in (
        name for kind in KINDS.values() for name in kind.ids(("baseline", "candidate"))
    ):
        assert cost.step_machine(step) in _line(text, step)
    jobs = [line for line in text.splitlines() if cost.JOB in line]
    assert len(jobs) == 2
    for line in jobs:
        assert "g2-standard-96" in line
        assert "8 NVIDIA_L4" in line
        assert "200 GB" in line
    assert "7 x n2-standard-4" in _line(text, "Dataflow ")
    repository = "europe-west4-docker.pkg.dev/my-project/cifar-resnet"
    for image in ("pipeline", "trainer-gpu", "beam-worker"):
        assert f"{repository}/{image}:{config.vertex.image_tag}" in text
    assert "Model Registry" in _line(text, "push")
    assert "15 % of the traffic" in _line(text, "push")
    assert f"{found.total_usd:,.2f} USD" in _line(text, "costs")
    assert str(found.prices_date) in _line(text, "costs")
    assert str(PRICES.relative_to(PROJECT)) in _line(text, "costs")
    assert "vertex.budget_usd is 99" in _line(text, "costs")
    assert "USD a month" in text
    assert "gs://my-bucket/photos" in _line(text, "predicts")
    memory = _line(text, "from memory")
    assert all(row in memory for row in found.unchecked) and "dataflow.vcpu" in memory


@pytest.mark.parametrize("width", [None, 100])
@pytest.mark.parametrize("row", hardware.HARDWARE)
def test_tables_fit_and_nothing_is_cut(row, width):
    region = machines.ACCELERATOR_REGIONS.get(
        hardware.HARDWARE[row].accelerator_type or "", ["us-central1"]
    )[0]
    kind = hardware.HARDWARE[row].machine_type
    way = "spot" if kind in machines.NEVER_ON_DEMAND else "on_demand"
    for preset in ("quick", "resnet1001"):
        text, _ = _shown(
            f"preset={preset} vertex.hardware={row} vertex.region={region} "
            f"vertex.scheduling={way} vertex.beam=dataflow "
            "vertex.beam_max_workers=1000 serving.push=registry "
            "batch_predict.images=gs://my-bucket/photos",
            width,
        )
        assert "…" not in text
        table = text[text.index("\nstep ") : text.index("\nimages")]
        assert max(map(len, table.splitlines())) <= 100
        for step in (
            name
            for kind in KINDS.values()
            for name in kind.ids(("baseline", "candidate"))
        ):
            assert _line(table, step).split()[1] == cost.step_machine(step)


def test_a_long_network_name_is_wrapped_not_cut():
    name = "preact_resnet110:shortcut=shortcut_only_gating:gate_bias=-7.25"
    narrow, _ = _shown(f"candidate.network={name}", 80)
    _, table, *_ = narrow.split("\n\n")
    assert max(map(len, table.splitlines())) <= 80
    header, *rows = table.strip().splitlines()
    cells = [line[header.index("network") :].split(" ")[0] for line in rows]
    assert name in "".join(cells)
    assert name in _shown(f"candidate.network={name}", 110)[0]


def test_piped_output_has_no_control_characters():
    text, _ = _shown("vertex.hardware=tpu-v3-8")
    assert "\x1b" not in text
    assert all(line == line.rstrip() or line.strip() for line in text.splitlines())


def test_a_cpu_run_needs_one_image_and_no_accelerator():
    text, _ = _shown()
    assert "trainer-" not in text
    assert "beam-worker" not in text
    assert text.count("/pipeline:") == 1
    assert "NVIDIA" not in text
    assert "in each step's own machine" in _line(text, "Beam")


def test_what_a_cluster_of_ones_own_costs_is_said_to_be_unknown():
    text, _ = _shown("vertex.beam=flink vertex.beam_endpoint=flink:8099")
    assert "flink:8099" in _line(text, "Beam")
    assert "not in the estimate" in _line(text, "Beam")

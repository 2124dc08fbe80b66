"""The table of `run --dry` as people see it, and as a file has it."""

import io
from types import SimpleNamespace

from rich.console import Console

from pipeline.local import dry_run

STEPS = [
    SimpleNamespace(node="DataInvariants", state="cached", reasons=(), seconds=0.1),
    SimpleNamespace(
        node="PreviousStatistics", state="looks", reasons=("in every run",), seconds=0.0
    ),
    SimpleNamespace(
        node="CandidateTrainer",
        state="runs",
        reasons=(
            "candidate.network preact_resnet164 -> preact_resnet110",
            "trainer/initialisers.py edited",
            "new inputs: examples, schema, transform_graph",
        ),
        seconds=3661.0,
    ),
    SimpleNamespace(node="Evaluator", state="runs", reasons=("new input: candidate",),
                    seconds=None),
]  # fmt: skip


def shown(**settings) -> list[str]:
    out = Console(file=io.StringIO(), color_system=None, **settings)
    dry_run._print_steps(out, STEPS)  # pyright: ignore[reportArgumentType]
    return out.file.getvalue().splitlines()


def test_80_columns_are_enough_and_each_reason_has_its_own_row():
    lines = shown(force_terminal=True, force_interactive=True, width=80)
    assert max(map(len, lines)) <= 80
    column = lines[0].index("why")
    reasons = [line[column:] for line in lines[3:]]
    assert reasons == [
        "candidate.network",
        "preact_resnet164 -> preact_resnet110",
        "trainer/initialisers.py edited",
        "new inputs: examples, schema,",
        "transform_graph",
        "new input: candidate",
    ]
    assert lines[3].split()[:4] == ["run", "CandidateTrainer", "1:01:01", "h"]
    assert all(not line[:column].strip() for line in lines[4:8])


def test_in_a_file_each_node_has_one_line():
    lines = shown(force_terminal=False, force_interactive=False, width=1000)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["cached", "DataInvariants"], ["looks", "PreviousStatistics"],
        ["run", "CandidateTrainer"], ["run", "Evaluator"],
    ]  # fmt: skip
    assert lines[3].endswith("; ".join(STEPS[2].reasons))
    assert all(line == line.rstrip() for line in lines)


def test_the_sum_names_what_is_not_known():
    told = dry_run._sum(STEPS)  # pyright: ignore[reportArgumentType]
    assert told == (
        "2 of 4 nodes run, 1 are answered from the cache; last time these took "
        "1:01:01 h, without 1 that never ran. Nothing was changed"
    )
    told = dry_run._sum(STEPS[:2])  # pyright: ignore[reportArgumentType]
    assert told == "nothing runs: all 1 results are in the cache. Nothing was changed"

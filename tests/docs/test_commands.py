"""Every command of the documents is one that exists, and some test carries it out.

Code blocks of README, CONTRIBUTING and docs/ are read. A block that this machine cannot
carry out has a mark before it, a comment that no reader sees:

    <!-- needs an account -->

Of all others each command must be in `CARRIED_OUT`; the program's own parser must take
its options, marked or not.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import subprocess

import pytest

from contract.config.run import RunConfig
from contract.fields import leaves, parse_assignments
from tests.docs.reading import DOCUMENTS, PROJECT, blocks, lines_of, programs

# A command begins with one of these; what does not is output.
PROGRAMS = {
    *("bash", "cd", "curl", "docker", "gcloud", "git", "grpcurl", "gsutil", "kubectl"),
    *("make", "pip", "python", "tensorflow_model_server", "terraform", "tfx", "uv"),
}

# What a command begins with, once make has said what it stands for -> the test that
# carries it out: its file and name; no name: all of the file.
E2E, CLIENT = "tests/e2e/test_pipeline.py", "tests/serving/client/test_commands.py"
SERVED = (E2E, "test_what_the_documents_ask_a_server_is_answered")
CARRIED_OUT = {
    "pytest tests": (".ci/run", ""),
    "pipeline.py run": (E2E, "test_the_run_says_what_it_did"),
    "pipeline.py run --dry": (
        "tests/e2e/test_dry_run.py",
        "test_what_is_said_is_what_then_happens",
    ),
    "pipeline.py config": (
        "tests/pipeline/test_configuration.py",
        "test_what_is_listed_can_be_typed",
    ),
    "pipeline.py config --toml": (
        "tests/pipeline/test_configuration.py",
        "test_what_is_printed_gives_the_same_back",
    ),
    "pipeline.py predict": ("tests/components/batch_predict/test_batch_predict.py", ""),
    "pipeline.py study": ("tests/e2e/test_study.py", ""),
    "pipeline.py models list": (
        "tests/pipeline/history/test_commands.py",
        "test_the_list_for_people",
    ),
    "pipeline.py models rollback": ("tests/pipeline/history/test_rollback.py", ""),
    "tfx run create": (E2E, "test_the_owners_line_runs_the_pipeline"),
    "tfx pipeline create": (
        "tests/pipeline/test_tfx_cli.py",
        "test_upstreams_two_steps_work_from_any_folder_without_an_engine_or_pip",
    ),
    "serving.server": SERVED,
    "serving.client predict output/": SERVED,
    "curl": SERVED,
    "serving.client predict": (CLIENT, "test_a_folder_becomes_csv_and_json"),
    "serving.client status": (CLIENT, "test_status_metadata_and_bench"),
    "serving.client metadata": (CLIENT, "test_status_metadata_and_bench"),
    "serving.client watch": (CLIENT, "test_watching_reports_each_change_once"),
    "serving.client bench": (CLIENT, "test_status_metadata_and_bench"),
    "pip install ./serving/client": ("tests/serving/client/test_package.py", ""),
    "serving.deploy": (
        "tests/serving/deploy/test_generate.py",
        "test_the_command_writes_the_folder_and_may_do_so_again",
    ),
    "monitoring": (
        "tests/monitoring/test_main.py",
        "test_the_command_ends_with_its_status",
    ),
    "studies.propagation lesions": (
        "tests/studies/test_propagation.py",
        "test_the_command_injures_the_networks_of_the_last_run",
    ),
    "studies.propagation": (
        "tests/studies/test_propagation.py",
        "test_the_command_writes_findings_and_page",
    ),
    "git pull": ("", ""),
}


@functools.cache
def made(words: tuple[str, ...]) -> str:
    """What `make` would do last."""
    # Not what the make that runs these tests was given.
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MAKE", "MFLAGS", "ARGS"))
    }
    done = subprocess.run(
        ["make", "--dry-run", *words],
        cwd=PROJECT, env=clean, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ").splitlines()[-1]


def plain(words: list[str]) -> list[str]:
    """A command as `CARRIED_OUT` has it: without make, the interpreter and -m."""
    program, *rest = words
    if program == "make":
        return plain(shlex.split(made(tuple(rest))))
    program = re.sub(r".*/(tfx|uv)$|(.*/)?(python)3?$", r"\1\3", program)
    if program == "python" and rest[:1] == ["-m"]:
        return rest[1:]
    return rest if program == "python" else [program, *rest]


def stated() -> list[tuple[str, list[str], bool]]:
    """Where, words, marked: every command of the documents."""
    found = []
    for document in DOCUMENTS:
        for number, text, marked in blocks(document):
            lines = lines_of(text)
            variables = {
                name: shlex.split(value)[0]
                for line in lines
                for name, value in re.findall(r'^([A-Z])=("[^"]*"|\S+)', line)
            }
            every = [each for line in lines for each in programs(line, variables)]
            if not every or not is_program(every[0][0]):
                continue
            name = f"{document.relative_to(PROJECT)}:{number}"
            found += [(name, words, marked) for words in every]
    return found


def is_program(word: str) -> bool:
    return word.rpartition("/")[2] in PROGRAMS


STATED = stated()


def test_the_documents_have_commands():
    assert len(STATED) > 60
    assert {"README.md", "docs/vertex-runs.md"} <= {
        w.partition(":")[0] for w, *_ in STATED
    }


@pytest.mark.parametrize(
    ("where", "words"),
    [(where, words) for where, words, marked in STATED if not marked],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60],
)
def test_a_test_carries_it_out(where, words):
    if words[0] == "cd":
        return
    command = " ".join(plain(words))
    known = [start for start in CARRIED_OUT if command.startswith(start)]
    assert known, (
        f"{where}: no test is named that carries out `{command}`; add it to CARRIED_OUT, "
        "or mark the block with what it needs"
    )


@pytest.mark.parametrize("start", CARRIED_OUT)
def test_the_named_test_is_there_and_the_command_too(start):
    file, name = CARRIED_OUT[start]
    if file:
        source = (PROJECT / file).read_text("utf-8")
        if name:
            assert name in {
                node.name
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef)
            }
    unmarked = [plain(words) for _, words, marked in STATED if not marked]
    assert any(" ".join(words).startswith(start) for words in unmarked)


@pytest.mark.parametrize(
    ("where", "words"),
    [(where, words) for where, words, _ in STATED],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60],
)
def test_its_program_takes_these_words(where, words):
    """pipeline.py's fields too, by name."""
    program, *rest = plain(words)
    # VERSION is somebody's own, and [--wait] may be left out.
    rest = [re.sub(r"^[A-Z]+$", "1", word.strip("[]")) for word in rest]
    if program == "pipeline.py":
        from pipeline import cli
        from studies import commands as studies

        options = cli._parse(rest, [studies.add_parser])
        fields = leaves(RunConfig)
        for name in parse_assignments(options.runtime_parameter):
            assert name in fields or name.startswith("contenders."), (where, name)
    elif program == "serving.client":
        from serving.client import __main__ as client

        client._parser().parse_args(rest)
    elif program == "serving.server":
        from serving.server import flags

        flags.parse(rest)
    elif program == "serving.deploy":
        from serving.deploy import __main__ as deploy

        deploy._parser().parse_args(rest)
    elif program == "monitoring":
        from monitoring import __main__ as monitoring

        monitoring._parser().parse_args(rest)


def test_what_is_no_option_is_found():
    with pytest.raises(SystemExit):
        test_its_program_takes_these_words("", ["python", "pipeline.py", "run", "--no"])
    with pytest.raises(AssertionError):
        test_its_program_takes_these_words("", ["make", "run", "train.epoch=3"])
    with pytest.raises(AssertionError):
        test_a_test_carries_it_out("", ["python", "-m", "benchmarks.unknown"])

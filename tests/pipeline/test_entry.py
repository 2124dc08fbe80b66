"""What a person types: make's targets, short forms, and Pythons that lack something."""

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from contract.config.run import RunConfig
from contract.fields import leaves
from pipeline import cli, presets

PROJECT = Path(__file__).parents[2]


def parsed(*words: str) -> list[str]:
    return cli._parse(words).runtime_parameter


@pytest.mark.parametrize(
    ("words", "assignments"),
    [
        ([], []),
        (["run", "train.epochs=3"], ["train.epochs=3"]),
        (["train.epochs=3", "preset=smoke"], ["train.epochs=3", "preset=smoke"]),
        (["--runtime_parameter", "a=1"], ["a=1"]),
        # Later ones win, so the order must stay.
        (
            ["run", "preset=a", "--runtime_parameter", "preset=b", "preset=c"],
            ["preset=a", "preset=b", "preset=c"],
        ),
        (
            ["run", "--runtime_parameter=preset=b", "--engine", "local", "data.x=1=2"],
            ["preset=b", "data.x=1=2"],
        ),
        (["models"], []),
        (["models", "output_root=/x"], ["output_root=/x"]),
        (["models", "rollback", "7", "output_root=/x"], ["output_root=/x"]),
        (["status", "output_root=gs://b/x"], ["output_root=gs://b/x"]),
        (["run", "--dry", "train.epochs=3"], ["train.epochs=3"]),
        (["--runtime_parameter=a=1", "train.epochs=3"], ["a=1", "train.epochs=3"]),
        (["run", "--config", "a=b.toml", "x=1"], ["x=1"]),
        (["compile", "--output", "a=b.json"], []),
    ],
)
def test_assignments_may_stand_alone(words, assignments):
    assert parsed(*words) == assignments


def test_every_field_may_stand_alone():
    words = [f"{name}=x" for name in leaves(RunConfig)]
    assert parsed(*words) == words


def test_other_values_with_an_equals_sign_stay_what_they_are():
    options = cli._parse(["schedule", "create", "--cron", "0 3 * * 1", "--name", "a=b"])
    assert (options.name, options.runtime_parameter) == ("a=b", [])


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--epochs", "3"], "write train.epochs=3"),
        (["--epochs=3"], "write train.epochs=3"),
        (["--train.epochs", "3"], "write train.epochs=3"),
        (["--global-batch-size=3"], "write train.global_batch_size=3"),
        (["--network", "x"], "write baseline.network=x or candidate.network=x"),
        (["--preset", "smoke"], "write preset=smoke"),
        (["--flip"], "write train.flip=..."),
        (["--data", "digits"], "data is a section, and its fields are given one by "),
        (["--train", "3"], "such as train.recipe=...; `pipeline.py config` lists them"),
        (["--nonsense"], "name=value, such as train.epochs=3; `pipeline.py config`"),
        (["smoke"], "name=value, such as train.epochs=3; `pipeline.py config`"),
    ],
)
def test_what_is_not_understood_has_a_remedy(words, remedy, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed("run", *words)
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert f"unrecognized arguments: {' '.join(words)}; " in told
    assert remedy in told


@pytest.mark.parametrize("command", ["run", "report", "config", "models", "status"])
@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("preste=smoke", "preste: there is no such configuration field; did you mean preset"),
        ("seed=3", "seed: there is no such configuration field; did you mean train.seed?"),
        ("network=x", "did you mean baseline.network or candidate.network or vertex.network?"),
        ("x=1", "x: there is no such configuration field; `pipeline.py config` lists"),
        ("data=digits", "data is a section, and its fields are given one by one, such as"),
    ],
)  # fmt: skip
def test_what_is_no_field_has_a_remedy(command, word, remedy, capsys):
    for words in ([command, word], [command, "--runtime_parameter", word]):
        assert cli.main(words, {}) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("error: ") and told.err.count("\n") == 1
        assert remedy in told.err


def test_options_alone_are_those_of_a_run():
    options = cli._parse(["--engine", "vertex", "--run_id", "a"])
    assert (options.engine, options.run_id) == ("vertex", "a")
    assert options.command is cli._run


@pytest.mark.parametrize("word", ["-h", "--help", "--he"])
def test_help_alone_is_of_all_commands(word, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([word], {})
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: pipeline.py [-h] COMMAND")


@pytest.mark.parametrize("command", ["run", "report", "config", "models", "schedule"])
def test_each_command_says_what_it_does(command, capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"], {})
    listed = " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        cli.main([command, "--help"], {})
    first, *paragraphs = capsys.readouterr().out.split("\n\n")
    assert first.startswith("usage: ")
    assert f"{command} {' '.join(paragraphs[0].split())}" in listed


def test_the_presets_are_listed_with_the_configuration():
    help = leaves(RunConfig)["preset"].help
    assert all(name in help for name in presets.PRESETS)


def make(*words: str, dry_run: bool = True) -> subprocess.CompletedProcess:
    # Not as a part of the make that runs these tests, which hands its options on.
    own = ("MAKE", "MFLAGS", "ARGS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    return subprocess.run(
        ["make", *(["--dry-run"] if dry_run else []), *words],
        cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def handed_on(*words: str) -> list[str]:
    """The arguments that make's last command gives to Python, as the shell reads them."""
    done = make(*words)
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1].removeprefix(".venv/bin/python pipeline.py")
    tell = "import json, sys; print(json.dumps(sys.argv[1:]))"
    told = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c '{tell}' {command}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(told.stdout)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], ["run"]),
        (["run", "train.epochs=3"], ["run", "train.epochs=3"]),
        (["preset=smoke", "run"], ["run", "preset=smoke"]),
        (["setup", "report", "output_root=/x"], ["report", "output_root=/x"]),
        (["models"], ["models"]),
        (["models", "output_root=/x"], ["models", "output_root=/x"]),
        (
            ["config", "ARGS=--toml", "contenders.wide=resnet20"],
            ["config", "--toml", "contenders.wide=resnet20"],
        ),
        (["models", "ARGS=rollback 3"], ["models", "rollback", "3"]),
        (
            ["run", "data.path=/a b/it's;$$(c) #", "ARGS=--engine local"],
            ["run", "--engine", "local", "data.path=/a b/it's;$(c) #"],
        ),
    ],
)
def test_make_hands_configuration_on(words, expected):
    assert handed_on(*words) == expected


@pytest.mark.parametrize(
    "words", [["serve", "port=9000"], ["data.name=x"], ["run", "test", "data.name=x"]]
)
def test_make_refuses_what_it_would_ignore(words):
    done = make(*words)
    assert done.returncode == 2
    assert (
        "configuration goes to make run, config, report, models and study"
        in done.stderr
    )
    assert "Makefile" in done.stderr and done.stdout == ""


def test_makes_own_variables_are_no_configuration():
    assert handed_on("run", "PYTHON=/usr/bin/python3", "SHELL=/bin/sh") == ["run"]


def test_the_list_of_targets_is_aligned():
    lines = make("help", dry_run=False).stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert {"run", "serve", "bench-verdict"} <= set(names)
    starts = {len(line) - len(line[len(name) :].lstrip()) for line, name in zip(
        lines, names, strict=True)}  # fmt: skip
    assert len(starts) == 1


def documented(start: str) -> list[list[str]]:
    """The commands of README and docs that begin so, as a shell splits them."""
    found = []
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)
        for block in (text for language, text in blocks if not language):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.removeprefix("$ ").removeprefix("TFDS_DATA_DIR=/my/tfds ")
                if re.match(start, line) and "..." not in line:
                    found.append(shlex.split(line, comments=True))
    return found


def test_documented_targets_take_what_is_documented():
    commands = documented("make ")
    assert len(commands) >= 8
    for _, *words in commands:
        done = make(*words)
        assert done.returncode == 0, (words, done.stderr)


def test_documented_commands_are_understood():
    commands = documented(r"(\.venv/bin/)?python pipeline\.py ")
    assert len(commands) >= 10
    for _, _, *words in commands:
        example = {"VERSION": "7", "$P": "--project=p", "$R": "output_root=gs://b/x"}
        options = cli._parse([example.get(word, word) for word in words])
        assignments = dict(each.split("=", 1) for each in options.runtime_parameter)
        assert set(assignments) <= set(leaves(RunConfig)), words


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    """A Python without packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return str(folder / "bin/python")


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["pipeline.py", "run", "data.name=digits"], "make run"),
        (["pipeline.py", "run", "--dry", "data.name=digits"], "make run"),
        (["-m", "serving.server", "--model_base_path=/x"], "make serve"),
        (["-m", "serving.client", "status"], "pip install ./serving/client"),
    ],
)
def test_a_python_without_the_packages_is_one_line(bare, command, remedy):
    done = subprocess.run(
        [bare, *command], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert f"{bare} lacks a package (" in line
    assert ".venv/bin/python" in line
    assert remedy in line

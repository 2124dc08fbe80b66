"""Files for --config, and what `pipeline.py config` prints: where each value comes from."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config.run import RunConfig
from contract.fields import ConfigError, leaves, parse_assignments, to_dict, value_of
from pipeline import cli, configuration
from pipeline.local import rules as local_rules
from pipeline.resolve import resolve
from pipeline.vertex import rules as vertex_rules

PROJECT = Path(__file__).parents[2]


def read(folder: Path, name: str, text: str) -> dict[str, str]:
    (folder / name).write_text(text)
    return configuration.read(name, str(folder))


def refused(folder: Path, name: str, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, name, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


EXPECTED = {"preset": "smoke", "train.epochs": "3.0", "train.flip": "false"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"preset": "smoke", "train": {"epochs": 3, "flip": false}}'),
        ("a.json", '{"preset": "smoke", "train.epochs": 3, "train.flip": false}'),
        ("a.json", '{"preset": "smoke", "train.epochs": 3, "train": {"flip": false}}'),
        ("a.toml", 'preset = "smoke"\n[train]\nepochs = 3\nflip = false\n'),
        ("a.toml", 'preset = "smoke"\ntrain.epochs = 3\ntrain.flip = false\n'),
        ("a.toml", 'preset = "smoke"\n"train.epochs" = 3.0\ntrain = {flip = false}\n'),
    ],
)
def test_fields_stand_in_sections_or_have_dotted_names(tmp_path, name, text):
    assert read(tmp_path, name, text) == EXPECTED


def test_what_is_no_value_has_a_word(tmp_path):
    expected = {"train.steps": "none", "data.path": "none"}
    assert (
        read(tmp_path, "a.json", '{"train.steps": null, "data.path": null}') == expected
    )
    text = 'train.steps = "none"\ndata.path = "none"'
    assert read(tmp_path, "a.toml", text) == expected


def test_names_of_ones_own(tmp_path):
    for name, text in (
        ("a.json", '{"contenders": {"wide": "resnet20"}}'),
        ("a.toml", '[contenders]\nwide = "resnet20"'),
        ("b.json", '{"contenders.wide": "resnet20"}'),
    ):
        texts = [f"{k}={v}" for k, v in read(tmp_path, name, text).items()]
        config = resolve(["data.name=digits", *texts], {}, "/", local_rules).config
        assert config.contenders == {"wide": "resnet20"}, name
    empty = read(tmp_path, "a.toml", "[contenders]\n")
    assert empty == {"contenders": "{}"}
    assert "contenders.x=3" in refused(tmp_path, "a.json", '{"contenders": {"x": 3}}')


def test_relative_paths_start_at_the_files_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.toml").write_text(
        'output_root = "runs/1"\ndata.path = "../data"\ndata.tfds_dir = "~/tfds"\n'
        'serving.base_directory = "/models"\n'
    )
    assert configuration.read("below/a.toml", str(tmp_path)) == {
        "output_root": f"{tmp_path}/below/runs/1",
        "data.path": f"{tmp_path}/data",
        "data.tfds_dir": "/home/me/tfds",
        "serving.base_directory": "/models",
    }
    text = '{"output_root": "gs://bucket/a"}'
    assert read(tmp_path, "a.json", text) == {"output_root": "gs://bucket/a"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "\n[train]\nseed = 1\nepoch = 3\n",
         "a.toml, line 4: train.epoch: there is no such configuration field; did you "
         "mean train.epochs?"),
        ("a.toml", "# x\ntrian.seed = 1\n", "a.toml, line 2: trian.seed: there is no"),
        ("a.toml", 'data.path = """\\\n  a \\\n  b"""\nx = 1\n', "a.toml, line 4: x: "),
        ("a.toml", "x = {}\n", "a.toml, line 1: x: there is no such"),
        ("a.json", '{"train": {\n"seed": 1,\n"epoch": 3}}', "a.json, line 3: train.epoch"),
        ("a.json", '{"a\\"b": 1}', 'a.json, line 1: a"b: there is no such'),
        ("a.json", '{"\\u0074rain.seed": "1"}',
         'a.json, line 1: train.seed="1": must be a whole number from 0 to 2147483647, '
         "without quotes"),
        ("a.json", '{"preset":\n3}', "a.json, line 1: preset=3: must be text"),
        ("a.json", '{"train.flip": 1}', "train.flip=1: must be true or false"),
        ("a.json", '{"train.seed": [1]}', "train.seed=[1]: must be a whole number"),
        ("a.json", '{"train.seed": {"x": 1}}', 'train.seed={"x": 1}: must be a whole'),
        ("a.json", '{"train.momentum": NaN}', "train.momentum=nan: must be a number"),
        ("a.toml", "train.momentum = 2.0", "line 1: train.momentum=2.0: must be a number"),
        ("a.toml", "preset = 2026-01-01", 'preset="2026-01-01": must be text'),
        ("a.json", '{"train": 3}', "train is a section, and its fields are given one"),
        ("a.json", '{"train.seed": 1,\n"train": {"seed": 2}}',
         "a.json, line 2: train.seed is given twice; give it once"),
        ("a.json", '{"preset": "a", "preset": "b"}', "a.json: cannot be read (preset is "),
        ("a.toml", "a = 1\na = 2", "a.toml: cannot be read (Cannot overwrite a value (at "),
        ("a.json", '{"a": }', "a.json: cannot be read (Expecting value: line 1 column 7"),
        ("a.json", "[" * 100_000, "a.json: cannot be read ("),
        ("a.json", "[1]", "a.json: must be an object of fields and sections"),
        ("a.yaml", "a: 1", "--config=a.yaml: must be a file whose name ends with .json or"),
        ("a.json", '"' + "x" * 2_000_000, "--config=a.json: it has more than 1,000,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_its_place(tmp_path, name, text, words):
    assert words in refused(tmp_path, name, text)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "b.toml").write_bytes(b"\xff")
    (tmp_path / "c.toml").mkdir()
    for name, words in (
        ("a.toml", "--config=a.toml: No such file or directory"),
        ("b.toml", "--config=b.toml: must be text in UTF-8"),
        ("c.toml", "--config=c.toml: Is a directory"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            configuration.read(name, str(tmp_path))


# ---- which wins, and where a value comes from ----------------------------------------


def origins(*assignments: str, rules=local_rules, environment=None, given_in=None):
    given = [*assignments]
    return resolve(given, environment or {}, "/", rules, given_in).origins


def test_each_value_knows_where_it_comes_from():
    found = origins(
        "data.name=digits", "preset=smoke", "train.recipe=paper", "train.seed=3",
        "contenders.wide=resnet20", "output_root=/x",
        given_in={"train.seed": "file a.toml", "not.given": "file a.toml"},
    )  # fmt: skip
    assert found["preset"] == found["contenders.wide"] == "command line"
    assert found["output_root"] == "command line"
    assert found["candidate.network"] == "preset smoke"
    assert found["data.eval_fraction"] == "data set digits"
    assert found["train.steps"] == "recipe paper"
    assert found["train.seed"] == "file a.toml"
    assert "train.momentum" not in found and "not.given" not in found
    # A recipe that the preset chose comes before it.
    shorter = origins("preset=resnet1001", "data.name=cifar10", "data.tfds_dir=/none")
    assert shorter["train.schedule"] == "recipe released"
    assert shorter["train.recipe"] == "preset resnet1001"


def test_what_was_found_says_how(tmp_path):
    found = origins(f"data.tfds_dir={tmp_path}", "data.name=cifar10")
    assert found["data.tfds_dir"] == "command line"
    found = origins("data.name=cifar10", environment={"TFDS_DATA_DIR": str(tmp_path)})
    assert found["data.tfds_dir"] == "environment"
    for index in range(1, 6):
        (tmp_path / f"data_batch_{index}.bin").write_bytes(bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    assert origins(f"data.path={tmp_path}")["data.name"] == "auto"


def test_hardware_is_the_engines():
    found = origins(
        "vertex.project=my-project", "output_root=gs://my-bucket/a",
        "data.name=cifar10", "vertex.hardware=gpu8", "train.replicas=8",
        rules=vertex_rules,
    )  # fmt: skip
    assert found["train.strategy"] == "engine"
    assert found["train.replicas"] == "command line"


def test_every_value_that_is_no_default_has_an_origin_and_every_origin_a_value():
    plain = RunConfig()
    for words in (
        ["data.name=digits"], ["data.name=digits", "preset=smoke", "train.seed=7"],
        ["data.name=cifar10", "data.tfds_dir=/none", "preset=resnet164"],
    ):  # fmt: skip
        resolved = resolve(words, {}, "/", local_rules)
        for name in leaves(RunConfig):
            changed = value_of(resolved.config, name) != value_of(plain, name)
            if changed and name != "output_root":  # made absolute
                assert name in resolved.origins, name


def main(capsys, *words: str) -> tuple[int, str, str]:
    status = cli.main(words, {})
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_command_line_wins_over_files_and_later_files_over_earlier(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text(
        'data.name = "digits"\ntrain.seed = 1\ntrain.epochs = 5\noutput_root = "x"\n'
    )
    Path("b.json").write_text('{"train": {"epochs": 6, "momentum": 0.5}}')
    words = ["--config", "a.toml", "--config=b.json", "train.momentum=0.7"]
    status, out, _ = main(capsys, "config", *words)
    assert status == 0
    lines = {name: origin for name, origin in re.findall(r"^(\S+) +# (.+)$", out, re.M)}
    assert lines["train.seed=1"] == "file a.toml"
    assert lines["train.epochs=6.0"] == "file b.json"
    assert lines["train.momentum=0.7"] == "command line"
    assert lines[f"output_root={tmp_path}/x"] == "file a.toml"
    assert lines["train.crop_padding=2"] == "data set digits"
    assert lines["train.nesterov=true"] == "default"
    assert lines["contenders={}"] == "default"
    # Each field, once, as a person would type it.
    assert len(lines) == len(leaves(RunConfig))


@pytest.mark.parametrize(
    "command", [["run"], ["compile"], ["submit"], ["report"], ["models", "list"],
                ["models", "rollback", "7"], ["config"], ["status"],
                ["schedule", "create", "--cron", "0 3 * * 1"]],
)  # fmt: skip
def test_every_command_takes_a_file(command, tmp_path, capsys):
    file = tmp_path / "a.toml"
    file.write_text("\ntrain.sede = 1\n")
    status, out, err = main(capsys, *command, "--config", str(file))
    assert (status, out) == (2, "")
    assert err == (
        f"error: {file}, line 2: train.sede: there is no such configuration field; "
        "did you mean train.seed?\n"
    )


def test_a_value_that_turns_out_to_be_wrong_later_has_its_file(tmp_path, capsys):
    file = tmp_path / "a.toml"
    file.write_text('preset = "huge"\nbaseline.network = "resnet21"')
    _, _, err = main(capsys, "config", "--config", str(file))
    assert err.startswith(f"error: {file}: preset=huge: must be one of ")
    words = ["config", "--config", str(file), "preset=smoke", "data.name=digits"]
    _, _, err = main(capsys, *words)
    assert err.startswith(f"error: {file}: baseline.network=resnet21: ")
    _, _, err = main(capsys, *words, "baseline.network=resnet22")
    assert err.startswith("error: baseline.network=resnet22: ")


def test_showing_the_configuration_reads_no_data(tmp_path, capsys):
    """Files of data that nobody may read are no obstacle: they are not hashed."""
    data = tmp_path / "cifar-10-binary.tar.gz"
    os.mkfifo(data)  # whoever opens it waits for ever
    status, out, _ = main(capsys, "config", f"data.path={data}")
    assert status == 0
    assert f"data.path={data}" in out


# ---- saved and given back ------------------------------------------------------------

TEXTS = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="*?[]\\"),
    min_size=1, max_size=20,
).filter(lambda text: text.strip() and text.lower() not in ("none", "null"))  # fmt: skip


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {"data.name": st.sampled_from(["digits", "cifar10", "cifar100"])},
        optional={
            "preset": st.sampled_from(["quick", "smoke", "resnet164", "resnet1001"]),
            "train.recipe": st.sampled_from(["quick", "paper", "released"]),
            "train.steps": st.integers(1, 1000).map(str) | st.just("none"),
            "train.learning_rate": st.floats(1e-8, 1.0).map(str),
            "train.precision": st.just("mixed_bfloat16"),
            "data.tfds_dir": TEXTS.map("/none/{}".format),
            "output_root": TEXTS,
            "enable_cache": st.sampled_from(["true", "false"]),
            "contenders.wide": st.just("resnet20"),
            "contenders.deep1": st.just("preact_resnet110"),
            "vertex.scheduling": st.sampled_from(["on_demand", "spot"]),
        },
    ),
    st.sampled_from(["json", "toml"]),
)
def test_what_is_printed_gives_the_same_back(tmp_path_factory, chosen, form):
    texts = [f"{name}={value}" for name, value in chosen.items()]
    resolved = resolve(texts, {}, "/a b", local_rules)
    folder = tmp_path_factory.mktemp("saved")
    printed = {"json": configuration.as_json, "toml": configuration.as_toml}[form]
    text = printed(resolved)
    assert text.isascii()
    found = read(folder, f"a.{form}", text)
    # A file that has everything leaves nothing to defaults, presets and surroundings.
    again = resolve(
        [f"{name}={value}" for name, value in found.items()],
        {"TFDS_DATA_DIR": "/other"},
        "/elsewhere",
        local_rules,
    )
    assert again.config == resolved.config
    assert set(found) == set(leaves(RunConfig))


def test_a_saved_file_says_where_its_values_came_from(capsys):
    words = ["data.name=digits", "contenders.wide=resnet20", "output_root=/ä 𝛼"]
    status, out, _ = main(capsys, "config", "--toml", *words)
    assert status == 0
    values = tomllib.loads(out)
    assert values["contenders"] == {"wide": "resnet20"}
    assert values["output_root"] == "/ä 𝛼"
    assert re.search(r"^crop_padding = 2 +# data set digits$", out, re.M)
    assert re.search(r'^wide = "resnet20" +# command line$', out, re.M)
    status, out, _ = main(capsys, "config", "--json", *words)
    resolved = resolve(words, {}, "/", local_rules)
    assert json.loads(out) == to_dict(resolved.config)


def test_what_is_listed_can_be_typed(tmp_path):
    folder = tmp_path / "it's; $(here) #1"
    command = [sys.executable, str(PROJECT / "pipeline.py"), "config"]
    words = ["data.name=digits", f"output_root={folder}", "contenders.wide=resnet20"]
    out = subprocess.run(
        [*command, *words], capture_output=True, text=True, check=True
    ).stdout
    typed = [line for line in out.splitlines() if not line.startswith(" ")]
    # The origin is a comment to a shell, too.
    script = "\n".join(f"printf '%s\\0' {line}" for line in typed)
    read_by_shell = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    again = resolve(read_by_shell, {}, "/", local_rules)
    assert again.config == resolve(words, {}, "/", local_rules).config
    assert len(parse_assignments(read_by_shell)) == len(leaves(RunConfig))

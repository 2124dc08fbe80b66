"""Cloud Build's files: each step is carried out, with programs that only take notes.

Google replaces ${_NAME} and $NAME by values and $$ by $; so does this. What a step asks of
pipeline.py is asked of the genuine command line.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CI = ROOT / "deploy" / "ci"
FILES = sorted(CI.glob("*.yaml"))
PINNED = f"python:3.11-slim-trixie@sha256:{'0' * 64}"
GIVEN = {
    "PROJECT_ID": "my-project",
    "SHORT_SHA": "0a1b2c3",
    "COMMIT_SHA": "0a1b2c3" * 5 + "01234",
    "TAG_NAME": "v0.2.0",
    "SERVICE_ACCOUNT_EMAIL": "ci@my-project.iam.gserviceaccount.com",
    "_PYTHON_IMAGE": PINNED,
    "_OUTPUT_ROOT": "gs://my-bucket/cifar",
    "_RUN_AS": "cifar-resnet-pipeline@my-project.iam.gserviceaccount.com",
    "_BUILDS": "gs://my-builds",
    "_TEMPLATE": "gs://my-templates/pipeline.json",
    "_SUBMIT": "true",
    "_PARAMETERS": "preset=resnet164 train.seed=3",
}
NOTE = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["NOTES"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + chr(10))
if sys.argv[1:5] == ["artifacts", "docker", "images", "describe"]:
    sys.exit(0 if sys.argv[5] in os.environ["IMAGES"].split() else 1)
"""


def replaced(text: str, values: dict[str, str]) -> str:
    """As Cloud Build: once more for values that name others; $$ at the end."""
    pattern = r"(?<!\$)\$(?:\{(_?[A-Z][A-Z0-9_]*)\}|(_?[A-Z][A-Z0-9_]*))"
    for _ in range(3):
        text = re.sub(pattern, lambda m: values[m[1] or m[2]], text)
    return text.replace("$$", "$")


def steps(name: str, **changed: str) -> dict[str, dict]:
    build = yaml.safe_load((CI / f"{name}.yaml").read_text())
    values = {k: str(v) for k, v in build["substitutions"].items()} | GIVEN | changed
    return {
        step["id"]: {
            "name": replaced(step["name"], values),
            "script": replaced(step["args"][1], values),
        }
        for step in build["steps"]
    }


@pytest.fixture
def carry_out(tmp_path):
    """Runs a step's script; its exit status, and the programs that it called.

    `images` are those that the repository has.
    """
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "chmod", "gcloud", "git", "make", "python"):
        (programs / name).write_text(NOTE)
        (programs / name).chmod(0o755)
    notes = tmp_path / "notes"

    def run(script: str, images: str = "") -> tuple[int, list[list[str]]]:
        notes.write_text("")
        path = f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin"
        result = subprocess.run(
            ["bash", "-c", script],
            env={"PATH": path, "NOTES": str(notes), "IMAGES": images},
            cwd=ROOT,
            check=False,
        )
        return result.returncode, [
            json.loads(n) for n in notes.read_text().split("\n") if n
        ]

    return run


def of_pipeline(call: list[str]):
    """What the genuine command line makes of a call of pipeline.py."""
    from contract.fields import parse_assignment
    from pipeline import cli
    from pipeline.resolve import resolve
    from pipeline.vertex import commands, rules

    program, script, *arguments = call
    assert (program, script) == ("python", "/opt/cifar/pipeline.py")
    options = cli._parse(arguments)
    texts = commands.assignments(options)
    assert all(map(parse_assignment, texts))
    return options, resolve(texts, {}, "/", rules).config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_step_has_a_name_a_known_image_and_bounds(path):
    build = yaml.safe_load(path.read_text())
    assert int(build["timeout"].rstrip("s")) <= 4 * 3600
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"  # no bucket of Google's
    for step in build["steps"]:
        assert set(step) == {"id", "name", "entrypoint", "args"}
        assert (step["entrypoint"], step["args"][0]) == ("bash", "-c")
    for value in steps(path.stem).values():
        assert re.fullmatch(
            r"python:3\.11-slim-trixie@sha256:0{64}"
            r"|gcr\.io/google\.com/cloudsdktool/google-cloud-cli:slim"
            r"|us-central1-docker\.pkg\.dev/my-project/cifar-resnet/pipeline:0a1b2c3",
            value["name"],
        )


def test_a_pull_request_is_checked_and_tested(carry_out):
    found = steps("pull_request")
    assert carry_out(found["base"]["script"]) == (0, [])
    status, calls = carry_out(found["tests"]["script"])
    assert status == 0
    made = [call[1:] for call in calls if call[0] == "make"]
    assert made == [["check"], ["test"]]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.M) for (target,) in made)


def test_a_base_without_a_digest_is_refused(carry_out, capfd):
    moving = steps("pull_request", _PYTHON_IMAGE="python:3.11-slim-trixie")
    assert carry_out(moving["base"]["script"])[0] == 2
    assert "a tag moves" in capfd.readouterr().err


def test_main_builds_compiles_and_runs_once(carry_out):
    key = "projects/my-project/locations/us-central1/keyRings/ring/cryptoKeys/key"
    found = steps("main", _PARAMETERS=f"pipeline_name=cifar vertex.kms_key={key}")
    status, (*_, (program, *arguments)) = carry_out(found["images"]["script"])
    assert (status, program, arguments[:3]) == (0, "gcloud", ["builds", "submit", "."])
    options = dict(zip(arguments[3::2], arguments[4::2], strict=True))
    assert (ROOT / options["--config"]).is_file()
    declared = yaml.safe_load((ROOT / options["--config"]).read_text())["substitutions"]
    given = dict(p.split("=", 1) for p in options["--substitutions"].split(","))
    assert set(given) <= set(declared)
    assert given["_TAG"] == "0a1b2c3"

    status, (call,) = carry_out(found["compile"]["script"])
    options, config = of_pipeline(call)
    assert (status, options.output) == (0, "/workspace/pipeline.json")
    assert config.vertex.image_tag == "0a1b2c3"
    assert (config.pipeline_name, config.vertex.kms_key) == ("cifar", key)

    status, (call,) = carry_out(found["run"]["script"])
    options, config = of_pipeline(call)
    assert (config.pipeline_name, config.vertex.kms_key) == ("cifar", key)
    assert (status, options.wait, options.run_id) == (0, True, "ci-0a1b2c3")
    assert (config.preset, config.data.name) == ("smoke", "digits")
    # What CI tries is published to nobody.
    assert config.output_root == "gs://my-bucket/cifar/ci"
    assert config.vertex.service_account == GIVEN["_RUN_AS"]


@pytest.mark.parametrize("name", ["main", "release"])
def test_the_image_that_runs_as_no_root_may_write_the_compiled_pipeline(
    carry_out, name
):
    """Cloud Build's workspace is root's, and others may only read there."""
    users = re.findall(
        r"^USER (.*)$", (ROOT / "deploy/images/Dockerfile").read_text(), re.M
    )
    assert "10001:10001" in users
    found = list(steps(name).values())
    writers = [
        n for n, step in enumerate(found) if "--output /workspace/" in step["script"]
    ]
    assert writers
    for number in writers:
        assert found[number]["name"].endswith("/cifar-resnet/pipeline:0a1b2c3")
        before = [
            call
            for step in found[:number]
            if step["name"].startswith("gcr.io/")  # Google's own, which is root
            for call in carry_out(step["script"])[1]
        ]
        assert ["chmod", "a+w", "/workspace"] in before


def test_a_commit_that_is_built_again_takes_the_images_that_are_there(carry_out):
    """Their tags cannot be moved, and a second build is not the same to the byte."""
    script = steps("main")["images"]["script"]
    repository = "us-central1-docker.pkg.dev/my-project/cifar-resnet"
    last = yaml.safe_load((ROOT / "deploy/images/cloudbuild.yaml").read_text())[
        "images"
    ][-1]
    assert last == "${_REPOSITORY}/beam-worker:${_TAG}"
    status, calls = carry_out(script, f"{repository}/beam-worker:0a1b2c3")
    assert status == 0
    assert all("submit" not in call for call in calls)
    _, calls = carry_out(script, f"{repository}/pipeline:0a1b2c3")
    assert "submit" in calls[-1]


def test_without_being_told_nothing_is_run(carry_out):
    assert carry_out(steps("main", _SUBMIT="false")["run"]["script"]) == (0, [])


def test_a_release_takes_the_images_that_were_tried(carry_out):
    from pipeline.vertex import images

    found = steps("release")
    status, (_, *calls) = carry_out(found["images"]["script"])
    assert status == 0
    names = {call[-1].rsplit("/", 1)[1] for call in calls}
    assert names == {f"{kind}:v0.2.0" for kind in images.Kind.__args__}
    assert all(
        call[:5] == ["gcloud", "artifacts", "docker", "tags", "add"] for call in calls
    )
    status, (call,) = carry_out(found["compile"]["script"])
    _, config = of_pipeline(call)
    assert status == 0
    assert config.vertex.image_tag == "v0.2.0"
    assert (config.preset, config.train.seed) == ("resnet164", 3)
    assert carry_out(found["template"]["script"]) == (
        0,
        [["gcloud", "storage", "cp", "/workspace/pipeline.json", GIVEN["_TEMPLATE"]]],
    )
    assert (
        list(found)[-1] == "template"
    )  # what fails before leaves the schedule as it is

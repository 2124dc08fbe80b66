"""The container images, without a Docker daemon: what would be in them, and how.

What a build would copy is copied, what it would install is linked from this environment,
and everything that a container loads is loaded from there.
"""

from __future__ import annotations

import csv
import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hcl2
import pytest
import yaml

from contract.config.vertex import VertexConfig
from deploy.images import contents
from pipeline.vertex import images

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()
LOCK = (ROOT / "requirements.txt").read_text()
STRIPPED_MB, BYTECODE_MB = 270, 220
BASES = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", DOCKERFILE, re.MULTILINE))
KINDS = ("pipeline", "trainer-gpu", "trainer-tpu", "beam-worker")


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage, its FROM first."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    found: dict[str, list[tuple[str, str]]] = {}
    current = found.setdefault("", [])
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            current = found.setdefault(rest.split(" AS ")[1], [])
        current.append((name, rest))
    return found


def chain(target: str) -> list[tuple[str, str]]:
    """Instructions that make an image, those of the stages it is made from first."""
    own = stages()[target]
    parent = own[0][1].split(" AS ")[0]
    return [*(chain(parent) if parent in stages() else []), *own]


def copies(instructions: list[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Sources in the build's context, and destination, of each COPY."""
    return [
        (rest.split()[:-1], rest.split()[-1])
        for name, rest in instructions
        if name == "COPY" and not rest.startswith("--from=")
    ]


def in_context(path: str) -> bool:
    """Whether the build sees a file: the last line of .dockerignore that matches decides."""
    seen = True
    for line in (IMAGES / "Dockerfile.dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?")
        pattern = pattern.replace(r"\*", "[^/]*")
        if re.match(f"{pattern}(/|$)", path):
            seen = line.startswith("!")
    return seen


def context() -> list[str]:
    files = [
        os.path.relpath(os.path.join(folder, name), ROOT)
        for top in os.listdir(ROOT)
        if top not in (".git", ".venv", "output", ".hypothesis")
        for folder, _, names in os.walk(ROOT / top)
        for name in names
    ]
    files += [name for name in os.listdir(ROOT) if (ROOT / name).is_file()]
    return [file for file in files if in_context(file)]


def names(lock: str) -> set[str]:
    return {contents.name_of(m) for m in re.findall(r"^[A-Za-z0-9_.-]+==", lock, re.M)}


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "hadolint"
    return subprocess.run(
        [program, "--failure-threshold=style", "-"],
        input=text,
        capture_output=True,
        text=True,
    )


def test_hadolint_finds_nothing():
    result = hadolint(DOCKERFILE)
    assert (result.returncode, result.stdout) == (0, "")


def test_hadolint_would_find_something():
    unpinned = DOCKERFILE.replace("# hadolint ignore=DL3008\n", "")
    assert "DL3008" in hadolint(unpinned).stdout
    assert "DL3002" in hadolint(DOCKERFILE + "USER root\n").stdout


@pytest.mark.parametrize("target", KINDS)
def test_nobody_is_root_but_dataflows_workers(target):
    users = [rest for name, rest in chain(target) if name == "USER"]
    defaults = dict(r.split("=") for n, r in chain(target) if n == "ARG" and "=" in r)
    user = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], users[-1])
    if target == "beam-worker":  # as Beam's own images; there is a way out
        assert (users[-1], user) == ("${WORKER_USER}", "0:0")
        return
    # A number, so that Kubernetes can see that it is not root.
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_everything_that_is_copied_is_there_and_seen_by_the_build():
    files = context()
    for instructions in stages().values():
        for sources, _ in copies(instructions):
            for source in sources:
                prefix = source if source.endswith("/") else None
                assert any(
                    f == source or prefix and f.startswith(prefix) for f in files
                )


def test_the_build_sees_the_project_and_nothing_else():
    files = context()
    assert {file.split("/")[0] for file in files} == {
        *("LICENSE", "components", "contract", "deploy", "pipeline", "pipeline.py"),
        *("requirements.txt", "serving", "studies", "trainer"),
    }
    assert not [
        f for f in files if re.search(r"(^|/)\.|\.(pyc|pem|key)$|credential", f)
    ]
    for hidden in (".env", "pipeline/.env", "key.json", ".git/config", "output/x"):
        assert not in_context(hidden)


def test_copied_in_one_order_and_nothing_is_fetched():
    for name, instructions in stages().items():
        targets = [sources[0] for sources, _ in copies(instructions)]
        assert targets == sorted(targets), name
    commands = [r for s in stages().values() for n, r in s if n == "RUN"]
    assert not [
        c for c in commands if re.search(r"\b(curl|wget|git clone)\b|https?:", c)
    ]
    assert "\nADD " not in DOCKERFILE
    assert ":latest" not in DOCKERFILE


def test_every_package_is_installed_by_its_hash():
    installs = re.findall(
        r"python -m pip [^&]*?\binstall\b[^&]*",
        re.sub(r"\\\n\s*", "", DOCKERFILE),
    )
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes --no-deps --no-compile" in command
        # Nothing is built that no lock names.
        assert "--only-binary :all:" in command or "--no-build-isolation" in command
    for lock in (LOCK, *(p.read_text() for p in IMAGES.glob("requirements-*.txt"))):
        entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_the_parts_of_the_lock_are_the_lock_less_what_is_left_out():
    wheels = names(contents.selected(LOCK, built=False))
    built = names(contents.selected(LOCK, built=True))
    assert wheels | built | set(contents.LEFT_OUT) == names(LOCK)
    assert built == set(contents.BUILT)
    assert not wheels & built and not (wheels | built) & set(contents.LEFT_OUT)


def test_left_out_files_are_taken_out_and_no_others(tmp_path):
    kept = ["tensorflow/__init__.py", "testing/run.py", "scipy/a_test.py"]
    gone = ["tensorflow/include/a.h", "scipy/stats/tests/test_a.py", "tfx/a_test.py"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert contents.main(["prune", str(tmp_path)]) == 0
    left = [
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()
    ]
    assert sorted(left) == sorted(kept)


def test_versions_agree_with_the_lock():
    def locked(name: str, text: str = LOCK) -> str:
        (version,) = re.findall(rf"^{name}==([\w.]+)", text, re.MULTILINE)
        return version

    # The boot program and the library are two halves of one release.
    assert BASES["BEAM_IMAGE"].partition("@")[0] == (
        f"apache/beam_python3.11_sdk:{locked('apache-beam')}"
    )
    # CUDA as TensorFlow itself asks for it.
    cuda = {
        re.split(r"[<>=! ]", line)[0]
        for line in importlib.metadata.requires("tensorflow") or []
        if "and-cuda" in line
    }
    assert names((IMAGES / "requirements-gpu.txt").read_text()) == cuda
    tpu = (IMAGES / "requirements-tpu.txt").read_text()
    assert names(tpu) == {"tensorflow-tpu", "libtpu"}
    major, minor, _ = locked("tensorflow-tpu", tpu).split(".")
    assert (int(major), int(minor) + 1) == tuple(
        map(int, locked("tensorflow").split(".")[:2])
    )


def test_all_ways_to_build_make_the_images_that_the_pipeline_names():
    vertex = VertexConfig(project="my-project")
    expected = {images.image(vertex, kind) for kind in KINDS}
    build = yaml.safe_load((IMAGES / "cloudbuild.yaml").read_text())
    values = {
        "${LOCATION}": vertex.region,
        "${PROJECT_ID}": "my-project",
        **{f"${{{k}}}": v for k, v in build["substitutions"].items()},
    }

    def substituted(text: str) -> str:
        while "${" in text:
            text = re.sub(r"\$\{\w+\}", lambda match: values[match[0]], text)
        return text

    assert {substituted(image) for image in build["images"]} == expected
    for step in build["steps"][1:]:  # the first one looks at the bases
        options = dict(a[2:].split("=", 1) for a in step["args"] if a.startswith("--"))
        assert substituted(options["tag"]) in expected
        assert options["target"] == step["id"]
        assert options["tag"].endswith(f"/{step['id']}:${{_TAG}}")

    bake = hcl2.loads((IMAGES / "docker-bake.hcl").read_text())
    targets = {
        name.strip('"'): target
        for block in bake["target"]
        for name, target in block.items()
        if name.strip('"') != "common"
    }
    assert set(targets) == set(KINDS)
    for kind, target in targets.items():
        assert target["target"].strip('"') == kind
        (tag,) = target["tags"]
        assert tag.strip('"') == f"${{REPOSITORY}}/{kind}:${{TAG}}"


def test_bases_are_named_in_one_place():
    froms = [own[0][1].split(" AS ")[0] for name, own in stages().items() if name]
    others = {base for base in froms if base not in stages()}
    assert others == {f"${{{name}}}" for name in BASES}
    bake = hcl2.loads((IMAGES / "docker-bake.hcl").read_text())
    variables = {k.strip('"'): v for b in bake["variable"] for k, v in b.items()}
    # What is null is not handed on (buildx 1449): the Dockerfile's own holds.
    assert [variables[name]["default"] for name in BASES] == [None] * len(BASES)
    text = (IMAGES / "cloudbuild.yaml").read_text()
    assert not [word for pair in BASES.items() for word in pair if word in text]


DIGEST = "@sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (("", ""), 1),
        ((DIGEST, ""), 1),
        (("", DIGEST), 1),
        ((DIGEST[:-1], DIGEST), 1),
        ((DIGEST, DIGEST + "0"), 1),
        ((DIGEST, DIGEST), 0),
    ],
)
def test_bases_by_tag_alone_are_refused_before_a_push(tmp_path, ends, code):
    tags = {name: base.partition("@")[0] for name, base in BASES.items()}
    named = dict(zip(tags, ends, strict=True))
    text = DOCKERFILE
    for name, end in named.items():
        text = text.replace(f"{name}={BASES[name]}", f"{name}={tags[name]}{end}")
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "Dockerfile").write_text(text)
    script = folder / "bases.sh"
    script.write_text((IMAGES / "bases.sh").read_text())

    def run(*wanted: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", script, *wanted],
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
        )

    for result in (run(), run("pinned")):
        assert (result.returncode, result.stdout) == (code, "")
        lines = result.stderr.splitlines()
        bad = [name for name, end in named.items() if end != DIGEST]
        assert len(lines) == len(bad)
        for line, name in zip(lines, bad, strict=True):
            assert line.startswith(f"{name}={tags[name]}{named[name]}: a tag moves; ")
            assert f"`docker buildx imagetools inspect {tags[name]}`" in line
    assert run("any").returncode == 0
    assert run("any").stderr == run().stderr
    mirrors = {name: f"mirror/{tags[name]}{DIGEST}" for name in tags}
    assert run("pinned", **mirrors).returncode == 0
    assert run("pinned", **mirrors | {"PYTHON_IMAGE": "mirror/a:1"}).returncode == 1


def test_the_check_of_the_bases_refuses_what_it_does_not_know(tmp_path):
    script = tmp_path / "bases.sh"
    script.write_text((IMAGES / "bases.sh").read_text())
    (tmp_path / "Dockerfile").write_text("FROM debian:13\n")
    for wanted, words in (("pinned", "no line ARG"), ("all", "must be pinned or any")):
        result = subprocess.run(
            ["bash", script, wanted], capture_output=True, text=True
        )
        assert result.returncode == 2 and words in result.stderr


def test_cloud_build_looks_at_the_bases_first():
    build = yaml.safe_load((IMAGES / "cloudbuild.yaml").read_text())
    first = build["steps"][0]
    assert first["entrypoint"] == "bash"
    assert first["args"] == ["deploy/images/bases.sh", "${_BASES}"]
    assert build["substitutions"]["_BASES"] == "pinned"
    # One step after the other: none goes on beside the check.
    assert not [step for step in build["steps"] if "waitFor" in step]


def test_cloud_build_knows_every_word_of_its_file():
    program = Path(sys.executable).parent / "check-jsonschema"
    schema = ["--builtin-schema", "vendor.cloudbuild"]
    command = [program, *schema, IMAGES / "cloudbuild.yaml"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@functools.cache
def installed() -> dict[str, int]:
    """Files that the image's environment gets, below site-packages, and their sizes."""
    lock = contents.selected(LOCK, built=False) + contents.selected(LOCK, built=True)
    found: dict[str, int] = {}
    for name in sorted(names(lock)):
        record = importlib.metadata.distribution(name).read_text("RECORD")
        for path, _, size in csv.reader((record or "").splitlines()):
            outside = path.startswith(("..", "/")) or path.endswith(".pyc")
            if not outside and not contents.pruned(path):
                found[path] = int(size or 0)
    return found


def test_the_environment_is_within_its_budget():
    size = sum(installed().values()) / 1e6
    # Symbol tables are stripped; bytecode takes as much as the sources of what is loaded.
    # Both as measured.
    assert size - STRIPPED_MB + BYTECODE_MB < contents.BUDGET_MB
    assert size > 1000  # something was found


@pytest.mark.tf
def test_everything_that_a_container_loads_is_in_the_image(tmp_path):
    site = tmp_path / "site-packages"
    here = importlib.metadata.distribution("tensorflow").locate_file("")
    for folder in {os.path.dirname(name) for name in installed()}:
        (site / folder).mkdir(parents=True, exist_ok=True)
    for name in installed():
        (site / name).symlink_to(f"{here}/{name}")
    project = tmp_path / "opt"
    files = context()
    for sources, destination in copies(chain("pipeline")):
        for source in sources:
            for file in files:
                if file == source or source.endswith("/") and file.startswith(source):
                    below = file.removeprefix(source) if source.endswith("/") else file
                    to = project / destination.lstrip("/") / below
                    to.parent.mkdir(parents=True, exist_ok=True)
                    to.symlink_to(ROOT / file)
    script = f"""
import importlib, json, site, sys
site.addsitedir({str(site)!r})
sys.path.insert(0, {str(project / "opt" / "cifar")!r})
for name in {[*contents.LOADED, *modules(files)]!r}:
    importlib.import_module(name)
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print(json.dumps([file for file in files if file]))
"""
    result = subprocess.run(
        # Without this environment's own packages, settings and working directory.
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    loaded = json.loads(result.stdout.splitlines()[-1])
    inside = (str(tmp_path), sys.base_prefix)
    assert [file for file in loaded if not file.startswith(inside)] == []


def modules(files: list[str]) -> list[str]:
    """Every module of the project that the images hold, but for programs."""
    return sorted(
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in files
        if file.endswith(".py")
        and file.split("/")[0]
        in ("components", "contract", "pipeline", "serving", "studies", "trainer")
        and not file.endswith("/__main__.py")
    )

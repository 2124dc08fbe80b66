"""What `run --dry` says, against what the next run then does: real runs, real metadata.

All on a copy of the project, so that its files can be edited, and on a small CIFAR-10 of
random images, so that its files can be changed.
"""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.e2e import warm

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.timeout(3600)]

PROJECT = Path(__file__).parents[2]
ROOMS = (
    "components", "contract", "monitoring", "pipeline", "serving", "studies", "trainer",
)  # fmt: skip
RESOLVERS = {"PreviousStatistics", "ModelInService"}
INGESTION = {"CifarExampleGen", "StatisticsGen", "ExampleValidator", "Transform"}
SCHEMAS = {"DatasetSchema", "DataInvariants"}
TRAINERS = {"BaselineTrainer", "CandidateTrainer"}
# Of equal outputs, too, what follows runs again: TFX's cache knows artifacts by their ids.
JUDGEMENT = {"ModelChooser", "ServingCanary", "AtomicPusher"}
ANSWERS = {"BaselineAnswers", "CandidateAnswers"}
FOLLOWING = TRAINERS | ANSWERS | {"Evaluator"} | JUDGEMENT


@pytest.fixture(scope="module")
def place():
    # Sockets are made in $TMPDIR, and pytest's folders have too long names for them.
    with tempfile.TemporaryDirectory(prefix="dry-") as folder:
        project = Path(folder, "project")
        for room in ROOMS:
            shutil.copytree(
                PROJECT / room,
                project / room,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        shutil.copy(PROJECT / "pipeline.py", project)
        Path(folder, "data").mkdir()
        Path(folder, "tmp").mkdir()
        generator = np.random.default_rng(1)
        names = [f"data_batch_{index}.bin" for index in range(1, 6)] + [
            "test_batch.bin"
        ]
        for name in names:
            records = generator.integers(0, 256, (60, 3073), np.uint8)
            records[:, 0] = np.arange(60) % 10
            Path(folder, "data", name).write_bytes(records.tobytes())
        yield Path(folder)


def command(place: Path, *words: str) -> str:
    said = place / "tmp/said.txt"
    status = warm.pipeline(
        place / "project",
        [
            "run",
            "preset=smoke",
            "data.name=cifar10",
            f"data.path={place}/data",
            "data.allow_unverified=true",
            "data.shards=1",
            "train.steps=2",
            "train.global_batch_size=32",
            *(f"drift.{name}=none" for name in ("labels", "images")),
            *(f"drift.skew_{name}=none" for name in ("labels", "images")),
            f"output_root={place}/output",
            *words,
        ],
        said,
        {"TMPDIR": str(place / "tmp")},
    )
    text = said.read_text()
    said.unlink()
    assert status == 0, text
    return text


def said(text: str) -> dict[str, tuple[str, str]]:
    """Node -> (what is said to happen, the rest of its line)."""
    lines = re.findall(r"^  (run|cached|looks) +(\w+) *(.*)$", text, re.M)
    return {node: (state, rest) for state, node, rest in lines}


def done_by_the_newest_run(place: Path) -> dict[str, str]:
    """Node -> "run" or "cached", as ML Metadata has it."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(place / "output/metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    newest = max(store.get_contexts_by_type("pipeline_run"), key=lambda run: run.id)
    words = {mlmd.Execution.COMPLETE: "run", mlmd.Execution.CACHED: "cached"}
    found = {}
    for execution in store.get_executions_by_context(newest.id):
        (node,) = (
            context.name.rpartition(".")[2]
            for context in store.get_contexts_by_execution(execution.id)
            if context.type == "node"
        )
        found[node] = words[execution.last_known_state]
    return found


def stamps(place: Path) -> dict[str, tuple[int, int]]:
    """Of everything but the project, into which Python writes what it compiles."""
    folders = [each for each in place.iterdir() if each.name != "project"]
    found = [path for folder in folders for path in [folder, *folder.rglob("*")]]
    found.remove(place / "tmp")  # nothing stays in it
    return {
        str(path): (path.stat().st_ctime_ns, path.stat().st_size)
        for path in [place, *found]
    }


def edit_source(place: Path) -> None:
    with open(place / "project/components/model_chooser/choice.py", "a") as file:
        file.write("\nEDITED = True\n")


def change_data(place: Path) -> None:
    with open(place / "data/data_batch_2.bin", "r+b") as file:
        file.seek(100)
        (before,) = file.read(1)
        file.seek(100)
        file.write(bytes([before ^ 1]))


def nothing(place: Path) -> None:
    pass


# In this order, each on what the ones before left: name, edits, words, nodes that run, and
# what is said of some of them. What else is said and done, without a cache for instance,
# tests/pipeline/local/test_rehearsal.py holds against the same runner.
CASES = (
    ("first", nothing, [], INGESTION | SCHEMAS | FOLLOWING | {"InServiceAnswers"}, {
        "Transform": ["never ran here"]}),
    ("a field and a source", edit_source, ["evaluation.policy=superior"], JUDGEMENT, {
        "ModelChooser": ["evaluation.policy best -> superior",
                         "components/model_chooser/choice.py edited"],
        "ServingCanary": ["new inputs: model, model_blessing"]}),
    ("one network", nothing,
     ["evaluation.policy=superior", "candidate.network=preact_resnet14"],
     FOLLOWING - {"BaselineTrainer", "BaselineAnswers"}, {
        "CandidateTrainer": ["candidate.network preact_resnet8 -> preact_resnet14"],
        "ModelChooser": ["new inputs: evaluation, model_001"]}),
    ("data, and all trainings", change_data, ["train.seed=2"],
     INGESTION | SCHEMAS | FOLLOWING | {"InServiceAnswers"}, {
        "CifarExampleGen": ["data_batch_2.bin changed"],
        "Transform": ["new inputs: examples, schema"],
        "BaselineTrainer": ["train.seed 1 -> 2", "new inputs: "],
        "CandidateTrainer": ["train.seed 1 -> 2", "preact_resnet14 -> preact_resnet8"]}),
)  # fmt: skip


def test_what_is_said_is_what_then_happens(place):
    for name, edit, words, expected, reasons in CASES:
        edit(place)
        text, states = rehearsed(place, words)
        told = said(text)
        assert {n for n, state in states.items() if state == "run"} == expected, (
            name,
            text,
        )
        for node, parts in reasons.items():
            assert all(part in told[node][1] for part in parts), (name, text)
        command(place, *words)
        happened = done_by_the_newest_run(place)
        for node in RESOLVERS:
            assert happened.pop(node) == "run"
        assert happened == states, name
        if name == "first":
            assert "nothing was run there yet" in text
        else:
            # Seconds of the run before.
            timed = [rest for state, rest in told.values() if state == "run"]
            assert all(re.match(r"[\d:.]+ (s|min)  ", rest) for rest in timed), text
    # That nothing then runs is what tests/e2e/test_pipeline.py shows of such a run.
    _, states = rehearsed(place, words)
    assert set(states.values()) == {"cached"}


def rehearsed(place: Path, words: list[str]) -> tuple[str, dict[str, str]]:
    """What `--dry` prints, and node -> "run" or "cached"; it changes nothing."""
    before = stamps(place)
    text = command(place, "--dry", *words)
    assert stamps(place) == before, text
    states = {node: state for node, (state, _) in said(text).items()}
    assert {states.pop(node) for node in RESOLVERS} == {"looks"}
    assert "looks" not in states.values()
    return text, states

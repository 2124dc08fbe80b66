"""What the rehearsal of a run says, against what the runner then does: three small nodes."""

import os
import shutil

import pytest

from pipeline.local import database

pytestmark = [
    pytest.mark.tf,
    # TFX's way to read messages, at which protobuf points from where TFX is called.
    pytest.mark.filterwarnings("ignore:label\\(\\) is deprecated:DeprecationWarning"),
]

NODES = ("Make", "Copy", "Second")


class Heard:
    """A display that keeps what it is told."""

    def __init__(self):
        self.states = {}

    def start(self, name: str) -> None:
        self._name = name

    def end(self, state: str, *_: str) -> None:
        self.states[self._name] = {"done": "runs"}.get(state, state)


def run(root, text, **settings) -> dict[str, str]:
    from pipeline.local.runner import ComponentFailed, LocalRunner
    from tests.pipeline.local.small_flow import flow

    heard = Heard()
    try:
        LocalRunner(heard).run(flow(str(root), text, **settings))
    except ComponentFailed:
        assert heard.states["Make"] == "failed"
    return heard.states


def rehearsed(root, tmp_path_factory, text, **settings) -> dict:
    from pipeline.local.rehearsal import rehearse
    from tests.pipeline.local.small_flow import flow

    folder = tmp_path_factory.mktemp("rehearsal")
    copied = str(folder / "copy.sqlite")
    before = stamps(root)
    database.copy(str(root), copied)
    steps = rehearse(flow(str(root), text, database=copied, **settings), str(folder))
    assert stamps(root) == before
    return {step.node: step for step in steps}


def stamps(root) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ctime_ns, path.stat().st_size)
        for path in [root, *root.rglob("*")]
    }


def newest(root, node: str) -> str:
    """The folder that a node made last."""
    folders = (root / "artifacts" / node / "made").iterdir()
    return str(max(folders, key=lambda path: int(path.name)))


def test_it_says_what_the_runner_then_does(tmp_path, tmp_path_factory):
    def check(text: str, reasons: dict[str, list[str]], **settings) -> None:
        """`reasons`: of the nodes that run; the others are cached."""
        told = rehearsed(tmp_path, tmp_path_factory, text, **settings)
        assert tuple(told) == NODES
        running = {n: [*s.reasons] for n, s in told.items() if s.state == "runs"}
        assert running == reasons
        assert run(tmp_path, text, **settings) == {n: s.state for n, s in told.items()}

    follow = {"Copy": ["new input: schema"], "Second": ["new input: schema"]}
    check("one", {node: ["never ran here"] for node in NODES})
    check("one", {})
    check("two", {"Make": ["text one -> two"], **follow})
    told = rehearsed(tmp_path, tmp_path_factory, "one")
    assert [step.reasons for step in told.values()] == [
        ("made by a run before the last",)
    ] * 3
    check("one", {})
    check("two", {})
    gone = newest(tmp_path, "Copy")
    shutil.rmtree(gone)
    # Made again it is another artifact, whatever is in it.
    check("two", {"Copy": [f"{gone} is gone"], "Second": ["new input: schema"]})
    check("two", {node: ["enable_cache=false"] for node in NODES}, cache=False)
    told = rehearsed(tmp_path, tmp_path_factory, "three", cache=False)
    assert told["Make"].reasons == ("enable_cache=false", "text two -> three")
    assert all(0 <= step.seconds < 60 for step in told.values())
    assert run(tmp_path, "wrong") == {"Make": "failed"}
    check("two", {})  # what failed is no result, and none is lost


def test_what_never_ended_says_how_it_ended(tmp_path, tmp_path_factory):
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    assert run(tmp_path, "wrong") == {"Make": "failed"}
    told = rehearsed(tmp_path, tmp_path_factory, "one")
    assert told["Make"].reasons == ("never ended here: its last try failed",)
    assert told["Copy"].reasons == ("never ran here",)
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = database.path(str(tmp_path))
    store = metadata_store.MetadataStore(config)
    executions = store.get_executions()
    for execution in executions:
        execution.last_known_state = mlmd.Execution.RUNNING  # as of a killed run
    store.put_executions(executions)
    told = rehearsed(tmp_path, tmp_path_factory, "one")
    assert told["Make"].reasons == ("never ended here: its last try was stopped",)
    assert [e.last_known_state for e in store.get_executions()] == [
        mlmd.Execution.RUNNING
    ]
    assert os.path.exists(database.path(str(tmp_path)))

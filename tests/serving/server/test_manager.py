"""Versions come and go as tensorflow_model_server's policies say, without a gap."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import random
import shutil
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import model_pb2

from serving.server import savedmodel
from serving.server.batching import BatchingParameters
from serving.server.configuration import Model
from serving.server.errors import ServingError
from serving.server.manager import Manager, Policy, State, Version
from tests.serving.server import models, processes

pytestmark = pytest.mark.tf

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel to copy from."""
    folder = models.write_tf2(tmp_path_factory.mktemp("made") / "m")
    gc.collect()
    gc.freeze()  # as the server does; each unloading collects
    return folder


def load(model: Model, version: Version) -> None:
    version.servable = savedmodel.load(version.folder, savedmodel.Options())


@pytest.fixture
def manage() -> Any:
    """Makes managers that poll only when told, and stops them."""
    running: list[Manager] = []

    def manage(
        loader: Callable[[Model, Version], None] = load, **policy: Any
    ) -> Manager:
        settings = {"poll_seconds": 3600, "retry_seconds": 0.0, "max_retries": 0}
        manager = Manager(loader, Policy(**{**settings, **policy}))
        running.append(manager)
        return manager

    yield manage
    for manager in running:
        manager.stop()


def model(base: Path, **fields: Any) -> Model:
    return Model(**{"name": "m", "base_path": str(base), "labels": {}, **fields})


def spec(version: int | None = None, label: str = "", name: str = "m") -> Any:
    made = model_pb2.ModelSpec(name=name)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


def add(made: Path, base: Path, *versions: int) -> None:
    """Whole at once: a load that has just ended looks for others, at any moment."""
    for version in versions:
        copy = shutil.copytree(made, base / f".{version}")
        copy.rename(base / str(version))


def served(manager: Manager) -> list[int]:
    return manager.available().get("m", [])


def settle(manager: Manager, *versions: int) -> None:
    """Polls until exactly these are served."""

    def reached() -> bool:
        manager.poll()
        return served(manager) == list(versions)

    processes.wait_for(reached)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [9]),
        ({"num_versions": 2}, [5, 9]),
        ({"num_versions": 7}, [1, 5, 9]),
        ({"policy": "all"}, [1, 5, 9]),
        ({"policy": "specific", "versions": frozenset({1, 5, 6})}, [1, 5]),
    ],
)
def test_policies_choose_versions(manage, made, tmp_path, fields, expected):
    add(made, tmp_path, 1, 5, 9)
    manager = manage()
    manager.start({"m": model(tmp_path, **fields)})
    settle(manager, *expected)
    with manager.use(spec()) as version:
        assert version.number == expected[-1]


def test_a_specific_version_that_is_absent_is_said_once(manage, made, tmp_path, caplog):
    """Text of file_system_storage_path_source.cc, AspireSpecificVersions."""
    add(made, tmp_path, 1)
    manager = manage()
    manager.start(
        {"m": model(tmp_path, policy="specific", versions=frozenset({1, 999}))}
    )
    manager.poll()
    said = [record.getMessage() for record in caplog.records if "999" in record.message]
    assert len(said) == 1
    assert said[0].endswith(
        "Version 999 of servable m, which was requested to be served as a 'specific' "
        "version in the servable's version policy, was not found in the file system"
    )
    assert caplog.records[0].levelno == logging.WARNING


def test_names_that_are_no_versions_are_ignored(manage, made, tmp_path):
    add(made, tmp_path, 3)
    for name in ("latest", "4x", ".5", "-6", "7.0", "٨", "99999999999999999999", " 9"):
        shutil.copytree(made, tmp_path / name)
    (tmp_path / "12").write_text("a file")
    manager = manage()
    manager.start({"m": model(tmp_path, policy="all")})
    settle(manager, 3)


def test_leading_zeros_are_a_number(manage, made, tmp_path):
    shutil.copytree(made, tmp_path / "0007")
    manager = manage()
    manager.start({"m": model(tmp_path)})
    settle(manager, 7)


def test_a_request_in_flight_keeps_its_version(manage, made, tmp_path):
    add(made, tmp_path, 1)
    manager = manage()
    manager.start({"m": model(tmp_path)})
    with manager.use(spec()) as old:
        add(made, tmp_path, 2)
        settle(manager, 2)
        with manager.use(spec()) as new:
            assert new.number == 2
        assert old.state == State.UNLOADING
        outputs = old.servable.run("serving_default", {"x": np.ones(1, "f")}, ["y"])
        assert outputs["y"].tolist() == [2.5]
        with pytest.raises(ServingError) as caught, manager.use(spec(1)):
            pass
        assert caught.value.message == "Servable not found for request: Specific(m, 1)"
    processes.wait_for(lambda: old.state == State.END)
    assert old.servable is None


def test_the_old_version_serves_until_the_new_one_can(manage, made, tmp_path):
    """At every moment of a swap some version answers."""
    add(made, tmp_path, 1)
    loading, go = threading.Event(), threading.Event()

    def slow(model: Model, version: Version) -> None:
        if version.number == 2:
            loading.set()
            assert go.wait(60)
        load(model, version)

    manager = manage(slow)
    manager.start({"m": model(tmp_path)})
    add(made, tmp_path, 2)
    manager.poll()
    assert loading.wait(60)
    for _ in range(3):
        manager.poll()
        assert served(manager) == [1]
    go.set()
    processes.wait_for(lambda: served(manager) == [2])


def test_a_broken_version_is_reported_and_changes_nothing(manage, made, tmp_path):
    add(made, tmp_path, 1)
    attempts: list[int] = []

    def count(model: Model, version: Version) -> None:
        attempts.append(version.number)
        load(model, version)

    manager = manage(count, max_retries=2)
    manager.start({"m": model(tmp_path)})
    add(made, tmp_path, 2)
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"nonsense")
    manager.poll()

    def status() -> tuple[int, State, grpc.StatusCode, str]:
        return manager.statuses(spec())[0]

    processes.wait_for(lambda: status()[1] == State.END)
    assert status()[2:] == (
        Code.DATA_LOSS, f"Can't parse {tmp_path}/2/saved_model.pb as binary proto",
    )  # fmt: skip
    assert attempts == [1, 2, 2, 2]
    for _ in range(3):
        manager.poll()
    assert served(manager) == [1]
    assert attempts == [1, 2, 2, 2]  # not again, until its files change
    shutil.copy(made / "saved_model.pb", tmp_path / "2" / "saved_model.pb")
    settle(manager, 2)
    assert manager.statuses(spec(2)) == [(2, State.AVAILABLE, Code.OK, "")]


def test_versions_that_wait_for_a_retry_hold_nobody_up(manage, made, tmp_path):
    """Neither another version, nor themselves once their files are there."""
    add(made, tmp_path, 1)
    manager = manage(max_retries=5, retry_seconds=3600.0)
    manager.start({"m": model(tmp_path)})
    add(made, tmp_path, 2)
    variables = tmp_path / "2" / "variables"
    variables.rename(tmp_path / "variables")  # a copy that has not come so far
    manager.poll()
    processes.wait_for(lambda: manager.statuses(spec(2))[0][3] != "")
    assert manager.statuses(spec(2))[0][1] == State.LOADING
    assert served(manager) == [1]
    (tmp_path / "variables").rename(variables)
    settle(manager, 2)
    add(made, tmp_path, 3)
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"nonsense")
    manager.poll()
    processes.wait_for(lambda: manager.statuses(spec(3))[0][3] != "")
    add(made, tmp_path, 4)
    settle(manager, 4)
    assert manager.statuses(spec(3))[0][1] == State.END
    assert manager.statuses(spec(3))[0][3] != ""


@pytest.mark.parametrize("moment", ["while it loads", "after it has failed"])
def test_a_version_taken_away_and_put_back_is_loaded_again(
    manage, made, tmp_path, moment
):
    """The very same files: that they could not be read once says nothing any more."""
    add(made, tmp_path, 1)
    loading, go = threading.Event(), threading.Event()

    def fail_once(model: Model, version: Version) -> None:
        if version.number == 2 and not go.is_set():
            loading.set()
            assert go.wait(60)
            raise OSError("the files have gone")
        load(model, version)

    manager = manage(fail_once)
    manager.start({"m": model(tmp_path, policy="all")})
    add(made, tmp_path, 2)
    manager.poll()
    assert loading.wait(60)
    if moment == "after it has failed":
        go.set()
        processes.wait_for(lambda: manager.statuses(spec(2))[0][1] == State.END)
        manager.poll()
        assert manager.statuses(spec(2)) == [
            (2, State.END, Code.UNKNOWN, "the files have gone")
        ]
    (tmp_path / "2").rename(tmp_path / "away")
    manager.poll()
    (tmp_path / "away").rename(tmp_path / "2")
    manager.poll()
    go.set()
    settle(manager, 1, 2)


def test_a_file_mended_in_place_counts_as_changed(manage, made, tmp_path):
    """By a copy that keeps times, to a file of the same length."""
    add(made, tmp_path, 1, 2)
    file = tmp_path / "2" / "saved_model.pb"
    content, stat = file.read_bytes(), file.stat()
    file.write_bytes(bytes(len(content)))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    manager = manage()
    manager.start({"m": model(tmp_path, policy="all")})
    processes.wait_for(lambda: manager.statuses(spec(2))[0][1] == State.END)
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    settle(manager, 1, 2)


def test_going_back_to_an_older_version(manage, made, tmp_path):
    add(made, tmp_path, 1, 2)
    manager = manage()
    manager.start({"m": model(tmp_path)})
    settle(manager, 2)
    shutil.rmtree(tmp_path / "2")
    settle(manager, 1)
    add(made, tmp_path, 2)
    settle(manager, 2)


def test_a_base_folder_that_is_gone_takes_nothing_down(manage, made, tmp_path):
    base = tmp_path / "base"
    add(made, base, 1)
    manager = manage()
    manager.start({"m": model(base)})
    base.rename(tmp_path / "away")
    manager.poll()
    assert served(manager) == [1]
    (tmp_path / "away").rename(base)
    settle(manager, 1)


def test_a_base_folder_that_goes_while_it_is_read_takes_nothing_down(
    manage, made, tmp_path, monkeypatch
):
    """Between the list of its versions and the look into one."""
    base = tmp_path / "base"
    add(made, base, 1)
    manager = manage()
    manager.start({"m": model(base)})
    settle(manager, 1)
    look = manager._missing

    def go_away(folder: Path) -> str | None:
        base.rename(tmp_path / "away")
        return look(folder)

    monkeypatch.setattr(manager, "_missing", go_away)
    manager.poll()
    assert served(manager) == [1]


def test_a_start_without_any_good_version_fails(manage, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(ServingError) as caught:
        manage().start({"m": model(tmp_path)})
    assert caught.value.code == grpc.StatusCode.UNKNOWN
    assert (
        "1 servable(s) did not become available: {Name: m Version: 1 due to error"
        in (caught.value.message)
    )


def test_a_reload_needs_no_polling(manage, made, tmp_path):
    """With --file_system_poll_wait_seconds=0, where tensorflow_model_server waits for ever
    (tensorflow/serving, issue 1519).
    """
    add(made, tmp_path, 1)
    manager = manage(poll_seconds=0)
    manager.start({})
    manager.reload({"m": model(tmp_path)})
    assert served(manager) == [1]
    manager.reload({"n": model(tmp_path, name="n")})
    assert {name for name, found in manager.available().items() if found} == {"n"}


class Held:
    """Loads, but of some models only when told to."""

    def __init__(self, *names: str):
        self.names = names
        self.go = threading.Event()
        self.loading = threading.Event()

    def __call__(self, model: Model, version: Version) -> None:
        if model.name in self.names:
            self.loading.set()
            assert self.go.wait(60)
        load(model, version)


def test_what_is_being_unloaded_may_be_wanted_again(manage, made, tmp_path):
    """Once it has gone; nobody polls meanwhile."""
    add(made, tmp_path, 1)
    manager = manage()
    manager.start({"m": model(tmp_path)})
    with manager.use(spec()):  # it stays in memory to the end of this
        manager.reload({})
        change = manager.begin({"m": model(tmp_path)})
    processes.wait_for(lambda: change.ended)
    assert change.error is None
    assert served(manager) == [1]


def test_a_stop_ends_a_reload_that_waits(manage, made, tmp_path):
    """Without an OK for models that never came; one that comes later is told as well."""
    add(made, tmp_path, 1)
    held = Held("z")
    manager = manage(held)
    manager.start({"m": model(tmp_path)})
    both = {"m": model(tmp_path), "z": model(tmp_path, name="z")}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.reload, both)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        manager.stop()
        for reload in (waiting.result, lambda: manager.reload({})):
            with pytest.raises(ServingError) as caught:
                reload()
            assert caught.value.code == Code.UNAVAILABLE
        held.go.set()


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        # file_system_storage_path_source.cc, PollFileSystemForServable, FailIfZeroVersions
        (
            {"base_path": "/nothing/here"},
            Code.INVALID_ARGUMENT,
            "Could not find base path /nothing/here for servable new with error ",
        ),
        (
            {"base_path": "EMPTY"},
            Code.NOT_FOUND,
            "Unable to find a numerical version path for servable new at: EMPTY",
        ),
        (
            {"policy": "specific", "versions": frozenset({999})},
            Code.NOT_FOUND,
            "Unable to find a numerical version path for servable new at: ",
        ),
    ],
)
def test_a_change_that_cannot_work_changes_nothing(
    manage, made, tmp_path, fields, code, text
):
    """Neither now, nor when it could work after all; and the next one is not held up."""
    add(made, tmp_path / "m", 1)
    empty = str(tmp_path / "empty")
    os.mkdir(empty)
    fields = {
        name: empty if value == "EMPTY" else value for name, value in fields.items()
    }
    manager = manage()
    manager.start({"m": model(tmp_path / "m")})
    new = model(**{"base": tmp_path / "m", "name": "new", **fields})
    for name in ("new", "m"):
        with pytest.raises(ServingError) as caught:
            manager.reload({name: dataclasses.replace(new, name=name)})
        assert caught.value.code == code
        expected = text.replace("EMPTY", empty).replace("new", name)
        assert caught.value.message.startswith(expected)
        assert served(manager) == [1]
    add(made, Path(empty), 1)
    for _ in range(3):
        manager.poll()
    assert manager.available() == {"m": [1]}
    manager.reload({"new": model(tmp_path / "m", name="new")})
    assert manager.available()["new"] == [1]


def test_a_change_supersedes_the_one_under_way(manage, made, tmp_path):
    add(made, tmp_path / "a", 1)
    add(made, tmp_path / "b", 2)
    held = Held("slow")
    manager = manage(held, load_threads=2)
    manager.start({"m": model(tmp_path / "a")})
    slow = model(tmp_path / "a", name="slow")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(manager.reload, {"slow": slow})
        assert held.loading.wait(60)
        assert served(manager) == [1]  # until the new one is there
        both = manager.begin({"m": model(tmp_path / "a"), "slow": slow})
        with pytest.raises(ServingError) as caught:
            first.result(60)
        assert caught.value.code == Code.ABORTED
        assert not both.ended  # what is wanted on the way is not what arrives
        manager.reload(
            {"m": model(tmp_path / "a"), "b": model(tmp_path / "b", name="b")}
        )
    assert both.error and both.error.code == Code.ABORTED
    held.go.set()
    processes.wait_for(
        lambda: (
            manager.statuses(spec(name="slow"))[0][1] in (State.END, State.UNLOADING)
        )
    )
    assert manager.available() == {"m": [1], "b": [2], "slow": []}


def test_a_change_that_was_given_up_is_not_applied(manage, made, tmp_path):
    """Its caller was told that it failed; the models it leaves out serve all the time."""
    add(made, tmp_path, 1)
    held = Held("new")
    manager = manage(held, load_threads=2)
    manager.start({"m": model(tmp_path)})
    late = threading.Event()

    def check() -> None:
        if late.is_set():
            raise ServingError(Code.DEADLINE_EXCEEDED, "late")

    with ThreadPoolExecutor(1) as pool:
        new = {"new": model(tmp_path, name="new")}
        waiting = pool.submit(manager.reload, new, check)
        assert held.loading.wait(60)
        late.set()
        with pytest.raises(ServingError) as caught:
            waiting.result(60)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    with pytest.raises(ServingError):  # one that was late before it began
        manager.reload({}, check)
    held.go.set()
    processes.wait_for(
        lambda: manager.statuses(spec(name="new"))[0][1] >= State.UNLOADING
    )
    assert manager.available() == {"m": [1], "new": []}
    with manager.use(spec()) as version:
        assert version.servable is not None


def test_a_corrected_model_is_loaded_as_it_is_now(manage, made, tmp_path):
    """Its folder was wrong: it failed, or waits to be tried again."""
    add(made, tmp_path / "right", 1)
    (tmp_path / "wrong" / "1").mkdir(parents=True)
    (tmp_path / "wrong" / "1" / "saved_model.pb").write_bytes(b"nonsense")
    manager = manage(max_retries=5, retry_seconds=3600)
    manager.start({})
    manager.begin({"m": model(tmp_path / "wrong")})
    processes.wait_for(lambda: manager.statuses(spec())[0][3] != "")
    manager.reload({"m": model(tmp_path / "right")})
    assert served(manager) == [1]


def test_a_start_waits_for_the_first_version(manage, made, tmp_path):
    manager = manage(poll_seconds=1)
    started = threading.Thread(target=manager.start, args=({"m": model(tmp_path)},))
    started.start()
    add(made, tmp_path, 1)
    started.join(60)
    assert served(manager) == [1]


FILES = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(FILES), cut=st.floats(0, 0.99))
def test_a_copy_in_progress_is_never_served(made, tmp_path_factory, order, cut):
    """Files arrive in any order, and each grows: served only when all are there."""
    base = tmp_path_factory.mktemp("base")
    manager = Manager(load, Policy(poll_seconds=3600, retry_seconds=0, max_retries=0))
    add(made, base, 1)
    manager.start({"m": model(base)})
    copy = base / "2"
    (copy / "variables").mkdir(parents=True)
    needed = set(FILES) - {"fingerprint.pb"}
    for name in order:
        content = (made / name).read_bytes()
        for part in (content[: int(len(content) * cut)], content):
            (copy / name).write_bytes(part)
            if part == content:
                needed.discard(name)
            manager.poll()
            processes.wait_for(
                lambda: all(
                    state in (State.AVAILABLE, State.END)
                    for _, state, _, _ in manager.statuses(spec())
                )
            )
            if needed:
                assert served(manager) == [1]
    settle(manager, 2)
    manager.stop()


def test_labels_follow_the_rules(manage, made, tmp_path):
    add(made, tmp_path, 1, 2)

    def labelled(**labels: int) -> dict[str, Model]:
        return {"m": model(tmp_path, policy="all", labels=labels)}

    def refused(manager: Manager, models: dict[str, Model]) -> None:
        with pytest.raises(ServingError) as caught:
            manager.reload(models)
        assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.message.startswith("Request to assign label to version ")
        assert caught.value.message.endswith(
            " of model m, which is not currently available for inference"
        )

    manager = manage()
    refused(manager, labelled(stable=1))  # nothing is loaded yet
    manager.start(labelled())
    settle(manager, 1, 2)
    manager.reload(labelled(stable=1))
    with manager.use(spec(label="stable")) as version:
        assert version.number == 1
    refused(manager, labelled(stable=3))
    with manager.use(spec(label="stable")) as version:
        assert version.number == 1  # as it was

    manager = manage(labels_for_unavailable=True)
    manager.start(labelled(stable=1, next=3))  # new labels may wait for a version
    settle(manager, 1, 2)
    refused(manager, labelled(stable=3))  # those in use may not
    manager = manage(any_label=True)
    manager.start(labelled(stable=1))
    manager.reload(labelled(stable=3))


def test_a_reload_with_a_bad_model_keeps_the_good_ones(manage, made, tmp_path):
    add(made, tmp_path / "good", 1)
    add(made, tmp_path / "bad", 1)
    (tmp_path / "bad" / "1" / "saved_model.pb").write_bytes(b"nonsense")
    manager = manage()
    good = model(tmp_path / "good")
    manager.start({"m": good})
    bad = model(tmp_path / "bad", name="bad")
    with pytest.raises(ServingError, match="Name: bad Version: 1 due to error"):
        manager.reload({"m": good, "bad": bad})
    assert served(manager) == [1]


def test_unloading_gives_memory_back(manage, made, tmp_path):
    """A version costs 3 MB; of twenty that went, next to nothing is left."""
    manager = manage()
    base = tmp_path / "base"
    add(made, base, 1)
    manager.start({"m": model(base)})

    def swap(version: int) -> None:
        add(made, base, version)
        shutil.rmtree(base / str(version - 1))
        settle(manager, version)

    for version in range(2, 8):
        swap(version)
    before = processes.resident_bytes(os.getpid())
    for version in range(8, 28):
        swap(version)
    processes.wait_for(
        lambda: (
            sum(s == State.UNLOADING for _, s, _, _ in manager.statuses(spec())) == 0
        )
    )
    grown = processes.resident_bytes(os.getpid()) - before
    assert grown < 30e6, f"{grown / 1e6:.0f} MB for 20 swaps"


def test_unloaded_version_keeps_nothing_of_its_batches(manage, made, tmp_path):
    def load_batched(model: Model, version: Version) -> None:
        load(model, version)
        version.batching = BatchingParameters()

    add(made, tmp_path, 1)
    manager = manage(load_batched)
    manager.start({"m": model(tmp_path)})
    with manager.use(spec()) as version:
        batcher = version.batcher("serving_default")
        outputs = batcher.submit({"x": np.ones(1, np.float32)})
        assert outputs["y"].shape == (1,)
        servable = weakref.ref(version.servable)
    del batcher
    manager.reload({})

    def released() -> bool:
        gc.collect()
        return servable() is None

    processes.wait_for(released)  # although the version is remembered, by us as well
    assert version.state == State.END


def test_random_histories_end_as_the_folder_says(manage, made, tmp_path):
    """Adds and removes in any order; there is a version to answer at all times."""
    rng = random.Random(5)
    base = tmp_path / "base"
    add(made, base, 1)
    manager = manage(load_threads=2)
    manager.start({"m": model(base, num_versions=2)})
    there = {1}
    for _ in range(30):
        number = rng.randrange(1, 9)
        if number not in there:
            there.add(number)
            add(made, tmp_path / "new", number)
            (tmp_path / "new" / str(number)).rename(base / str(number))
        elif len(there) > 1:
            there.remove(number)
            (base / str(number)).rename(tmp_path / "gone")
            shutil.rmtree(tmp_path / "gone")
        manager.poll()
        with manager.use(spec()) as version:
            assert version.servable is not None
    settle(manager, *sorted(there)[-2:])

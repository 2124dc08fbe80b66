"""Publishing to object storage survives crashes at every request, races and slow rivals.

The storage is an independent emulator, reached by the genuine client. What a version holds
is read back as plain objects and compared with the source, never with the ledger.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.atomic_pusher import ledger
from components.atomic_pusher import object_storage as module
from components.atomic_pusher.ledger import Origin
from components.atomic_pusher.publish import PublishError

Files = dict[str, bytes]
MODEL = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 1000,
    "assets.extra/empty": b"",
}


class Crash(BaseException):
    """The process is gone."""


class Session(requests.Session):
    """Asks `before` and tells `after` each request that leaves."""

    def __init__(
        self,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self.before, self.after = before, after

    def request(self, method, url, data=None, headers=None, **more) -> Any:
        if not re.search("/o(/|[?]|$)", url):  # the client's own look at the bucket
            return super().request(method, url, data=data, headers=headers, **more)
        self.before()
        answer = super().request(method, url, data=data, headers=headers, **more)
        self.after()
        return answer


def client(session: Session | None = None) -> storage.Client:
    return storage.Client(
        project="test",
        credentials=AnonymousCredentials(),
        _http=session or Session(),
    )


@functools.cache
def reader() -> storage.Client:
    """For looking at what publishers do."""
    return client()


def write_model(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", MODEL)


@pytest.fixture
def url(object_storage) -> str:
    return object_storage.url("serving/cifar")


def opened(url: str, session: Session | None = None) -> ledger.Folder:
    return ledger.open_folder(url, client(session))


def objects(url: str) -> Files:
    """All objects below a folder."""
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    found = reader().list_blobs(bucket, prefix=f"{prefix}/")
    return {
        blob.name.removeprefix(f"{prefix}/"): blob.download_as_bytes() for blob in found
    }


def configured(url: str) -> int | None:
    """The version that a server would load."""
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    blob = reader().bucket(bucket).blob(f"{prefix}/models.config")
    try:
        text = blob.download_as_text()
    except NotFound:
        return None
    (version,) = re.findall(r"specific \{ versions: (\d+) \}", text)
    return int(version)


def version_of(found: Files, version: int) -> Files:
    return {
        name.removeprefix(f"{version}/"): content
        for name, content in found.items()
        if name.startswith(f"{version}/")
    }


def chain(url: str) -> list[int]:
    """What was ever served, newest first, by the entries alone."""
    found, versions = objects(url), []
    version = configured(url)
    while version is not None:
        versions.append(version)
        version = json.loads(found[f"ledger/{version}.json"])["previous"]
    return versions


def test_a_version_is_bit_equal_and_named_by_one_file(model, url):
    entry = module.publish(model, opened(url), Origin(network="resnet20"))
    found = objects(url)
    assert version_of(found, entry.version) == MODEL
    assert set(found) == {
        "models.config",
        f"ledger/{entry.version}.json",
        *(f"{entry.version}/{name}" for name in MODEL),
    }
    assert configured(url) == entry.version
    written = json.loads(found[f"ledger/{entry.version}.json"])
    assert written["origin"]["network"] == "resnet20"
    assert written["previous"] is None
    moment = datetime.datetime.fromisoformat(written["published"])
    assert abs(moment.timestamp() - entry.version) < 10


@pytest.mark.tf
def test_the_file_is_a_configuration_of_tensorflow_serving(model, url):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    for _ in range(2):
        entry = module.publish(model, opened(url), Origin())
        message = model_server_config_pb2.ModelServerConfig()
        text_format.Parse(objects(url)["models.config"].decode(), message)
        (config,) = message.model_config_list.config
        assert (config.name, config.base_path) == ("cifar", url)
        assert config.model_platform == "tensorflow"
        assert list(config.model_version_policy.specific.versions) == [entry.version]


def test_pushes_of_one_second_are_all_kept_and_linked(model, url):
    versions = [module.publish(model, opened(url), Origin()).version for _ in range(4)]
    assert versions == sorted(set(versions))
    assert configured(url) == versions[-1]
    assert chain(url) == versions[::-1]
    _, history = ledger.published(opened(url))
    assert [each.version for each in history] == versions[::-1]


def test_what_else_stands_in_the_file_is_kept(model, url):
    module.publish(model, opened(url), Origin())
    blob = opened(url).blob("models.config")
    text = blob.download_as_text().replace(
        '    model_platform: "tensorflow"\n',
        '    model_platform: "tensorflow"  # versions: 12 is a comment\n'
        "    logging_config { sampling_config { sampling_rate: 0.1 } }\n",
    )
    blob.upload_from_string(text)
    second = module.publish(model, opened(url), Origin())
    now = blob.download_as_text()
    assert "sampling_rate: 0.1" in now and "versions: 12 is a comment" in now
    assert f"specific {{ versions: {second.version} }}" in now


@pytest.mark.parametrize(
    "text",
    [
        "model_config_list { }",
        "model_config_list { config { specific { versions: 1 versions: 2 } } }",
        'specific { versions: 1 } version_labels { key: "stable" value: 1 }',
        "# versions: 3",
    ],
)
def test_a_strange_configuration_is_left_alone(model, url, text):
    blob = opened(url).blob("models.config")
    blob.upload_from_string(text)
    with pytest.raises(PublishError, match=r"models\.config: must name exactly one"):
        module.publish(model, opened(url), Origin())
    assert blob.download_as_text() == text


def test_from_object_storage_nothing_passes_this_machine(model, url, object_storage):
    source = object_storage.url("artifacts/model")
    for name, content in MODEL.items():
        bucket, _, path = f"{source}/{name}".removeprefix("gs://").partition("/")
        client().bucket(bucket).blob(path).upload_from_string(content)
    bucket, _, path = source.removeprefix("gs://").partition("/")
    client().bucket(bucket).blob(f"{path}/variables/").upload_from_string(
        b""
    )  # a marker
    object_storage.reset()
    entry = module.publish(source, opened(url), Origin())
    sent = [line for method, line in object_storage.requests if "alt=media" in line]
    assert not [line for line in sent if "artifacts" in line]
    assert version_of(objects(url), entry.version) == MODEL


@pytest.mark.parametrize(
    "name", ["../outside", "a/../../../outside", "{folder}/outside"]
)
def test_names_that_lead_out_of_the_folder_are_not_copied(tmp_path, url, name):
    bucket, _, path = url.removeprefix("gs://").partition("/")
    for each in ("saved_model.pb", name.format(folder=tmp_path)):
        client().bucket(bucket).blob(f"{path}/7/{each}").upload_from_string(b"x")
    target = tmp_path / "in/here"
    with pytest.raises(PublishError, match="is no path below a folder"):
        module.download(f"{url}/7", target)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("break_source", "words"),
    [
        (lambda model: model.rename(model.parent / "gone"), "no such folder"),
        (lambda model: (model / "saved_model.pb").unlink(), "not a SavedModel"),
        (lambda model: (model / "x").symlink_to("nowhere"), "No such file"),
        (lambda model: os.mkfifo(model / "pipe"), "neither file nor folder"),
    ],
)
def test_a_bad_source_writes_nothing(model, url, break_source, words):
    break_source(model)
    with pytest.raises(PublishError, match=words):
        module.publish(model, opened(url), Origin())
    assert objects(url) == {}


def test_large_files_go_up_in_parts(tmp_path, url, object_storage):
    """More than 8 MB: the client's resumable uploads, here with a part that fails."""
    weights = random.Random(1).randbytes(9_000_000)
    files = MODEL | {"variables/variables.data-00000-of-00001": weights}
    object_storage.fail("PUT", "upload_id")
    entry = module.publish(write_model(tmp_path / "m", files), opened(url), Origin())
    assert version_of(objects(url), entry.version) == files
    assert [method for method, _ in object_storage.requests].count("PUT") >= 2


def test_what_changes_while_it_is_read_is_not_published(model, url, object_storage):
    first = module.publish(model, opened(url), Origin())

    def grow() -> None:
        (model / "variables/variables.index").write_bytes(b"longer than before")

    # The source is listed and summed up before the number is taken.
    session = Session(after=grow)
    with pytest.raises(PublishError, match="was changed while it was read"):
        module.publish(model, opened(url, session), Origin())
    assert configured(url) == first.version
    assert {name.split("/")[0] for name in objects(url)} == {
        "models.config", "ledger", str(first.version),
    }  # fmt: skip


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("upload", [0, 3, 6])  # the claim, a file, models.config
def test_what_is_unavailable_for_a_moment_is_tried_again(
    model, url, object_storage, applied, upload
):
    """Also where the request was carried out and only its answer was lost."""
    first = module.publish(model, opened(url), Origin())
    object_storage.fail(
        "POST", "/upload/", applied=applied, skip=upload, status=429 if upload else 503
    )
    object_storage.fail("GET", "models.config")
    second = module.publish(model, opened(url), Origin())
    assert chain(url) == [second.version, first.version]
    assert version_of(objects(url), second.version) == MODEL


def count_requests(model: Path, url: str) -> int:
    sent: list[int] = []
    module.publish(model, opened(url, Session(before=lambda: sent.append(1))), Origin())
    return len(sent)


@pytest.mark.parametrize("sent", [False, True])
def test_a_crash_at_any_request_leaves_a_complete_version_served(
    tmp_path, object_storage, sent, monkeypatch
):
    """`sent`: the fatal request still reaches the storage, its answer reaches nobody."""
    old, new, next_one = (
        write_model(tmp_path / str(n), MODEL | {"saved_model.pb": bytes([n])})
        for n in range(3)
    )
    total = count_requests(old, object_storage.url("count/cifar"))
    outcomes = []
    for fatal in range(total + 1):
        url = object_storage.url(f"{fatal}/cifar")
        first = module.publish(old, opened(url), Origin())
        left = [fatal]

        def step(left: list[int] = left) -> None:
            if left[0] <= 0:
                raise Crash
            left[0] -= 1

        session = Session(after=step) if sent else Session(before=step)
        with contextlib.suppress(Crash):
            module.publish(new, opened(url, session), Origin())
        found, served = objects(url), configured(url)
        assert served is not None
        which = b"\0" if served == first.version else b"\1"
        outcomes.append(which)
        assert version_of(found, served) == MODEL | {"saved_model.pb": which}
        # Whatever is left, the next one publishes; after a day nothing of it remains.
        monkeypatch.setattr(module, "LEFTOVER_AGE", datetime.timedelta(0))
        third = module.publish(next_one, opened(url), Origin())
        monkeypatch.setattr(module, "LEFTOVER_AGE", datetime.timedelta(days=1))
        versions = [third.version, served]
        if served != first.version:
            versions.append(first.version)
        assert chain(url) == versions
        assert {name.partition("/")[0] for name in objects(url)} == {
            "models.config", "ledger", *map(str, versions),
        }  # fmt: skip
    # The first requests cannot publish, the last one can only find it published.
    assert outcomes[0] == b"\0" and outcomes[-1] == b"\1"
    assert outcomes == sorted(outcomes)


def test_leftovers_of_less_than_a_day_are_left_alone(model, url):
    left = [8]  # before the last object

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Crash

    with pytest.raises(Crash):
        module.publish(model, opened(url, Session(before=step)), Origin())
    before = objects(url)
    assert len(before) == len(MODEL) and configured(url) is None
    second = module.publish(model, opened(url), Origin())
    after = objects(url)
    assert before.items() <= after.items()
    assert chain(url) == [second.version]


def test_folders_that_are_not_ours_are_left_alone(model, url, monkeypatch):
    monkeypatch.setattr(module, "LEFTOVER_AGE", datetime.timedelta(0))
    strange = {"12/saved_model.pb": b"x", "notes/12.json": b"x", "ledger/readme": b"x"}
    for name, content in strange.items():
        opened(url).blob(name).upload_from_string(content)
    module.publish(model, opened(url), Origin())
    module.publish(model, opened(url), Origin())
    assert strange.items() <= objects(url).items()


def test_two_at_once_are_both_published_the_last_one_visible(tmp_path, url):
    """Both have uploaded before either shows; the slower one takes a higher number."""
    folders = [
        write_model(tmp_path / str(n), MODEL | {"saved_model.pb": bytes([n])})
        for n in range(2)
    ]
    fast_is_done, entries = threading.Event(), {}

    class Waiting(Session):
        def request(self, method, url, data=None, headers=None, **more):
            if method == "POST" and data is not None and b"model_config_list" in data:
                assert fast_is_done.wait(30)
            return super().request(method, url, data=data, headers=headers, **more)

    def slow() -> None:
        entries[0] = module.publish(folders[0], opened(url, Waiting()), Origin())

    thread = threading.Thread(target=slow)
    thread.start()
    while not any("/saved_model.pb" in name for name in objects(url)):
        pass
    entries[1] = module.publish(folders[1], opened(url), Origin())
    fast_is_done.set()
    thread.join()
    assert entries[0].version > entries[1].version
    assert chain(url) == [entries[0].version, entries[1].version]
    found = objects(url)
    for number, entry in entries.items():
        assert version_of(found, entry.version)["saved_model.pb"] == bytes([number])
    # The slower one's first number is given back.
    assert {name.partition("/")[0] for name in found} == {
        "models.config", "ledger", *(str(e.version) for e in entries.values()),
    }  # fmt: skip


def test_an_answer_that_is_lost_and_overtaken_is_still_published_once(
    tmp_path, url, object_storage
):
    """The configuration was written, the answer lost, and somebody else wrote the next."""
    mine, other = (
        write_model(tmp_path / str(n), MODEL | {"saved_model.pb": bytes([n])})
        for n in range(2)
    )
    others: list[int] = []
    folder = url

    class Overtaken(Session):
        def request(self, method, url, data=None, headers=None, **more):
            answer = super().request(method, url, data=data, headers=headers, **more)
            if data is not None and b"model_config_list" in data and not others:
                others.append(module.publish(other, opened(folder), Origin()).version)
                raise requests.ConnectionError("the answer is lost")
            return answer

    entry = module.publish(mine, opened(url, Overtaken()), Origin())
    assert chain(url) == [others[0], entry.version]
    assert version_of(objects(url), entry.version)["saved_model.pb"] == b"\0"


def test_rivals_that_never_stop_end_in_a_sentence(tmp_path, model, url):
    folder = url

    class Beaten(Session):
        def request(self, method, url, data=None, headers=None, **more):
            if data is not None and b"model_config_list" in data:
                module.publish(model, opened(folder), Origin())
            return super().request(method, url, data=data, headers=headers, **more)

    mine = write_model(tmp_path / "mine", MODEL | {"saved_model.pb": b"mine"})
    with pytest.raises(PublishError, match="other publishers were faster for 0 s"):
        module.publish(mine, opened(url, Beaten()), Origin(), deadline_seconds=0.0)
    found = objects(url)
    assert b"mine" not in found.values()
    assert {n.partition("/")[0] for n in found} == {
        "models.config", "ledger", *map(str, chain(url)),
    }  # fmt: skip


class Turns:
    """Lets publishers in threads send one request at a time, in an order that is given."""

    def __init__(self, publishers: int):
        self.wake = [threading.Semaphore(0) for _ in range(publishers)]
        self.done = [threading.Semaphore(0) for _ in range(publishers)]
        self.finished = [False] * publishers
        self.crash = [False] * publishers

    def session(self, number: int) -> Session:
        def before() -> None:
            self.done[number].release()
            self.wake[number].acquire()
            if self.crash[number]:
                raise Crash

        return Session(before=before)

    def step(self, number: int) -> None:
        """Lets a publisher send its next request and waits until it wants another."""
        self.wake[number].release()
        self.done[number].acquire()


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.integers(0, 2), min_size=20, max_size=120),
    crashes=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    impatient=st.booleans(),
)
def test_whatever_the_order_of_requests_only_complete_versions_are_named(
    tmp_path_factory, object_storage, order, crashes, impatient
):
    """Three publishers, any interleaving, crashes; also with rivals that clean up at once.

    Args:
        order: Whose request is next.
        crashes: After how many requests each publisher dies; 40 and more: never.
        impatient: Whether everything unpublished counts as left behind, the living too.
    """
    url = object_storage.url(f"{random.getrandbits(64)}/cifar")
    folder = tmp_path_factory.mktemp("models")
    sources = [{"saved_model.pb": bytes([n]), "x": b"weights"} for n in range(3)]
    paths = [write_model(folder / str(n), files) for n, files in enumerate(sources)]
    turns, entries, errors = Turns(3), {}, {}
    patience, module.LEFTOVER_AGE = (
        module.LEFTOVER_AGE,
        datetime.timedelta(0 if impatient else 1),
    )

    def work(number: int) -> None:
        # The readers of the ledger would send several requests in one turn.
        try:
            entries[number] = module.publish(
                paths[number], opened(url, turns.session(number)), Origin()
            )
        except (Crash, PublishError) as error:
            errors[number] = error
        finally:
            turns.finished[number] = True
            turns.done[number].release()

    threads = [threading.Thread(target=work, args=[n], daemon=True) for n in range(3)]
    try:
        ledger._READERS, readers = 1, ledger._READERS
        for number, thread in enumerate(threads):
            thread.start()
            turns.done[number].acquire()
        steps, seen = [0, 0, 0], None
        rest = [n for _ in range(400) for n in range(3)]
        for number in [*order, *rest]:
            if turns.finished[number]:
                continue
            turns.crash[number] = (
                crashes[number] < 40 and steps[number] >= crashes[number]
            )
            turns.step(number)
            steps[number] += 1
            served = configured(url)
            if served != seen:
                seen = served
                content = version_of(objects(url), served or 0)
                assert content in sources
        for thread in threads:
            thread.join(30)
        assert all(turns.finished)
    finally:
        module.LEFTOVER_AGE, ledger._READERS = patience, readers
    published = chain(url)
    found = objects(url)
    for version in published:
        assert version_of(found, version) in sources
    for entry in entries.values():
        assert entry.version in published
    for error in errors.values():
        assert isinstance(error, Crash) or "abandoned" in str(error)
    if not impatient and not any(isinstance(e, Crash) for e in errors.values()):
        assert len(entries) == 3


def test_rollback_is_a_new_version_of_the_same_objects(model, tmp_path, url):
    other = write_model(tmp_path / "other", MODEL | {"saved_model.pb": b"other"})
    first = module.publish(model, opened(url), Origin(network="one"))
    second = module.publish(other, opened(url), Origin(network="two"))
    served = ledger.read_served(opened(url))
    third = module.roll_back(opened(url), first, served)
    assert third.version > second.version
    assert version_of(objects(url), third.version) == MODEL
    assert (third.rollback_of, third.origin) == (first.version, first.origin)
    assert chain(url) == [third.version, second.version, first.version]
    served = ledger.read_served(opened(url))
    fourth = module.roll_back(opened(url), second, served)
    fifth = module.roll_back(opened(url), third, ledger.read_served(opened(url)))
    assert (fourth.rollback_of, fifth.rollback_of) == (second.version, first.version)


def test_rollback_is_refused_when_another_version_came_meanwhile(model, url):
    first = module.publish(model, opened(url), Origin())
    module.publish(model, opened(url), Origin())
    decided_by = ledger.read_served(opened(url))
    third = module.publish(model, opened(url), Origin())
    before = objects(url)
    with pytest.raises(PublishError, match=f"version {third.version} was published"):
        module.roll_back(opened(url), first, decided_by)
    assert objects(url) == before


def test_rollback_takes_the_copy_where_the_folder_is_damaged(
    model, url, object_storage
):
    copy = object_storage.url("artifacts/pushed")
    for name, content in MODEL.items():
        ledger.open_folder(copy, client()).blob(name).upload_from_string(content)
    first = module.publish(model, opened(url), Origin(artifact_uri=copy))
    module.publish(model, opened(url), Origin())
    opened(url).blob(f"{first.version}/variables/variables.index").delete()
    served = ledger.read_served(opened(url))
    third = module.roll_back(opened(url), first, served)
    assert version_of(objects(url), third.version) == MODEL
    ledger.open_folder(copy, client()).blob("saved_model.pb").upload_from_string(b"bad")
    with pytest.raises(PublishError) as caught:
        module.roll_back(opened(url), first, ledger.read_served(opened(url)))
    assert "variables/variables.index is missing" in str(caught.value)
    assert "saved_model.pb has other content (3 of 5 bytes)" in str(caught.value)
    assert configured(url) == third.version


def test_errors_are_sentences(model, url, object_storage, monkeypatch):
    with pytest.raises(PublishError, match=r"must be gs://<bucket>/<folder>"):
        ledger.open_folder("gs:///x", client())
    with pytest.raises(PublishError, match="was not published to") as caught:
        module.publish(model, opened("gs://no-such-bucket/cifar"), Origin())
    assert "\n" not in str(caught.value)
    opened(url).blob("models.config").upload_from_string("specific { versions: 7 }")
    opened(url).blob("ledger/7.json").upload_from_string("{}")
    with pytest.raises(PublishError, match=r"ledger/7\.json: is damaged"):
        ledger.published(opened(url))

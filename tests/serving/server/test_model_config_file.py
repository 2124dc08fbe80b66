"""A models' file that is read again and again: what is wrong with it changes nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from serving.server import configuration, savedmodel
from serving.server.configuration import Model
from serving.server.errors import ServingError
from serving.server.flags import Flags
from serving.server.manager import Manager, Policy, Version
from tests.serving.server import models, processes

pytestmark = pytest.mark.tf

SECONDS = 0.02  # between two looks


def load(model: Model, version: Version) -> None:
    version.servable = savedmodel.load(version.folder, savedmodel.Options())


def entry(name: str, base: Path | str) -> str:
    return (
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}'
    )


def config(*entries: str) -> str:
    return "model_config_list {\n" + "\n".join(entries) + "\n}\n"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models a (version 1), b (2) and c (3)."""
    root = tmp_path_factory.mktemp("bases")
    for number, name in enumerate("abc", 1):
        models.write_tf2(root / name / str(number))
    return {name: root / name for name in "abc"}


class Watched:
    """A manager with its models' file."""

    def __init__(self, path: Path, text: str):
        self.path = path
        self.manager = Manager(load, Policy(poll_seconds=3600, max_retries=0))
        path.write_text(text)
        flags = Flags(model_config_file=str(path))
        self.manager.start(configuration.load_models(flags))
        self.stopping = threading.Event()

    def replace(self, text: str, encoding: str = "utf-8") -> None:
        """Not truncated first: on a busy machine the empty file would be seen, too."""
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding=encoding)
        new.replace(self.path)

    def watch(self) -> None:
        configuration.watch_models(
            str(self.path), SECONDS, self.manager.begin, self.stopping
        )

    def served(self) -> dict[str, list[int]]:
        return {
            name: found for name, found in self.manager.available().items() if found
        }

    def stop(self) -> None:
        self.stopping.set()
        self.manager.stop()


@pytest.fixture
def watched(tmp_path: Path, bases: dict[str, Path]) -> Iterator[Watched]:
    made = Watched(tmp_path / "models.txt", config(entry("a", bases["a"])))
    made.watch()
    yield made
    made.stop()


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # server_core.cc, ReloadConfig: CONFIG_NOT_SET after a list.
        ("", "It is only legal to transition from one ModelConfigList to another."),
        ("# models follow", "Cannot transition to requested config."),
        # text_format.cc, ParserErrorCollector
        (
            "garbage: 1",
            "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1: "
            'Message type "tensorflow.serving.ModelServerConfig" has no field named '
            '"garbage".',
        ),
        (config(entry("x", "/nothing")), "Could not find base path /nothing"),
        (config(entry("x", "/x"), entry("x", "/y")), "multiple times in config list"),
        ("\xff", "it is not UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_wrong_for_a_moment(
    watched: Watched, bases, caplog, text: str | None, words: str
):
    if text is None:
        watched.path.unlink()
    else:
        watched.replace(text, encoding="latin-1")
    processes.wait_for(lambda: complaints(caplog))
    time.sleep(5 * SECONDS)
    assert watched.served() == {"a": [1]}
    (said,) = complaints(caplog)  # once, although it is read again and again
    assert words in said and said.endswith("; the models stay as they are")
    watched.replace(config(entry("b", bases["b"])))
    processes.wait_for(lambda: watched.served() == {"b": [2]})
    assert len(complaints(caplog)) == 1


def test_an_empty_list_is_a_configuration(watched: Watched):
    """Unlike an empty file: server_core_test.cc, ReloadConfigRemoveAll...; here by file."""
    watched.path.write_text("model_config_list {}")
    processes.wait_for(lambda: not watched.served())


def test_half_of_a_text_is_not_taken_for_the_whole(tmp_path):
    """A writer that pauses where what it has written is a good configuration."""
    path = tmp_path / "models.txt"
    whole = config(entry("a", "/a"), entry("b", "/b"))
    begun: list[set[str]] = []
    stopping = threading.Event()
    path.write_text(whole)
    configuration.watch_models(
        str(path), 0.4, lambda models: begun.append(set(models)), stopping
    )
    for _ in range(5):
        processes.wait_for(begun.copy)
        begun.clear()
        for text in ("", config(entry("a", "/a")), whole):
            path.write_text(text)
            time.sleep(0.1)
        processes.wait_for(begun.copy)
        assert all(names == {"a", "b"} for names in begun)
    stopping.set()


def test_a_link_is_followed_each_time(tmp_path, bases):
    """Kubernetes mounts a ConfigMap as a link to a link, and exchanges the inner one."""
    for name in "ab":
        (tmp_path / name).mkdir()
        text = config(entry(name, bases[name]))
        (tmp_path / name / "models.txt").write_text(text)
    (tmp_path / "..data").symlink_to("a")
    path = tmp_path / "models.txt"
    path.symlink_to("..data/models.txt")
    watched = Watched(path, path.read_text())
    watched.watch()
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").rename(tmp_path / "..data")
    processes.wait_for(lambda: watched.served() == {"b": [2]})
    watched.stop()


def test_a_start_that_waits_can_be_corrected(tmp_path, bases):
    path = tmp_path / "models.txt"
    path.write_text(config(entry("a", bases["a"]), entry("b", "/nothing/here")))
    manager = Manager(load, Policy(poll_seconds=1, max_retries=0))
    found = configuration.load_models(Flags(model_config_file=str(path)))
    stopping = threading.Event()
    starting = threading.Thread(target=manager.start, args=(found,))
    starting.start()
    configuration.watch_models(str(path), SECONDS, manager.begin, stopping)
    starting.join(0.5)
    assert starting.is_alive()  # as tensorflow_model_server, which waits for ever
    path.write_text(config(entry("a", bases["a"]), entry("b", bases["b"])))
    starting.join(60)
    assert manager.available() == {"a": [1], "b": [2]}
    stopping.set()
    manager.stop()


def test_a_start_with_an_empty_file_waits_for_a_good_one(tmp_path, bases, caplog):
    """server_core.cc, ReloadConfig: "Taking no action for empty config."."""
    watched = Watched(tmp_path / "models.txt", "")
    assert "Taking no action for empty config." in caplog.text
    watched.watch()
    watched.path.write_text(config(entry("c", bases["c"])))
    processes.wait_for(lambda: watched.served() == {"c": [3]})
    watched.stop()


GOOD = st.lists(st.sampled_from("abc"), unique=True).map(
    lambda names: ("good", tuple(sorted(names)))
)
# Names under which the folders a, b and c are served, each another one's.
RENAMED = st.permutations("abc").map(lambda names: ("renamed", tuple(names)))
BAD = st.sampled_from(
    ["empty", "comment", "gone", "missing", "duplicate", "garbage", "relative"]
).map(lambda kind: (kind, ()))
CUT = st.floats(0, 0.99).map(lambda share: ("cut", (share,)))


@settings(deadline=None, max_examples=12)
@given(
    events=st.lists(st.one_of(GOOD, RENAMED, BAD, CUT), min_size=1, max_size=8),
    by_call=st.booleans(),
)
def test_the_last_good_configuration_is_served(
    bases, tmp_path_factory, events: list[tuple[str, tuple[Any, ...]]], by_call: bool
):
    """Whatever comes before and after it, by file or by call."""
    every = config(*(entry(name, base) for name, base in bases.items()))
    texts: dict[str, Callable[..., str]] = {
        "good": lambda *names: config(*(entry(name, bases[name]) for name in names)),
        "renamed": lambda *names: config(
            *(
                entry(f"new_{name}", base)
                for name, base in zip(names, bases.values(), strict=True)
            )
        ),
        "empty": lambda: "",
        "comment": lambda: "# nothing",
        "missing": lambda: config(entry("a", bases["a"]), entry("z", "/nothing/here")),
        "duplicate": lambda: config(entry("a", bases["a"]), entry("a", bases["b"])),
        "garbage": lambda: "model_config_list { config { name: 5 } }",
        "relative": lambda: config(entry("a", "a")),
        "cut": lambda share: every[: int(len(every) * share)],
    }
    folder = tmp_path_factory.mktemp("history")
    watched = Watched(folder / "models.txt", texts["good"]("a"))
    expected = {"a": [1]}
    if not by_call:
        watched.watch()
    for kind, details in events:
        if kind == "gone":
            watched.path.unlink(missing_ok=True)
            text = ""
        else:
            text = texts[kind](*details)
            watched.path.write_text(text)
        if by_call:
            try:
                found = text_format.Parse(
                    text, model_server_config_pb2.ModelServerConfig()
                )
                if found.WhichOneof("config"):  # as the call's handler asks
                    watched.manager.reload(configuration.models(found))
            except (text_format.ParseError, ServingError):
                assert kind not in ("good", "renamed")
        if kind == "good":
            expected = {name: [1 + "abc".index(name)] for name in details}
        elif kind == "renamed":
            expected = {f"new_{name}": [n] for n, name in enumerate(details, 1)}
        if kind in ("good", "renamed"):
            processes.wait_for(lambda want=expected: watched.served() == want)
        elif not by_call:
            time.sleep(3 * SECONDS)
        assert watched.served() == expected
    watched.stop()

"""Which versions are served: finds, loads, keeps and drops them.

One thread looks at the base folders every few seconds and compares what is there with
what is loaded; loads run on a few threads of their own, so requests never wait for them.
As with tensorflow_model_server's availability-preserving policy, a version goes only
when another one that is wanted is available, or when none is wanted; and a request that
has begun keeps its version alive to its end. Nothing here writes to a model's folder.

A change of the configuration is checked first; what cannot work changes nothing. Then the
new models load beside the old ones, and those left out go when the load has ended. A change
that is given up on the way, by its caller or for a later one, leaves all as it was.
(tensorflow_model_server drops the old ones at once, and until the new ones are there it
takes no other change, server_core.cc, ReloadConfig.)

Sources: tensorflow/serving, sources/storage_path/file_system_storage_path_source.cc,
core/availability_preserving_policy.h, core/aspired_versions_manager.cc,
model_servers/server_core.cc.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_pb2

from serving.server import metrics, savedmodel
from serving.server.batching import Batcher, BatchingParameters
from serving.server.configuration import Model
from serving.server.errors import (
    ServingError,
    failed_precondition,
    invalid,
    not_found,
)
from serving.server.flags import LONGEST_NAME
from serving.server.savedmodel import Servable

_HIGHEST_VERSION = 2**63 - 1
_MOST_REMEMBERED = 100  # versions per model that have ended, for their status
_MOST_COMPLAINTS = 1000
_CHECK_SECONDS = 0.1  # how often the one that waits for a change asks if it should
_REMIND_SECONDS = 30.0  # between two lines about what a start waits for

_log = logging.getLogger(__name__)


class State(IntEnum):
    """Numbers of GetModelStatusResponse.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Version:
    """One version of a model. Fields change under the manager's lock."""

    def __init__(self, model: str, number: int, folder: Path):
        self.model = model
        self.number = number
        self.folder = folder
        self.state = State.START
        self.error = ""  # with its code; empty: none
        self.code = grpc.StatusCode.OK
        self.servable: Servable | None = None
        self.users = 0  # requests running on it
        self.fingerprint: object = None  # of the folder being loaded; None: it has gone
        self.retry: threading.Timer | None = None  # a failed load waits for it
        self.unwanted = False  # before it was loaded
        self.batching: BatchingParameters | None = None
        self._batchers: dict[str, Batcher] = {}
        self._lock = threading.Lock()

    def batcher(self, signature: str) -> Batcher:
        """The queue of a signature, for all its outputs."""
        with self._lock:
            found = self._batchers.get(signature)
            if found is None:
                assert self.batching is not None and self.servable is not None
                servable = self.servable
                fetches = sorted(servable.signatures[signature].outputs)
                found = self._batchers[signature] = Batcher(
                    lambda feeds: servable.run(signature, feeds, fetches),
                    self.batching,
                    self.model,
                )
            return found

    def refuse(self) -> None:
        """Ends the queues; what waits in them is still run."""
        with self._lock:
            for batcher in self._batchers.values():
                batcher.close()

    def close(self) -> None:
        """Gives everything back; no request runs any more."""
        self.refuse()
        self._batchers.clear()  # they hold the servable, and a version is remembered
        if self.servable is not None:
            self.servable.close()
            self.servable = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """Flags that concern loading."""

    poll_seconds: int = 1  # 0: once; negative: never
    max_retries: int = 5
    retry_seconds: float = 60.0
    load_threads: int = 1
    labels_for_unavailable: bool = False
    any_label: bool = False


@dataclasses.dataclass(eq=False)
class Change:
    """A configuration on its way into force. Fields change under the manager's lock."""

    models: Mapping[str, Model]
    added: tuple[str, ...] = ()  # what it waits for
    ended: bool = False
    error: ServingError | None = None


class Manager:
    """The models of one server.

    Args:
        load: Sets a version's `servable`, warmed up, from its folder; or raises.
        policy: When and how often.
    """

    def __init__(self, load: Callable[[Model, Version], None], policy: Policy):
        self._load = load
        self._policy = policy
        self._changed = threading.Condition()  # guards everything below
        self._models: Mapping[str, Model] = {}  # by the last change that has ended well
        self._change: Change | None = None  # the one under way
        self._versions: dict[str, dict[int, Version]] = {}
        self._latest: dict[str, Version] = {}  # the one that a bare name means
        self._complaints: dict[tuple[str, Path], str] = {}  # last said of a folder
        self._polling = threading.Lock()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(max(policy.load_threads, 1), "load")
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def start(self, models: Mapping[str, Model]) -> None:
        """Loads the models; returns when each has a version to serve.

        Models that have none yet are waited for. A change that comes meanwhile counts.

        Raises:
            ServingError: A model cannot be served.
        """
        with self._changed:
            self._check_change(models)
            self._models = dict(models)
        if self._policy.poll_seconds >= 0:
            self.poll()
        if self._policy.poll_seconds > 0:
            self._poller.start()
        with self._changed:
            remind = time.monotonic() + _REMIND_SECONDS
            while not self._stopped.is_set():
                waiting = [name for name in self._wanted() if not self._settled(name)]
                if not waiting:
                    break
                if time.monotonic() >= remind:
                    remind += _REMIND_SECONDS
                    _log.warning(
                        "still waiting for a version of %s", ", ".join(waiting)
                    )
                self._changed.wait(_REMIND_SECONDS)
            error = self._failure(self._wanted())
        if error:
            raise error

    def stop(self) -> None:
        """Ends polling and loading."""
        self._stopped.set()
        with self._changed:
            self._end_change(_stopping())
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Ends the queues of batches and their threads; the models stay in memory."""
        with self._changed:
            versions = [v for group in self._versions.values() for v in group.values()]
        for version in versions:
            version.refuse()

    def reload(
        self, models: Mapping[str, Model], check: Callable[[], object] = lambda: None
    ) -> None:
        """Changes the models served; returns when new ones are available.

        Args:
            models: By name.
            check: Raises a ServingError when nobody waits any more: then all stays, or
                becomes again, as it was.

        Raises:
            ServingError: As `begin`; UNKNOWN if a new model cannot be loaded; ABORTED if
                a later change took this one's place.
        """
        change = self.begin(models, check)
        try:
            with self._changed:
                while not change.ended:
                    check()
                    self._changed.wait(_CHECK_SECONDS)
        except ServingError as error:
            if self._give_up_change(change):
                raise ServingError(
                    error.code, f"{error.message}; the models are as they were"
                ) from None
        if change.error:
            raise change.error

    def begin(
        self, models: Mapping[str, Model], check: Callable[[], object] = lambda: None
    ) -> Change:
        """Puts a configuration on its way, in place of one that has not arrived.

        Args:
            models: By name.
            check: See `reload`.

        Raises:
            ServingError: Nothing has changed. NOT_FOUND or INVALID_ARGUMENT: the folder of
                a model has no version, or is not there. FAILED_PRECONDITION for a label,
                UNAVAILABLE if the server stops.
        """
        with self._changed:
            if self._change and self._change.models == models:
                return self._change
            if not self._change and self._models == models:
                return Change(models, ended=True)
            before = self._wanted()
            self._check_change(models)
        # Folders may answer slowly: not with the lock.
        found = {
            name: self._find_some(model)
            for name, model in models.items()
            if name not in before or model.source != before[name].source
        }
        check()
        with self._changed:
            if self._stopped.is_set():
                raise _stopping()
            self._check_change(models)
            self._end_change(_aborted("A later configuration took its place"))
            added = tuple(
                name
                for name in models
                if name not in self._models
                or (name in found and name not in self._latest)
            )
            change = self._change = Change(dict(models), added)
            _log.info("Adding/updating models: %s", ", ".join(models) or "none")
            self._drop_unwanted()
            for name, versions in found.items():
                self._aspire(models[name], versions)
            self._arrive()
        return change

    def _give_up_change(self, change: Change) -> bool:
        """Back to the models before it; False if it has ended already."""
        with self._changed:
            if change.ended:
                return False
            self._end_change(_aborted("The change was given up"))
        self.poll()
        return True

    def poll(self) -> None:
        """Looks at the folders once, and starts what follows from it."""
        with self._polling:
            with self._changed:
                models = list(self._wanted().values())
                self._drop_unwanted()
            for model in models:
                found = self._find(model)
                if found is not None:
                    self._aspire(model, found)
            with self._changed:
                self._arrive()

    # Changes of the configuration: with the lock held.

    def _wanted(self) -> Mapping[str, Model]:
        """What is to be loaded: with a change under way, also what it leaves out."""
        return {**self._models, **self._change.models} if self._change else self._models

    def _arrive(self) -> None:
        """Puts a change in force whose new models have been loaded, or have failed."""
        change = self._change
        if change and all(self._settled(name) for name in change.added):
            self._models = change.models
            self._end_change(self._failure(change.added))
            self._drop_unwanted()

    def _end_change(self, error: ServingError | None) -> None:
        if self._change:
            self._change.ended, self._change.error = True, error
            self._change = None
            self._changed.notify_all()

    def _drop_unwanted(self) -> None:
        for name in [name for name in self._versions if name not in self._wanted()]:
            self._set_wanted(Model(name=name, base_path="", labels={}), {})

    def _settled(self, name: str) -> bool:
        """Whether waiting for a model is over: it can be used, or all versions failed."""
        versions = self._versions.get(name, {}).values()
        if name in self._latest:
            return True
        if not versions:
            return self._policy.poll_seconds == 0
        return all(version.state == State.END for version in versions)

    def _failure(self, names: Iterable[str]) -> ServingError | None:
        """Of those models that have no version to serve; None if all have, or at a stop."""
        missing = [name for name in names if name not in self._latest]
        if not missing or self._stopped.is_set():
            return None
        failed = [
            f"{{Name: {name} Version: {version.number} due to error: {version.error}}}"
            for name in missing
            for version in self._versions.get(name, {}).values()
        ] or [f"{{Name: {name} has no versions}}" for name in missing]
        return ServingError(
            grpc.StatusCode.UNKNOWN,
            f"{len(failed)} servable(s) did not become available: " + ", ".join(failed),
        )

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[Version]:
        """The version that a request asks for; it stays loaded in this context.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT; texts of tensorflow/serving.
        """
        with self._changed:
            version = self._choose(spec)
            version.users += 1
        try:
            yield version
        finally:
            with self._changed:
                version.users -= 1
                if not version.users and version.state == State.UNLOADING:
                    self._changed.notify_all()

    def statuses(
        self, spec: model_pb2.ModelSpec
    ) -> list[tuple[int, State, grpc.StatusCode, str]]:
        """Number, state, code and error of versions, the highest first.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT.
        """
        with self._changed:
            _check_name(spec.name)
            versions = self._versions.get(spec.name, {})
            chosen = self._number(spec)
            if chosen is not None and chosen not in versions:
                raise not_found(f"Could not find version {chosen} of model {spec.name}")
            if not versions:
                raise not_found(f"Could not find any versions of model {spec.name}")
            numbers = sorted(versions, reverse=True) if chosen is None else [chosen]
            return [
                (found.number, found.state, found.code, found.error)
                for found in map(versions.__getitem__, numbers)
            ]

    def sampling_rate(self, name: str) -> float | None:
        """Of a model's logging_config; None if it has none."""
        with self._changed:
            model = self._wanted().get(name)
            return model.sampling_rate if model else None

    def configured(self, name: str) -> bool:
        """Whether there is such a model, loaded or not."""
        with self._changed:
            return len(name) <= LONGEST_NAME and name in self._wanted()

    def available(self) -> dict[str, list[int]]:
        """The versions served, by model."""
        with self._changed:
            return {
                name: sorted(
                    version.number
                    for version in versions.values()
                    if version.state == State.AVAILABLE
                )
                for name, versions in self._versions.items()
            }

    # Choosing: with the lock held.

    def _choose(self, spec: model_pb2.ModelSpec) -> Version:
        name = spec.name  # may be megabytes, which are copied each time it is asked for
        if not name:
            raise invalid("ModelSpec has no name specified.")
        _check_name(name)
        number = self._number(spec)
        if number is None:
            version = self._latest.get(name)
            asked = f"Latest({name})"
        else:
            version = self._versions.get(name, {}).get(number)
            asked = f"Specific({name}, {number})"
        if version is None or version.state != State.AVAILABLE:
            raise not_found(f"Servable not found for request: {asked}")
        return version

    def _number(self, spec: model_pb2.ModelSpec) -> int | None:
        """The version asked for; None: the latest."""
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice is None:
            return None
        model = self._wanted().get(spec.name)
        number = model.labels.get(spec.version_label) if model else None
        if number is None:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return number

    def _check_change(self, models: Mapping[str, Model]) -> None:
        """Texts and rules of server_core.cc."""
        for name, model in models.items():
            before = self._models.get(name)
            for label, number in model.labels.items():
                version = self._versions.get(name, {}).get(number)
                if version and version.state == State.AVAILABLE:
                    continue
                moved = before and before.labels.get(label, number) != number
                if self._policy.any_label or (
                    self._policy.labels_for_unavailable and not moved
                ):
                    continue
                raise failed_precondition(
                    f"Request to assign label to version {number} of model {name}, "
                    "which is not currently available for inference"
                )

    # Finding.

    def _poll(self) -> None:
        while not self._stopped.wait(self._policy.poll_seconds):
            try:
                self.poll()
            except Exception:  # the next look may succeed; the thread must live
                _log.exception("looking for new versions failed")

    def _find(self, model: Model) -> dict[int, Path] | None:
        """Folders of the versions that are there, complete and wanted.

        None if the base folder cannot be read: that says nothing about its versions.
        """
        try:
            return self._list(model)
        except OSError as error:
            self._complain(
                model,
                Path(model.base_path),
                f"Could not find base path {model.base_path} for servable {model.name}: "
                f"{error.strerror}",
            )
            return None

    def _find_some(self, model: Model) -> dict[int, Path]:
        """The same, for a model that is new: it must have a version.

        Raises:
            ServingError: It has none; codes and texts of the source's FailIfZeroVersions.
        """
        try:
            found = self._list(model)
        except OSError as error:
            raise invalid(
                f"Could not find base path {model.base_path} for servable {model.name} "
                f"with error {error.strerror}"
            ) from None
        if not found:
            raise not_found(
                f"Unable to find a numerical version path for servable {model.name} at: "
                f"{model.base_path}"
            )
        return found

    def _list(self, model: Model) -> dict[int, Path]:
        base = Path(model.base_path)
        there: dict[int, Path] = {}
        for name in sorted(os.listdir(base)):
            if name.isascii() and name.isdigit() and int(name) <= _HIGHEST_VERSION:
                missing = self._missing(base / name)
                if missing is None:
                    there[int(name)] = base / name
                else:
                    os.stat(base)  # gone meanwhile, it says nothing about versions
                    self._complain(model, base / name, f"not complete: {missing}")
        wanted = {number: there[number] for number in model.wanted(there)}
        for number in model.versions.difference(there):
            self._complain(
                model,
                base / str(number),
                f"Version {number} of servable {model.name}, which was requested to be "
                "served as a 'specific' version in the servable's version policy, was "
                "not found in the file system",
            )
        if wanted:
            self._complaints.pop((model.name, base), None)
        else:
            self._complain(
                model,
                base,
                f"No versions of servable {model.name} found under base path {base}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?",
            )
        return wanted

    @staticmethod
    def _missing(folder: Path) -> str | None:
        try:
            return savedmodel.incomplete(folder)
        except OSError as error:  # also: it is a file, or has just gone
            return error.strerror or str(error)

    def _complain(self, model: Model, folder: Path, text: str) -> None:
        """Logs once, until something else is to be said of the folder."""
        if self._complaints.get((model.name, folder)) != text:
            if len(self._complaints) >= _MOST_COMPLAINTS:
                self._complaints.clear()  # reloads may name models without end
            self._complaints[model.name, folder] = text
            _log.warning("%s: %s", folder, text)

    # Loading and unloading.

    def _aspire(self, model: Model, wanted: Mapping[int, Path]) -> None:
        """Starts loads of what is new, drops what is not wanted and can be spared."""
        with self._changed:
            # The configuration may have changed while the folder was read.
            if not self._stopped.is_set() and self._wanted().get(model.name) == model:
                self._set_wanted(model, wanted)

    def _set_wanted(self, model: Model, wanted: Mapping[int, Path]) -> None:
        """The same, with the lock held."""
        versions = self._versions.setdefault(model.name, {})
        for number, folder in sorted(wanted.items(), reverse=True):
            known = versions.get(number)
            if known is None or self._worth_another_load(known, folder):
                if known and known.state < State.AVAILABLE:
                    self._do_not_load(known)
                version = Version(model.name, number, folder)
                versions[number] = version
                self._pool.submit(self._bring_up, model, version)
            else:
                known.unwanted = False
                self._retry_now(model, known)
        serving = [v for v in versions.values() if v.state == State.AVAILABLE]
        spared = not wanted or any(v.number in wanted for v in serving)
        for version in serving:
            if version.number not in wanted and spared:
                self._drop(version)
        for version in versions.values():
            if version.number in wanted:
                continue
            version.fingerprint = None  # a load that fails says nothing of the next
            if version.state < State.AVAILABLE:
                self._do_not_load(version)
        self._forget(model.name, wanted)
        self._changed.notify_all()

    def _do_not_load(self, version: Version) -> None:
        version.unwanted = True  # who loads it sees this
        if version.retry:
            self._give_up(version)

    @staticmethod
    def _worth_another_load(version: Version, folder: Path) -> bool:
        """One that ended: unloaded, or failed and since then changed or been away.

        Or one that is not served yet, and shall come from elsewhere.
        (One that is served stays, as in tensorflow_model_server.)
        """
        if version.folder != folder:
            return version.state < State.AVAILABLE or version.state == State.END
        if version.state != State.END:
            return False
        return not version.error or version.fingerprint != _fingerprint(folder)

    def _forget(self, name: str, wanted: Mapping[int, Path]) -> None:
        versions = self._versions[name]
        ended = [
            number
            for number, version in sorted(versions.items())
            if version.state == State.END and number not in wanted
        ]
        for number in ended[: max(0, len(ended) - _MOST_REMEMBERED)]:
            del versions[number]
        if not versions:
            del self._versions[name]

    def _bring_up(self, model: Model, version: Version, attempt: int = 0) -> None:
        """Loads a version; on a thread of the pool."""
        fingerprint = _fingerprint(version.folder)  # may take long: not with the lock
        with self._changed:
            if version.unwanted or self._stopped.is_set():
                self._give_up(version)
                self._arrive()
                return
            version.state = State.LOADING
            version.fingerprint = fingerprint
        _log.info(
            "Loading servable version {name: %s version: %d}",
            version.model, version.number,
        )  # fmt: skip
        began = time.monotonic()
        try:
            self._load(model, version)
        except Exception as error:  # whatever a broken model does, others go on
            version.close()
            seconds = time.monotonic() - began
            metrics.observe_load(str(version.folder), seconds, succeeded=False)
            _log.warning(
                "Loading servable {name: %s version: %d} failed: %s",
                version.model, version.number, error,
            )  # fmt: skip
            with self._changed:
                version.error = str(error)[:1024] or type(error).__name__
                version.code = getattr(error, "code", grpc.StatusCode.UNKNOWN)
                if attempt < self._policy.max_retries and not version.unwanted:
                    self._retry_later(model, version, attempt + 1)
                else:
                    self._give_up(version)
                    self._arrive()
            return
        metrics.observe_load(
            str(version.folder), time.monotonic() - began, succeeded=True
        )
        _log.info(
            "Successfully loaded servable version {name: %s version: %d}",
            version.model, version.number,
        )  # fmt: skip
        with self._changed:
            version.error, version.code = "", grpc.StatusCode.OK
            version.state = State.AVAILABLE
            taken = self._versions.get(version.model, {}).get(version.number)
            if taken is not version or version.model not in self._wanted():
                self._drop(version)  # meanwhile the configuration has changed
            self._choose_latest(version.model)
            self._arrive()
            self._changed.notify_all()
        if self._policy.poll_seconds >= 0:
            self.poll()  # the one it replaces can go now

    # The next three: with the lock held.

    def _retry_later(self, model: Model, version: Version, attempt: int) -> None:
        """Meanwhile the pool's threads are free for others."""

        def retry() -> None:
            with self._changed:
                if version.retry is timer and not self._stopped.is_set():
                    version.retry = None
                    self._pool.submit(self._bring_up, model, version, attempt)

        timer = threading.Timer(max(self._policy.retry_seconds, 0), retry)
        timer.daemon = True
        version.retry = timer
        timer.start()

    def _retry_now(self, model: Model, version: Version) -> None:
        """Of a version that waits for its next attempt, if its files have changed."""
        if version.retry and version.fingerprint != _fingerprint(version.folder):
            version.retry.cancel()
            version.retry = None
            self._pool.submit(self._bring_up, model, version)

    def _give_up(self, version: Version) -> None:
        if version.retry:
            version.retry.cancel()
            version.retry = None
        version.state = State.END
        self._changed.notify_all()

    def _drop(self, version: Version) -> None:
        """No new requests from now on; unloaded when the last has ended."""
        version.state = State.UNLOADING
        self._choose_latest(version.model)
        thread = threading.Thread(
            target=self._unload, args=(version,), name="unload", daemon=True
        )
        thread.start()

    def _unload(self, version: Version) -> None:
        with self._changed:
            self._changed.wait_for(lambda: version.users == 0)
        version.close()
        gc.collect()  # graphs are cyclic, and large
        with self._changed:
            model = self._wanted().get(version.model)
        found = self._find(model) if model else None
        with self._changed:
            version.state = State.END
            if model and found is not None:
                self._aspire(model, found)  # meanwhile it may be wanted again
            self._arrive()
            self._changed.notify_all()
        _log.info(
            "Done unloading servable version {name: %s version: %d}",
            version.model, version.number,
        )  # fmt: skip

    def _choose_latest(self, name: str) -> None:
        serving = [
            version
            for version in self._versions.get(name, {}).values()
            if version.state == State.AVAILABLE
        ]
        if serving:
            self._latest[name] = max(serving, key=lambda version: version.number)
        else:
            self._latest.pop(name, None)


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise invalid(
            f"The model's name has {len(name)} characters; no model's has more than "
            f"{LONGEST_NAME}"
        )


def _stopping() -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, "The server is stopping")


def _aborted(text: str) -> ServingError:
    return ServingError(grpc.StatusCode.ABORTED, text)


def _fingerprint(folder: Path) -> object:
    """Changes when a file of the folder does.

    A copy may keep the time of modification, and a new file may be given the inode of one
    just removed; the time of its last change (ctime) cannot be set.
    """
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                stat = os.stat(path)
                times = stat.st_mtime_ns, stat.st_ctime_ns
                found.append((path, stat.st_size, stat.st_ino, *times))
    return sorted(found)

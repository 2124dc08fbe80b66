"""What was published to a folder in object storage: models.config and the ledger.

    <destination>/models.config          which version is served; TensorFlow Serving polls it
    <destination>/ledger/<version>.json  one entry per version: what it is, why, and `previous`
    <destination>/<version>/...          the SavedModel

models.config names the newest version, that one's entry names the version before it, and
so on: what this chain does not reach was never published, whatever else lies there. So
one object decides, and replacing one object is the only thing that object storage does
in one step. components/atomic_pusher/object_storage.py writes, everything else reads.

Loads google-cloud-storage when a folder is opened, and neither TensorFlow nor TFX.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from components.atomic_pusher.publish import PublishError
from contract import paths, stored
from contract.pushed_model import Push, in_service, to_beat
from contract.records import MODEL_FILE

SCHEME = "gs://"
CONFIG_NAME, LEDGER_NAME = "models.config", "ledger"
# Of ledger/<version>.json. A number is taken by CLAIMED; COMPLETE says that every object
# of the version is there; ABANDONED bars a publisher that stopped from ever going on.
CLAIMED, COMPLETE, ABANDONED = "claimed", "complete", "abandoned"

_ENTRY_NAME = re.compile(rf"{LEDGER_NAME}/(\d+)\.json")
_SCHEMA = 1
_MOST_ENTRY_BYTES = 16 << 20
_READERS = 8  # entries are small, and each takes a round trip


@dataclass(frozen=True, kw_only=True)
class File:
    """One object of a version."""

    size: int
    crc32c: str  # base64, as object storage tells it


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model came from and why it was chosen; all of it may be unknown."""

    network: str | None = None
    role: str | None = None  # of the contender that won
    model_uri: str | None = None  # folder of the Trainer's Model: which training it was
    artifact_uri: str | None = None  # folder of the PushedModel, which keeps a copy
    run: str | None = None  # pipeline job
    pipeline: str | None = None
    dataset: str | None = None
    policy: str | None = None
    reason: str | None = None  # the verdict
    metrics: Mapping[str, Any] = field(default_factory=dict)  # on the eval split
    config: Mapping[str, Any] | None = None  # RunConfig of the run
    commit: str | None = None  # of this project


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One published version."""

    version: int
    published: str  # UTC, ISO 8601, by the publisher's clock
    previous: int | None  # the version that was served until then
    rollback_of: int | None  # the version of the run that made the same model
    files: Mapping[str, File]  # path below the version's folder -> what it must be
    origin: Origin
    registered: Mapping[str, Any] | None = None  # see pipeline/vertex/steps/push


@dataclass(frozen=True)
class Folder:
    """An opened destination, `<base>/<model name>`."""

    bucket: Any  # google.cloud.storage.Bucket
    prefix: str  # ends in a slash

    @property
    def uri(self) -> str:
        """gs://bucket/path without a slash at the end."""
        return f"{SCHEME}{self.bucket.name}/{self.prefix}".rstrip("/")

    @property
    def model_name(self) -> str:
        """Under which TensorFlow Serving finds the model."""
        return self.prefix.rstrip("/").rpartition("/")[2]

    def version_uri(self, version: int) -> str:
        """Folder of one version."""
        return f"{self.uri}/{version}"

    def blob(self, name: str) -> Any:
        """An object below the folder."""
        return self.bucket.blob(self.prefix + name)

    def entry_blob(self, version: int) -> Any:
        """The ledger's object of one version."""
        return self.blob(f"{LEDGER_NAME}/{version}.json")


@dataclass(frozen=True)
class Served:
    """What models.config says."""

    generation: int  # of the object; 0: there is none
    text: str
    version: int | None


def open_folder(uri: str, client: Any = None) -> Folder:
    """Opens gs://bucket/path with the environment's credentials.

    Raises:
        PublishError: No such address, or no credentials.
    """
    bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not bucket:
        raise PublishError(f"{uri}: must be gs://<bucket>/<folder>")
    if client is None:
        from google.cloud import storage

        with errors(f"{uri} cannot be opened"):
            client = storage.Client(project=None)  # objects need none
    prefix = prefix.strip("/")
    return Folder(client.bucket(bucket), f"{prefix}/" if prefix else "")


@contextlib.contextmanager
def errors(what: str) -> Iterator[None]:
    """Turns what the client raises into one sentence that begins with `what`.

    Raises:
        PublishError: The client gave up; it has tried for two minutes what may pass.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption
    from requests.exceptions import RequestException

    try:
        yield
    except GoogleAuthError as error:
        raise PublishError(
            f"{what}: no usable credentials ({_first_line(error)}); run `gcloud auth "
            "application-default login`"
        ) from error
    except (GoogleAPIError, DataCorruption, RequestException, OSError) as error:
        raise PublishError(f"{what}: {_first_line(error)}") from error


def read_bytes(blob: Any) -> tuple[bytes, int] | None:
    """Content and generation of an object; None if there is none."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    while True:
        try:
            blob.reload()
            generation = int(blob.generation)
            return blob.download_as_bytes(if_generation_match=generation), generation
        except NotFound:
            return None
        except PreconditionFailed:  # it was replaced between the two requests
            continue


def read_served(folder: Folder) -> Served:
    """Reads models.config.

    Raises:
        PublishError: It is not of the form that this program writes.
    """
    found = read_bytes(folder.blob(CONFIG_NAME))
    if found is None:
        return Served(0, "", None)
    text = found[0].decode("utf-8", "replace")
    return Served(found[1], text, int(_version_in(text, folder)[1]))


def config_text(served: Served, version: int, folder: Folder) -> str:
    """models.config with another version; what else stands in it stays as it is."""
    if served.generation:
        match = _version_in(served.text, folder)
        return (
            served.text[: match.start(1)] + str(version) + served.text[match.end(1) :]
        )
    return (
        "# Written with every push; `python pipeline.py models rollback` goes back.\n"
        "model_config_list {\n"
        "  config {\n"
        f'    name: "{folder.model_name}"\n'
        f'    base_path: "{folder.uri}"\n'
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ specific {{ versions: {version} }} }}\n"
        "  }\n"
        "}\n"
    )


def _version_in(text: str, folder: Folder) -> re.Match[str]:
    """The one version that a ModelServerConfig names."""
    # Comments become blanks, so that places in the text stay where they are.
    bare = re.sub(r"#.*", lambda match: " " * len(match[0]), text)
    found = list(re.finditer(r"\bversions\s*:\s*(\d+)", bare))
    if len(found) != 1 or "version_labels" in bare:
        raise PublishError(
            f"{folder.uri}/{CONFIG_NAME}: must name exactly one version "
            "(`specific { versions: ... }`) and no version_labels, it was written by "
            "something else; move it away, the next push writes a new one"
        )
    return found[0]


def entry_text(entry: Entry, publisher: str) -> str:
    """The content of ledger/<version>.json.

    Args:
        entry: What to write down.
        publisher: Who writes: a name that nobody else has.
    """
    values = dataclasses.asdict(entry)
    head = {"schema": _SCHEMA, "state": COMPLETE, "publisher": publisher}
    return json.dumps(head | values, indent=1, allow_nan=False) + "\n"


def mark_text(state: str, publisher: str) -> str:
    """The content of ledger/<version>.json without an entry: CLAIMED or ABANDONED."""
    head = {"schema": _SCHEMA, "state": state, "publisher": publisher}
    return json.dumps(head, indent=1) + "\n"


def parse_entry(content: bytes, where: str) -> Entry | None:
    """Reads what `entry_text` wrote; None for a mark.

    Raises:
        PublishError: It is damaged, or of a newer program.
    """
    try:
        values = stored.json_object(io.BytesIO(content), _MOST_ENTRY_BYTES)
        schema, state = values.pop("schema"), values.pop("state")
        values.pop("publisher")
        if schema != _SCHEMA:
            raise PublishError(f"{where}: schema is {schema}, this program knows 1")
        if state != COMPLETE:
            return None
        values["files"] = {name: File(**file) for name, file in values["files"].items()}
        values["origin"] = Origin(**values["origin"])
        entry = Entry(**values)
        _check(entry)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PublishError(f"{where}: is damaged ({paths.shown(error)})") from error
    return entry


def _check(entry: Entry) -> None:
    """Whether all values are of the kinds that `entry_text` writes.

    Whoever may write to the bucket could have written them: a version before itself, and
    what follows the chain would never end; a path out of its folder, and so on.

    Raises:
        ValueError: One is not.
    """
    text, number = (str, type(None)), (int, type(None))
    origin = dataclasses.asdict(entry.origin)
    metrics, config = origin.pop("metrics"), origin.pop("config")
    kinds = {
        "version": (entry.version, int),
        "published": (entry.published, str),
        "previous": (entry.previous, number),
        "rollback_of": (entry.rollback_of, number),
        "metrics": (metrics, dict),
        "config": (config, (dict, type(None))),
        "registered": (entry.registered, (dict, type(None))),
        **{name: (value, text) for name, value in origin.items()},
    }
    for name, (value, kind) in kinds.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is a {type(value).__name__}")
    earlier = [n for n in (entry.previous, entry.rollback_of) if n is not None]
    if not all(0 < n < entry.version for n in earlier) or entry.version >= 2**63:
        raise ValueError("its version is not above the earlier ones that it names")
    for name, file in entry.files.items():
        if not is_below(name):
            raise ValueError(f"files has {name[:100]!r}, no path below a folder")
        if type(file.size) is not int or not isinstance(file.crc32c, str):
            raise ValueError(f"files has no size and checksum of {name[:100]}")


def is_below(name: str) -> bool:
    """Whether an object's name, taken as a path, stays in the folder it is put into."""
    parts = name.split("/")
    return name.isprintable() and not any(part in ("", ".", "..") for part in parts)


def read_entries(folder: Folder) -> dict[int, Entry | None]:
    """All of the ledger by version, published or not; None stands for a mark."""
    client = folder.bucket.client
    names = [
        blob.name.removeprefix(folder.prefix)
        for blob in client.list_blobs(
            folder.bucket, prefix=f"{folder.prefix}{LEDGER_NAME}/"
        )
    ]
    versions = [int(m[1]) for name in names if (m := _ENTRY_NAME.fullmatch(name))]

    with ThreadPoolExecutor(_READERS) as readers:
        read = readers.map(lambda version: read_entry(folder, version), versions)
        return dict(zip(versions, read, strict=True))


def read_entry(folder: Folder, version: int) -> Entry | None:
    """One entry, published or not; None if there is none."""
    found = read_bytes(folder.entry_blob(version))
    where = f"{folder.uri}/{LEDGER_NAME}/{version}.json"
    entry = parse_entry(found[0], where) if found else None
    if entry is not None and entry.version != version:
        raise PublishError(f"{where}: is damaged (it is of version {entry.version})")
    return entry


def published(folder: Folder) -> tuple[Served, list[Entry]]:
    """What is served, and all that ever was, newest first.

    Raises:
        PublishError: Something there is damaged.
    """
    # The config first: whatever it names has its entry already.
    served = read_served(folder)
    return served, chain(served.version, read_entries(folder))


def chain(version: int | None, entries: Mapping[int, Entry | None]) -> list[Entry]:
    """The published entries from a version back, as far as they are there."""
    found = []
    while version is not None and (entry := entries.get(version)) is not None:
        found.append(entry)
        version = entry.previous
    return found


def are_there(folder: Folder, history: Sequence[Entry]) -> list[bool]:
    """Whether the versions' objects are (still) there; the last one written tells."""

    def exists(entry: Entry) -> bool:
        return folder.blob(f"{entry.version}/{MODEL_FILE}").exists()

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(exists, history))


def entry_in_service(history: Sequence[Entry], there: Sequence[bool]) -> Entry | None:
    """The newest of `history` (newest first) that is still there."""
    index = in_service(there[::-1])
    return None if index is None else history[::-1][index]


def entry_to_beat(
    history: Sequence[Entry], there: Sequence[bool], own_models: Collection[str]
) -> Entry | None:
    """The entry that a run's contenders have to beat; see contract/pushed_model.py.

    Args:
        history: As `published` tells it, newest first.
        there: As `are_there` tells it.
        own_models: Folders of the Models that the run trained or took from the cache.
    """
    pushes = [
        Push(
            version=str(each.version),
            model=each.origin.model_uri or "",
            rollback_of=str(each.rollback_of or ""),
            there=exists,
        )
        for each, exists in zip(history, there, strict=True)
    ]
    index = to_beat(pushes[::-1], own_models)
    return None if index is None else history[::-1][index]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

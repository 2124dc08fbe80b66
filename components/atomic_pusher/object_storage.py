"""Publishes a SavedModel to a folder in object storage, all or nothing.

Objects have no rename, so a version is made visible by one other write:

1. ledger/<version>.json is created, which only one publisher can: the number is taken.
2. The objects are written to <version>/, saved_model.pb last, each on the condition that
   there is none; sizes and CRC32C of what is then there are held against the source.
3. ledger/<version>.json is completed: what the version is, and `previous`.
4. models.config is replaced on the condition that it is still the one that was read
   (if_generation_match). TensorFlow Serving polls it, and now serves the version.

Whatever kills this process, models.config names a complete version: the one before, or
this. Who loses the race of step 4 publishes the same objects under a new, higher number
and tries again, so that the last to publish is the one that is served.

What a killed publisher leaves is named in no config. It is removed by a later one, after
a day, in steps that are safe even if that publisher was only slow: models.config is replaced
by the same text (step 4 then fails for whoever has read it before, and step 3 must be
repeated), the entry is marked as abandoned on the condition that nobody has touched it
(step 3 then fails), and only then the objects go.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.atomic_pusher import ledger
from components.atomic_pusher.ledger import Entry, File, Folder, Origin, Served
from components.atomic_pusher.publish import PublishError, next_version, versions
from contract.records import MODEL_FILE

LEFTOVER_AGE = datetime.timedelta(days=1)

_READ_CHUNK_BYTES = 1 << 20
# Not kept by caches on the way: a reader would see an earlier version for an hour.
_CACHE_CONTROL = "no-store"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """A version number that is ours."""

    version: int
    generation: int  # of its ledger object
    made: datetime.datetime  # by the clock of the object storage


@dataclass(frozen=True)
class _Source:
    """Files to publish, and how one of them gets to an object."""

    uri: str
    files: Mapping[str, File]
    write: Callable[[str, Any], None]  # path below the source, target blob


def publish(
    source: str | os.PathLike[str],
    folder: Folder,
    origin: Origin,
    *,
    deadline_seconds: float = 600.0,
) -> Entry:
    """Publishes a SavedModel as the next version, visible in one step.

    Args:
        source: SavedModel folder, local or gs:// (then nothing passes this machine).
        folder: `<base>/<model name>`.
        origin: For the ledger.
        deadline_seconds: How long other publishers may win the race.

    Returns:
        The ledger's entry of the new version.

    Raises:
        PublishError: Nothing was published.
    """
    with ledger.errors(f"{source} was not published to {folder.uri}"):
        found = _source(os.fspath(source), folder)
        return _publish(found, folder, origin, deadline_seconds=deadline_seconds)


def roll_back(folder: Folder, chosen: Entry, expected: Served) -> Entry:
    """Publishes an earlier version again, as a new one.

    What is published is the version's folder or, if that is not whole any more, the copy
    in its artifact's folder; both are held against what the ledger says of the files.

    Args:
        folder: `<base>/<model name>`.
        chosen: The earlier version.
        expected: What models.config says now, by which a person has decided.

    Raises:
        PublishError: No whole copy is left, or another version was published meanwhile.
    """
    with ledger.errors(f"version {chosen.version} was not published again"):
        source = _whole_copy(folder, chosen)
        original = chosen.rollback_of or chosen.version
        return _publish(
            source, folder, chosen.origin, rollback_of=original, expected=expected
        )


def download(uri: str, target: Path) -> None:
    """Copies a gs:// folder to a local one, which must not exist.

    Raises:
        PublishError: An object's name would lead out of it; nothing is copied.
    """
    origin = ledger.open_folder(uri)
    names = list(_remote_files(origin, ""))
    for name in names:
        if not ledger.is_below(name):
            raise PublishError(f"{uri}: {name[:100]!r} is no path below a folder")
    for name in names:
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        origin.blob(name).download_to_filename(str(file))


def record_registered(
    folder: Folder, version: int, registered: Mapping[str, Any]
) -> None:
    """Adds to the ledger what became of a version in Model Registry and Endpoint."""
    with ledger.errors(f"{folder.uri}: the ledger was not completed"):
        blob = folder.entry_blob(version)
        while True:
            found = ledger.read_bytes(blob)
            entry = found and ledger.parse_entry(found[0], blob.name)
            if not found or not entry:
                raise PublishError(
                    f"{folder.uri}: version {version} is not in the ledger"
                )
            publisher = _publisher_of(found[0])
            entry = dataclasses.replace(entry, registered=dict(registered))
            text = ledger.entry_text(entry, publisher)
            if _write(blob, text, found[1]) is not None:
                return


def _publish(
    source: _Source,
    folder: Folder,
    origin: Origin,
    *,
    rollback_of: int | None = None,
    expected: Served | None = None,
    deadline_seconds: float = 600.0,
) -> Entry:
    publisher = f"{os.getpid()}-{secrets.token_hex(8)}"
    served = ledger.read_served(folder)
    claim = _claim(folder, served, publisher)
    own = [claim]  # all numbers that this publisher took
    try:
        _upload(source, folder, claim.version)
    except Exception:
        _discard(folder, own)
        raise
    deadline = time.monotonic() + deadline_seconds
    while True:
        if expected is not None and served.version != expected.version:
            _discard(folder, own)
            raise PublishError(
                f"version {served.version} was published to {folder.uri} meanwhile; "
                "look at `models list` and try again"
            )
        if served.version is not None and served.version > claim.version:
            claim = _renumber(folder, claim, served, publisher, source.files)
            own.append(claim)
        entry = Entry(
            version=claim.version,
            published=_utc(time.time()),
            previous=served.version,
            rollback_of=rollback_of,
            files=source.files,
            origin=origin,
        )
        own[-1] = claim = _complete(folder, claim, entry, publisher)
        if _show(folder, served, claim.version):
            break
        served, history = ledger.published(folder)
        if claim.version in (each.version for each in history):
            break  # it was shown, the answer was lost, and the next one published already
        if time.monotonic() >= deadline:
            _discard(folder, own)
            raise PublishError(
                f"{folder.uri}: other publishers were faster for {deadline_seconds:g} s; "
                "nothing was published"
            )
    _discard(folder, own[:-1])
    _remove_leftovers(folder, claim.made, publisher)
    return entry


# --- What is to be published -----------------------------------------------------------


def _source(uri: str, folder: Folder) -> _Source:
    found = _remote_source(uri, folder) if "://" in uri else _local_source(Path(uri))
    if MODEL_FILE not in found.files:
        raise PublishError(
            f"{uri}: not a SavedModel, it has no {MODEL_FILE}; nothing was published"
        )
    return found


def _local_source(root: Path) -> _Source:
    if not root.is_dir():
        raise PublishError(f"{root}: there is no such folder, so nothing to publish")

    def write(name: str, target: Any) -> None:
        target.upload_from_filename(str(root / name), if_generation_match=0)

    return _Source(str(root), _local_files(root, ""), write)


def _local_files(folder: Path, prefix: str) -> dict[str, File]:
    found: dict[str, File] = {}
    for entry in sorted(folder.iterdir()):
        mode = entry.stat().st_mode
        if stat.S_ISDIR(mode):
            found |= _local_files(entry, f"{prefix}{entry.name}/")
        elif stat.S_ISREG(mode):
            found[prefix + entry.name] = _local_file(entry)
        else:
            raise PublishError(
                f"{entry}: neither file nor folder; nothing was published"
            )
    return found


def _local_file(path: Path) -> File:
    import google_crc32c

    checksum, size = google_crc32c.Checksum(), 0
    with path.open("rb") as reader:
        for chunk in iter(functools.partial(reader.read, _READ_CHUNK_BYTES), b""):
            checksum.update(chunk)
            size += len(chunk)
    return File(size=size, crc32c=base64.b64encode(checksum.digest()).decode())


def _remote_source(uri: str, folder: Folder) -> _Source:
    """A folder in object storage: its objects are copied there, by the storage itself."""
    origin = ledger.open_folder(uri, folder.bucket.client)

    def write(name: str, target: Any) -> None:
        token, _, _ = target.rewrite(origin.blob(name), if_generation_match=0)
        while token:  # large objects take several requests
            token, _, _ = target.rewrite(
                origin.blob(name), token=token, if_generation_match=0
            )

    return _Source(origin.uri, _remote_files(origin, ""), write)


def _remote_files(folder: Folder, name: str) -> dict[str, File]:
    """Objects below a folder; empty ones that only stand for a folder are left out."""
    prefix = folder.prefix + name
    return {
        blob.name.removeprefix(prefix): File(size=int(blob.size), crc32c=blob.crc32c)
        for blob in folder.bucket.client.list_blobs(folder.bucket, prefix=prefix)
        if not blob.name.endswith("/")
    }


def _whole_copy(folder: Folder, entry: Entry) -> _Source:
    places = [folder.version_uri(entry.version), entry.origin.artifact_uri]
    problems = []
    for place in filter(None, places):
        found = _remote_source(place, folder)
        wrong = _differences(found.files, entry.files)
        if not wrong:
            return found
        problems.append(f"{place}: {wrong}")
    raise PublishError(
        f"version {entry.version} cannot be published again, no whole copy of it is "
        "left: " + "; ".join(problems)
    )


def _differences(found: Mapping[str, File], wanted: Mapping[str, File]) -> str | None:
    """What is wrong with a copy, in words; None if nothing is."""
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        return f"{missing[0]} is missing"
    strange = sorted(found.keys() - wanted.keys())
    if strange:
        return f"{strange[0]} does not belong there"
    for name, file in sorted(wanted.items()):
        if found[name] != file:
            return f"{name} has other content ({found[name].size} of {file.size} bytes)"
    return None


# --- The four steps --------------------------------------------------------------------


def _claim(folder: Folder, served: Served, publisher: str) -> _Claim:
    """Takes the next free version number."""
    while True:
        taken = _names(folder)
        if served.version is not None:
            taken.add(str(served.version))
        version = next_version(taken, time.time())
        blob = folder.entry_blob(version)
        text = ledger.mark_text(ledger.CLAIMED, publisher)
        generation = _write(blob, text, 0)
        if generation is not None:
            blob.reload()
            return _Claim(
                version=version, generation=generation, made=blob.time_created
            )


def _names(folder: Folder) -> set[str]:
    """Version numbers that somebody has used, published or not."""
    listing = folder.bucket.client.list_blobs(
        folder.bucket, prefix=folder.prefix, delimiter="/"
    )
    for _ in listing:  # the prefixes are complete when all pages were read
        pass
    folders = {name.removeprefix(folder.prefix)[:-1] for name in listing.prefixes}
    entries = folder.bucket.client.list_blobs(
        folder.bucket, prefix=f"{folder.prefix}{ledger.LEDGER_NAME}/"
    )
    stems = {Path(blob.name).name.removesuffix(".json") for blob in entries}
    return folders | stems


def _upload(source: _Source, folder: Folder, version: int) -> None:
    """Writes all objects of a version and reads back what the storage says of them."""
    from google.api_core.exceptions import PreconditionFailed

    for name in sorted(source.files, key=lambda name: (name == MODEL_FILE, name)):
        try:
            source.write(name, folder.blob(f"{version}/{name}"))
        except PreconditionFailed:
            # The first try succeeded and its answer was lost; else, what follows tells.
            _log.info("%s/%s is there already", folder.version_uri(version), name)
    wrong = _differences(_remote_files(folder, f"{version}/"), source.files)
    if wrong:
        raise PublishError(
            f"{folder.version_uri(version)}: {wrong}, so {source.uri} was changed while it "
            "was read, or damaged on the way; nothing was published"
        )


def _renumber(
    folder: Folder,
    claim: _Claim,
    served: Served,
    publisher: str,
    files: Mapping[str, File],
) -> _Claim:
    """Copies an own version that was overtaken to a number above what is served.

    An upload takes minutes, in which a publisher that began later may have finished.
    TensorFlow Serving's policy `latest` serves the highest number, and models.config names
    the one that was published last: both must be the same version, so a number below the
    served one must not be published. The storage copies the objects by itself.
    """
    new = _claim(folder, served, publisher)
    source = _remote_source(folder.version_uri(claim.version), folder)
    _upload(dataclasses.replace(source, files=files), folder, new.version)
    return new


def _complete(folder: Folder, claim: _Claim, entry: Entry, publisher: str) -> _Claim:
    """Writes the entry in the place of the claim."""
    text = ledger.entry_text(entry, publisher)
    generation = _write(folder.entry_blob(claim.version), text, claim.generation)
    if generation is None:
        raise PublishError(
            f"{folder.uri}: version {claim.version} was taken for abandoned, because "
            f"publishing took longer than {LEFTOVER_AGE}; nothing was published"
        )
    return dataclasses.replace(claim, generation=generation)


def _show(folder: Folder, served: Served, version: int) -> bool:
    """Lets models.config name the version, unless somebody else was faster."""
    blob = folder.blob(ledger.CONFIG_NAME)
    text = ledger.config_text(served, version, folder)
    return _write(blob, text, served.generation) is not None


def _write(blob: Any, text: str, generation: int) -> int | None:
    """Replaces an object on the condition that it still has this generation.

    Returns:
        The new generation; None if somebody else was faster.
    """
    from google.api_core.exceptions import PreconditionFailed

    blob.cache_control = _CACHE_CONTROL
    try:
        blob.upload_from_string(
            text,
            content_type="text/plain; charset=utf-8",
            if_generation_match=generation,
        )
        return int(blob.generation)
    except PreconditionFailed:
        # Nobody else writes this text: then an earlier try of this very request, whose
        # answer was lost, has succeeded.
        found = ledger.read_bytes(blob)
        if found is not None and found[0] == text.encode():
            return found[1]
        return None


# --- What killed publishers left -------------------------------------------------------


def _remove_leftovers(folder: Folder, now: datetime.datetime, publisher: str) -> None:
    """Removes what was never published and is old; failing costs space, nothing else.

    Args:
        folder: Where something was just published.
        now: By the clock of the object storage.
        publisher: For the marks.
    """
    from google.api_core.exceptions import GoogleAPIError

    try:
        old = _old_entries(folder, now - LEFTOVER_AGE)
        if not old:
            return
        served, history = ledger.published(folder)
        if not history or history[-1].previous is not None:
            _log.warning("%s: the ledger has a gap, nothing is removed", folder.uri)
            return
        stale = old.keys() - {each.version for each in history}
        config = folder.blob(ledger.CONFIG_NAME)
        if not stale or _write(config, served.text, served.generation) is None:
            return
        barred = []
        for version in stale:
            text = ledger.mark_text(ledger.ABANDONED, publisher)
            generation = _write(folder.entry_blob(version), text, old[version])
            if generation is not None:
                barred.append(_Claim(version=version, generation=generation, made=now))
        _discard(folder, barred)
    except (GoogleAPIError, PublishError) as error:
        _log.warning("%s: leftovers were not removed: %s", folder.uri, error)


def _old_entries(folder: Folder, before: datetime.datetime) -> dict[int, int]:
    """Versions whose entry was last written before a moment, with its generation."""
    found = {}
    prefix = f"{folder.prefix}{ledger.LEDGER_NAME}/"
    for blob in folder.bucket.client.list_blobs(folder.bucket, prefix=prefix):
        stem = Path(blob.name).name.removesuffix(".json")
        if versions([stem]) and blob.time_created < before:
            found[int(stem)] = int(blob.generation)
    return found


def _discard(folder: Folder, claims: list[_Claim]) -> None:
    """Removes versions that were never published; what cannot be removed stays."""
    from google.api_core.exceptions import GoogleAPIError

    client = folder.bucket.client
    for claim in claims:
        uri = folder.version_uri(claim.version)
        _log.info("removing %s, which was never published", uri)
        try:
            prefix = f"{folder.prefix}{claim.version}/"
            for blob in list(client.list_blobs(folder.bucket, prefix=prefix)):
                blob.delete()
            # The entry last: while it is there, the number is not used again.
            folder.entry_blob(claim.version).delete(
                if_generation_match=claim.generation
            )
        except GoogleAPIError as error:
            # It costs space, no correctness.
            _log.warning("%s cannot be removed: %s", uri, error)


def _publisher_of(content: bytes) -> str:
    return json.loads(content)["publisher"]


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")

"""An output folder that was moved or copied: its metadata follow it.

ML Metadata keeps absolute paths. Without this, a folder that was moved would have lost its
models, and a copy would use, publish to and sweep the folder that it was copied from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from typing import Any

from contract.fields import ConfigError
from pipeline.local import database
from pipeline.local.exclusive import exclusive

# <output_root>/artifacts/<node>/<output key>/<execution id>, as TFX names folders.
_ARTIFACT = re.compile(r"(.+)/artifacts/[^/]+/[^/]+/\d+")


def settle(output_root: str) -> None:
    """As `follow`, for commands that do not hold the folder's lock; takes it if needed.

    Raises:
        pipeline.local.exclusive.FolderInUse: A run is going on.
    """
    if os.path.isfile(database.path(output_root)) and _earlier(
        output_root, _open(output_root, database.path(output_root))
    ):
        with exclusive(output_root):
            follow(output_root)


def follow(output_root: str, metadata: str | None = None) -> list[str]:
    """Lets the metadata name this place where they name the one that they come from.

    What a component's parameters were stays as it was: it is history. The caller holds
    the folder's lock.

    Args:
        output_root: The folder.
        metadata: A copy of its metadata, to change instead.

    Returns:
        The earlier places; none if the folder was neither moved nor copied.
    """
    metadata = metadata or database.path(output_root)
    if not os.path.isfile(metadata):
        return []
    store = _open(output_root, metadata)
    earlier = _earlier(output_root, store)
    if earlier:
        changed = [
            artifact
            for artifact in store.get_artifacts()
            if _rewrite(artifact, earlier, output_root)
        ]
        store.put_artifacts(changed)  # one transaction
    return earlier


def _open(output_root: str, metadata: str) -> Any:
    from ml_metadata import errors
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata
    try:
        return metadata_store.MetadataStore(config)
    except (errors.StatusError, RuntimeError) as error:  # of a newer ML Metadata
        raise ConfigError(
            f"output_root={output_root}: {database.path(output_root)} cannot be read "
            f"({' '.join(str(error).split())}); choose another folder"
        ) from None


def _earlier(output_root: str, store: Any) -> list[str]:
    """The other folders in which, by their names, artifacts were made."""
    matches = (_ARTIFACT.fullmatch(artifact.uri) for artifact in store.get_artifacts())
    roots = {match[1] for match in matches if match} - {output_root}
    # One folder may have several names, by symbolic links.
    return sorted(root for root in roots if not _same(root, output_root))


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _rewrite(artifact: Any, earlier: Collection[str], output_root: str) -> bool:
    """Replaces the places in an artifact; whether there were any."""
    before = artifact.SerializeToString(deterministic=True)
    for root in earlier:
        artifact.uri = _moved(artifact.uri, root, output_root)
        for value in _texts(artifact):
            value.string_value = _moved(value.string_value, root, output_root)
    return artifact.SerializeToString(deterministic=True) != before


def _texts(artifact: Any) -> Iterator[Any]:
    for properties in (artifact.properties, artifact.custom_properties):
        for value in properties.values():
            if value.WhichOneof("value") == "string_value":
                yield value


def _moved(path: str, earlier: str, output_root: str) -> str:
    if path == earlier or path.startswith(earlier + "/"):
        return output_root + path[len(earlier) :]
    return path

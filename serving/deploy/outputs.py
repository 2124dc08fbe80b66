"""What a run left behind, as far as a server needs it.

In: a folder with `<model>/<version>/`, of a run `<output_root>/serving`. Out: one frozen
value per model. The highest version is in service, as for TensorFlow Serving: a push and a
rollback both add a higher one. Nothing of TensorFlow is loaded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# TensorFlow Serving takes any text; these are safe in paths, URLs, YAML and text protos.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HIGHEST_VERSION = 2**63 - 1
_MOST_BATCHING = 100_000
_BATCHING_FILE = "batching_params.pbtxt"  # trainer/export.py writes it into each model


class DeployError(ValueError):
    """What is there cannot be deployed; the message names path, rule and remedy."""


@dataclass(frozen=True)
class PublishedModel:
    """One folder of versions."""

    name: str
    folder: Path  # absolute; its children are the versions
    versions: tuple[int, ...]  # ascending; the last one is in service
    batching: str | None  # batching parameters stored with the newest version
    size: int  # bytes of the newest version's files


def read_outputs(folder: str | os.PathLike[str]) -> tuple[PublishedModel, ...]:
    """The models that runs published to a folder, the one published last first.

    Raises:
        DeployError: There is none, or a name that other tools would refuse.
    """
    base = Path(folder).absolute()
    if not base.is_dir():
        raise DeployError(
            f"{base}: there is no such folder, so no published model; `make run` makes one, "
            "and --base_directory names another folder if serving.base_directory did"
        )
    models = []
    for folder in sorted(base.iterdir()):
        versions = _versions(folder) if folder.is_dir() else ()
        if not versions:
            continue
        if not _NAME.fullmatch(folder.name):
            raise DeployError(
                f"{folder}: a model's name has letters, digits, '.', '_', '-' only, and "
                "at most 63 of them; rename the folder"
            )
        models.append(
            PublishedModel(
                folder.name,
                folder,
                versions,
                _batching(folder / str(versions[-1])),
                _size(folder / str(versions[-1])),
            )
        )
    if not models:
        raise DeployError(f"{base}: no version of any model is published in it")
    return tuple(sorted(models, key=lambda model: (-model.versions[-1], model.name)))


def _versions(folder: Path) -> tuple[int, ...]:
    """Versions as TensorFlow Serving finds them: integer names with a SavedModel."""
    found = (
        int(entry.name)
        for entry in folder.iterdir()
        if entry.name.isascii()
        and entry.name.isdigit()
        and len(entry.name) < 20
        and (entry / "saved_model.pb").is_file()
    )
    return tuple(sorted(version for version in found if version <= _HIGHEST_VERSION))


def _size(version: Path) -> int:
    return sum(path.stat().st_size for path in version.rglob("*") if path.is_file())


def _batching(version: Path) -> str | None:
    path = version / _BATCHING_FILE
    if not path.is_file():
        return None
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(_MOST_BATCHING + 1)
    except (OSError, ValueError) as error:
        raise DeployError(f"{path}: {error}") from None
    if len(text) > _MOST_BATCHING or not all(
        c.isprintable() or c in "\n\t" for c in text
    ):
        raise DeployError(
            f"{path}: must be at most {_MOST_BATCHING:,} characters of plain text, it "
            "becomes a part of the manifests"
        )
    return text

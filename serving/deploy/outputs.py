"""What a run left behind, as far as a server needs it.

In: `output_root` with `serving/<model>/<version>/` and `report/report.json`. Out: one
frozen value per model. Nothing of TensorFlow is loaded.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# TensorFlow Serving takes any text; these are safe in paths, URLs, YAML and text protos.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HIGHEST_VERSION = 2**63 - 1
_BATCHING_FILE = "batching_params.pbtxt"  # trainer/export.py writes it into each model


class DeployError(ValueError):
    """What is there cannot be deployed; the message names path, rule and remedy."""


@dataclass(frozen=True)
class PublishedModel:
    """One folder below `serving/`."""

    name: str
    folder: Path  # absolute; its children are the versions
    versions: tuple[int, ...]  # ascending
    pushed: int | None  # by the run that wrote report.json
    batching: str | None  # batching parameters stored with the newest version
    size: int  # bytes of the newest version's files


def read_outputs(output_root: str | os.PathLike[str]) -> tuple[PublishedModel, ...]:
    """The models of an output folder, by name; the one last pushed comes first.

    Raises:
        DeployError: There is none, or a name that other tools would refuse.
    """
    root = Path(output_root).absolute()
    base = root / "serving"
    if not base.is_dir():
        raise DeployError(
            f"{base}: there is no such folder, so no published model; `make run` makes one"
        )
    pushed = _pushed(root / "report" / "report.json")
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
                pushed if pushed in versions else None,
                _batching(folder / str(versions[-1])),
                _size(folder / str(versions[-1])),
            )
        )
    if not models:
        raise DeployError(f"{base}: no version of any model is published in it")
    return tuple(sorted(models, key=lambda model: (model.pushed is None, model.name)))


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


def _pushed(report: Path) -> int | None:
    """The version that the last run pushed; None without a report or a push."""
    try:
        content: Any = json.loads(report.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DeployError(f"{report}: cannot be read ({error})") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != 1:
        raise DeployError(f"{report}: schema is {schema!r}, this program knows 1")
    pushed = content.get("pushed") or {}
    version = pushed.get("version") if isinstance(pushed, dict) else None
    try:
        return None if version is None else int(version)
    except (TypeError, ValueError):
        raise DeployError(
            f"{report}: pushed.version={version!r} is no version"
        ) from None


def _size(version: Path) -> int:
    return sum(path.stat().st_size for path in version.rglob("*") if path.is_file())


def _batching(version: Path) -> str | None:
    try:
        return (version / _BATCHING_FILE).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DeployError(f"{version / _BATCHING_FILE}: {error}") from None

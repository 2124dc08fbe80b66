"""Which code made a result: its digest, the commit, and versions of what it stands on.

A leaf: standard library only.
"""

from __future__ import annotations

import hashlib
import modulefinder
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_DISTRIBUTIONS = (
    "tfx",
    "tensorflow",
    "keras",
    "apache-beam",
    "tensorflow-model-analysis",
    "tensorflow-transform",
    "numpy",
)
_PROJECT = Path(__file__).parents[1]
# What a node does depends on its own room and those it imports. What `pipeline` tells it
# are values, which are parameters of the node already.
_ROOMS = ("components", "contract", "serving", "trainer")


def source_digest(*scripts: str, project: Path = _PROJECT) -> str:
    """Digest of the code a node runs: edited code is never answered from the cache.

    Only what is imported counts. Files that lie beside it (left by a build, a notebook, an
    editor, a virtual environment, or a module that nothing uses) do not change what a
    node does.

    Args:
        *scripts: Files that the node runs, below `project`, e.g. "trainer/run.py".
        project: Folder that holds the packages.

    Returns:
        16 hexadecimal digits.
    """
    finder = modulefinder.ModuleFinder(path=[str(project)])
    paths = [project / script for script in scripts]
    for path in paths:
        finder.run_script(str(path))
    for module in finder.modules.values():
        name = module.__name__.split(".")[0]
        if name in _ROOMS and module.__file__:
            paths.append(Path(module.__file__))
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        digest.update(path.relative_to(project).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """The project's git commit, "+changes" if the work tree differs; None without git."""
    root = _PROJECT

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        # A project that was copied into another repository is not that repository.
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        changed = "+changes" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Python and the libraries a result depends on most."""
    found = {name: metadata.version(name) for name in _DISTRIBUTIONS}
    return {"python": platform.python_version(), **found}


def machine() -> str:
    """The machine in words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"

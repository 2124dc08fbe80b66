"""Which code made a result: the commit and the versions of what it stands on.

A leaf: standard library only.
"""

from __future__ import annotations

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


def commit() -> str | None:
    """The project's git commit, "+changes" if the work tree differs; None without git."""
    root = Path(__file__).parents[1]

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

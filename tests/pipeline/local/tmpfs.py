"""A file system of its own for one child process: small, or read-only also for root."""

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

# A user's own namespace: needs no rights outside of it, and ends with the child.
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


def mounted(folder: Path, options: str) -> list[str]:
    """Words to stand before a command, which then sees a tmpfs at `folder`.

    Skips the test where this system lets no user mount anything (macOS, and Linux with
    user namespaces switched off).
    """
    if not _is_allowed():
        pytest.skip("mounting needs Linux with user namespaces")
    mount = f"mount -t tmpfs -o {options} tmpfs '{folder}' && exec \"$@\""
    return [*_UNSHARE, "sh", "-c", mount, "-"]


@functools.cache
def _is_allowed() -> bool:
    mount = "mount -t tmpfs tmpfs /tmp"
    return bool(shutil.which("unshare")) and not subprocess.call(
        [*_UNSHARE, "sh", "-c", mount], stderr=subprocess.DEVNULL
    )

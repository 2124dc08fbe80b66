"""Files that appear complete or not at all. A leaf: standard library only."""

from __future__ import annotations

import os
import tempfile


def write(path: str | os.PathLike[str], content: bytes, mode: int = 0o644) -> None:
    """Writes a file on this machine's disks; an error leaves what was there.

    Args:
        path: In a folder that is there.
        content: All of it.
        mode: Of the new file, whatever the process's umask.

    Raises:
        OSError: It cannot be written.
    """
    folder, name = os.path.split(os.fspath(path))
    descriptor, aside = tempfile.mkstemp(dir=folder or ".", prefix=f".{name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(aside, mode)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise

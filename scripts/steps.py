"""Steps of the set-up: what is said, what is run, and why it stopped."""

from __future__ import annotations

import subprocess
import time


class SetupError(Exception):
    """What stops the set-up, and the remedy, in words for the person who started it."""


class Progress:
    """Prints what happens now, after how many seconds."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Prints one line."""
        print(f"setup {time.monotonic() - self.start:6.1f} s  {text}", flush=True)


def call(
    command: list[str], cwd: str | None = None, env: dict[str, str] | None = None
) -> None:
    """Runs one step; its own output says why it failed."""
    code = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL
    ).returncode
    if code != 0:
        raise SetupError(f"`{' '.join(command)}` failed (exit code {code}); see above")

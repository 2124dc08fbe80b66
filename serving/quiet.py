"""Keeps what TensorFlow says of itself while it is loaded off the screen.

Some of it comes before TensorFlow has read TF_CPP_MIN_LOG_LEVEL, and that there is no GPU
is an error to it. So the descriptor of stderr is a file meanwhile; what else was written to
it follows. Who has set TF_CPP_MIN_LOG_LEVEL to 0 or 1 has asked to see it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import glob
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from serving import imports

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# "I0000 00:00:1795942847.810704   21181 port.cc:153] oneDNN ...", as absl writes it.
_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:[\d.]+ |WARNING: All log messages before absl::"
)
_NO_GPU = re.compile(rb"E\d{4} .*failed call to cuInit")


@contextlib.contextmanager
def loading_tensorflow() -> Iterator[None]:
    """Wraps the import of TensorFlow, which then looks for devices."""
    # TensorFlow imports Keras, which would load what ~/.keras/keras.json names, JAX perhaps.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if os.environ.setdefault(LEVEL, "2") in ("0", "1"):
        with _loading():
            yield
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as file, os.fdopen(screen, "wb") as out:
        # A crash would take the file with it.
        faulthandler.enable(out)
        os.dup2(file.fileno(), 2)
        try:
            with _loading():
                yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            faulthandler.disable()
            file.seek(0)
            out.writelines(line for line in file if not _is_noise(line))


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    with imports.without(*imports.TENSORFLOW):
        yield
    if (tensorflow := sys.modules.get("tensorflow")) is not None:
        tensorflow.config.list_physical_devices()


def _is_noise(line: bytes) -> bool:
    if _NOISE.match(line):
        return True
    return bool(_NO_GPU.match(line)) and not glob.glob("/dev/nvidia[0-9]*")

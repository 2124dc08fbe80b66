"""How much memory a server needs: it follows from the models' number and size.

Measured with the embedded server (docs/deploy.md, "Memory"), which loads models by the
TensorFlow that tensorflow_model_server is made of.
"""

from __future__ import annotations

from collections.abc import Iterable

from serving.deploy.configuration import Versions, pinned_versions
from serving.deploy.outputs import PublishedModel

_MIB = 1 << 20
_SERVER = 1024 * _MIB  # without a model, and what batches need while they run
_VERSION = 96 * _MIB  # of each loaded version, beside ...
_TIMES_FILES = 3  # ... its weights, its graph as read, and its graph as run
_STEP = 256 * _MIB


def needed(models: Iterable[PublishedModel], versions: Versions) -> str:
    """Memory of a replica, as Kubernetes writes it, e.g. "1280Mi".

    Of each model one version more is loaded than served: the next one takes over when
    it is ready (tensorflow/serving, AvailabilityPreservingPolicy).
    """
    total = _SERVER
    for model in models:
        served = len(pinned_versions(model)) if versions == "pinned" else 1
        total += (served + 1) * (_VERSION + _TIMES_FILES * model.size)
    return f"{-(-total // _STEP) * _STEP // _MIB}Mi"

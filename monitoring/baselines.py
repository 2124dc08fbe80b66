"""The baseline of a version: from the version's own folder, else from the run that made it.

The push puts it there (components/atomic_pusher), so whatever version answers, also after a
rollback, is compared with what that very model met and answered before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from contract.baseline import Baseline
from contract.records import BASELINE_FILE
from contract.typed_json import RecordError
from monitoring import NothingToCompare, lineage


@dataclass
class Baselines:
    """Of a model's versions, each looked up once.

    Args:
        output: Output folder of the runs.
        base_path: Folder of the served versions; None: below `output`.
    """

    output: str
    base_path: str | None = None
    found: dict[tuple[str, int], Baseline | NothingToCompare] = field(
        default_factory=dict
    )

    def of(self, model: str, version: int) -> Baseline:
        """The baseline of one version.

        Raises:
            NothingToCompare: There is none; said once, later calls raise the same.
        """
        key = (model, version)
        if key not in self.found:
            try:
                self.found[key] = self._find(model, version)
            except NothingToCompare as problem:
                self.found[key] = problem
        known = self.found[key]
        if isinstance(known, NothingToCompare):
            raise known
        return known

    def _find(self, model: str, version: int) -> Baseline:
        base = self.base_path or os.path.join(self.output, "serving", model)
        path = os.path.join(base, str(version), BASELINE_FILE)
        try:
            with _opened(path) as file:
                return Baseline.read(file, path)
        except RecordError as problem:
            raise NothingToCompare(str(problem)) from problem
        except OSError:
            return lineage.recorded(self.output, model, version)


def _opened(path: str) -> IO[bytes]:
    """A file here or in object storage.

    Raises:
        OSError: There is none.
        NothingToCompare: The object storage does not say.
    """
    if "://" not in path:
        return Path(path).open("rb")
    import tensorflow as tf

    try:
        there = tf.io.gfile.exists(path)
    except tf.errors.OpError as problem:
        raise NothingToCompare(f"{path} cannot be read: {problem.message}") from problem
    if not there:
        raise FileNotFoundError(path)
    return tf.io.gfile.GFile(path, "rb")

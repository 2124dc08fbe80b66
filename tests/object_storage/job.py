"""A training job of its own process, to be stopped: python -m tests.object_storage.job FOLDER

`FOLDER`, a gs:// address, is as `tests.trainer.test_fit.train` takes it. The job prints
each step.
"""

import dataclasses
import logging
import sys

from tests.trainer import test_fit

# 100 steps; nothing is saved unless it must be.
CONFIG = dataclasses.replace(test_fit.CONFIG, epochs=25, checkpoint_seconds=1000.0)


class Folder(str):
    """A gs:// address that joins as a Path does."""

    def __truediv__(self, name: str) -> str:
        return f"{self}/{name}"


if __name__ == "__main__":
    import tensorflow as tf

    from trainer import fit

    tf.config.experimental.enable_op_determinism()  # as trainer.run does
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    fit._SECONDS_BETWEEN_REPORTS = 0.0
    test_fit.train(test_fit.network_with_statistics(), Folder(sys.argv[1]), CONFIG)

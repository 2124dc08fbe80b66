"""Which parameters of the nodes a run's configuration decides.

The first step of a run on Vertex AI, RunConfiguration, builds the DAG with the run's own
configuration and hands out these parameters; the compiled specification leaves them open.
So components are what they are locally, and Vertex AI caches by the values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Parameters that no run-time override changes; all others are open. A new parameter is
# thus open until it is named here, which is never wrong.
CONSTANT = frozenset(
    {
        "run_fn",
        "train_args",
        "eval_args",
        "preprocessing_fn",
        "splits_config",
        "force_tf_compat_v1",
        "disable_statistics",
        "exclude_splits",
        "contender",
        "records",
        "directory",
        "experiment",
    }
)
FIRST = "RunConfiguration"  # the node that hands out the rest
SOURCE = "source"  # see components/declaration.py


@dataclass(frozen=True)
class Open:
    """A parameter of a node that RunConfiguration hands out."""

    node: str
    name: str
    value: str | int

    @property
    def key(self) -> str:
        """Name of the output of RunConfiguration."""
        return f"{self.node}_{self.name}"


def open_parameters(pipeline: Any) -> Iterator[Open]:
    """The open parameters of a DAG, with the values it was built with.

    Args:
        pipeline: tfx.dsl.Pipeline of `pipeline.dag`.

    Raises:
        TypeError: A parameter that is neither text nor a whole number.
    """
    for node in pipeline.components:
        for name, value in sorted(node.exec_properties.items()):
            if node.id == FIRST or name in CONSTANT or value is None:
                continue
            if not isinstance(value, str | int):
                raise TypeError(
                    f"{node.id}.{name}={value!r}: must be text or a whole number, to be "
                    "handed out by RunConfiguration"
                )
            if name == SOURCE:
                # A digest of each file says locally what was edited. Here it need only
                # differ, and what a step hands out is limited.
                value = hashlib.sha256(str(value).encode()).hexdigest()[:16]
            yield Open(node.id, name, value)

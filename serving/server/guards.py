"""Kernels that abort the process on a tensor of a rank they do not expect get a guard.

tensorflow_model_server hands a request's tensors to the graph whatever their shapes, and
so does this server: most kernels look at what they are given, and return an error. A few
index the shape first, fail a CHECK, and take the process with them: Conv2D does for an
image without its batch dimension. In front of each of these an EnsureShape is put, which
returns INVALID_ARGUMENT instead. It forwards its tensor, without a copy.

The table is what a search found that fed tensors of the ranks 0 to 6 to 150 operations of
TensorFlow 2.21 on a CPU; tests/serving/server/test_shapes.py feeds each of it. Three more
abort where no one rank is right: ScatterNd on indices that do not go with its updates,
FakeQuantWithMinMaxVarsPerChannel on a scalar, BlockLSTM on no steps. They have no guard.

Source: tensorflow/core/framework/graph.proto, function.proto; core/util/tensor_format.h
(GetTensorDim, whose dim_size is what aborts).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Operation: the rank of its first input.
RANKS = {
    "Conv2D": 4,
    "DepthwiseConv2dNative": 4,
    "Conv3D": 5,
    "MaxPool3D": 5,
}


def add(graph: Any) -> None:
    """Puts the guards into a graph and the functions of its library.

    Args:
        graph: A GraphDef, which is changed.
    """
    _guard(graph.node, "")
    for function in graph.library.function:
        # In a function an output is named by operation, argument and number.
        _guard(function.node_def, ":output:0")


def needed(graph: Any) -> bool:
    """Whether a graph or its functions have an operation of the table."""
    return any(node.op in RANKS for nodes in _bodies(graph) for node in nodes)


def _bodies(graph: Any) -> Iterator[Any]:
    yield graph.node
    for function in graph.library.function:
        yield function.node_def


def _guard(nodes: Any, output: str) -> None:
    names = {node.name for node in nodes}
    for node in [node for node in nodes if node.op in RANKS]:
        name = f"{node.name}/rank"
        while name in names:
            name += "_"
        names.add(name)
        guard = nodes.add(name=name, op="EnsureShape", device=node.device)
        guard.input.append(node.input[0])
        guard.attr["T"].CopyFrom(node.attr["T"])
        for _ in range(RANKS[node.op]):
            guard.attr["shape"].shape.dim.add(size=-1)
        node.input[0] = name + output

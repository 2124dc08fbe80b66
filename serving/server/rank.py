"""Inputs whose rank the signature leaves open: which ranks the graph can take.

Several TensorFlow kernels do not return an error for a tensor of the wrong rank, they
abort the process (Conv2D on an image without its batch dimension is one). The graph's
own shape functions know the ranks demanded, and they raise. So before a call of a new
rank, the graph is imported once with placeholders of that rank; only if that succeeds
may calls of that rank run. Costs some milliseconds to a second per rank, once.

Shape functions do not look into called functions. Calls are therefore inlined first, by
TensorFlow's own optimizer, and the bodies of loops and branches are checked with the
shapes with which they are entered. Where even so the rank that reaches such a kernel
stays unknown, the call is refused: better no answer than no server.
"""

# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework import function_def_to_graph
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.ops import handle_data_util

from serving.server.errors import invalid

_MOST_VERDICTS = 256  # per version; then ranks are checked every time
_LOWERED = "_lower_using_switch_merge"  # would hide loops and branches from us
# Attributes of functional operations, and at which input the function's own begin.
_BODIES = {
    "While": (("cond", "body"), 0),
    "StatelessWhile": (("cond", "body"), 0),
    "If": (("then_branch", "else_branch"), 1),
    "StatelessIf": (("then_branch", "else_branch"), 1),
    "Case": (("branches",), 1),
    "StatelessCase": (("branches",), 1),
    "PartitionedCall": (("f",), 0),
    "StatefulPartitionedCall": (("f",), 0),
}
# Operations with kernels that abort, or might, on a rank they do not expect.
_CRITICAL = re.compile(
    r".*(Conv|Pool|BatchNorm|LRN|Dilation|BiasAdd|DepthToSpace|SpaceToDepth|Resize"
    r"|CropAndResize|Mirror|Upper|Band|Space.*Batch|Batch.*Space).*"
)


def open_inputs(definition: meta_graph_pb2.SignatureDef) -> tuple[str, ...]:
    """Aliases of the inputs whose rank a signature does not give."""
    return tuple(
        sorted(
            alias
            for alias, info in definition.inputs.items()
            if info.tensor_shape.unknown_rank or not info.HasField("tensor_shape")
        )
    )


def needed(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> bool:
    """Whether any signature leaves a rank open."""
    return any(open_inputs(definition) for definition in signatures.values())


class Verifier:
    """Answers, for one version, whether a signature takes arrays of these ranks."""

    def __init__(
        self, graph: Any, signatures: Mapping[str, meta_graph_pb2.SignatureDef]
    ):
        self._signatures = signatures
        self._open = {name: open_inputs(item) for name, item in signatures.items()}
        with tf.Graph().as_default() as imported:  # puts back attributes left out
            tf.import_graph_def(graph, name="")
        graph = imported.as_graph_def()
        self._inlined = {
            name: _inline(graph, signatures[name])
            for name, aliases in self._open.items()
            if aliases
        }
        self._verdicts: dict[tuple[str, tuple[int, ...]], str | None] = {}
        self._lock = threading.Lock()  # importing is slow: one at a time

    def verify(self, signature: str, feeds: Mapping[str, np.ndarray]) -> None:
        """Returns if the graph takes arrays of these ranks.

        Raises:
            ServingError: INVALID_ARGUMENT, with the operation that does not.
        """
        aliases = self._open[signature]
        if not aliases:
            return
        ranks = tuple(feeds[alias].ndim for alias in aliases if alias in feeds)
        key = (signature, ranks)
        if key not in self._verdicts:
            with self._lock:
                verdict = self._check(signature, feeds)
                if len(self._verdicts) < _MOST_VERDICTS:
                    self._verdicts[key] = verdict
        else:
            verdict = self._verdicts[key]
        if verdict is not None:
            shown = ", ".join(
                f"{alias}: {feeds[alias].ndim}" for alias in aliases if alias in feeds
            )
            raise invalid(f"The model does not take inputs of rank {shown}: {verdict}")

    def _check(self, signature: str, feeds: Mapping[str, np.ndarray]) -> str | None:
        definition = self._signatures[signature]
        graph = tf.Graph()
        with graph.as_default():
            placeholders = {}
            for alias, array in feeds.items():
                info = definition.inputs[alias]
                shape = tf.TensorShape(info.tensor_shape)
                if shape.rank is None:
                    shape = [None] * array.ndim
                placeholders[info.name] = tf.compat.v1.placeholder(info.dtype, shape)
            try:
                tf.import_graph_def(
                    self._inlined[signature], input_map=placeholders, name=""
                )
                while (decided := _decide(graph)) is not None:
                    graph = tf.Graph()
                    with graph.as_default():
                        tf.import_graph_def(_inline(decided, definition), name="")
                _check_operations(graph)
            except (ValueError, tf.errors.InvalidArgumentError) as error:
                return str(error).split(" for '{{")[0]
        return None


def _inline(graph_def: Any, definition: meta_graph_pb2.SignatureDef) -> Any:
    """What a signature runs, as one graph without calls of functions."""
    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(graph_def)
    bodies = (function.node_def for function in meta.graph_def.library.function)
    for nodes in (meta.graph_def.node, *bodies):
        for node in nodes:
            node.attr.pop(_LOWERED, None)
    outputs = [info.name for info in definition.outputs.values()]
    meta.collection_def["train_op"].node_list.value.extend(outputs)
    meta.signature_def["signature"].CopyFrom(definition)
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1  # also graphs of a few nodes
    rewrite.optimizers.append("function")
    inlined = tf_optimizer.OptimizeGraph(config, meta)
    nodes = sorted({name.split(":")[0] for name in outputs})
    return tf.compat.v1.graph_util.extract_sub_graph(inlined, nodes)


def _decide(graph: Any) -> Any:
    """Replaces branches on the rank by a call of the one taken; None if there is none."""
    graph_def = graph.as_graph_def()
    changed = False
    for node in graph_def.node:
        if node.op not in ("If", "StatelessIf"):
            continue
        predicate = graph.get_operation_by_name(node.name).inputs[0]
        chosen = tf.get_static_value(predicate)
        if chosen is None:
            continue
        changed = True
        taken = "then_branch" if bool(chosen) else "else_branch"
        kept = {
            "f": node.attr[taken],
            "Tin": node.attr["Tin"],
            "Tout": node.attr["Tout"],
        }
        call = tf.compat.v1.NodeDef(
            name=node.name,
            op="StatefulPartitionedCall" if node.op == "If" else "PartitionedCall",
            input=node.input[1:],
            attr=kept,
        )
        node.CopyFrom(call)
    return graph_def if changed else None


def _check_operations(graph: Any) -> None:
    """Looks at a graph's operations, and into the functions that they call.

    Raises:
        ValueError: A shape function's, or a rank that matters is not known.
    """
    for operation in graph.get_operations():
        if _CRITICAL.fullmatch(operation.type) and any(
            tensor.shape.rank is None
            for tensor in operation.inputs
            if tensor.dtype != tf.resource
        ):
            raise ValueError(
                f"which rank reaches its {operation.type} ({operation.name}) cannot be "
                "known beforehand; export the signature with a known rank"
            )
        attributes, first = _BODIES.get(operation.type, ((), 0))
        arguments = operation.inputs[first:]
        for name in _function_names(operation, attributes):
            function = graph._get_function(name).cached_definition
            _check_operations(_body(function, graph.as_graph_def(), arguments))


def _body(function: Any, caller: Any, arguments: Sequence[Any]) -> Any:
    """A function as a graph, its arguments shaped as those with which it is called."""
    graph = tf.Graph()
    with graph.as_default():
        functions = tf.compat.v1.GraphDef(
            library=caller.library, versions=caller.versions
        )
        tf.import_graph_def(functions, name="")
        definition, _ = function_def_to_graph.function_def_to_graph_def(function)
        given = {}
        for declared, argument in zip(
            function.signature.input_arg, arguments, strict=True
        ):
            placeholder = tf.compat.v1.placeholder(argument.dtype, argument.shape)
            known = _handle_data(argument)
            if known.is_set:
                handle_data_util.set_handle_data(placeholder, known)
            given[f"{declared.name}:0"] = placeholder
        tf.import_graph_def(definition, input_map=given, name="")
    return graph


def _handle_data(tensor: Any) -> Any:
    """Shape and type of a variable, or of a list's elements."""
    known = handle_data_util.get_resource_handle_data(tensor)
    source = tensor.op
    while source.type == "Identity":
        source = source.inputs[0].op
    # The list that a loop over a tensor's rows is given. TensorFlow says nothing of its
    # elements' shape where the exporter did not know it.
    if source.type == "TensorListFromTensor" and known.is_set:
        rows = source.inputs[0].shape
        if rows.rank:
            known.shape_and_type[0].shape.CopyFrom(rows[1:].as_proto())
    return known


def _function_names(operation: Any, attributes: tuple[str, ...]) -> list[str]:
    names = []
    for attribute in attributes:
        value = operation.get_attr(attribute)
        functions = value if isinstance(value, list) else [value]
        names += [function.name for function in functions]
    return names

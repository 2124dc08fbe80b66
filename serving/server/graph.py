"""A SavedModel's graph in a session: imported, restored, initialised.

`tf.compat.v1.saved_model.load` would read the graph from the model's folder; here it is one
that has been changed (serving/server/guards.py), so the steps are taken one by one.

A session is what tensorflow_model_server runs: it takes what TF1 wrote as well as TF2, says
the same of what is wrong, computes only the outputs that are asked for, gives its memory
back when it is closed, and costs less per call than a function of `tf.saved_model.load`.

Sources: tensorflow/cc/saved_model/{loader.cc (RunRestore, RunInitOp),loader_util.cc}.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.server import tensors

# By the operation that makes a variable: asks whether it has a value.
_HAS_VALUE = {
    "VarHandleOp": lambda variable: tf.raw_ops.VarIsInitializedOp(resource=variable),
    "VariableV2": lambda variable: tf.raw_ops.IsVariableInitialized(ref=variable),
    "Variable": lambda variable: tf.raw_ops.IsVariableInitialized(ref=variable),
}


class Graph:
    """A graph that has been loaded; `run` may be called from several threads at once."""

    def __init__(
        self,
        folder: Path,
        meta: meta_graph_pb2.MetaGraphDef,
        inputs: Mapping[str, int],
        outputs: Iterable[str],
        config: config_pb2.ConfigProto,
    ):
        """Imports the graph, restores the variables, runs the initialisation.

        Args:
            folder: With the variables and assets.
            meta: The graph, which is changed, and how to initialise it.
            inputs: Types (DataType) of the tensors that `run` may feed, by name.
            outputs: Names of those that it may fetch.
            config: Of the session.

        Raises:
            tf.errors.OpError, ValueError: TensorFlow cannot load it.
        """
        self._fed = _open(meta.graph_def, inputs)
        self._outputs = tuple(outputs)
        self._graph = tf.Graph()
        with self._graph.as_default():
            needed = _needed(meta, [*inputs, *self._fed.values(), *self._outputs])
            tf.graph_util.import_graph_def(needed, name="")
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        try:
            self._initialise(folder, meta)
        except BaseException:
            self.close()
            raise

    def _initialise(self, folder: Path, meta: meta_graph_pb2.MetaGraphDef) -> None:
        """Restores the variables, and runs what fills tables."""
        assets = {
            asset.tensor_info.name: str(folder / "assets" / asset.filename)
            for asset in _assets(meta)
        }
        variables = folder / "variables" / "variables"
        if variables.with_suffix(".index").is_file():
            saver = meta.saver_def
            file = {saver.filename_tensor_name: str(variables)}
            self._run(saver.restore_op_name, file | assets)
        if operation := _init_operation(meta):
            self._run(operation, assets)

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """Computes tensors.

        Args:
            feeds: Arrays by the names of inputs ("x:0"), of any shape; strings as object
                arrays of bytes.
            fetches: Names of tensors.

        Returns:
            One array per fetch; strings as object arrays of bytes.

        Raises:
            tf.errors.OpError: What TensorFlow says.
        """
        fed = {}
        for place, (name, array) in enumerate(feeds.items()):
            tensor = self._tensor(name)
            if (
                array.dtype != tensor.dtype.as_numpy_dtype
            ):  # Session.run would convert it
                wanted, given = (
                    tensors.type_name(tf.as_dtype(dtype).as_datatype_enum)
                    for dtype in (tensor.dtype, array.dtype)
                )
                text = f"Expects arg[{place}] to be {wanted} but {given} is provided"
                raise tf.errors.InvalidArgumentError(None, None, text)
            fed[tensor] = array
        asked = [self._tensor(name) for name in fetches]
        return [
            # A scalar comes as a number, or as bytes.
            np.asarray(value, tensor.dtype.as_numpy_dtype)
            for tensor, value in zip(asked, self._run(asked, fed), strict=True)
        ]

    def without_value(self) -> list[str]:
        """Operations that make variables, of those that an output needs, without a value."""
        pending = [self._tensor(name).op for name in self._outputs]
        seen = {operation.name: operation for operation in pending}
        while pending:
            operation = pending.pop()
            before = [tensor.op for tensor in operation.inputs]
            for each in (*before, *operation.control_inputs):
                if each.name not in seen:
                    seen[each.name] = each
                    pending.append(each)
        made = [seen[name] for name in sorted(seen) if seen[name].type in _HAS_VALUE]
        with self._graph.as_default():
            asked = [_HAS_VALUE[each.type](each.outputs[0]) for each in made]
        present = self._run(asked, {})
        return [each.name for each, has in zip(made, present, strict=True) if not has]

    def close(self) -> None:
        """Gives the memory back; nothing may be running."""
        self._session.close()
        del self._session  # TensorFlow's own goes with it

    def _run(self, fetches: Any, feeds: Mapping[Any, Any]) -> Any:
        try:
            return self._session.run(fetches, feeds)
        except tf.errors.OpError as error:
            # It goes on with the lines of this program that imported the graph.
            plain = error.__context__
            raise plain if isinstance(plain, tf.errors.OpError) else error from None

    def _tensor(self, name: str) -> tf.Tensor:
        name = _whole(name)
        try:
            return self._graph.get_tensor_by_name(self._fed.get(name, name))
        except KeyError:
            text = f"the graph has no tensor {name}"
            raise tf.errors.NotFoundError(None, None, text) from None


def _open(graph: Any, inputs: Mapping[str, int]) -> dict[str, str]:
    """Lets values of any shape be fed; returns what is fed in an input's place, by name.

    A session takes no value that does not fit what is known of a tensor's shape.
    tensorflow_model_server leaves that to the operations which get the value, and so
    does this server.

    A placeholder forgets its shape. What one signature of a TF1 model takes may be what
    another one computes: behind such a tensor a PlaceholderWithDefault is put, which has
    its value where nothing is fed. (Behind a placeholder that does not do: where TensorFlow
    inlines a function, it waits for the fed tensor's own computation, and none is there.)

    Args:
        graph: A GraphDef, which is changed.
        inputs: Their types by name.
    """
    nodes = {node.name: node for node in graph.node}
    opened: dict[str, str] = {}
    added = []
    for tensor, dtype in inputs.items():
        tensor = _whole(tensor)
        node = nodes.get(_operation(tensor))
        if node is None:
            continue
        if node.op != "Placeholder":
            name = tensor.replace(":", "/fed_")
            while name in nodes:
                name += "_"
            opened[tensor] = f"{name}:0"
            node = node_def_pb2.NodeDef(name=name, op="PlaceholderWithDefault")
            node.input.append(tensor)
            node.attr["dtype"].type = dtype
            added.append(node)
        node.attr["shape"].shape.Clear()
        node.attr["shape"].shape.unknown_rank = True
        node.attr.pop("_output_shapes", None)  # an import would believe it
    for node in graph.node:
        for place, tensor in enumerate(node.input):
            if _whole(tensor) in opened:
                node.input[place] = opened[_whole(tensor)]
    graph.node.extend(added)
    return opened


def _needed(meta: meta_graph_pb2.MetaGraphDef, tensors: Iterable[str]) -> Any:
    """The GraphDef without what only training and saving need.

    While TensorFlow imports a graph it holds Python's lock, and nobody is answered.
    """
    there = {node.name for node in meta.graph_def.node}
    names = {_operation(tensor) for tensor in tensors}
    names |= {meta.saver_def.restore_op_name, _init_operation(meta) or ""}
    names.add(_operation(meta.saver_def.filename_tensor_name))
    names |= {_operation(asset.tensor_info.name) for asset in _assets(meta)}
    return tf.compat.v1.graph_util.extract_sub_graph(
        meta.graph_def, sorted(names & there)
    )


def _whole(tensor: str) -> str:
    """A tensor's name with its number, which may be left out if it is 0."""
    return tensor if ":" in tensor else f"{tensor}:0"


def _operation(tensor: str) -> str:
    """The name of the one that makes it."""
    return tensor.partition(":")[0]


def _assets(meta: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    """Names of files, and the tensors that are to hold their paths."""
    if meta.asset_file_def:
        return list(meta.asset_file_def)
    packed = meta.collection_def["saved_model_assets"].any_list.value  # TF1
    return [meta_graph_pb2.AssetFileDef.FromString(item.value) for item in packed]


def _init_operation(meta: meta_graph_pb2.MetaGraphDef) -> str | None:
    name = "__saved_model_init_op"
    if name in meta.signature_def:
        return _operation(meta.signature_def[name].outputs[name].name)
    for name in ("saved_model_main_op", "legacy_init_op"):  # TF1
        if name in meta.collection_def:
            return meta.collection_def[name].node_list.value[0]
    return None

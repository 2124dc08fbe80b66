"""One loaded version of a model: a SavedModel, written by TF1 or TF2.

It is run as tensorflow_model_server runs it, its signatures in a session
(serving/server/graph.py). Some SavedModels cannot be restored that way, Keras 3 layers
inside a plain tf.Module among them; tensorflow_model_server cannot serve them. Here they
are, by `tf.saved_model.load`, with a warning.

Sources: tensorflow/cc/saved_model/loader.cc; tensorflow/serving,
servables/tensorflow/saved_model_bundle_factory.cc.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2

from serving.server import guards
from serving.server.errors import ServingError, invalid
from serving.server.graph import Graph

_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")

_log = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]
# Signature name, arrays by input alias, aliases of the outputs wanted -> arrays.
Execute = Callable[[str, Arrays, Sequence[str]], list[np.ndarray]]


class LoadError(RuntimeError):
    """The folder holds nothing that can be served; code and message say why."""

    def __init__(
        self, message: str, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    ) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Options:
    """How models are loaded and run."""

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0  # 0: TensorFlow decides
    inter_op_threads: int = 0
    gpu_memory_fraction: float = 0.0


class Servable:
    """A version that can be run, from several threads at once."""

    def __init__(
        self,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        runtime: str,
        execute: Execute,
        close: Callable[[], None],
    ):
        self.signatures = dict(signatures)
        self.runtime = runtime  # "TF1" or "TF2", as metrics call them
        self.close = close
        self._execute = execute

    def run(self, signature: str, feeds: Arrays, fetches: Sequence[str]) -> Arrays:
        """Computes outputs.

        Args:
            signature: Its name.
            feeds: Arrays by alias, all of them the signature's: the caller has checked
                that. Types and shapes may be any. Strings are object arrays of bytes.
            fetches: Aliases of the outputs wanted.

        Returns:
            Arrays by alias.

        Raises:
            ServingError: What the model makes of the values.
        """
        empty = self._empty(signature, feeds, fetches)
        try:
            values = self._execute(signature, feeds, fetches)
        except tf.errors.OpError as error:
            text = error.message
            if error.error_code == tf.errors.INVALID_ARGUMENT:
                if empty is not None:
                    return empty
                text += self._misfits(signature, feeds)
            raise ServingError(grpc_code(error), text) from error
        except (ValueError, TypeError, RuntimeError) as error:
            # What tf.saved_model.load's functions say.
            raise invalid(str(error)) from error
        outputs = dict(zip(fetches, values, strict=True))
        if empty is not None and any(
            outputs[alias].shape[1:] != empty[alias].shape[1:] for alias in fetches
        ):
            return empty
        return outputs

    def _empty(
        self, signature: str, feeds: Arrays, fetches: Sequence[str]
    ) -> Arrays | None:
        """Outputs without rows, of the signature's shapes, if its inputs have none.

        None if there are rows, or if the signature does not say the outputs' shapes.
        oneDNN's convolutions give an empty batch the shape of their input: the layers
        behind them then fail, or the answer has that shape.
        """
        if not feeds or any(array.shape[:1] != (0,) for array in feeds.values()):
            return None
        definition = self.signatures[signature]
        if not all(
            _declared(definition.inputs[alias]).is_compatible_with(array.shape)
            for alias, array in feeds.items()
        ):
            return None
        empty = {}
        for alias in fetches:
            info = definition.outputs[alias]
            shape = _declared(info)
            if not shape.rank or shape[0] is not None:
                return None
            if not shape[1:].is_fully_defined():
                return None
            dtype = tf.as_dtype(info.dtype).as_numpy_dtype
            empty[alias] = np.zeros((0, *shape[1:]), dtype)
        return empty

    def _misfits(self, signature: str, feeds: Arrays) -> str:
        """Inputs that have not the signature's shape, which TensorFlow does not name."""
        found = ""
        for alias, array in feeds.items():
            declared = _declared(self.signatures[signature].inputs[alias])
            if not declared.is_compatible_with(array.shape):
                shape = ",".join(map(str, array.shape))
                sizes = ",".join("?" if n is None else str(n) for n in declared)
                found += (
                    f'; input "{alias}" has the shape [{shape}], the signature\'s is '
                    f"[{sizes}]"
                )
        return found


def _declared(info: meta_graph_pb2.TensorInfo) -> tf.TensorShape:
    return tf.TensorShape(info.tensor_shape if info.HasField("tensor_shape") else None)


def incomplete(folder: Path) -> str | None:
    """What a version's folder still lacks, if one can see it from outside.

    A copy in progress may have any subset of the files. What is cut short in the middle
    of a file shows when it is loaded.
    """
    names = set(os.listdir(folder))
    if not names.intersection(_SAVED_MODEL_FILES):
        return f"no {_SAVED_MODEL_FILES[0]}"
    variables = folder / "variables"
    if not variables.is_dir():
        return None
    names = set(os.listdir(variables))
    if not names:
        return None
    if "variables.index" not in names:
        return "no variables/variables.index"
    shards = [found for found in map(_SHARD.fullmatch, names) if found]
    if not shards:
        return "no variables/variables.data-*"
    if len(shards) < int(shards[0][2]):
        return f"{len(shards)} of {int(shards[0][2])} files variables/variables.data-*"
    return None


def load(folder: Path, options: Options) -> Servable:
    """Loads a version.

    Args:
        folder: The version's folder.
        options: How.

    Raises:
        LoadError: It cannot be loaded.
    """
    try:
        return _load_saved_model(folder, options)
    except LoadError:
        raise
    except Exception as error:  # TensorFlow raises a dozen types for broken files
        if isinstance(error, tf.errors.OpError):
            raise LoadError(error.message, grpc_code(error)) from error
        raise LoadError(str(error) or type(error).__name__) from error


def _load_saved_model(folder: Path, options: Options) -> Servable:
    meta = _meta_graph(folder, options.tags)
    signatures = {
        name: definition
        for name, definition in meta.signature_def.items()
        if not name.startswith("__saved_model_")  # internal: main op, train op
    }
    runtime = "TF2" if meta.HasField("object_graph_def") else "TF1"
    inputs, outputs = _tensors(signatures, "inputs"), _tensors(signatures, "outputs")
    guards.add(meta.graph_def)
    graph = Graph(
        folder,
        meta,
        {
            info.name: info.dtype
            for signature in signatures.values()
            for info in signature.inputs.values()
        },
        {name for names in outputs.values() for name in names.values()},
        _session_config(options),
    )
    lost = graph.without_value()
    if not lost:

        def execute(
            signature: str, feeds: Arrays, fetches: Sequence[str]
        ) -> list[np.ndarray]:
            return graph.run(
                {inputs[signature][alias]: array for alias, array in feeds.items()},
                [outputs[signature][alias] for alias in fetches],
            )

        return Servable(signatures, runtime, execute, graph.close)
    graph.close()
    if runtime == "TF1":
        raise LoadError(f"variable {lost[0]} has no value in this SavedModel")
    _log.warning(
        "%s: tensorflow_model_server cannot serve this SavedModel, because its restore "
        "operation leaves variable %s without a value; it is served by "
        "tf.saved_model.load instead. Track the tf.Variables when exporting "
        "(for Keras layers: [v.value for v in model.variables]).",
        folder,
        lost[0],
    )
    if guards.needed(meta.graph_def) and any(
        info.tensor_shape.unknown_rank
        for signature in signatures.values()
        for info in signature.inputs.values()
    ):
        # These functions check shapes that are known, and have no guards.
        raise LoadError("export the inputs of its signatures with a known rank")
    return Servable(signatures, runtime, _functions(folder, options), lambda: None)


def _meta_graph(folder: Path, tags: Sequence[str]) -> meta_graph_pb2.MetaGraphDef:
    """The graph with these tags, as the SavedModel's file holds it."""
    saved = saved_model_pb2.SavedModel()
    binary = folder / _SAVED_MODEL_FILES[0]
    if binary.is_file():
        try:
            saved.ParseFromString(binary.read_bytes())
        except DecodeError:
            raise LoadError(
                f"Can't parse {binary} as binary proto", grpc.StatusCode.DATA_LOSS
            ) from None
    else:
        from google.protobuf import text_format

        text_format.Parse((folder / _SAVED_MODEL_FILES[1]).read_text(), saved)
    for meta in saved.meta_graphs:
        if set(meta.meta_info_def.tags) == set(tags):
            return meta
    there = [sorted(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    raise LoadError(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}; "
        f"the SavedModel has {there}",
        grpc.StatusCode.NOT_FOUND,
    )


def _session_config(options: Options) -> config_pb2.ConfigProto:
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=options.intra_op_threads,
        inter_op_parallelism_threads=options.inter_op_threads,
        allow_soft_placement=True,
    )
    config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    return config


def _tensors(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef], side: str
) -> dict[str, dict[str, str]]:
    """Names of the tensors by signature and alias; of the "inputs" or "outputs"."""
    return {
        name: {alias: _dense_name(info) for alias, info in getattr(s, side).items()}
        for name, s in signatures.items()
    }


def _dense_name(info: meta_graph_pb2.TensorInfo) -> str:
    if info.WhichOneof("encoding") not in ("name", None):
        raise LoadError("sparse and composite tensors in signatures are not supported")
    return info.name


def _functions(folder: Path, options: Options) -> Execute:
    """TF2's way: the functions that the object graph restores."""
    loaded = tf.saved_model.load(str(folder), tags=list(options.tags))

    def execute(
        signature: str, feeds: Arrays, fetches: Sequence[str]
    ) -> list[np.ndarray]:
        function = loaded.signatures[signature]
        outputs = function(**{k: tf.constant(v) for k, v in feeds.items()})
        return [outputs[alias].numpy() for alias in fetches]

    return execute


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def grpc_code(error: tf.errors.OpError) -> grpc.StatusCode:
    """A TensorFlow error's code."""
    return _CODES.get(error.error_code, grpc.StatusCode.UNKNOWN)

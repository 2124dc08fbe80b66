"""A SavedModel in a TensorFlow session that never holds Python's lock while it works.

`tf.compat.v1.Session` imports the graph and builds a call's executor with the lock held,
for tens of milliseconds each, in which a server answers nobody; and it keeps a Python
object for every operation. Here TensorFlow's C interface is called through ctypes, and
the lock is given back while it loads and while it runs. What the functions of
`tf.saved_model.load` would cost instead: benchmarks/serve_loaders.py, docs/serving.md.

Its TF_LoadSessionFromSavedModel would read the graph from the model's folder; here the
graph is one that has been changed (serving/server/guards.py), so the steps are taken one
by one: import, restore the variables, run the initialisation.

Sources: tensorflow/c/c_api.h, tf_tensor.h, tf_status.h, tf_tstring.h;
tensorflow/cc/saved_model/{loader.cc (RunRestore, RunInitOp),loader_util.cc}.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import ctypes
import functools
import itertools
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

_STRING = tf.string.as_datatype_enum
_STRING_BYTES = 24  # sizeof(TF_TString)
_MOST_SETS = 256  # of tensors that are kept looked up; any subset may be asked for

_pointer, _size, _integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_release = ctypes.CFUNCTYPE(None, _pointer, _size, _pointer)


class _Output(ctypes.Structure):
    """TF_Output: one of an operation's outputs."""

    _fields_ = [("operation", _pointer), ("index", _integer)]  # noqa: RUF012


# These work for long, so Python's lock is given back. The others take less than that
# would: a thread that gives the lock back has to queue for it.
_LONG = (
    "TF_GraphImportGraphDef",
    "TF_NewSession",
    "TF_SessionRun",
    "TF_CloseSession",
    "TF_DeleteSession",
    "TF_DeleteGraph",
)
# Name: result, arguments.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "TF_NewStatus": (_pointer, []),
    "TF_DeleteStatus": (None, [_pointer]),
    "TF_GetCode": (_integer, [_pointer]),
    "TF_Message": (ctypes.c_char_p, [_pointer]),
    "TF_NewSessionOptions": (_pointer, []),
    "TF_SetConfig": (None, [_pointer, ctypes.c_char_p, _size, _pointer]),
    "TF_DeleteSessionOptions": (None, [_pointer]),
    "TF_NewGraph": (_pointer, []),
    "TF_DeleteGraph": (None, [_pointer]),
    "TF_GraphOperationByName": (_pointer, [_pointer, ctypes.c_char_p]),
    "TF_NewOperation": (_pointer, [_pointer, ctypes.c_char_p, ctypes.c_char_p]),
    "TF_AddInput": (None, [_pointer, _Output]),
    "TF_FinishOperation": (_pointer, [_pointer, _pointer]),
    "TF_NewBufferFromString": (_pointer, [ctypes.c_char_p, _size]),
    "TF_DeleteBuffer": (None, [_pointer]),
    "TF_NewImportGraphDefOptions": (_pointer, []),
    "TF_DeleteImportGraphDefOptions": (None, [_pointer]),
    "TF_GraphImportGraphDef": (None, [_pointer, _pointer, _pointer, _pointer]),
    "TF_NewSession": (_pointer, [_pointer, _pointer, _pointer]),
    "TF_SessionRun": (
        None,
        [_pointer, _pointer]
        + [ctypes.POINTER(_Output), ctypes.POINTER(_pointer), _integer] * 2
        + [ctypes.POINTER(_pointer), _integer, _pointer, _pointer],
    ),
    "TF_CloseSession": (None, [_pointer, _pointer]),
    "TF_DeleteSession": (None, [_pointer, _pointer]),
    "TF_AllocateTensor": (
        _pointer,
        [_integer, ctypes.POINTER(ctypes.c_int64), _integer, _size],
    ),
    "TF_NewTensor": (
        _pointer,
        [_integer, ctypes.POINTER(ctypes.c_int64), _integer]
        + [_pointer, _size, _release, _pointer],
    ),
    "TF_DeleteTensor": (None, [_pointer]),
    "TF_TensorType": (_integer, [_pointer]),
    "TF_NumDims": (_integer, [_pointer]),
    "TF_Dim": (ctypes.c_int64, [_pointer, _integer]),
    "TF_TensorByteSize": (_size, [_pointer]),
    "TF_TensorData": (_pointer, [_pointer]),
    "TF_StringInit": (None, [_pointer]),
    "TF_StringCopy": (None, [_pointer, ctypes.c_char_p, _size]),
    "TF_StringGetDataPointer": (_pointer, [_pointer]),
    "TF_StringGetSize": (_size, [_pointer]),
    "TF_StringDealloc": (None, [_pointer]),
}


class Session:
    """A loaded SavedModel; `run` may be called from several threads at once."""

    def __init__(
        self,
        folder: Path,
        meta: meta_graph_pb2.MetaGraphDef,
        config: config_pb2.ConfigProto,
    ):
        """Loads the graph, restores the variables, runs the initialisation.

        Args:
            folder: With the variables and assets.
            meta: The graph, and how to initialise it.
            config: Of the session.

        Raises:
            tf.errors.OpError: TensorFlow cannot load it.
        """
        self._c = _library()
        self._session = None
        self._graph = self._c.TF_NewGraph()
        self._tensors = functools.lru_cache(_MOST_SETS)(self._find)
        try:
            self._import(meta.graph_def)
            self._open(config)
            self._initialise(folder, meta)
        except BaseException:
            self.close()
            raise

    def _import(self, graph: Any) -> None:
        c, status, serialised = self._c, _Status(self._c), graph.SerializeToString()
        buffer = c.TF_NewBufferFromString(serialised, len(serialised))
        options = c.TF_NewImportGraphDefOptions()
        c.TF_GraphImportGraphDef(self._graph, buffer, options, status.pointer)
        c.TF_DeleteImportGraphDefOptions(options)
        c.TF_DeleteBuffer(buffer)
        status.check()

    def _open(self, config: config_pb2.ConfigProto) -> None:
        c, status, serialised = self._c, _Status(self._c), config.SerializeToString()
        options = c.TF_NewSessionOptions()
        c.TF_SetConfig(options, serialised, len(serialised), status.pointer)
        session = c.TF_NewSession(self._graph, options, status.pointer)
        c.TF_DeleteSessionOptions(options)
        status.check()
        self._session = session

    def _initialise(self, folder: Path, meta: meta_graph_pb2.MetaGraphDef) -> None:
        """Restores the variables, and runs what fills tables."""
        assets = {
            asset.tensor_info.name: _text(folder / "assets" / asset.filename)
            for asset in _assets(meta)
        }
        variables = folder / "variables" / "variables"
        if variables.with_suffix(".index").is_file():
            saver = meta.saver_def
            file = {saver.filename_tensor_name: _text(variables)}
            self.run(file | assets, [], saver.restore_op_name)
        if operation := _init_operation(meta):
            self.run(assets, [], operation)

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        target: str | None = None,
    ) -> list[np.ndarray]:
        """Computes tensors.

        Args:
            feeds: By tensor name ("x:0"), arrays of the tensors' own types; strings as
                object arrays of bytes.
            fetches: Names of tensors.
            target: Name of an operation that is to be run, without an output.

        Returns:
            One array per fetch; strings as object arrays of bytes.

        Raises:
            tf.errors.OpError: What TensorFlow says.
        """
        c = self._c
        fed, fetched = self._tensors(*feeds), self._tensors(*fetches)
        targets = () if target is None else (self._tensors(target)[0].operation,)
        outputs = (_pointer * len(fetches))()
        inputs = (_pointer * len(feeds))()
        status = _Status(c)
        try:
            for place, array in enumerate(feeds.values()):
                inputs[place] = _tensor(c, array)
            c.TF_SessionRun(
                self._session, None,
                fed, inputs, len(feeds), fetched, outputs, len(fetches),
                (_pointer * len(targets))(*targets), len(targets), None, status.pointer,
            )  # fmt: skip
            status.check()
            return [_array(c, output) for output in outputs]
        finally:
            for tensor in itertools.chain(inputs, outputs):
                if tensor:
                    c.TF_DeleteTensor(tensor)

    def has_value(self, variable: str, operation: str) -> str:
        """Adds an operation that asks whether a variable has a value.

        Args:
            variable: Name of the operation that makes the variable.
            operation: VarIsInitializedOp or IsVariableInitialized.

        Returns:
            Name of a bool tensor, to be fetched.
        """
        name = f"has_value/{variable}"
        description = self._c.TF_NewOperation(
            self._graph, operation.encode(), name.encode()
        )
        self._c.TF_AddInput(description, self._tensors(f"{variable}:0")[0])
        status = _Status(self._c)
        self._c.TF_FinishOperation(description, status.pointer)
        status.check()
        return f"{name}:0"

    def close(self) -> None:
        """Gives the memory back; nothing may be running."""
        if self._graph is None:
            return
        status = _Status(self._c)
        session, self._session = self._session, None
        if session is not None:
            self._c.TF_CloseSession(session, status.pointer)
            self._c.TF_DeleteSession(session, status.pointer)
        graph, self._graph = self._graph, None
        self._c.TF_DeleteGraph(graph)

    def _find(self, *names: str) -> ctypes.Array[_Output]:
        found = (_Output * len(names))()
        for output, name in zip(found, names, strict=True):
            operation, _, index = name.partition(":")
            output.operation = self._c.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not output.operation:
                raise tf.errors.NotFoundError(
                    None, None, f"the graph has no operation {operation}"
                )
            output.index = int(index or 0)
        return found


def _assets(meta: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    """Names of files, and the tensors that are to hold their paths."""
    if meta.asset_file_def:
        return list(meta.asset_file_def)
    packed = meta.collection_def["saved_model_assets"].any_list.value  # TF1
    return [meta_graph_pb2.AssetFileDef.FromString(item.value) for item in packed]


def _init_operation(meta: meta_graph_pb2.MetaGraphDef) -> str | None:
    name = "__saved_model_init_op"
    if name in meta.signature_def:
        return meta.signature_def[name].outputs[name].name
    for name in ("saved_model_main_op", "legacy_init_op"):  # TF1
        if name in meta.collection_def:
            return meta.collection_def[name].node_list.value[0]
    return None


def _text(path: Path) -> np.ndarray:
    return np.array(str(path).encode(), object)


class _Status:
    """A TF_Status, for one call after the other."""

    def __init__(self, c: types.SimpleNamespace):
        self._c = c
        self.pointer = c.TF_NewStatus()

    def __del__(self) -> None:
        self._c.TF_DeleteStatus(self.pointer)

    def check(self) -> None:
        """Raises what the last call has to say, if it failed."""
        code = self._c.TF_GetCode(self.pointer)
        if code:
            text = self._c.TF_Message(self.pointer).decode(errors="replace")
            kind = tf.compat.v1.errors.exception_type_from_error_code(code)
            raise kind(None, None, text)


@functools.cache
def _library() -> types.SimpleNamespace:
    """The functions, from TensorFlow's library, which `import tensorflow` has loaded."""
    (path, *_) = Path(tf.__file__).parent.glob("libtensorflow_cc.*")
    short, long = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
    found = {}
    for name, (result, arguments) in _FUNCTIONS.items():
        found[name] = getattr(long if name in _LONG else short, name)
        found[name].restype, found[name].argtypes = result, arguments
    return types.SimpleNamespace(**found)


@functools.cache
def _enum(dtype: np.dtype) -> int:
    return tf.as_dtype(dtype).as_datatype_enum


@functools.cache
def _dtype(enum: int) -> Any:
    return tf.as_dtype(enum).as_numpy_dtype


def _tensor(c: types.SimpleNamespace, array: np.ndarray) -> int:
    """A TF_Tensor with a copy of the array."""
    sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
    if array.dtype == object:
        return _string_tensor(c, array, sizes)
    array = np.ascontiguousarray(array)
    kind = _enum(array.dtype)
    tensor = c.TF_AllocateTensor(kind, sizes, len(sizes), array.nbytes)
    ctypes.memmove(c.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
    return tensor


# What TensorFlow still reads, by address. It may keep a tensor longer than the call that
# brought it, in a variable for example.
_strings: dict[int, ctypes.Array] = {}


def _string_tensor(
    c: types.SimpleNamespace, array: np.ndarray, sizes: ctypes.Array
) -> int:
    buffer = ctypes.create_string_buffer(max(array.size, 1) * _STRING_BYTES)
    start = ctypes.addressof(buffer)
    for place, value in enumerate(array.flat):
        c.TF_StringInit(start + place * _STRING_BYTES)
        c.TF_StringCopy(start + place * _STRING_BYTES, value, len(value))
    _strings[start] = buffer
    return c.TF_NewTensor(
        _STRING, sizes, len(sizes), start, array.size * _STRING_BYTES,
        _release_strings, None,
    )  # fmt: skip


@_release
def _release_strings(start: int, size: int, _: int) -> None:
    """TensorFlow has no more use for a tensor of strings; on any thread."""
    for place in range(0, size, _STRING_BYTES):
        _library().TF_StringDealloc(start + place)
    del _strings[start]


def _array(c: types.SimpleNamespace, tensor: int) -> np.ndarray:
    """An array with a copy of the tensor's values."""
    shape = [c.TF_Dim(tensor, axis) for axis in range(c.TF_NumDims(tensor))]
    kind, data = c.TF_TensorType(tensor), c.TF_TensorData(tensor)
    if kind != _STRING:
        array = np.empty(shape, _dtype(kind))
        ctypes.memmove(array.ctypes.data, data, c.TF_TensorByteSize(tensor))
        return array
    array = np.empty(shape, object)
    for place in range(array.size):
        string = data + place * _STRING_BYTES
        array.flat[place] = ctypes.string_at(
            c.TF_StringGetDataPointer(string), c.TF_StringGetSize(string)
        )
    return array

"""The REST transport: TensorFlow Serving's JSON API with the standard library alone.

For places that let only HTTP through. JSON loses what gRPC carries (dtypes, the version
that answered, empty shapes), so the model's metadata is asked for first: it says which
version is meant and what its outputs are, and then exactly that version is asked.
Source: tensorflow/serving, g3doc/api_rest.md.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np

from serving.client import retry, tensors
from serving.client.answers import Answer, Call
from serving.client.errors import (
    CODE_BY_HTTP,
    Cancelled,
    InvalidInput,
    InvalidResponse,
    NotFound,
    from_status,
)
from serving.client.http_exchange import Connections
from serving.client.options import Config
from serving.client.results import (
    STATES,
    ModelMetadata,
    Signature,
    Tensor,
    VersionStatus,
)

T = TypeVar("T")

# Of an answer: as objects of Python, "[]," takes 25 times as much memory as here.
_MOST_VALUES = 8_000_000
_METADATA_SECONDS = (
    1.0  # how long "the newest version" is believed; servers poll so often
)


class AsyncRestTransport:
    """The same, awaited: the calls block in threads, as many as may be in flight.

    A cancelled call stops being waited for; its thread ends by the call's deadline.
    """

    def __init__(self, config: Config) -> None:
        """Connects with the first call, not before."""
        self._closed = False
        self._blocking = RestTransport(config)
        self._threads = ThreadPoolExecutor(config.in_flight, "serving-rest")

    async def predict(self, call: Call, seconds: float) -> Answer:
        """See `RestTransport.predict`."""
        return await self._run(self._blocking.predict, call, seconds)

    async def status(self, seconds: float) -> list[VersionStatus]:
        """See `RestTransport.status`."""
        return await self._run(self._blocking.status, seconds)

    async def metadata(self, seconds: float) -> ModelMetadata:
        """See `RestTransport.metadata`."""
        return await self._run(self._blocking.metadata, seconds)

    async def close(self) -> None:
        """Ends the connections and all calls that wait for an answer."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._blocking.close()

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, function, *arguments)
        except RuntimeError as error:  # "cannot schedule new futures after shutdown"
            raise Cancelled(f"the client is closed ({error})") from None
        except asyncio.CancelledError:
            if retry.ended_by_close(self._closed):
                raise Cancelled("the client is closed") from None
            raise  # it is the task that was cancelled


class RestTransport:
    """Blocking calls over kept connections; any number of threads may share it."""

    def __init__(self, config: Config) -> None:
        """Connects with the first call, not before."""
        self._config = config
        headers = {
            key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for key, value in config.metadata
        }
        self._connections = Connections(config, headers)
        self._guard = threading.Lock()
        self._known: tuple[float, ModelMetadata] | None = None

    def predict(self, call: Call, seconds: float) -> Answer:
        """POST .../versions/V:predict, in columnar form."""
        end = time.monotonic() + seconds
        fresh = False
        while True:
            known = self._current(end, fresh=fresh)
            body = _predict_body(call, known)
            path = f"{_model_path(self._config.model)}/versions/{known.version}:predict"
            try:
                content = self._ask("POST", path, body, end)
            except NotFound:
                if fresh or self._config.version is not None:
                    raise
                fresh = True  # that version has just been replaced
                continue
            break
        signature = known.signatures[call.signature]
        outputs = _outputs(content, call, signature)
        return Answer(outputs, known.version)

    def status(self, seconds: float) -> list[VersionStatus]:
        """GET .../models/NAME or a version or label of it."""
        content = self._ask("GET", self._path(), None, time.monotonic() + seconds)
        entries = content.get("model_version_status")
        if not isinstance(entries, list):
            raise InvalidResponse("the status has no model_version_status")
        found = [_version_status(entry) for entry in entries]
        return sorted(found, key=lambda entry: -entry.version)

    def metadata(self, seconds: float) -> ModelMetadata:
        """GET .../metadata."""
        return self._current(time.monotonic() + seconds, fresh=True)

    def close(self) -> None:
        """Ends the connections and all calls that wait for an answer."""
        self._connections.close()

    def _path(self) -> str:
        path = _model_path(self._config.model)
        if self._config.version is not None:
            return f"{path}/versions/{self._config.version}"
        if self._config.version_label is not None:
            return f"{path}/labels/{quote(self._config.version_label, safe='')}"
        return path

    def _current(self, end: float, *, fresh: bool) -> ModelMetadata:
        """The version meant by the configuration, with its signatures."""
        with self._guard:
            known = self._known
        if known and not fresh:
            age = time.monotonic() - known[0]
            if self._config.version is not None or age < _METADATA_SECONDS:
                return known[1]
        content = self._ask("GET", f"{self._path()}/metadata", None, end)
        found = _metadata(content)
        with self._guard:
            self._known = (time.monotonic(), found)
        return found

    def _ask(
        self, method: str, path: str, body: bytes | None, end: float
    ) -> dict[str, Any]:
        status, content = self._connections.ask(method, path, body, end)
        return _parsed(status, content, self._config.address.text)


def _parsed(status: int, content: bytes, address: str) -> dict[str, Any]:
    if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise InvalidResponse(
            f"{address} answered more than {_MOST_VALUES:,} values", address=address
        )
    try:
        # Python refuses integers of thousands of digits with a ValueError as well.
        parsed = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        parsed = None
    if status == 200:
        if not isinstance(parsed, dict):
            raise InvalidResponse(f"{address} did not answer in JSON", address=address)
        if "error" not in parsed:
            return parsed
        status = 500
    text = parsed.get("error") if isinstance(parsed, dict) else None
    if not isinstance(text, str):
        text = f"HTTP status {status}"
    code = CODE_BY_HTTP.get(status, "INTERNAL" if status >= 500 else "UNKNOWN")
    raise from_status(code, text, address)


def _model_path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}"


# JSON to values. Everything is checked: it came from outside.


def _integer(value: Any, what: str) -> int:
    """JSON for an int64: protobuf writes it as a string."""
    if isinstance(value, str) and value.lstrip("-").isascii() and len(value) < 21:
        with contextlib.suppress(ValueError):
            value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise InvalidResponse(f"{what} is no integer")
    return value


def _object(value: Any, key: str, what: str) -> dict[str, Any]:
    found = value.get(key, {}) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise InvalidResponse(f"{what} has no object {key}")
    return found


def _version_status(entry: Any) -> VersionStatus:
    error = _object(entry, "status", "a version's status")
    state = str(entry.get("state", "UNKNOWN"))
    return VersionStatus(
        _integer(entry.get("version", 0), "a version"),
        state if state in STATES.values() else "UNKNOWN",
        str(error.get("error_code", "OK")),
        str(error.get("error_message", "")),
    )


def _metadata(content: dict[str, Any]) -> ModelMetadata:
    spec = _object(content, "model_spec", "the metadata")
    outer = _object(content, "metadata", "the metadata")
    definitions = _object(
        _object(outer, "signature_def", "the metadata"), "signature_def", "the metadata"
    )
    signatures = {}
    for name, entry in sorted(definitions.items()):
        inputs = _object(entry, "inputs", f"signature {name}")
        outputs = _object(entry, "outputs", f"signature {name}")
        signatures[name] = Signature(
            str(entry.get("method_name", "")),
            {key: _tensor(inputs[key]) for key in sorted(inputs)},
            {key: _tensor(outputs[key]) for key in sorted(outputs)},
        )
    return ModelMetadata(
        str(spec.get("name", "")),
        _integer(spec.get("version", 0), "the metadata's version"),
        signatures,
    )


def _tensor(info: Any) -> Tensor:
    shape = _object(info, "tensor_shape", "a tensor's metadata")
    dims = shape.get("dim", [])
    if not isinstance(dims, list):
        raise InvalidResponse("a tensor's metadata has no list dim")
    sizes = [
        _integer(dim.get("size", 0) if isinstance(dim, dict) else None, "a size")
        for dim in dims
    ]
    return Tensor(
        str(info.get("dtype", "")).removeprefix("DT_"),
        None
        if shape.get("unknown_rank")
        else tuple(size if size >= 0 else None for size in sizes),
        str(info.get("name", "")),
    )


def _predict_body(call: Call, known: ModelMetadata) -> bytes:
    """The request in columnar form.

    Raises:
        FailedPrecondition, InvalidInput: The signature or an array that JSON cannot carry.
    """
    if call.signature not in known.signatures:
        raise from_status(
            "FAILED_PRECONDITION",
            f"the model has no signature {call.signature}; it has "
            f"{', '.join(known.signatures) or 'none'}",
            "",
        )
    inputs = {name: _to_json(name, value) for name, value in call.inputs.items()}
    return json.dumps({"signature_name": call.signature, "inputs": inputs}).encode()


def _to_json(name: str, value: Any) -> Any:
    array = tensors.as_array(name, value)
    if array.size == 0:
        raise InvalidInput(
            f"input {name}: JSON has no empty arrays of a shape; use gRPC"
        )
    if array.dtype.kind == "c":
        raise InvalidInput(f"input {name}: JSON has no complex numbers; use gRPC")
    if array.dtype == object:
        array = np.frompyfunc(
            lambda item: {"b64": base64.b64encode(item).decode()}, 1, 1
        )(array)
        return array.tolist() if isinstance(array, np.ndarray) else array
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    return array.tolist()


def _outputs(
    content: dict[str, Any], call: Call, signature: Signature
) -> dict[str, np.ndarray]:
    """The answer's columns with the dtypes of the metadata."""
    if "outputs" not in content:
        raise InvalidResponse("the answer has no outputs")
    columns = content["outputs"]
    if len(signature.outputs) == 1:  # then the value stands there without its name
        columns = {next(iter(signature.outputs)): columns}
    if not isinstance(columns, dict):
        raise InvalidResponse("the answer's outputs are no object")
    wanted = call.output_filter or tuple(signature.outputs)
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise from_status(
            "INVALID_ARGUMENT",
            f"the model has no output {', '.join(missing)}; it has "
            f"{', '.join(signature.outputs)}",
            "",
        )
    return {
        name: _from_json(name, columns[name], signature.outputs[name].dtype)
        for name in wanted
        if name in signature.outputs
    }


def _from_json(name: str, value: Any, type_name: str) -> np.ndarray:
    dtype = tensors.numpy_dtype(type_name)
    if dtype is None:
        raise InvalidResponse(f"output {name}: its type {type_name} cannot be read")
    try:
        if dtype.kind == "O":
            array = np.array(_decoded(value), dtype=object)
            if not all(isinstance(item, bytes) for item in array.ravel().tolist()):
                raise ValueError("strings in a rectangular array are needed")
            return array
        return np.array(value, dtype=dtype)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidResponse(
            f"output {name}: no {type_name} array ({error})"
        ) from None


def _decoded(value: Any) -> Any:
    """Strings and {"b64": ...} in nested lists as bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and isinstance(value.get("b64"), str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise ValueError(str(error)) from None
    raise ValueError("neither a string nor {b64}")

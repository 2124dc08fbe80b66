"""The gRPC transport, blocking and asynchronous.

Both speak to PredictionService and ModelService of tensorflow_serving/apis; they differ
in the channel and in the word `await`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
from google.protobuf.message import DecodeError, EncodeError

from serving.client import answers, messages, retry
from serving.client.answers import Answer, Call
from serving.client.errors import (
    Cancelled,
    InvalidInput,
    InvalidResponse,
    ServingError,
    from_status,
)
from serving.client.options import TLS, Config
from serving.client.results import ModelMetadata, VersionStatus

_LARGEST_MESSAGE = 256 << 20  # bytes; a wrong or hostile server cannot fill the memory
# Of a status or of metadata, as gRPC itself would limit them (grpc_types.h). Two bytes are
# an entry of a status, and a hundred when they are read.
_LARGEST_DESCRIPTION = 4 << 20
_LOCAL = re.compile(
    r"unix|(dns:(///)?|ipv[46]:)?(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?$",
    re.IGNORECASE,
)
_MOST_MILLISECONDS = 2**31 - 1  # of a channel's options

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_ANSWERS = {
    _PREDICT: messages.PredictResponse,
    _METADATA: messages.GetModelMetadataResponse,
    _STATUS: messages.GetModelStatusResponse,
}


class GrpcTransport:
    """Blocking calls over one channel; any number of threads may share it."""

    def __init__(self, config: Config) -> None:
        """Opens the channel; nothing is sent before the first call."""
        self._config = config
        self._closed = False
        credentials = _credentials(config)
        options = _options(config)
        self._channel = (
            grpc.insecure_channel(config.address.target, options)
            if credentials is None
            else grpc.secure_channel(config.address.target, credentials, options)
        )
        self._stubs = _stubs(self._channel)

    def predict(self, call: Call, seconds: float) -> Answer:
        """PredictionService.Predict."""
        request = answers.encode_predict(self._config, call)
        return answers.decode_predict(self._ask(_PREDICT, request, seconds))

    def status(self, seconds: float) -> list[VersionStatus]:
        """ModelService.GetModelStatus."""
        request = _status_request(self._config)
        return answers.decode_status(self._ask(_STATUS, request, seconds))

    def metadata(self, seconds: float) -> ModelMetadata:
        """PredictionService.GetModelMetadata."""
        request = _metadata_request(self._config)
        return answers.decode_metadata(self._ask(_METADATA, request, seconds))

    def close(self) -> None:
        """Ends the connection and all calls that wait for an answer."""
        self._closed = True
        self._channel.close()

    def _ask(self, method: str, request: Any, seconds: float) -> Any:
        try:
            content = self._stubs[method](
                _serialized(request),
                timeout=seconds,
                metadata=self._config.metadata,
            )
        except grpc.RpcError as error:
            raise _translated(error, self._config, self._closed) from None
        except ValueError as error:  # "Cannot invoke RPC on closed channel!"
            raise Cancelled(f"the client is closed ({error})") from None
        return _parsed(method, content, self._config)


class AsyncGrpcTransport:
    """The same with grpc.aio; belongs to the event loop it was made in."""

    def __init__(self, config: Config) -> None:
        """Opens the channel; nothing is sent before the first call."""
        self._config = config
        self._closed = False
        credentials = _credentials(config)
        options = _options(config)
        self._channel = (
            grpc.aio.insecure_channel(config.address.target, options)
            if credentials is None
            else grpc.aio.secure_channel(config.address.target, credentials, options)
        )
        self._stubs = _stubs(self._channel)

    async def predict(self, call: Call, seconds: float) -> Answer:
        """PredictionService.Predict."""
        request = answers.encode_predict(self._config, call)
        return answers.decode_predict(await self._ask(_PREDICT, request, seconds))

    async def status(self, seconds: float) -> list[VersionStatus]:
        """ModelService.GetModelStatus."""
        request = _status_request(self._config)
        return answers.decode_status(await self._ask(_STATUS, request, seconds))

    async def metadata(self, seconds: float) -> ModelMetadata:
        """PredictionService.GetModelMetadata."""
        request = _metadata_request(self._config)
        return answers.decode_metadata(await self._ask(_METADATA, request, seconds))

    async def close(self) -> None:
        """Ends the connection and all calls that wait for an answer."""
        self._closed = True
        await self._channel.close()

    async def _ask(self, method: str, request: Any, seconds: float) -> Any:
        try:
            content = await self._stubs[method](
                _serialized(request),
                timeout=seconds,
                metadata=self._config.metadata,
            )
        except grpc.RpcError as error:
            raise _translated(error, self._config, self._closed) from None
        except asyncio.CancelledError:
            if retry.ended_by_close(self._closed):
                raise Cancelled("the client is closed") from None
            raise  # it is the task that was cancelled
        except grpc.aio.UsageError as error:  # "Channel is closed."
            raise Cancelled(f"the client is closed ({error})") from None
        return _parsed(method, content, self._config)


def _stubs(channel: Any) -> dict[str, Any]:
    # Bytes in and out: gRPC would log a traceback for an answer that cannot be parsed.
    return {method: channel.unary_unary(method) for method in _ANSWERS}


def _serialized(request: Any) -> bytes:
    try:
        return request.SerializeToString()
    except (EncodeError, ValueError):  # protobuf's own limit, 2 GiB
        raise InvalidInput(
            "a request is larger than 2 GiB; send less at once"
        ) from None


def _parsed(method: str, content: bytes, config: Config) -> Any:
    if method != _PREDICT and len(content) > _LARGEST_DESCRIPTION:
        raise InvalidResponse(
            f"{config.address.text} answered {len(content):,} bytes, more than "
            f"{_LARGEST_DESCRIPTION:,}",
            address=config.address.text,
        )
    try:
        return _ANSWERS[method].FromString(content)
    except DecodeError:
        raise InvalidResponse(
            f"{config.address.text} does not answer in TensorFlow Serving's messages",
            address=config.address.text,
        ) from None


def _status_request(config: Config) -> Any:
    return messages.GetModelStatusRequest(model_spec=answers.model_spec(config))


def _metadata_request(config: Config) -> Any:
    return messages.GetModelMetadataRequest(
        model_spec=answers.model_spec(config), metadata_field=["signature_def"]
    )


def _options(config: Config) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        # The time one attempt to connect may take, despite its name.
        (
            "grpc.min_reconnect_backoff_ms",
            min(round(config.timeouts.connect * 1000), _MOST_MILLISECONDS),
        ),
        # gRPC waits 1 s and up to 2 minutes by default: too long after a server's restart.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # A connection of one's own, with its own back-off, per client.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if _LOCAL.match(config.address.target):
        # An http_proxy of the environment is of no use for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if config.address.target.startswith("dns:"):
        options.append(("grpc.lb_policy_name", "round_robin"))
    if config.tls and config.tls.server_name:
        options.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return options


def _credentials(config: Config) -> grpc.ChannelCredentials | None:
    if config.tls is None and not config.address.secure:
        return None
    tls = config.tls or TLS()
    return grpc.ssl_channel_credentials(
        root_certificates=tls.read("ca"),
        private_key=tls.read("key"),
        certificate_chain=tls.read("certificate"),
    )


def _translated(error: grpc.RpcError, config: Config, closed: bool) -> ServingError:
    code = error.code().name if error.code() else "UNKNOWN"
    details = error.details() or ""
    if code == "CANCELLED":
        if closed:
            return Cancelled("the client is closed")
        # Nobody here gave it up: so do servers with calls that reach them as they stop.
        code, details = "UNAVAILABLE", details or "the server gave the call up"
    return from_status(code, details, config.address.text)

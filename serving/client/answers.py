"""Requests and answers of the model, whatever carries them.

A transport offers `predict`, `status`, `metadata`, `close`; this file makes its messages
and checks what came back before anybody relies on it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.client import images, messages, tensors
from serving.client.configured import DEFAULT_SIGNATURE
from serving.client.errors import InvalidInput, InvalidResponse, ServingError
from serving.client.images import Prepared, Request
from serving.client.options import Config
from serving.client.results import (
    CODES,
    STATES,
    ModelMetadata,
    Prediction,
    Signature,
    Tensor,
    VersionStatus,
)

OUTPUTS = ("probabilities", "label", "class_name")  # of the exported signatures


@dataclass(frozen=True)
class Call:
    """A Predict call, before it is encoded."""

    signature: str
    inputs: Mapping[str, Any]
    output_filter: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Outputs of a Predict call and the version that computed them."""

    outputs: dict[str, np.ndarray]
    version: int


def call(
    inputs: Mapping[str, Any], signature_name: str, output_filter: Sequence[str]
) -> Call:
    """Checks the arguments of `predict` that the transports share."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise InvalidInput("inputs: a dictionary from input names to arrays is needed")
    for name in inputs:
        if not _is_name(name):
            raise InvalidInput(f"inputs: {name!r} is no input's name")
    if isinstance(output_filter, str) or not all(map(_is_name, output_filter)):
        raise InvalidInput("output_filter: a list of output names is needed")
    signature_name = signature_name or DEFAULT_SIGNATURE  # as in the protocol
    if not _is_name(signature_name):
        raise InvalidInput(f"signature_name={signature_name!r} is no signature's name")
    return Call(signature_name, dict(inputs), tuple(output_filter))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def image_call(request: Request) -> Call:
    """The call for images of one kind."""
    return Call(request.signature, {request.input: request.value}, OUTPUTS)


def predictions(answer: Answer, count: int) -> list[Prediction]:
    """One Prediction per image.

    Raises:
        InvalidResponse: Outputs are missing or do not fit `count` images.
    """
    missing = [name for name in OUTPUTS if name not in answer.outputs]
    if missing:
        raise InvalidResponse(
            f"the answer has no output {', '.join(missing)}; this model was not exported "
            "by this project's pipeline: use predict()"
        )
    probabilities, labels, names = (answer.outputs[name] for name in OUTPUTS)
    if (
        probabilities.ndim != 2
        or probabilities.dtype != np.float32
        or labels.dtype.kind not in "iu"
        or labels.shape != (count,)
        or names.dtype != object
        or names.shape != (count,)
        or len(probabilities) != count
    ):
        raise InvalidResponse(
            f"the answer for {count} images has probabilities "
            f"{probabilities.dtype} {list(probabilities.shape)}, label {labels.dtype} "
            f"{list(labels.shape)}, class_name {list(names.shape)}"
        )
    classes = probabilities.shape[1]
    if count and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise InvalidResponse(f"the answer has a label outside of 0 to {classes - 1}")
    return [
        Prediction(label, name.decode("utf-8", "replace"), row, answer.version)
        for row, label, name in zip(
            probabilities, labels.tolist(), names.tolist(), strict=True
        )
    ]


def image_shape(metadata: ModelMetadata) -> images.Shape:
    """Height, width and channels of the images that a model takes.

    Raises:
        InvalidResponse: Its `serving_default` takes none of one shape.
    """
    signature = metadata.signatures.get(images.SIGNATURE_IMAGES)
    tensor = signature and signature.inputs.get(images.INPUT_IMAGES)
    match tensor and tensor.shape:
        case (_, int(height), int(width), (1 | 3) as channels):
            shape = (height, width, channels)
            any_size = images.SIGNATURE_ANY_SIZE in metadata.signatures
            return images.Crop(*shape) if any_size else shape
    raise InvalidResponse(
        f"{metadata.model}, version {metadata.version}, has no signature "
        f"{images.SIGNATURE_IMAGES} that takes images of one shape; this model was not "
        "exported by this project's pipeline: use predict()"
    )


Results = list[Prediction | ServingError]
# Yields a request, is sent its predictions, or thrown that the server refuses it.
Steps = Generator[Request, list[Prediction], Results]


def classify(prepared: Prepared, chunk: Any, return_errors: bool, done: int) -> Steps:
    """What to ask for a chunk; returns its results in the order of its images.

    Args:
        prepared: The chunk's requests.
        chunk: Its images.
        return_errors: Instead of raising the first of them.
        done: Images of the call before this chunk.
    """
    _raise_first(prepared.errors, return_errors, done)
    found: dict[int, Prediction | ServingError] = dict(prepared.errors)
    for request in prepared.requests:
        try:
            results: Results = list((yield request))
        except InvalidInput as error:
            if not _may_be_one_image(request):
                raise
            yield _probe(prepared.shape)
            results = yield from _classify_apart(request, error, chunk)
        errors = {
            place: result
            for place, result in zip(request.places, results, strict=True)
            if isinstance(result, InvalidInput)
        }
        _raise_first(errors, return_errors, done)
        found.update(zip(request.places, results, strict=True))
    return [found[place] for place in range(prepared.size)]


def _classify_apart(request: Request, error: InvalidInput, chunk: Any) -> Steps:
    """Halves a request that the server refuses, to find the images it means."""
    if len(request.places) == 1:
        return [_refused(error, chunk[request.places[0]])]
    results: Results = []
    for half in _halves(request):
        try:
            results += yield half
        except InvalidInput as why:
            results += yield from _classify_apart(half, why, chunk)
    return results


def _halves(request: Request) -> tuple[Request, Request]:
    """The request cut in two, to find the image that the server refuses."""
    middle = len(request.places) // 2
    return tuple(  # pyright: ignore[reportReturnType]
        Request(request.signature, request.input, value, places)
        for value, places in (
            (request.value[:middle], request.places[:middle]),
            (request.value[middle:], request.places[middle:]),
        )
    )


def _may_be_one_image(request: Request) -> bool:
    """Only files are decoded by the server; pixels have been checked here already."""
    return request.signature != DEFAULT_SIGNATURE


def _raise_first(errors: Mapping[int, InvalidInput], quiet: bool, done: int) -> None:
    """Raises a chunk's first error, with the image's place in the whole call."""
    if errors and not quiet:
        place, error = next(iter(errors.items()))
        error.add_note(f"image {done + place} of the call, from 0")
        raise error


def _refused(error: InvalidInput, image: Any) -> InvalidInput:
    """What the server says of one image, with its path."""
    if not isinstance(image, (str, os.PathLike)):
        return error
    text = f"{os.fsdecode(image)}: the server refuses it: {error.message}"
    return InvalidInput(
        text, code=error.code, address=error.address, details=error.details
    )


def _probe(shape: images.Shape) -> Request:
    """A good image: if it is refused as well, the others are not to blame."""
    value = np.array([images.blank(shape)], dtype=object)
    return Request(images.SIGNATURE_ENCODED, images.INPUT_ENCODED, value, (0,))


# gRPC messages.


def model_spec(config: Config, signature: str = "") -> Any:
    """ModelSpec of the configured model, version or label."""
    spec = messages.ModelSpec(name=config.model, signature_name=signature)
    if config.version is not None:
        spec.version.value = config.version
        spec.version.SetInParent()  # version 0 is a version, too
    elif config.version_label is not None:
        spec.version_label = config.version_label
    return spec


def encode_predict(config: Config, call: Call) -> Any:
    """A PredictRequest.

    Raises:
        InvalidInput: An array that no tensor can carry.
    """
    request = messages.PredictRequest(
        model_spec=model_spec(config, call.signature), output_filter=call.output_filter
    )
    for name, value in call.inputs.items():
        request.inputs[name].CopyFrom(tensors.encode(name, value))
    return request


def decode_predict(response: Any) -> Answer:
    """The content of a PredictResponse."""
    return Answer(
        {name: tensors.decode(name, t) for name, t in response.outputs.items()},
        response.model_spec.version.value,
    )


def decode_status(response: Any) -> list[VersionStatus]:
    """The content of a GetModelStatusResponse, newest version first."""
    found = [
        VersionStatus(
            entry.version,
            STATES.get(entry.state, "UNKNOWN"),
            CODES.get(entry.status.error_code, str(entry.status.error_code)),
            entry.status.error_message,
        )
        for entry in response.model_version_status
    ]
    return sorted(found, key=lambda entry: -entry.version)


def decode_metadata(response: Any) -> ModelMetadata:
    """The content of a GetModelMetadataResponse.

    Raises:
        InvalidResponse: It holds no signatures.
    """
    from google.protobuf.message import DecodeError

    if "signature_def" not in response.metadata:
        raise InvalidResponse("the model's metadata has no signature_def")
    try:
        signatures = messages.SignatureDefMap.FromString(
            response.metadata["signature_def"].value
        )
    except DecodeError as error:
        raise InvalidResponse(
            f"the model's signatures cannot be read: {error}"
        ) from None
    return ModelMetadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {
            name: Signature(
                entry.method_name, _tensors(entry.inputs), _tensors(entry.outputs)
            )
            for name, entry in sorted(signatures.signature_def.items())
        },
    )


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(
            tensors.type_name(info.dtype),
            None
            if info.tensor_shape.unknown_rank
            else tuple(d.size if d.size >= 0 else None for d in info.tensor_shape.dim),
            info.name,
        )
        for name, info in sorted(infos.items())
    }

"""From a name to a Keras model, and its weights in and out.

Comes in: a network's name or specification. Goes out: a `keras.Model` from normalised
images to logits, whose graph does not grow with depth, and flat dictionaries of weights
that do not depend on how the model holds them. `trainer.program` says what it computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from trainer.initialisers import INITIALISERS, ZERO_STARTS, last_of_branch
from trainer.layers import Options, ProgramLayer, full_precision
from trainer.loops import LOOPS
from trainer.program import Section, expand
from trainer.program import image_shape as papers_shape
from trainer.units import NetworkError, NetworkSpec, parse_network

_HEAD = ("dense/kernel", "dense/bias")  # depend on the classes


def build(  # noqa: PLR0913 - each has a default that is right for most
    network: str | NetworkSpec,
    classes: int,
    *,
    image_shape: tuple[int | None, int | None, int] | None = None,
    seed: int = 1,
    initialiser: str = "he_fan_in",
    zero_start: str = "none",
    unroll: bool = False,
    rematerialise: bool = False,
    synchronized: bool = False,
    dtype: Any = None,
) -> keras.Model:
    """Builds a network with its initial weights.

    Args:
        network: A name such as "preact_resnet164" (see `parse_network`), or a specification.
        classes: Width of the logits, at least 1.
        image_shape: Height, width, channels; None: the papers', 32 x 32 x 3 (ImageNet:
            224 x 224 x 3). The parameters depend on the channels alone. Height and width
            may be None: images of any size, those of a batch of one size.
        seed: Of the initial weights (each tensor has its own stream, by its name) and of
            dropout.
        initialiser: "he_fan_in" (He et al. 2015) or "released" (resnet-1k-layers).
        zero_start: What starts at 0 in each residual branch: "none", the last "kernel", or
            "gamma" of the last batch norm (He et al. 2016a: identity is a good start).
        unroll: One copy of the program per unit instead of a loop: the same numbers, but
            a graph (and the time to build it) that grows with depth.
        rematerialise: Keep the input of every second unit alone, and compute both again in
            the backward pass: less memory, a quarter to a third more time in training.
        synchronized: Batch norm by the moments of all replicas' images instead of each
            replica's own (the authors'). Needs `unroll`: replicas cannot meet inside a loop.
        dtype: Keras dtype policy, e.g. "mixed_bfloat16"; default: the global one.

    Returns:
        Model from normalised float32 images [batch, height, width, channels] to float32
        logits [batch, classes].

    Raises:
        NetworkError: No such network or option; the message says what to choose instead.
    """
    spec = parse_network(network) if isinstance(network, str) else network
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise NetworkError(f"classes={classes!r} must be a whole number, at least 1")
    if initialiser not in INITIALISERS:
        raise NetworkError(
            f"initialiser={initialiser!r} is none of {', '.join(INITIALISERS)}"
        )
    if synchronized and not unroll:
        raise NetworkError(
            "synchronized=True with unroll=False: replicas cannot exchange moments inside the "
            "loop; take unroll=True, at the cost of a graph that grows with depth"
        )
    backend = keras.config.backend()
    if backend not in LOOPS:
        raise NetworkError(
            f"Keras runs on {backend} here, and the networks on {' or '.join(LOOPS)}; set "
            "the environment variable KERAS_BACKEND before Keras is imported"
        )
    options = Options(
        seed=seed,
        initialiser=initialiser,
        zero_start=zero_start,
        unroll=unroll,
        rematerialise=rematerialise,
        synchronized=synchronized,
    )
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    shape: tuple[Any, ...] = (
        papers_shape(spec) if image_shape is None else tuple(image_shape)
    )
    known = [side for side in shape if side is not None]
    if len(shape) != 3 or shape[2] is None or min(known) < 1:
        raise NetworkError(
            f"image_shape={shape} must be height, width and channels, each at least 1; "
            "height and width may be None, for any"
        )
    images = keras.Input(shape, dtype="float32", name="images")
    x = images
    sections = expand(spec, classes, shape[-1])
    _check_zero_start(spec, sections, zero_start)
    for section in sections:
        x = ProgramLayer(
            network=spec.name,
            classes=classes,
            channels=shape[-1],
            section=section.name,
            options=options,
            name=section.name,
            # Pooling and the dense layer cost nothing: full precision for the logits.
            dtype=full_precision(policy) if section.name == "head" else policy,
        )(x)
    return keras.Model(images, x, name=spec.name.replace(":", "-").replace("=", "_"))


def on_one_device(model: keras.Model) -> keras.Model:
    """A copy of a network that was built under a strategy, with plain variables.

    To be called outside of the strategy's scope. What replicas hold, on a TPU above all, is
    not what a SavedModel for any machine should refer to.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _check_zero_start(
    spec: NetworkSpec, sections: Sequence[Section], zero_start: str
) -> None:
    if zero_start == "none":
        return
    if zero_start not in ZERO_STARTS:
        raise NetworkError(
            f"zero_start={zero_start!r} is none of none, {', '.join(ZERO_STARTS)}"
        )
    if spec.shortcut == "none":
        raise NetworkError(
            f"zero_start={zero_start}: {spec.name} has no shortcuts, and nothing would "
            'pass it; take zero_start="none"'
        )
    for section in sections:
        inside = section.name not in ("stem", "head")
        if inside and last_of_branch(section, zero_start) is None:
            raise NetworkError(
                f"zero_start={zero_start}: the branches of {spec.name} have no {zero_start} "
                'in every unit; take zero_start="kernel"'
            )


def export_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """All weights by flat name, e.g. "stage1/unit2/conv1/kernel" [kh, kw, in, out].

    Names and shapes depend on the network alone, not on stacking, unrolling or precision; the
    moving statistics are among them.

    Args:
        model: Made by `build`, or a model that contains one.

    Raises:
        NetworkError: `model` holds no network of `build`.
    """
    weights: dict[str, np.ndarray] = {}
    for layer in _layers(model):
        arrays = {name: v.numpy() for name, v in layer.arrays.items()}
        for i, prefix in enumerate(layer.section.prefixes):
            for name, array in arrays.items():
                part = array[i] if layer.section.stacked else array
                weights[f"{prefix}{name}"] = part
    return weights


def import_weights(
    model: keras.Model, weights: Mapping[str, np.ndarray], *, new_head: bool = False
) -> None:
    """Assigns what `export_weights` returned, also from another form of the same network.

    Args:
        model: Made by `build`, or a model that contains one.
        weights: Flat name -> array; exactly the names and shapes of `export_weights(model)`.
        new_head: The dense layer stays as it is, and its names are left out of `weights`.

    Raises:
        NetworkError: A name is missing or unknown, or a shape differs; nothing is assigned.
    """
    layers = list(_layers(model))
    wanted = {
        f"{prefix}{weight.name}": weight.shape
        for layer in layers
        for prefix in layer.section.prefixes
        for weight in layer.section.weights
        if not (new_head and weight.name in _HEAD)
    }
    _check_names(wanted, weights)
    for name, shape in wanted.items():
        if np.shape(weights[name]) != shape:
            raise NetworkError(
                f"weight {name} has shape {list(np.shape(weights[name]))}, but {model.name} "
                f"needs {list(shape)}; are both the same network and number of classes?"
            )
    for layer in layers:
        for name, variable in layer.arrays.items():
            if new_head and name in _HEAD:
                continue
            parts = [
                np.asarray(weights[f"{prefix}{name}"])
                for prefix in layer.section.prefixes
            ]
            variable.assign(np.stack(parts) if layer.section.stacked else parts[0])


def freeze(model: keras.Model, last: str) -> None:
    """Keeps the stem, and the stages up to `last`, as they are.

    Their weights leave `model.trainable_variables`, their batch norm normalises by its
    moving statistics, in training too, and these stay. To be called before an optimizer is
    built.

    Args:
        model: Made by `build`, or a model that contains one.
        last: "stem", "stage1" and so on.

    Raises:
        NetworkError: The network has no such stage.
    """
    layers = list(_layers(model))
    places = [layer.section.name.partition("_")[0] for layer in layers]
    known = [name for name in dict.fromkeys(places) if name != "head"]
    if last not in known:
        raise NetworkError(
            f"{last!r} is no stage of {model.name}; choose one of {', '.join(known)}"
        )
    end = len(places) - places[::-1].index(last)
    for layer in layers[:end]:
        layer.trainable = False


def _check_names(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        found = [
            f"{len(names)} {kind} (first: {names[0]})"
            for kind, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise NetworkError(
            f"the weights are not this network's: of {len(wanted)} names, "
            f"{' and '.join(found)}; see export_weights for the names"
        )


def _layers(model: keras.Model) -> Iterator[ProgramLayer]:
    """The network's layers inside `model`, in order of use."""
    found = [
        layer
        for layer in model._flatten_layers()  # pyright: ignore
        if isinstance(layer, ProgramLayer)
    ]
    if not found:
        raise NetworkError(
            f"model {model.name!r} holds no network made by trainer.network.build"
        )
    yield from found

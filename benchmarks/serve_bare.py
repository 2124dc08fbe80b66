"""A process that calls a SavedModel without any server: what `benchmarks.serve` beats.

    python -m benchmarks.serve_bare FOLDER

Loads the version folder in both ways that Python has, says {"ready": true}, and then for
each line {"how": ..., "rows": n, "seconds": s} on stdin answers with one JSON line: the
seconds of each call, from a NumPy array of uint8 images to NumPy arrays of all outputs.

`function`: the signature function that tf.saved_model.load returns.
`session`: a tf.compat.v1 session, as tensorflow_model_server uses; about 0.4 ms cheaper.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Call = Callable[[np.ndarray], object]


def main() -> None:
    """Answers until stdin ends."""
    folder = sys.argv[1]
    calls = {"function": _function(folder), "session": _session(folder)}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        images = np.random.default_rng(0).integers(
            0, 256, (order["rows"], 32, 32, 3), np.uint8
        )
        seconds = _time(calls[order["how"]], images, order["seconds"])
        print(json.dumps({"seconds": seconds}), flush=True)


def _function(folder: str) -> Call:
    model = tf.saved_model.load(folder)
    function = model.signatures["serving_default"]

    def call(images: np.ndarray) -> object:
        outputs = function(images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}

    call.model = model  # type: ignore[attr-defined] # the function alone holds it weakly
    return call


def _session(folder: str) -> Call:
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    fetches = [info.name for info in signature.outputs.values()]
    run = session.make_callable(fetches, [signature.inputs["images"].name])
    return run


def _time(call: Call, images: np.ndarray, seconds: float) -> list[float]:
    call(images)  # the first with a new shape plans
    durations = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call(images)
        durations.append(time.perf_counter() - start)
    return durations


if __name__ == "__main__":
    main()

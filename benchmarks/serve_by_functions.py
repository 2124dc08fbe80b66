"""The embedded server with another loader: the functions of tf.saved_model.load.

    python -m benchmarks.serve_by_functions FLAGS

serving/server/session.py calls TensorFlow's C interface through ctypes. This is what the
server would be without that; `benchmarks.serve_loaders` measures the two side by side.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.server import __main__ as server
from serving.server import guards, savedmodel


def load(folder: Path, options: savedmodel.Options) -> savedmodel.Servable:
    """As savedmodel.load, for what TF2 wrote."""
    meta = savedmodel._meta_graph(folder, options.tags)
    guards.add(meta.graph_def)
    changed = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    changed.meta_graphs.add().CopyFrom(meta)
    with tempfile.TemporaryDirectory() as place:
        Path(place, "saved_model.pb").write_bytes(changed.SerializeToString())
        for name in ("variables", "assets"):
            if (folder / name).is_dir():
                Path(place, name).symlink_to((folder / name).resolve())
        loaded = tf.saved_model.load(place, tags=list(options.tags))

    def execute(signature: str, feeds: savedmodel.Arrays, fetches: object) -> list:
        function = loaded.signatures[signature]
        outputs = function(**{k: tf.constant(v) for k, v in feeds.items()})
        return [outputs[alias].numpy() for alias in fetches]  # type: ignore[attr-defined]

    signatures = {
        name: definition
        for name, definition in meta.signature_def.items()
        if not name.startswith("__saved_model_")
    }
    return savedmodel.Servable(signatures, "TF2", execute, lambda: None)


if __name__ == "__main__":
    savedmodel._load_saved_model = load
    sys.exit(server.main(sys.argv[1:]))

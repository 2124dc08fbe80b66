"""Where a training may start from: a published version, or a file of weights.

Comes in: the path of a version's folder (a SavedModel with run.json), of a folder of
versions, or of an .npz file of `trainer.network.export_weights`. Goes out: flat names and
arrays, and what tells these weights from others. Finding and comparing takes milliseconds
and loads no TensorFlow; reading a SavedModel does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from contract.fields import ConfigError
from contract.model_run import ModelRun
from contract.records import MODEL_FILE, MODEL_RUN_FILE
from contract.typed_json import RecordError
from trainer.program import Shape, weight_shapes
from trainer.units import NetworkError, NetworkSpec, parse_network

HEAD = "dense/"  # what these names begin with depends on the classes
_VARIABLES = "variables/variables"  # in a SavedModel
_REMEDY = (
    "give a published version (output/serving/<model>/<version>), the folder of a model's "
    "versions, or an .npz of trainer.network.export_weights"
)


class WeightsError(ConfigError):
    """They cannot be used; one sentence with the field."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Weights that are there."""

    field: str  # of the configuration, for messages
    path: str  # a version's folder, or a file
    run: ModelRun | None  # of a version; None: a file, which only has names and shapes

    @property
    def network(self) -> NetworkSpec:
        """Of a version.

        Raises:
            WeightsError: Its run.json does not say, or says something else.
        """
        run = self.run or ModelRun()
        if not run.network or not run.class_names:
            raise self.refused(f"its {MODEL_RUN_FILE} says no network or no classes")
        try:
            return parse_network(run.network)
        except NetworkError as error:
            raise self.refused(f"its {MODEL_RUN_FILE} says {error}") from None

    @property
    def channels(self) -> int:
        """Of a version's images."""
        shape = self.run.image_shape if self.run else None
        return shape[-1] if shape else 3

    def refused(self, problem: str, remedy: str = _REMEDY) -> WeightsError:
        """The refusal of these weights."""
        return WeightsError(f"{self.field}={self.path}: {problem}; {remedy}")


def find(path: str, field: str) -> Source:
    """Looks for weights; of a folder of versions, the newest one's.

    Args:
        path: On this machine or in an object store.
        field: That names it, for messages.

    Raises:
        WeightsError: There are none.
    """
    files = _files(path)
    source = Source(field=field, path=path, run=None)
    if not files.exists(path):
        raise source.refused("there is no such file or folder")
    if not files.isdir(path):
        if not path.endswith(".npz"):
            raise source.refused("is no .npz file")
        return source
    if not files.exists(f"{path}/{MODEL_FILE}"):
        names = [name.strip("/") for name in files.listdir(path)]
        versions = [
            int(name)
            for name in names
            if name.isdecimal() and files.exists(f"{path}/{name}/{MODEL_FILE}")
        ]
        if not versions:
            raise source.refused(f"has no {MODEL_FILE}, and no versions that have one")
        source = dataclasses.replace(source, path=f"{path}/{max(versions)}")
    record = f"{source.path}/{MODEL_RUN_FILE}"
    if not files.exists(record):
        raise source.refused(f"has no {MODEL_RUN_FILE}")
    try:
        with files.GFile(record, "rb") as file:
            run = ModelRun.read(file, record)
    except RecordError as error:
        raise WeightsError(f"{field}={error}") from None
    return dataclasses.replace(source, run=run)


def digest(source: Source) -> str:
    """SHA-256 of what is read of them, in hexadecimal."""
    files = _files(source.path)
    parts = [source.path]
    if source.run is not None:
        folder = os.path.dirname(f"{source.path}/{_VARIABLES}")
        names = sorted(files.listdir(folder))
        parts = [f"{source.path}/{MODEL_RUN_FILE}", *(f"{folder}/{n}" for n in names)]
    total = hashlib.sha256()
    for part in parts:
        with files.GFile(part, "rb") as file:
            content = hashlib.sha256()
            while block := file.read(1 << 20):
                content.update(block)
        total.update(content.digest())
    return total.hexdigest()


def check(source: Source, spec: NetworkSpec, channels: int) -> None:
    """Refuses the weights of another body; the head may be another one.

    Args:
        source: Of `find`.
        spec: The network that is to start from them.
        channels: Of its images.

    Raises:
        WeightsError: They do not fit; the sentence says which do.
    """
    if source.run is None:
        given: Mapping[str, Shape] = {
            name: array.shape for name, array in _of_file(source).items()
        }
        theirs, remedy = "another network", "choose its network, or other weights"
    else:
        network = source.network
        given = weight_shapes(network, 1, source.channels)
        theirs, remedy = network.name, f"choose {network.name}, or other weights"
        if network == spec and source.channels != channels:
            raise source.refused(
                f"was trained on images of {source.channels} channels, and these have "
                f"{channels}",
                f"choose data.channels={source.channels}, or other weights",
            )
    wanted = weight_shapes(spec, 1, channels)
    if difference := _difference(wanted, given):
        raise source.refused(
            f"has the weights of {theirs}, and {spec.name} has others ({difference})",
            remedy,
        )


def read(source: Source, class_names: Sequence[str]) -> dict[str, Any]:
    """The arrays by the flat names of `trainer.network.export_weights`.

    Args:
        source: Of `find`.
        class_names: Of what is to be learnt, in label order.

    Returns:
        Those of the head among them only where its classes are the same: of a version by
        their names, of a file by their number.

    Raises:
        WeightsError: They cannot be read, or are not finite.
    """
    import numpy as np

    if source.run is None:
        arrays = _of_file(source)
        bias = arrays.get(f"{HEAD}bias")
        same = bias is not None and bias.shape == (len(class_names),)
    else:
        arrays = _of_version(source)
        same = tuple(class_names) == source.run.class_names
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise source.refused(f"{name} is not finite")
    if same:
        return arrays
    return {name: array for name, array in arrays.items() if not name.startswith(HEAD)}


def _difference(wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> str:
    """The first one of two bodies, in words; empty if there is none."""
    for name in [*wanted, *given]:
        if name.startswith(HEAD):
            continue
        if name not in given:
            return f"{name} is missing"
        if name not in wanted:
            return f"{name} is unknown"
        if tuple(given[name]) != tuple(wanted[name]):
            return f"{name} is {list(given[name])} and not {list(wanted[name])}"
    return ""


def _of_version(source: Source) -> dict[str, Any]:
    """Of a SavedModel of trainer.export, in the order of its network's variables."""
    import tensorflow as tf

    from trainer import network

    run = source.run or ModelRun()
    model = network.build(
        source.network, len(run.class_names or ()), image_shape=run.image_shape
    )
    try:
        reader = tf.train.load_checkpoint(f"{source.path}/{_VARIABLES}")
        for i, variable in enumerate(model.variables):
            # As trainer.export.Servable keeps them.
            array = reader.get_tensor(f"_variables/{i}/.ATTRIBUTES/VARIABLE_VALUE")
            variable.assign(array)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise source.refused(
            f"holds other variables than a {run.network}",
            "it is damaged, or was exported by another version of this project: train it "
            "again",
        ) from error
    return network.export_weights(model)


def _of_file(source: Source) -> dict[str, Any]:
    """Of an .npz file, nothing pickled."""
    import numpy as np

    try:
        with _files(source.path).GFile(source.path, "rb") as file:
            content = io.BytesIO(file.read())
        with np.load(content, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise source.refused(f"cannot be read as NumPy's arrays ({error})") from None


def _files(path: str) -> Any:
    """What reads there: the standard library, or of an object store tf.io.gfile."""
    if "://" not in path:
        return SimpleNamespace(
            exists=os.path.exists, isdir=os.path.isdir, listdir=os.listdir, GFile=open
        )
    import tensorflow as tf

    return tf.io.gfile

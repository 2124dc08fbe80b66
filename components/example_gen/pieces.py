"""From a DataConfig to validated records, wherever they are.

`plan` checks the source and describes it as pieces that workers read one by one; `read`
turns a piece into chunks. Both raise DataError with one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.example_gen import archives, choice
from components.example_gen import layout as layouts
from components.example_gen.archives import Located, Records
from components.example_gen.layout import DataError
from contract.config.data import DataConfig
from contract.datasets import DATASETS
from contract.features import IMAGE_BYTES, IMAGE_SHAPE, TEST, TRAIN

# Over scikit-learn's 1,797 images (uint8 [n, 8, 8], 0 to 16) and labels (uint8 [n]).
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_NO_NETWORK_SECONDS = 5.0
# What a prepared folder's features.json may name: tensorflow-datasets imports whatever
# module stands there (core/features/feature.py, cls_from_name, 4.9.10).
_FEATURES = {
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "class_label_feature.ClassLabel",
        "text_feature.Text",
    )
}
_MOST_FEATURES_BYTES = 100_000
_MOST_RECORD_BYTES = 1 << 20  # an image of 32 x 32 pixels as PNG has 4 kB at most
# The first 24 bytes of a PNG file of 32 x 32 pixels (PNG specification, 5.2 and 11.2.1).
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 32, 32)
_progress = logging.getLogger("pipeline.progress")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one worker reads in one go."""

    dataset: str
    splits: tuple[str, ...]  # TRAIN, TEST or both
    count: int  # records
    first: int  # records of the pieces before this one
    located: Located | None = None  # official files...
    files: tuple[str, ...] = ()  # ...of which these
    tfds_folder: str | None = None  # or a folder that tensorflow-datasets prepared
    # neither: digits


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked source."""

    pieces: tuple[Piece, ...]
    source: str  # a phrase for reports: what and where
    verified: bool
    verification: str  # a sentence for reports
    downloaded: bool = False  # by this very run: before it there was nothing to look at

    @property
    def count(self) -> int:
        """All records."""
        return sum(piece.count for piece in self.pieces)


def plan(data: DataConfig) -> Plan:
    """Finds, downloads if need be, and verifies the source.

    Raises:
        DataError: The source cannot be used.
    """
    if data.name not in DATASETS:
        raise DataError(f"data.name={data.name}: must be one of {', '.join(DATASETS)}")
    if data.path is not None:
        choice.check(data)
        return _plan_official(data)
    if data.name == "digits":
        return _plan_digits()
    return _plan_tfds(data)


def fingerprint(data: DataConfig, known: str = "") -> str:
    """As `choice.fingerprint`, which of an object store knows the address alone.

    This one also asks for names, sizes and times of the objects, so that new data at an
    old address are noticed; it loads TensorFlow for that.

    Args:
        data: With `name` resolved (not "auto").
        known: What `choice.fingerprint` has just said: the files are not read again.

    Raises:
        DataError: As there; also if nothing is at the address.
    """
    known = known or choice.fingerprint(data)
    place = data.path or (
        None if data.name == "digits" else choice.tfds_root(data.tfds_dir)
    )
    if place is None or not layouts.is_remote(place):
        return known
    found = archives.remote_objects(
        place if data.path else f"{place.rstrip('/')}/{data.name}"
    )
    return hashlib.sha256(json.dumps([known, found]).encode()).hexdigest()[:32]


def read(piece: Piece) -> Iterator[tuple[str, Records]]:
    """Yields (split, chunk) of a piece; split is "train" or "test".

    Raises:
        DataError: A record is not what it should be.
    """
    if piece.located is not None:
        for name, records in archives.read(piece.located, piece.files):
            yield archives.split_of(piece.located.layout, name), records
    elif piece.tfds_folder is not None:
        for split in piece.splits:
            for records in _read_tfds(piece.tfds_folder, piece.dataset, split):
                yield split, records
    else:
        yield from _read_digits()


def report(done: int, total: int, unit: str, task: str) -> None:
    """Tells the console how far a task is."""
    state = {"done": done, "total": total, "unit": unit, "task": task}
    _progress.info(
        "%s: %s of %s %s",
        task,
        f"{done:,}",
        f"{total:,}",
        unit,
        extra={"progress": state},
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's digits: uint8 [1797, 8, 8] in 0 to 16, and labels int64 [1797].

    Raises:
        DataError: The installed scikit-learn has other digits.
    """
    from sklearn.datasets import load_digits  # a second

    bunch: Any = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    content = images.tobytes() + labels.astype(np.uint8).tobytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != DIGITS_SHA256:
        raise DataError(
            f"digits: scikit-learn's images have SHA-256 {actual}, must be "
            f"{DIGITS_SHA256}; install the version of scikit-learn in requirements.txt"
        )
    return images, labels


def digits_pixels(images: np.ndarray) -> np.ndarray:
    """Brings digits to CIFAR's form: uint8 [n, 8, 8] in 0 to 16 -> uint8 [n, 3072].

    Exact: value * 255 // 16, each pixel 4 x 4 times, three equal channels.
    """
    scaled = (images.astype(np.uint16) * 255 // 16).astype(np.uint8)
    large = scaled.repeat(4, axis=1).repeat(4, axis=2)  # [n, 32, 32]
    return np.repeat(large[..., None], 3, axis=-1).reshape(len(images), IMAGE_BYTES)


def _plan_official(data: DataConfig) -> Plan:
    assert data.path is not None
    located = archives.inspect(
        data.path, data.name, allow_unverified=data.allow_unverified
    )
    names = located.layout.files
    # An archive can only be read from its beginning: one piece.
    parts = [names] if located.is_archive else [(name,) for name in names]
    pieces, first = [], 0
    for part in parts:
        count = sum(located.counts[name] for name in part)
        splits = {archives.split_of(located.layout, name) for name in part}
        pieces.append(
            Piece(
                dataset=data.name,
                splits=tuple(sorted(splits)),
                count=count,
                first=first,
                located=located,
                files=part,
            )
        )
        first += count
    kind = "archive" if located.is_archive else "folder"
    return Plan(
        pieces=tuple(pieces),
        source=f"{kind} {located.path} ({located.layout.encoding} form)",
        verified=located.verified,
        verification=located.verification,
    )


def _plan_digits() -> Plan:
    digits()
    entry = DATASETS["digits"]
    count = entry.train_examples + entry.test_examples
    piece = Piece(dataset="digits", splits=(TRAIN, TEST), count=count, first=0)
    return Plan(
        pieces=(piece,),
        source="scikit-learn's bundled digits",
        verified=True,
        verification="SHA-256 of all pixels and labels is the expected one",
    )


def _read_digits() -> Iterator[tuple[str, Records]]:
    images, labels = digits()
    pixels = digits_pixels(images)
    test = np.arange(len(images)) % 5 == 0
    for split, chosen in ((TRAIN, ~test), (TEST, test)):
        yield split, Records(pixels[chosen], labels[chosen], None)


def _plan_tfds(data: DataConfig) -> Plan:
    root = choice.tfds_root(data.tfds_dir)
    if layouts.is_remote(root):
        folder, counts = _remote_prepared(data.name, root)
        downloaded = False
    else:
        prepared = choice.find_prepared(data.name, root)
        downloaded = prepared is None
        if prepared is None:
            _download(data.name, root)
            prepared = choice.find_prepared(data.name, root)
        if prepared is None:
            raise DataError(
                f"{root}: tensorflow-datasets prepared no {data.name} there"
            )
        folder, counts = prepared.folder, prepared.counts
    pieces, first = [], 0
    for split in (TRAIN, TEST):
        pieces.append(
            Piece(
                dataset=data.name,
                splits=(split,),
                count=counts[split],
                first=first,
                tfds_folder=folder,
            )
        )
        first += counts[split]
    if downloaded:
        verification = (
            f"downloaded in this run from {_url(data.name)}, SHA-256 as published; "
            f"prepared by tensorflow-datasets at {folder}"
        )
    else:
        verification = (
            f"prepared by tensorflow-datasets at {folder}; no checksum is published "
            "for prepared records"
        )
    return Plan(
        pieces=tuple(pieces),
        source=f"tensorflow-datasets {folder}",
        verified=downloaded,
        downloaded=downloaded,
        verification=verification,
    )


def _read_tfds(folder: str, dataset: str, split: str) -> Iterator[Records]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    where = f"{folder}, {split}"
    entry = DATASETS[dataset]
    start = 0
    try:
        # The folder alone is read: neither the data set's code nor the network.
        _check_features(folder)
        builder: Any = tfds.builder_from_directory(folder)
        expected = builder.info.splits[split].num_examples
        options = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        for file in builder.info.splits[split].filepaths:
            _check_frames(str(file))
        examples = builder.as_dataset(
            split=split,
            shuffle_files=False,
            read_config=options,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        batches = (
            examples.map(_decode_image, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(archives.CHUNK_RECORDS)
            .prefetch(1)
        )
        for batch in tfds.as_numpy(batches):
            records = _from_tfds(batch, entry, where, start)
            start += len(records.labels)
            yield records
    except DataError:
        raise
    except Exception as error:  # TensorFlow's and tensorflow-datasets' own types
        raise DataError(
            f"{where}: cannot be read after record {start} ({_line(error)}); remove "
            "that folder and let it be prepared again"
        ) from None
    if start != expected:
        raise DataError(
            f"{where}: {start:,} records instead of {expected:,}; remove that folder "
            "and let it be prepared again"
        )


def _check_features(folder: str) -> None:
    """Refuses a features.json that names other classes than CIFAR's features have."""
    path = f"{folder}/features.json"
    with archives.opened(path) as file:
        text = file.read(_MOST_FEATURES_BYTES + 1)
    if len(text) > _MOST_FEATURES_BYTES:
        raise ValueError(f"features.json has more than {_MOST_FEATURES_BYTES:,} bytes")
    pending = [json.loads(text)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        if not isinstance(value, dict):
            continue
        pending += value.values()
        for key in ("pythonClassName", "python_class_name", "type"):
            if key in value and value[key] not in _FEATURES:
                raise ValueError(
                    f"features.json names {value[key]!r:.100}, no feature of CIFAR"
                )
        # Features can stand there as text, too; CIFAR's never do.
        if isinstance(value.get("content"), str) or (
            {"jsonFeature", "json_feature"} & value.keys()
        ):
            raise ValueError("features.json holds features as text, which are not read")


def _check_frames(path: str) -> None:
    """Refuses a TFRecord file whose records claim more bytes than an image has.

    TensorFlow makes room for what a record claims before it reads: a claim of 2^40 bytes
    ends the process (lib/io/record_reader.cc of 2.21). Format: lib/io/record_writer.h.
    """
    with archives.opened(path) as file:
        while len(head := file.read(12)) == 12:  # a length, and a checksum of it
            (length,) = struct.unpack_from("<Q", head)
            if length > _MOST_RECORD_BYTES:
                raise ValueError(
                    f"{path}: a record claims {length:,} bytes, more than "
                    f"{_MOST_RECORD_BYTES:,}"
                )
            file.read(length + 4)


def _decode_image(example: Any) -> Any:
    """Decodes the image of an example, once its head promises 32 x 32 pixels."""
    import tensorflow as tf

    head = tf.strings.substr(example["image"], 0, len(_PNG_HEAD))
    # Its data is what the error shows: the text, and not the bytes of the image.
    promised = tf.debugging.Assert(
        tf.equal(head, _PNG_HEAD), ["an image is no PNG file of 32 x 32 pixels"]
    )
    with tf.control_dependencies([promised]):
        return example | {"image": tf.io.decode_png(example["image"], channels=3)}


def _from_tfds(batch: Any, entry: Any, where: str, first: int) -> Records:
    missing = {"image", "label"} - set(batch)
    if entry.coarse_class_names and "coarse_label" not in batch:
        missing.add("coarse_label")
    if missing:
        raise DataError(
            f"{where}: no feature {', '.join(sorted(missing))} in the records"
        )
    image = batch["image"]
    if image.dtype != np.uint8 or image.shape[1:] != IMAGE_SHAPE:
        raise DataError(
            f"{where}: record {first}: image is {image.dtype}{list(image.shape[1:])}, "
            f"must be uint8{list(IMAGE_SHAPE)}; remove that folder and let it be "
            "prepared again"
        )
    labels = batch["label"].astype(np.int64)
    archives.check_labels(labels, len(entry.class_names), where, first=first)
    coarse = None
    if entry.coarse_class_names:
        coarse = batch["coarse_label"].astype(np.int64)
        classes = len(entry.coarse_class_names)
        archives.check_labels(coarse, classes, where, first=first, kind="coarse label")
    return Records(image.reshape(-1, IMAGE_BYTES), labels, coarse)


def _remote_prepared(dataset: str, root: str) -> tuple[str, dict[str, int]]:
    """A data set prepared in an object store: folder and counts."""
    import tensorflow_datasets as tfds

    remedy = "prepare it there with tensorflow-datasets, or set data.path"
    try:
        builder = tfds.builder(dataset, data_dir=root)
        if not builder.is_prepared():
            raise DataError(f"data.tfds_dir={root}: {dataset} is not there; {remedy}")
        splits = builder.info.splits
        counts = {split: splits[split].num_examples for split in (TRAIN, TEST)}
        return str(builder.data_dir), counts
    except DataError:
        raise
    except Exception as error:  # TensorFlow's and tensorflow-datasets' own types
        raise DataError(
            f"data.tfds_dir={root}: cannot be read ({_line(error)}); {remedy}"
        ) from None


def _download(dataset: str, root: str) -> None:
    """Downloads the official archive and has tensorflow-datasets prepare it."""
    title = DATASETS[dataset].title
    remedy = (
        "set TFDS_DATA_DIR (or data.tfds_dir) to a folder where it is prepared, or "
        "data.path to its files, or data.name=digits"
    )
    trouble = choice.download_trouble(dataset, _NO_NETWORK_SECONDS)
    if trouble is not None:
        raise DataError(
            f"{title} is not in {root} and cannot be downloaded ({trouble}); {remedy}"
        )
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.core.utils import gcs_utils

    try:
        os.makedirs(root, exist_ok=True)
        size = checksums.get_all_url_infos()[_url(dataset)].size
        # A download folder of its own: tensorflow-datasets does not hash again what it
        # finds in a shared one, and then "verified" would be a guess.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as downloads:
            gcs_utils._is_gcs_disabled = True  # else it asks a bucket first
            builder = tfds.builder(dataset, data_dir=root)
            with _watched(downloads, int(size or 0), f"download {title}"):
                builder.download_and_prepare(
                    download_dir=downloads,
                    download_config=tfds.download.DownloadConfig(
                        try_download_gcs=False
                    ),
                )
    except Exception as error:  # network, disk, checksum: all end the same way
        raise DataError(
            f"{title} could not be downloaded to {root} ({_line(error)}); {remedy}"
        ) from None


@contextlib.contextmanager
def _watched(folder: str, total: int, task: str) -> Iterator[None]:
    """Reports the growth of a download while the body runs."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(0.5):
            size = 0
            for parent, _, names in os.walk(folder):
                if "extracted" in parent:
                    continue
                for name in names:
                    with contextlib.suppress(OSError):  # renamed meanwhile
                        size += os.path.getsize(os.path.join(parent, name))
            report(min(size, total) // 10**6, total // 10**6, "MB", task)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _url(dataset: str) -> str:
    (layout,) = [
        each for each in layouts.layouts_of(dataset) if each.encoding == "binary"
    ]
    return choice.DOWNLOAD_URL.format(archive=layout.archive)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:600]

"""The authors' archives from their site, prepared by tensorflow-datasets.

Standard library only until something is downloaded.
"""

from __future__ import annotations

import os
import tempfile
import threading

from components.example_gen import layout as layouts
from components.example_gen import progress
from components.example_gen.errors import DataError, one_line
from contract.datasets import DATASETS

URL = "https://www.cs.toronto.edu/~kriz/{archive}"
_NO_NETWORK_SECONDS = 5.0


def url_of(dataset: str) -> str:
    """The address of the archive that tensorflow-datasets takes."""
    (layout,) = [
        each for each in layouts.layouts_of(dataset) if each.encoding == "binary"
    ]
    return URL.format(archive=layout.archive)


def trouble(dataset: str, timeout_seconds: float) -> str | None:
    """Why the official archive cannot be downloaded now, or None if it answers.

    The deadline holds for name look-up, connection and answer together.
    """
    url = url_of(dataset)
    host = url.split("/")[2]
    outcome: list[str | None] = []
    # A look-up of a name cannot be interrupted: the thread is left behind instead.
    thread = threading.Thread(
        target=lambda: outcome.append(_head(url, timeout_seconds)), daemon=True
    )
    thread.start()
    thread.join(timeout_seconds)
    if not outcome:
        return f"no answer from {host} in {timeout_seconds:g} s"
    return outcome[0] and f"{host}: {outcome[0]}"


def prepare(dataset: str, root: str) -> None:
    """Downloads the official archive and has tensorflow-datasets prepare it in `root`.

    Raises:
        DataError: It cannot be downloaded, or is not what was published.
    """
    title = DATASETS[dataset].title
    remedy = (
        "set TFDS_DATA_DIR (or data.tfds_dir) to a folder where it is prepared, or "
        "data.path to its files, or data.name=digits"
    )
    reason = trouble(dataset, _NO_NETWORK_SECONDS)
    if reason is not None:
        raise DataError(
            f"{title} is not in {root} and cannot be downloaded ({reason}); {remedy}"
        )
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    try:
        os.makedirs(root, exist_ok=True)
        size = checksums.get_all_url_infos()[url_of(dataset)].size
        # A download folder of its own: tensorflow-datasets does not hash again what it
        # finds in a shared one, and then "verified" would be a guess.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as downloads:
            builder = tfds.builder(dataset, data_dir=root)
            with progress.growth(downloads, int(size or 0), f"download {title}"):
                builder.download_and_prepare(
                    download_dir=downloads,
                    download_config=tfds.download.DownloadConfig(
                        try_download_gcs=False
                    ),
                )
    except Exception as error:  # network, disk, checksum: all end the same way
        raise DataError(
            f"{title} could not be downloaded to {root} ({one_line(error):.600}); {remedy}"
        ) from None


def _head(url: str, timeout_seconds: float) -> str | None:
    import urllib.request  # 40 ms, needed only here

    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds):
            return None
    except Exception as error:  # any failure means: not now
        cause = error.args[0] if type(error).__name__ == "URLError" else error
        text = getattr(cause, "strerror", None) or str(cause)
        return " ".join(text.split()) or type(error).__name__

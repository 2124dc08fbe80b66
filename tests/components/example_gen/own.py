"""Folders of pictures as people have them."""

import io
import os
import tarfile

import numpy as np
from PIL import Image


def picture(seed, size=(40, 30), kind="PNG"):
    """The content of a file with noise in it; one of its own for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def contents(classes=("cat", "dog"), count=30, top=""):
    """Name -> content of a file, in class folders."""
    return {
        f"{top}{label}/{number}.png": picture(1000 * place + number)
        for place, label in enumerate(classes)
        for number in range(count)
    }


def write(root, files):
    """Writes files, and the folders that they need; a name that ends with / is a folder."""
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not name.endswith("/"):
            with open(path, "wb") as file:
                file.write(content)
    return str(root)


def write_tar(path, files, mode="w"):
    """The same in an archive, as `tar -cf` of a folder makes it."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return str(path)

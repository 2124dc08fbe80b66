"""Tiny data sets in the official layouts, made from the format's description alone."""

import io
import pickle
import random
import struct
import tarfile

import numpy as np

CIFAR10 = {f"data_batch_{i}": 3 + i for i in range(1, 6)} | {"test_batch": 5}
CIFAR100 = {"train": 9, "test": 4}


def images(seed, count, dataset="cifar10"):
    """Random images uint8 [n, 32, 32, 3], labels and coarse labels (lists)."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = draw.integers(0, 100 if dataset == "cifar100" else 10, count).tolist()
    return pixels, labels, draw.integers(0, 20, count).tolist()


def dataset(name, sizes=None):
    """File stem -> (pixels, labels, coarse labels)."""
    sizes = sizes or (CIFAR100 if name == "cifar100" else CIFAR10)
    return {
        stem: images(number, count, name)
        for number, (stem, count) in enumerate(sizes.items())
    }


def binary(pixels, labels, coarse=None):
    """The official binary form: labels, then the red, green and blue plane."""
    out = bytearray()
    for i, image in enumerate(pixels):
        if coarse is not None:
            out.append(coarse[i])
        out.append(labels[i])
        for channel in range(3):
            for row in range(32):
                out += bytes(image[row, :, channel].tolist())
    return bytes(out)


def content(pixels, labels, coarse=None):
    """The dictionary of the python form."""
    data = np.stack([image.transpose(2, 0, 1).reshape(-1) for image in pixels])
    if coarse is None:
        return {b"data": data, b"labels": labels, b"batch_label": b"a batch"}
    return {b"data": data, b"fine_labels": labels, b"coarse_labels": coarse}


def python2_pickle(entries):
    """Pickles str, lists and uint8 arrays as Python 2's cPickle did, protocol 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def number(value):
        return b"K" + bytes([value])

    out = [b"\x80\x02}("]
    for key, value in entries.items():
        out.append(text(key))
        if isinstance(value, np.ndarray):
            data = value.tobytes()
            out += [
                b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
                number(0) + b"\x85" + text(b"b") + b"\x87R(" + number(1),
                b"("
                + b"".join(b"J" + struct.pack("<i", n) for n in value.shape)
                + b"t",
                b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R(",
                number(3) + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff",
                number(0) + b"tb\x89T" + struct.pack("<i", len(data)) + data + b"tb",
            ]
        elif isinstance(value, bytes):
            out.append(text(value))
        else:
            out.append(b"](" + b"".join(map(number, value)) + b"e")
    return b"".join([*out, b"u."])


# By Python 2, and by Python 3 in each of its protocols.
DUMPS = {
    "python2": python2_pickle,
    **{
        f"protocol{p}": lambda value, p=p: pickle.dumps(value, protocol=p)
        for p in range(6)
    },
}


def files(name, encoding, made=None, dump=pickle.dumps):
    """File name -> bytes of a data set in one of the official forms."""
    made = made or dataset(name)
    out = {}
    for stem, (pixels, labels, coarse) in made.items():
        coarse = coarse if name == "cifar100" else None
        if encoding == "binary":
            out[stem + ".bin"] = binary(pixels, labels, coarse)
        else:
            out[stem] = dump(content(pixels, labels, coarse))
    return out


def write_folder(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, payload in contents.items():
        (folder / name).write_bytes(payload)
    return folder


def write_tar(path, contents, prefix="cifar-10-batches-bin/", shuffle_seed=None):
    """Writes a .tar or (by its name) .tar.gz; `contents` may hold TarInfo -> bytes."""
    items = list(contents.items())
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(items)
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as archive:
        for name, payload in items:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo()
            if info is not name:
                info.name = prefix + name
            if info.isreg():
                info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return path

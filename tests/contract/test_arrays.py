"""Files made to harm whoever reads them: each refused in one line, in time and memory."""

import io
import pickle
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import arrays, stored

MOST = 1 << 20


def read(content: bytes) -> dict[str, np.ndarray]:
    return arrays.read(io.BytesIO(content), MOST)


def saved(**named) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


GOOD = {
    "probabilities/candidate": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ids": np.array([b"ab", b"c"]),
    "names": np.array(["größe", "b"]),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "none": np.zeros((0, 3)),
    "scalar": np.float64(2.5),
}


def test_what_numpy_saved_is_read_back():
    found = read(saved(**GOOD))
    assert found.keys() == GOOD.keys()
    for name, array in GOOD.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.npy", content)
    return buffer.getvalue()


def headed(header: str, content: bytes = b"") -> bytes:
    """An .npz of one array with this header."""
    text = header.encode("latin1") + b"\n"
    start = b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little")
    return zipped(start + text + content)


def claiming(descr: str, shape: tuple, content: bytes = b"") -> bytes:
    return headed(
        f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}", content
    )


def flagged(place: int, value: int) -> bytes:
    """A good file with one byte changed in the member's header and in the directory."""
    content = bytearray(saved(x=np.zeros(3)))
    for signature, offset in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        content[content.index(signature) + offset + place] = value
    return bytes(content)


def bomb(method: int) -> bytes:
    """What claims a megabyte and unpacks to a gigabyte."""
    content = bytearray(zipped(bytes(1 << 30), method))
    place = content.index(b"PK\1\2") + 24
    content[place : place + 4] = (1 << 19).to_bytes(4, "little")
    return bytes(content)


ATTACKS = {
    "claims a terabyte": lambda: claiming("|u1", (2**40,)),
    "more than a long": lambda: claiming("|u1", (10**30,)),
    "less than nothing": lambda: claiming("|u1", (-2, -3), bytes(6)),
    "strings of no bytes, without end": lambda: claiming("<U0", (10**12,)),
    "records of no bytes": lambda: claiming("|V0", (10**12,)),
    "objects": lambda: claiming("|O", (1,), pickle.dumps(print)),
    "dates": lambda: claiming("<M8[s]", (1,), bytes(8)),
    "no characters": lambda: claiming("<U1", (1,), b"\xff" * 4),
    "half a character": lambda: claiming("<U1", (1,), b"\x00\xd8\0\0"),
    "a header without end": lambda: headed("(" * 5000),
    "a header of signs": lambda: headed("-" * 9000 + "1"),
    "a header of lists": lambda: headed("[" * 3000 + "]" * 3000),
    "half a header": lambda: headed("{'descr': '"),
    "a newer format": lambda: zipped(b"\x93NUMPY\x03\0" + bytes(9)),
    "a pickle": lambda: pickle.dumps(print),
    "one array": lambda: b"\x93NUMPY\x01\0",
    "encrypted": lambda: flagged(6, 1),
    "another method": lambda: flagged(8, 99),
    "a bomb": lambda: zipped(bytes(1 << 30)),
    "a bomb of another method": lambda: bomb(zipfile.ZIP_BZIP2),
    "a bomb that claims little": lambda: bomb(zipfile.ZIP_DEFLATED),
}
READER = """
import sys
from contract import arrays, stored

with open(sys.argv[1], "rb") as file:
    try:
        print("read", arrays.read(file, 1 << 20))
    except stored.Unreadable as error:
        print(error)
"""


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_in_time_and_memory(tmp_path, attack):
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))

    file = tmp_path / "x.npz"
    file.write_bytes(ATTACKS[attack]())
    done = subprocess.run(
        [sys.executable, "-c", READER, file],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
        # Each thread of a library reserves addresses, which are what is limited here.
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n") == 1 and not done.stdout.startswith("read")
    assert len(done.stdout) < 400 and done.stdout.rstrip("\n").isprintable()


@settings(max_examples=300, deadline=2000)
@given(
    start=st.sampled_from([saved(**GOOD), claiming("<f4", (2,), bytes(8))]),
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(max_size=12)), max_size=4
    ),
)
def test_no_damage_is_more_than_one_sentence(start, edits):
    content = bytearray(start)
    for place, piece in edits:
        place %= len(content)
        content[place : place + len(piece)] = piece
    try:
        found = read(bytes(content))
    except stored.Unreadable as error:
        assert str(error).isprintable()
    else:
        assert sum(array.nbytes for array in found.values()) <= MOST

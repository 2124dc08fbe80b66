"""Files made to hang the reader, fill its memory or change it: each refused in time.

The attacks of a kind run in a process of their own, which may use 1 GiB of addresses and
20 seconds of processor time.
"""

import contextlib
import gzip
import pickle
import resource
import struct
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen import official_files, safe_pickle
from components.example_gen.errors import DataError
from tests.components.example_gen import official

LIMITS = ((resource.RLIMIT_AS, 2**30), (resource.RLIMIT_CPU, 20))
READERS = """
import sys
from pathlib import Path

from components.example_gen import formats, official_files, safe_pickle
from components.example_gen.errors import DataError

READ = {
    "pickle": lambda path: type(safe_pickle.loads(Path(path).read_bytes())).__name__,
    "batch": lambda path: list(
        formats.parse_python(Path(path).read_bytes(), "cifar10", "f")
    ),
    "archive": lambda path: official_files.inspect(
        path, "cifar10", allow_unverified=True
    ),
}
for path in sys.argv[2:]:
    try:
        print("read", READ[sys.argv[1]](path))
    except (safe_pickle.Refused, DataError) as error:
        print(error)
"""


def answers(tmp_path, reader, payloads):
    """What a reader says of each payload, in a line, within the limits."""

    def limit():
        for kind, amount in LIMITS:
            resource.setrlimit(kind, (amount, amount))

    paths = [tmp_path / f"{number}.tar.gz" for number in range(len(payloads))]
    for path, payload in zip(paths, payloads, strict=True):
        path.write_bytes(payload)
    done = subprocess.run(
        [sys.executable, "-c", READERS, reader, *map(str, paths)],
        capture_output=True,
        timeout=100,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()[-2000:]
    return done.stdout.decode().splitlines()


def doubled(levels, start, double):
    """A pickle of something whose every level holds the one below twice."""
    out = [b"\x80\x02", start, b"q\x00"]
    for level in range(levels):
        out.append(double % (bytes([level]), bytes([level]), bytes([level + 1])))
    return b"".join(out)


TUPLES = doubled(60, b")", b"h%bh%b\x86q%b")  # the last one is memo entry 60, "<"
LISTS = doubled(60, b"]", b"](h%bh%beq%b")
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


PICKLES = [
    (TUPLES + b"}h<K\x01s.", "a key that is a tuple"),
    (TUPLES + b".", "read tuple"),
    (TUPLES + b"cnumpy\ndtype\nh<\x85R.", "array of type"),
    (
        TUPLES + ARRAY + b"(K\x01h<cnumpy\ndtype\nU\x02u1\x85R\x89U\x01xtb.",
        "array of shape",
    ),
    # A state for one of the reader's own functions; pickle would set its attributes.
    (
        b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__U\x01xs\x86b.",
        "a state for something else",
    ),
    # A megabyte of text, made into bytes ten thousand times.
    (
        b"\x80\x02](c_codecs\nencode\nq\x00X"
        + struct.pack("<i", 10**6)
        + b"x" * 10**6
        + b"q\x01"
        + b"h\x00h\x01\x85R" * 10_000
        + b"e.",
        "text that is used many times",
    ),
    (b"\x80\x02}r\xff\xff\xff\x7f.", "read dict"),  # a memo of 2^31 entries
    (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "cannot be unpickled"),
    (b"(" * 3_000_000 + b".", "more than 2,000,000 instructions"),
    (b"L" + b"9" * 10**6 + b"L\n.", "cannot be unpickled"),
    (b"\x80\x02}cposix\nsystem\nU\x02id\x85Rs.", "names posix.system"),
    (b"\x80\x02(cos\nsystem\nU\x02id\x81.", "names os.system"),
    (b"(S'id'\nios\nsystem\n.", "instruction INST is not read"),
    (b"\x80\x03cnumpy\ndtype\n)\x81.", "instruction NEWOBJ is not read"),
    (b"\x80\x02Pan object\n.", "instruction PERSID is not read"),
]


def test_pickles(tmp_path):
    payloads, expected = zip(*PICKLES, strict=True)
    lines = answers(tmp_path, "pickle", payloads)
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning)


def test_labels_that_hold_themselves_twice_are_named_in_time(tmp_path):
    pixels, _, _ = official.images(1, 1)
    data = official.python2_pickle({b"data": pixels.reshape(1, 3072)})
    payload = LISTS + data.removeprefix(b"\x80\x02").removesuffix(b"u.")
    (line,) = answers(tmp_path, "batch", [payload + b"U\x06labels](h<eu."])
    assert "record 0 has labels [[[[" in line and "must be a whole number" in line


def tar_of(*members):
    """The bytes of a tar file, from (TarInfo, payload)."""
    return b"".join(
        info.tobuf(tarfile.USTAR_FORMAT) + payload + b"\0" * (-len(payload) % 512)
        for info, payload in members
    ) + bytes(1024)


def member(name, size=0, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def pax(**fields):
    """A header that overrules fields of the next one (POSIX pax)."""
    lines = b""
    for key, value in fields.items():
        text = f" {key}={value}\n".encode()
        length = len(text) + len(str(len(text) + 2))
        lines += str(length).encode() + text
    return member("pax", len(lines), tarfile.XHDTYPE), lines


ARCHIVES = [
    ([pax(size=2**62), (member("README"), b"")], "claim more than"),
    ([pax(size=2**62), (member("data_batch_1.bin"), b"")], "claim more than"),
    ([pax(size=-(2**62)), (member("x"), b"")], "not a readable"),
    ([pax(size="many"), (member("x"), b"")], "looked for"),
    ([(member("x", 2**32), b"")], "claim more than"),
    ([(member("x", 2**32, tarfile.GNUTYPE_LONGNAME), b"")], "not a readable"),
    ([(member("x", 2**32, tarfile.XHDTYPE), b"")], "not a readable"),
    ([pax(**{"GNU.sparse.map": "1,"}), (member("x"), b"")], "not a readable"),
    (
        [pax(**{"GNU.sparse.major": 1, "GNU.sparse.minor": 0}), (member("x"), b"")],
        "not a readable",
    ),
    ([pax(a="b")] * 5000 + [(member("x"), b"")], "not a readable"),
    ([(member("x"), b"")] * 10_001, "more than 10,000 members"),
    ([(member("x" * 99, 0), b"")] * 1000, "looked for"),
]


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gz", "plain"])
def test_archives(tmp_path, compress):
    contents, expected = zip(*ARCHIVES, strict=True)
    payloads = [compress(tar_of(*members)) for members in contents]
    lines = answers(tmp_path, "archive", payloads)
    for line, part in zip(lines, expected, strict=True):
        assert part in line


@settings(deadline=2000, max_examples=60)
@given(data=st.data())
def test_any_header_is_refused_or_read(tmp_path_factory, data):
    """Whatever stands in a header's fields and in a pax header, one sentence answers."""
    text = st.text("0123456789-=\n\0 ,.abcGNUsparsemjo", max_size=30)
    keys = st.sampled_from(
        ["size", "path", "linkpath", "mtime", "hdrcharset", "GNU.sparse.map"]
        + ["GNU.sparse.size", "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name"]
        + ["GNU.sparse.numblocks", "GNU.sparse.realsize", "GNU.sparse.offset"]
    )
    kinds = st.sampled_from([bytes([kind]) for kind in b"0123456789xgSLKDVM\0"])
    members = []
    for _ in range(data.draw(st.integers(1, 3))):
        fields = data.draw(st.dictionaries(keys, text, max_size=3))
        header, payload = pax(**fields)
        header.type = data.draw(kinds)
        members += [(header, payload), (member(data.draw(text) or "x"), b"")]
        members[-1][0].type = data.draw(kinds)
        members[-1][0].size = data.draw(st.integers(0, 2**33 - 1))
    payload = bytearray(tar_of(*members))
    for _ in range(data.draw(st.integers(0, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path = tmp_path_factory.mktemp("fuzz") / "x.tar"
    path.write_bytes(payload)
    with pytest.raises(DataError) as caught:
        official_files.inspect(str(path), "cifar10", allow_unverified=True)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


PIECES = (
    [bytes([code]) for code in b"()]}.tuaesdlbR0123N\x85\x86\x87\x88\x89\x94\x93\x81o"]
    + [b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b"I01\n", b"G" + bytes(8), b"L5L\n"]
    + [b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"p2\n", b"g2\n", b"Pid\n", b"Q"]
    + [
        b"U\x02u1",
        b"U\x01|",
        b"X\x01\x00\x00\x00a",
        b"C\x02xy",
        b"V\\u0041\n",
        b"S'x'\n",
    ]
    + [b"ccodecs\nencode\n", b"c_codecs\nencode\n", b"cnumpy\ndtype\n", ARRAY]
    + [b"cnumpy\nndarray\n", b"cnumpy.core.numeric\n_frombuffer\n", b"ios\nsystem\n"]
)


@settings(deadline=500, max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join))
def test_any_instructions_are_refused_or_make_something_plain(instructions):
    try:
        value = safe_pickle.loads(b"\x80\x02" + instructions + b".")
    except safe_pickle.Refused as error:
        assert "\n" not in str(error)
        return
    if b"\n" not in instructions:  # nothing named: pickle's own reader is harmless
        with contextlib.suppress(Exception):
            expected = pickle.loads(b"\x80\x02" + instructions + b".", encoding="bytes")
            assert repr(value) == repr(expected)

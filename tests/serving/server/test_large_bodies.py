"""The process that reads large bodies: what it answers is what json_arrays does, here."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.server import json_arrays, large_bodies
from serving.server.errors import ServingError
from tests.serving.server import processes

MIB = 1 << 20
PROJECT = Path(__file__).parents[3]
BODIES = [
    ({"instances": [[1.5, 2], [3, -4]], "signature_name": "s"}, {"x": "float"}),
    ({"instances": [{"a": [1], "b": "é"}, {"a": [2], "b": ""}]},
     {"a": "int32", "b": "string"}),
    ({"inputs": {"a": True, "b": [[], []]}}, {"a": "bool", "b": "double"}),
    ({"inputs": []}, {"x": "string"}),
    ({"inputs": ["a", {"b64": "AAE="}, "c"]}, {"x": "string"}),
    ({"instances": [[1], [2, 3]]}, {"x": "uint8"}),  # refused
    ({"instances": [1]}, {"x": "half"}),  # refused otherwise
    ({"signature_name": 1}, {"x": "float"}),
    ([1], {"x": "float"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def reader():
    reader = large_bodies.Reader(4 * MIB)
    yield reader
    reader.close()


def outcome(function):
    try:
        return function()
    except ServingError as error:
        return error.code, error.message


def read(body, inputs):
    document = json_arrays.parse(body)
    name = json_arrays.signature_name(document)
    return name, *json_arrays.decode(document, inputs)


def read_there(reader, body, inputs, *, packed=False):
    with reader.parse(body, packed=packed) as document:
        name = reader.signature_name(document)
        return name, *reader.decode(document, inputs)


def parse(reader, body, *, packed=False):
    with reader.parse(body, packed=packed):
        pass


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("value", "inputs"), BODIES)
def test_it_reads_what_json_arrays_reads(reader, value, inputs, packed):
    body = json.dumps(value).encode()
    sent = gzip.compress(body) if packed else body
    got = outcome(lambda: read_there(reader, sent, inputs, packed=packed))
    expected = outcome(lambda: read(body, inputs))
    assert len(got) == len(expected)
    if len(expected) == 2:
        assert got == expected
        return
    assert (got[0], got[2]) == (expected[0], expected[2])
    assert got[1].keys() == expected[1].keys()
    for name, array in expected[1].items():
        assert got[1][name].dtype == array.dtype
        np.testing.assert_array_equal(got[1][name], array, strict=True)
        array.reshape(-1)[:0] = 0  # may be written to, as other requests' arrays


@pytest.mark.parametrize(
    "value",
    [{"examples": [{"a": 1, "b": [2.5], "c": ["d"]}], "context": {"e": []}},
     {"examples": [{"a": [1, "b"]}]}, {}],
)  # fmt: skip
def test_it_makes_the_examples_of_json_arrays(reader, value):
    body = json.dumps(value).encode()
    expected = outcome(lambda: json_arrays.examples(json_arrays.parse(body)))
    with reader.parse(body, packed=False) as document:
        assert outcome(lambda: reader.examples(document)) == expected


def longest_pause(work):
    """Of a thread that wants to run every millisecond meanwhile."""
    pauses, stop = [], threading.Event()

    def beat():
        before = time.perf_counter()
        while not stop.wait(0.001):
            now = time.perf_counter()
            pauses.append(now - before)
            before = now

    thread = threading.Thread(target=beat)
    thread.start()
    outcome(work)
    stop.set()
    thread.join()
    return max(pauses)


def test_others_run_while_a_body_is_parsed():
    body = b" " * (48 * MIB)
    packed = gzip.compress(body)
    reader = large_bodies.Reader(64 * MIB)
    parse(reader, b"{}")  # starts the process
    there = longest_pause(lambda: parse(reader, packed, packed=True))
    reader.close()
    here = longest_pause(lambda: json_arrays.parse(body))
    assert (
        there < here / 3
    )  # 10 to 14 ms against 485 to 549, with others on the machine


def test_what_is_larger_when_it_is_unpacked_is_refused(reader):
    assert len(large_bodies.unpack(gzip.compress(bytes(100)), 100)) == 100
    for most in (99, 1, 0):
        with pytest.raises(large_bodies.TooLarge):
            large_bodies.unpack(gzip.compress(bytes(100)), most)
    with pytest.raises(large_bodies.TooLarge) as caught:
        parse(reader, gzip.compress(b" " * (5 * MIB)), packed=True)
    assert caught.value.message == f"The body has more than {4 * MIB} bytes"


def test_gzip_in_several_parts_is_read_and_half_of_one_refused():
    whole = gzip.compress(b'{"inputs":') + gzip.compress(b" 1}")
    assert large_bodies.unpack(whole, 100) == b'{"inputs": 1}'
    for broken in (whole[:-1], whole + b"x", zlib.compress(b"{}"), b"abcd"):
        with pytest.raises(ServingError) as caught:
            large_bodies.unpack(broken, 100)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.message.startswith("The body cannot be read: ")


def test_it_gives_way_to_the_server(reader):
    parse(reader, b"{}")
    nice = os.getpriority(os.PRIO_PROCESS, reader.pid)
    assert nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)


def test_memory_is_bounded_and_the_next_body_is_read(reader):
    """Of lists of lists an array is made in many steps; 4 MiB may take 160 more."""
    body = b'{"inputs": [' + b'{"a":"b"},' * (4 * MIB // 10 - 10) + b"[]]}"
    assert outcome(lambda: parse(reader, body)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "To read the body takes too much memory or time",
    )
    assert read_there(reader, b'{"inputs": 7}', {"x": "int32"})[1]["x"] == 7


def test_it_is_started_again_after_it_was_killed(reader):
    with reader.parse(b'{"inputs": 7}', packed=False) as document:
        os.kill(reader.pid, signal.SIGKILL)
        for _ in range(2):  # the document is lost with it
            with pytest.raises(ServingError) as caught:
                reader.decode(document, {"x": "int32"})
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert read_there(reader, b'{"inputs": 7}', {"x": "int32"})[1]["x"] == 7


def test_signals_that_are_blocked_stay_so():
    """Else SIGTERM, which one thread takes, ends the server at once."""
    code = """if True:
        import signal
        from serving.server import large_bodies
        wanted = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        reader = large_bodies.Reader(1 << 20)
        with reader.parse(b"{}", packed=False):
            print(wanted <= signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        reader.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


def test_what_nobody_wants_is_not_kept(reader):
    body = b'{"inputs": [' + b"[]," * MIB + b"[]]}"
    parse(reader, b"{}")
    before = processes.resident_bytes(reader.pid)
    with reader.parse(body, packed=False):
        held = processes.resident_bytes(reader.pid)
    processes.wait_for(
        lambda: processes.resident_bytes(reader.pid) < (before + held) / 2, 10
    )


def test_others_wait_for_their_turn(reader):
    """From the parsing of a body to its arrays."""
    with (
        ThreadPoolExecutor(4) as pool,
        reader.parse(b'{"inputs": 7}', packed=False) as document,
    ):
        others = [
            pool.submit(read_there, reader, b'{"inputs": %d}' % n, {"x": "int32"})
            for n in range(4)
        ]
        assert not wait(others, 0.3).done
        assert reader.decode(document, {"x": "int32"})[0]["x"] == 7
        # Its model may run now, which takes none of theirs.
        values = [other.result(10)[1]["x"].item() for other in others]
    assert values == [0, 1, 2, 3]


def test_whom_nobody_waits_for_is_not_read(reader):
    def gone():
        raise ServingError(grpc.StatusCode.CANCELLED, "The caller has gone")

    with (
        pytest.raises(ServingError, match="gone"),
        reader.parse(b"no JSON", packed=False, check=gone),
    ):
        pass
    assert read_there(reader, b'{"inputs": 7}', {"x": "int32"})[1]["x"] == 7


def test_it_ends_with_a_server_that_is_killed():
    """Nobody has told it then."""
    program = (
        "from serving.server.large_bodies import Reader\n"
        "if __name__ == '__main__':\n"
        "    reader = Reader(1 << 20)\n"
        "    with reader.parse(b'{}', packed=False):\n"
        "        print(reader.pid, flush=True)\n"
        "        input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        pid = int(server.stdout.readline())
        server.kill()
    processes.wait_for(lambda: not is_running(pid), 10)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # for want of a parent that asks

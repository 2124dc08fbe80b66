"""One line for a person, from chains of real errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.example_gen.errors import DataError
from pipeline.failures import root_message, stop_behind
from tests.pipeline.local import tmpfs

PROJECT = Path(__file__).parents[2]


def chain(cause, *wrappers):
    try:
        raise cause
    except BaseException as error:
        for wrapper in wrappers:
            try:
                raise wrapper from error
            except BaseException as wrapped:
                error = wrapped
        return error


def test_messages_are_the_first_cause_without_wrapping():
    ours = DataError("file x, record 3: wrong; do y [while running 'Read']")
    assert root_message(chain(ours, RuntimeError("a"), ValueError("b"))) == (
        "file x, record 3: wrong; do y"
    )
    deep = TypeError("in user code:\n\n  File ...\n    TypeError: no such argument\n")
    assert root_message(deep) == "TypeError: no such argument"
    assert root_message(KeyError()) == "KeyError"


def test_a_stop_is_found_behind_what_was_made_of_it():
    for stop in (SystemExit(143), KeyboardInterrupt()):
        assert stop_behind(stop) is stop
        assert stop_behind(chain(stop, RuntimeError("a"), ValueError("b"))) is stop
    assert stop_behind(chain(ValueError("a"), RuntimeError("b"))) is None
    # As of an option that a library has looked for and not found.
    assert stop_behind(chain(SystemExit(2), ValueError("a"))) is None


def test_our_sentence_says_more_than_its_cause():
    ours = DataError("/data/x cannot be read (Permission denied); change it")
    assert root_message(chain(PermissionError(13, "Permission denied"), ours)) == (
        "/data/x cannot be read (Permission denied); change it"
    )


def test_an_error_that_was_dealt_with_is_not_what_stopped_the_node():
    try:
        try:
            raise KeyError("No type found for query, name: Examples")
        except KeyError:
            raise ValueError("the type cannot be made")  # noqa: B904
    except ValueError as error:
        assert root_message(error) == "ValueError: the type cannot be made"
    try:
        try:
            raise KeyError("No type found for query, name: Examples")
        except KeyError:
            open("/no/such/file")  # noqa: SIM115
    except OSError as error:
        assert error.__context__ is not None
        assert root_message(error).startswith("FileNotFoundError: ")


# Writes 3 MB to a file system of 1 MB in the ways in which a run writes.
WRITERS = """
import os, shutil, sys
import apache_beam as beam, numpy as np, tensorflow as tf
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from pipeline.failures import root_message
from tests.pipeline.local import tmpfs

place, big = sys.argv[1], bytes(3_000_000)

def records(_=None):
    with tf.io.TFRecordWriter(place + "/records") as file:
        file.write(big)

def saved_model():
    module = tf.Module()
    module.weights = tf.Variable(tf.zeros([10**6]))
    tf.saved_model.save(module, place + "/saved")

def numpy():
    np.savez(place + "/x.npz", np.zeros(10**6))

def worker():
    with beam.Pipeline(argv=["--runner=FnApiRunner"]) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(records)

def worker_in_python():
    with beam.Pipeline(argv=["--runner=FnApiRunner"]) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(lambda _: open(
            place + "/x", "wb").write(big))

def after_a_handled_error():
    try:
        raise KeyError("No type found for query, name: Examples")
    except KeyError:
        numpy()

def metadata():
    with open(place + "/filler", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = place + "/metadata.sqlite"
    config.sqlite.connection_mode = 3
    metadata_store.MetadataStore(config)

for write in (records, saved_model, numpy, worker, worker_in_python,
              after_a_handled_error, metadata):
    for name in os.listdir(place):
        path = os.path.join(place, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    try:
        write()
        print(f"{write.__name__}: no error")
    except Exception as error:
        print(f"{write.__name__}: {root_message(error)}")
"""


@pytest.mark.tf
def test_a_full_disk_is_named_wherever_it_hides(tmp_path):
    before = tmpfs.mounted(tmp_path, "size=1m")
    result = subprocess.run(
        [*before, sys.executable, "-c", WRITERS, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert len(found) == 7
    for name, message in found.items():
        words = "database or disk is full" if name == "metadata" else "No space left"
        assert message.startswith(words), (name, message)
        assert "free some space" in message
    assert f"({tmp_path}/records)" in found["records"]
    assert f"({tmp_path}/saved/variables" in found["saved_model"]

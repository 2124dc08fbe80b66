import os
import subprocess
import sys

import pytest

from contract.fields import ConfigError
from pipeline.local.exclusive import FolderInUse, exclusive
from pipeline.local.exclusive import holder as holder_of


def test_the_output_folder_belongs_to_one_process(tmp_path):
    code = (
        "import sys; from pipeline.local.exclusive import exclusive\n"
        f"with exclusive({str(tmp_path)!r}):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(FolderInUse, match=f"process {holder.pid}"),
        exclusive(str(tmp_path)),
    ):
        pass
    assert holder_of(str(tmp_path)) == f"another run (process {holder.pid})"
    holder.kill()
    holder.communicate()
    assert holder_of(str(tmp_path)) is None
    with exclusive(str(tmp_path)):  # the dead do not hold locks
        pass


def test_asking_who_holds_it_makes_nothing_and_stops_no_run(tmp_path):
    assert holder_of(str(tmp_path / "none")) is None
    assert holder_of(str(tmp_path)) is None
    assert not list(tmp_path.iterdir())
    code = (
        "import time; from pipeline.local.exclusive import holder\n"
        f"while True: holder({str(tmp_path)!r}); time.sleep(0.001)"
    )
    (tmp_path / ".lock").touch()
    asking = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    try:
        for _ in range(300):
            with exclusive(str(tmp_path)):
                pass
    finally:
        asking.kill()
        asking.wait()


def test_a_lock_that_is_a_link_empties_nothing(tmp_path):
    """An output folder may be somebody else's archive, unpacked."""
    mine = tmp_path / "mine"
    mine.write_text("kept")
    (tmp_path / "output").mkdir()
    (tmp_path / "output/.lock").symlink_to(mine)
    with (
        pytest.raises(ConfigError, match="output: must be a folder"),
        exclusive(str(tmp_path / "output")),
    ):
        pass
    assert mine.read_text() == "kept"

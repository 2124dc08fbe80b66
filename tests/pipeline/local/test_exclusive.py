import os
import subprocess
import sys

import pytest

from contract.fields import ConfigError
from pipeline.local.exclusive import FolderInUse, exclusive


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
    holder.kill()
    holder.communicate()
    with exclusive(str(tmp_path)):  # the dead do not hold locks
        pass


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

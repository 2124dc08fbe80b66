"""Publishing survives kills, races, full disks and odd neighbours."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.atomic_pusher import publish as module
from components.atomic_pusher.publish import PublishError, next_version, publish

ROOT = Path(__file__).parents[3]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", variable_bytes=10_000)


def write_model(folder: Path, *, variable_bytes: int) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    (folder / "saved_model.pb").write_bytes(os.urandom(1_000))
    (folder / "variables" / "variables.index").write_bytes(os.urandom(100))
    (folder / "variables" / "variables.data").write_bytes(os.urandom(variable_bytes))
    (folder / "assets.extra" / "empty").touch()
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def visible_versions(base: Path) -> list[Path]:
    """What TensorFlow Serving would take: children with integer names."""
    found = []
    for path in base.iterdir() if base.exists() else ():
        try:
            found.append((int(path.name), path))
        except ValueError:
            continue
    return [path for _, path in sorted(found)]


def start_publisher(source: Path, base: Path, *, times: int = 1) -> subprocess.Popen:
    code = (
        "import sys\n"
        "from components.atomic_pusher.publish import publish\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for _ in range(int(sys.argv[3])):\n"
        "    print(publish(sys.argv[1], sys.argv[2]), flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, source, base, str(times)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_version_is_bit_equal_and_named_by_the_clock(model: Path, tmp_path: Path):
    before = int(time.time())
    version = publish(model, tmp_path / "serving" / "cifar")
    assert before <= version <= time.time()
    assert tree(tmp_path / "serving" / "cifar" / str(version)) == tree(model)


def test_nothing_temporary_stays(model: Path, tmp_path: Path):
    base = tmp_path / "cifar"
    version = publish(model, base)
    assert {path.name for path in base.iterdir()} == {str(version), module.LOCK_NAME}


def test_pushes_of_one_second_are_all_kept(model: Path, tmp_path: Path):
    base = tmp_path / "cifar"
    found = [publish(model, base) for _ in range(5)]
    assert found == sorted(set(found))
    assert [int(path.name) for path in visible_versions(base)] == found


def test_modes_follow_the_umask(model: Path, tmp_path: Path):
    for path in model.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    previous = os.umask(0o022)
    try:
        version = publish(model, tmp_path / "cifar")
    finally:
        os.umask(previous)
    folder = tmp_path / "cifar" / str(version)
    for path in [folder, *folder.rglob("*")]:
        expected = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_links_are_published_as_what_they_point_to(model: Path, tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (model / "variables" / "linked").symlink_to(tmp_path / "elsewhere")
    version = publish(model, tmp_path / "cifar")
    copied = tmp_path / "cifar" / str(version) / "variables" / "linked"
    assert not copied.is_symlink()
    assert copied.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("break_source", "words"),
    [
        (lambda model: model.rename(model.parent / "gone"), "no such folder"),
        (lambda model: (model / "saved_model.pb").unlink(), "not a SavedModel"),
        (lambda model: (model / "x").symlink_to("nowhere"), "No such file"),
        (lambda model: os.mkfifo(model / "pipe"), "neither file nor folder"),
    ],
)
def test_bad_source_publishes_nothing(model: Path, tmp_path: Path, break_source, words):
    base = tmp_path / "cifar"
    break_source(model)
    with pytest.raises(PublishError, match=words):
        publish(model, base)
    assert not base.exists() or {path.name for path in base.iterdir()} <= {
        module.LOCK_NAME
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_source_publishes_nothing(model: Path, tmp_path: Path):
    (model / "variables" / "variables.data").chmod(0)
    with pytest.raises(PublishError, match="Permission denied"):
        publish(model, tmp_path / "cifar")
    assert visible_versions(tmp_path / "cifar") == []


def test_destination_that_is_a_file_is_one_clear_error(model: Path, tmp_path: Path):
    (tmp_path / "cifar").write_text("in the way")
    with pytest.raises(PublishError, match="was not published"):
        publish(model, tmp_path / "cifar")
    assert (tmp_path / "cifar").read_text() == "in the way"


@pytest.mark.parametrize("url", ["gs://bucket/cifar", "s3://bucket/cifar"])
def test_object_stores_are_refused(model: Path, url: str):
    with pytest.raises(PublishError, match="only local folders"):
        publish(model, url)


def test_file_system_that_takes_no_more_leaves_no_trace(tmp_path: Path):
    """The kernel refuses to let a file grow, in the middle of the copy."""
    model = write_model(tmp_path / "model", variable_bytes=3_000_000)
    base = tmp_path / "cifar"
    code = (
        "import resource, signal, sys\n"
        "from components.atomic_pusher.publish import PublishError, publish\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "try:\n"
        "    publish(sys.argv[1], sys.argv[2])\n"
        "except PublishError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, model, base],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "was not published to" in result.stdout
    assert "File too large" in result.stdout
    assert {path.name for path in base.iterdir()} == {module.LOCK_NAME}
    publish(model, base)
    assert tree(visible_versions(base)[0]) == tree(model)


def test_neighbours_are_left_alone(model: Path, tmp_path: Path):
    base = tmp_path / "cifar"
    for name in ("-5", "1.5", "007", "latest", ".tmp-other", "٣", "9" * 30, " 8"):
        (base / name).mkdir(parents=True)
        (base / name / "kept").touch()
    (base / "models.config").write_text("foreign")
    before = tree(base)
    version = publish(model, base)
    after = tree(base)
    assert {name: after[name] for name in before} == before
    assert version <= time.time()


def test_existing_version_is_never_replaced(tmp_path: Path):
    """Also an empty folder, which rename(2) alone would replace."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    for make in (target.mkdir, target.touch, lambda: target.symlink_to("nowhere")):
        make()
        with pytest.raises(FileExistsError):
            module._rename_without_replacing(source, target)
        assert source.is_dir()
        if target.is_dir() and not target.is_symlink():
            target.rmdir()
        else:
            target.unlink()


def test_clock_that_went_back_does_not_make_versions_go_back(
    model: Path, tmp_path: Path
):
    future = int(time.time()) + 1_000_000
    (tmp_path / "cifar" / str(future)).mkdir(parents=True)
    assert publish(model, tmp_path / "cifar") == future + 1


def test_highest_version_is_one_clear_error(model: Path, tmp_path: Path):
    (tmp_path / "cifar" / str(2**63 - 1)).mkdir(parents=True)
    with pytest.raises(PublishError, match="highest"):
        publish(model, tmp_path / "cifar")


names = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(0, 2**63 - 2).map(str),
    st.text(max_size=12),
    st.integers(0, 10**9).map("{:020}".format),
)


@given(st.lists(names), st.floats(0, 2**40))
def test_version_exceeds_all_that_the_server_knows(existing: list[str], now: float):
    if str(2**63 - 1) in existing:
        return
    version = next_version(existing, now)
    # Independent reading of the rule: int64, digits only, as absl::SimpleAtoi does.
    known = [
        int(name)
        for name in existing
        if name and set(name) <= set("0123456789") and int(name) < 2**63
    ]
    assert int(now) <= version < 2**63
    assert all(version > other for other in known)
    assert version == max(int(now), 1) or version - 1 in known


def test_leftovers_of_the_dead_are_removed(model: Path, tmp_path: Path):
    base = tmp_path / "cifar"
    leftover = base / f"{module.TEMPORARY_PREFIX}1-dead"
    write_model(leftover, variable_bytes=10)
    publish(model, base)
    assert not leftover.exists()


def test_kill_at_any_moment_leaves_whole_versions_only(tmp_path: Path):
    """SIGKILL at 40 random moments of a publish that is long enough to be hit."""
    model = write_model(tmp_path / "model", variable_bytes=8_000_000)
    truth = tree(model)
    base = tmp_path / "cifar"
    started = time.perf_counter()
    publish(model, tmp_path / "trial")
    duration = time.perf_counter() - started
    dice = random.Random(7)
    unfinished = 0
    for _ in range(40):
        process = os.fork()
        if not process:
            try:
                publish(model, base)
            finally:
                os._exit(0)
        time.sleep(dice.uniform(0, 1.2 * duration))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        left = [path.name for path in base.iterdir()] if base.exists() else []
        unfinished += any(name.startswith(module.TEMPORARY_PREFIX) for name in left)
        for version in visible_versions(base):
            assert tree(version) == truth, version
        for version in visible_versions(base)[:-1]:  # the highest stays: order matters
            shutil.rmtree(version)
    assert unfinished >= 3, "no kill hit the copy: the test has lost its point"
    last = visible_versions(base)
    version = publish(model, base)
    assert all(version > int(path.name) for path in last)
    assert {path.name for path in base.iterdir()} == {
        *(path.name for path in last),
        str(version),
        module.LOCK_NAME,
    }


def test_concurrent_publishers_all_succeed(tmp_path: Path):
    models = [
        write_model(tmp_path / f"model{i}", variable_bytes=2_000_000) for i in range(2)
    ]
    base = tmp_path / "cifar"
    processes = [start_publisher(model, base, times=4) for model in models]
    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    published = [[int(line) for line in out.split()] for out, _ in outputs]
    for model, mine in zip(models, published, strict=True):
        assert mine == sorted(mine)
        for version in mine:
            assert tree(base / str(version)) == tree(model)
    every = [version for mine in published for version in mine]
    assert len(set(every)) == 8
    assert {path.name for path in base.iterdir()} == {
        module.LOCK_NAME,
        *map(str, every),
    }


def test_living_publisher_is_waited_for_and_not_disturbed(tmp_path: Path):
    """A publisher stopped in mid-copy (SIGSTOP) lives, so its copy is sacred."""
    big = write_model(tmp_path / "big", variable_bytes=24_000_000)
    small = write_model(tmp_path / "small", variable_bytes=100)
    base = tmp_path / "cifar"
    base.mkdir()
    slow = start_publisher(big, base)
    go(slow)
    while not any(base.glob(f"{module.TEMPORARY_PREFIX}*")):
        pass
    slow.send_signal(signal.SIGSTOP)
    (unfinished,) = base.glob(f"{module.TEMPORARY_PREFIX}*")
    with pytest.raises(PublishError, match="another publisher"):
        publish(small, base, deadline_seconds=0.2)
    assert unfinished.exists()
    slow.send_signal(signal.SIGCONT)
    second = publish(small, base)
    out, err = slow.communicate(timeout=60)
    assert slow.returncode == 0, err
    assert tree(base / out.strip()) == tree(big)
    assert second > int(out)
    assert tree(base / str(second)) == tree(small)

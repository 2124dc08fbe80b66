"""`python -m serving.client` as a person uses it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.client.__main__ import main
from serving.client.options import Address, parse_address
from serving.client.probe import speaks_tls
from tests.serving.client.official import (
    CLASSES,
    damaged,
    expected_label,
    random_images,
    start_server,
)
from tests.serving.client.test_classifier import refused_port

pytestmark = pytest.mark.tf

ROOT = Path(__file__).parents[3]
IMAGES = random_images(200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """200 images, among them folders, and eight files that are no image of 32 x 32."""
    folder = tmp_path_factory.mktemp("images")
    for index, image in enumerate(IMAGES):
        place = folder / f"part{index % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{index:03}.{['png', 'PNG'][index % 2]}")
    broken = folder / "broken"
    broken.mkdir()
    whole = (folder / "part0" / "000.png").read_bytes()
    (broken / "cut.png").write_bytes(whole[:300])
    (broken / "damaged.png").write_bytes(damaged(whole))
    (broken / "empty.jpg").touch()
    (broken / "text.jpeg").write_text("hello")
    Image.new("RGB", (7, 9)).save(broken / "small.png")
    (broken / "dangling.png").symlink_to("nowhere")
    os.mkfifo(broken / "pipe.png")
    (broken / "new\nline\x1b[31m.png").write_text("x")
    (folder / "notes.txt").write_text("no image, and not asked for")
    (folder / "._hidden.png").write_text("what macOS leaves behind")
    return folder


BROKEN = 8


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_row(row: dict, folder: Path) -> None:
    index = int(Path(row["file"]).stem)
    label = expected_label(IMAGES[index])
    assert int(row["label"]) == label
    assert row["class_name"] == CLASSES[label]
    assert float(row["probability"]) == pytest.approx(0.91)
    assert int(row["model_version"]) == 7


def test_a_folder_becomes_csv_and_json(backend, folder, tmp_path, capsys):
    table, data = tmp_path / "out.csv", tmp_path / "out.json"
    arguments = ["predict", str(folder), "--server", backend.address]
    arguments += ["--csv", str(table), "--json", str(data), "--batch_size", "32"]
    assert main(arguments) == 1  # some are broken
    rows = rows_of(table)
    assert len(rows) == len(IMAGES) + BROKEN
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert sum(bool(row["error"]) for row in rows) == BROKEN
    for row in rows:
        if not row["error"]:
            check_row(row, folder)
    entries = json.loads(data.read_text())
    assert len(entries) == len(rows)
    for entry, row in zip(entries, rows, strict=True):
        assert entry["file"] == row["file"]
        if not entry["error"]:
            check_row(entry, folder)
            values = np.array(entry["probabilities"], np.float32)
            assert values.argmax() == entry["label"]
            assert values.max() == np.float32(0.91)
    shown, said = capsys.readouterr()
    assert "and 180 more" in shown
    for name in (
        "cut.png: the PNG file is cut short",
        "damaged.png: the server refuses it: Invalid PNG data",
        "empty.jpg: the file is empty",
        "text.jpeg: no PNG, JPEG, WebP, GIF, BMP or TIFF file",
        "small.png: the picture has 7 x 9 pixels",
        "dangling.png: No such file",
        "pipe.png: no regular file",
    ):
        assert name in said, name
    assert "\x1b" not in said and "\x1b" not in shown
    assert "200 of 208 images classified" in said and "by version 7" in said
    assert not list(tmp_path.glob("*.part"))


def test_few_images_are_a_table(backend, folder, capsys):
    files = sorted(str(path) for path in (folder / "part1").iterdir())[:3]
    assert main(["predict", *files, "--server", backend.address]) == 0
    shown, _ = capsys.readouterr()
    lines = shown.splitlines()
    assert lines[0].split() == ["file", "class", "probability"]
    assert len(lines) == 4 and all("91.0%" in line for line in lines[1:])


def test_names_of_files_are_no_formulas(backend, tmp_path, monkeypatch, capsys):
    """As OWASP's page on CSV injection has them; each cell still names its file."""
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+1.png", "-1.png", "@a.png", "\ta.png", "plain.png"]
    for name in names:
        Image.fromarray(IMAGES[0]).save(name)
    arguments = ["predict", "--server", backend.address, "--csv", "out.csv"]
    assert main([*arguments, "--json", "out.json", "--", *names]) == 0
    cells = [row["file"] for row in rows_of(tmp_path / "out.csv")]
    assert not any(cell.startswith(tuple("=+-@\t\r\n")) for cell in cells)
    assert cells[-1] == "plain.png"
    assert all(os.path.samefile(*pair) for pair in zip(cells, names, strict=True))
    found = json.loads((tmp_path / "out.json").read_text())
    assert [entry["file"] for entry in found] == names


def test_names_of_classes_are_no_formulas(backend, folder, tmp_path, monkeypatch):
    classes = ["=1+1", "-1", "+cat", "@dog", "plain", "5", "6", "7", "8", "9"]
    monkeypatch.setattr("tests.serving.client.official.CLASSES", classes)
    table = tmp_path / "out.csv"
    arguments = ["predict", str(folder / "part0"), "--server", backend.address]
    assert main([*arguments, "--csv", str(table)]) == 0
    shown = {int(row["label"]): row["class_name"] for row in rows_of(table)}
    assert shown == dict(
        enumerate(["'=1+1", "-1", "'+cat", "'@dog", "plain", "5", "6", "7", "8", "9"])
    )


def test_many_unusable_images_are_counted(backend, tmp_path, capsys):
    for index in range(33):
        (tmp_path / f"{index}.png").touch()
    assert main(["predict", str(tmp_path), "--server", backend.address]) == 1
    said = capsys.readouterr().err
    assert said.count("not classified: ") == 20
    assert "and 13 more; --csv FILE or --json FILE has all" in said


def test_inner_parts_of_a_graph_are_shown_on_request(backend, folder, tmp_path, capsys):
    import grpc

    text = (
        "{{function_node __inference_f_12}} assertion failed: [32 x 32 is needed] "
        "[Condition x == y did not hold element-wise:] [x = ] [7 9 3]\n"
        "\t [[{{node map/while/Assert}}]]\n\t [[StatefulPartitionedCall/map]]"
    )
    image = str(folder / "part0" / "000.png")
    arguments = ["predict", image, "--server", backend.address]
    for more in ([], ["-v"]):
        backend.failures = [(grpc.StatusCode.INVALID_ARGUMENT, text)]
        table = tmp_path / "out.csv"
        assert main([*arguments, "--csv", str(table), *more]) == 1
        (row,) = rows_of(table)
        assert row["error"] == "the server refuses it: 32 x 32 is needed"
        said = capsys.readouterr().err
        assert ("{{function_node __inference_f_12}}" in said) == bool(more)


def test_json_on_stdout_is_all_there_is(backend, folder, capsys):
    file = str(folder / "part0" / "000.png")
    assert main(["predict", file, "--json", "-", "--server", backend.address]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    check_row(entry, folder)


def test_resizing(backend, folder, capsys):
    small = str(folder / "broken" / "small.png")
    assert main(["predict", small, "--resize", "--server", backend.address]) == 0
    assert "class 0" in capsys.readouterr().out


def test_a_failing_server_leaves_no_half_file(backend, folder, tmp_path, capsys):
    import grpc

    backend.failures = [(grpc.StatusCode.INTERNAL, "out of order")] * 99
    table = tmp_path / "out.csv"
    arguments = ["predict", str(folder), "--csv", str(table)]
    assert main([*arguments, "--server", backend.address]) == 3
    assert list(tmp_path.iterdir()) == []
    (line,) = [
        e for e in capsys.readouterr().err.splitlines() if "not classified" not in e
    ]
    assert line == "python -m serving.client: out of order"


def test_status_metadata_and_bench(backend, tmp_path, capsys):
    backend.statuses = [(9, 30, 0, ""), (8, 50, 13, "no variables")]
    assert main(["status", "--server", backend.address]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "version  state      error",
        "9        AVAILABLE",
        "8        END        INTERNAL: no variables",
    ]
    assert main(["metadata", "--server", backend.address]) == 0
    shown = capsys.readouterr().out
    assert "model cifar, version 7" in shown and "[?, 32, 32, 3]" in shown
    figures = tmp_path / "bench.json"
    arguments = ["bench", "--requests", "20", "--batch_size", "4", "--in_flight", "3"]
    arguments += ["--json", str(figures), "--server", backend.address]
    assert main(arguments) == 0
    found = json.loads(figures.read_text())
    assert found["requests"] == 20 and found["failed"] == {}
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]
    rate = found["requests_per_second"]
    assert rate * 4 == pytest.approx(found["images_per_second"])
    assert rate == pytest.approx(20 / found["seconds"])
    assert "p99_ms" in capsys.readouterr().out
    assert backend.batch_sizes == [4] * (20 + 3 * 3)


def test_failures_under_measurement_are_counted(backend, capsys):
    import grpc

    arguments = ["bench", "--requests", "5", "--in_flight", "1", "--attempts", "1"]

    def fail() -> None:
        while backend.calls < 4:
            time.sleep(0.001)
        backend.failures = [(grpc.StatusCode.UNAVAILABLE, "away")]

    backend.delay_seconds = 0.05
    thread = threading.Thread(target=fail)
    thread.start()
    assert main([*arguments, "--json", "-", "--server", backend.address]) == 1
    thread.join()
    assert json.loads(capsys.readouterr().out)["failed"] == {"UNAVAILABLE": 1}


def test_watching_reports_each_change_once(backend, capsys):
    def change() -> None:
        time.sleep(0.4)
        backend.statuses = [(7, 30, 0, ""), (8, 20, 0, "")]
        time.sleep(0.4)
        backend.statuses = [(8, 30, 0, "")]

    thread = threading.Thread(target=change)
    thread.start()
    arguments = ["watch", "--seconds", "1.2", "--interval", "0.05"]
    assert main([*arguments, "--server", backend.address]) == 0
    thread.join()
    changes = [line.partition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert changes == [
        "version 7 AVAILABLE",
        "version 8 LOADING",
        "version 7 is gone",
        "version 8 LOADING → AVAILABLE",
    ]


def test_watching_survives_the_server(tmp_path, capsys):
    port = refused_port()
    arguments = ["watch", "--seconds", "0.3", "--interval", "0.05", "--attempts", "1"]
    assert main([*arguments, "--server", f"127.0.0.1:{port}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert f"no answer from 127.0.0.1:{port} (Connection refused)" in line


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["status", "--server", "localhost"], 2, "host:port is needed"),
        (["status", "--metadata", "secret"], 2, "KEY=VALUE"),
        (["status", "--token_file", "/nowhere"], 2, "/nowhere: No such file"),
        (["status", "--tls", "--ca", "/nowhere"], 2, "TLS.ca: /nowhere"),
        (["status", "--timeout", "0"], 2, "seconds above 0"),
        (["predict", "{empty}"], 2, "no image in this folder"),
        (["predict", "a.png", "--csv", "/nowhere/x.csv"], 2, "/nowhere/x.csv"),
        (["predict", "a.png", "--csv", "-", "--json", "-"], 2, "both be written to -"),
        (
            ["predict", "a.png", "--csv", "x", "--json", "./x"],
            2,
            "both be written to x",
        ),
        (["watch", "--interval", "inf"], 2, "seconds above 0"),
        (["status", "--model", "other", "--server", "{server}"], 3, "--model names"),
        (
            ["status", "--version", "9", "--server", "{server}"],
            3,
            "Specific(cifar, 9). --version takes one that is available: 7\n",
        ),
        (
            ["status", "--version", "9", "--model", "other", "--server", "{server}"],
            3,
            "--model names",
        ),
        (["bench", "--requests", "0", "--server", "{server}"], 2, "at least 1"),
        (
            ["status", "--server", "{nobody}", "--attempts", "1"],
            3,
            "python -m serving.server",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(
    backend, tmp_path, capsys, arguments, status, words
):
    values = {
        "{empty}": str(tmp_path),
        "{server}": backend.address,
        "{nobody}": f"127.0.0.1:{refused_port()}",
    }
    assert main([values.get(word, word) for word in arguments]) == status
    shown, said = capsys.readouterr()
    assert shown == ""
    assert words in said and said.count("\n") == 1
    assert "secret" not in said


def test_tokens_come_from_a_file(backend, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cr3t\n")
    arguments = ["predict", "--token_file", str(token), "--server", backend.address]
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    assert main([*arguments, str(tmp_path / "a.png")]) == 0
    assert backend.metadata[-1]["authorization"] == "Bearer s3cr3t"


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "serving.client", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


def test_an_error_of_the_whole_request_is_said_once(backend, folder, tmp_path, capsys):
    """Not of each image: no image is to blame for a label that the server lacks."""
    arguments = ["predict", str(folder / "part0"), "--server", backend.address]
    arguments += ["--version_label", "nope", "--csv", str(tmp_path / "x.csv")]
    assert main([*arguments, "--batch_size", "16"]) == 3
    assert "Unrecognized servable version label: nope" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert backend.calls < 20  # of 67 images in 5 requests, and probes


def test_links_and_modes_of_an_output_stay(backend, folder, tmp_path):
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("old")
    target.chmod(0o640)
    (tmp_path / "link.csv.part").write_text("somebody's own")
    link.symlink_to(target)
    image = folder / "part0" / "000.png"
    assert (
        main(["predict", str(image), "--server", backend.address, "--csv", str(link)])
        == 0
    )
    assert link.is_symlink()
    assert len(rows_of(target)) == 1
    assert target.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link.csv.part").read_text() == "somebody's own"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_full_disk_is_named(backend, folder, capsys):
    image = str(folder / "part0" / "000.png")
    arguments = ["predict", image, "--server", backend.address, "--csv", "/dev/full"]
    assert main(arguments) == 2
    assert "/dev/full: No space left on device" in capsys.readouterr().err


def test_pipes_are_written_to(backend, folder, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(
        target=lambda: found.append(pipe.read_text()), daemon=True
    )
    reader.start()
    image = folder / "part0" / "000.png"
    assert (
        main(["predict", str(image), "--server", backend.address, "--csv", str(pipe)])
        == 0
    )
    reader.join(30)
    assert pipe.is_fifo()
    assert found[0].startswith("file,label") and "000.png" in found[0]


def test_a_folder_that_cannot_be_read_is_named(
    backend, folder, tmp_path, monkeypatch, capsys
):
    closed = tmp_path / "images" / "closed"
    closed.mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(tmp_path / "images" / "1.png")
    scandir = os.scandir

    def refuse(path):  # modes do not stop root, as which tests may run
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert main(["predict", str(tmp_path), "--server", backend.address]) == 2
    assert f"{closed}: Permission denied" in capsys.readouterr().err


def test_watching_a_silent_server_ends_in_time_and_says_so(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert main(["watch", "--server", address, "--seconds", "0.3"]) == 0
        assert time.monotonic() - began < 5
    assert "in time" in capsys.readouterr().out


def test_watching_waits_for_a_model(backend, capsys):
    arguments = ["watch", "--server", backend.address, "--model", "not_there"]
    assert main([*arguments, "--interval", "0.05", "--seconds", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Servable not found") == 1  # once, however often it asks


def test_as_a_program(backend, folder):
    done = run(
        "predict", str(folder / "part0"), "--csv", "-", "--server", backend.address
    )
    assert done.returncode == 0
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == len(list((folder / "part0").iterdir()))
    assert "Traceback" not in done.stderr
    assert run("--help").returncode == 0
    assert run("nonsense").returncode == 2


def test_a_reader_that_goes_away_is_no_error(backend, folder):
    command = f"{sys.executable} -m serving.client predict {folder}/part* --csv - "
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} --server {backend.address} | true"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_a_reader_that_goes_away_takes_no_file_along(backend, folder, tmp_path):
    data = tmp_path / "all.json"
    arguments = ["predict", str(folder / "part0"), "--server", backend.address]
    program = [sys.executable, "-m", "serving.client", *arguments]
    process = subprocess.Popen(
        [*program, "--csv", "-", "--json", str(data)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout and process.stderr
    process.stdout.close()
    complaints = process.stderr.read().decode()
    assert process.wait(60) == 0, complaints
    assert len(json.loads(data.read_text())) == 67
    assert "Traceback" not in complaints and "Exception" not in complaints


def start(*arguments: str) -> subprocess.Popen:
    """The program, to be interrupted: a shell that runs tests in the background has
    switched SIGINT off for its children.
    """
    code = (
        "import runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('serving.client', run_name='__main__', alter_sys=True)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def stop(process: subprocess.Popen, number: int, backend, calls: int) -> str:
    """Sends a signal once the server has seen so many calls; what is said then."""
    while backend.calls < calls and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=15)
    return said


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted\n")],
)
def test_a_stopped_prediction_leaves_nothing(
    backend, folder, tmp_path, number, status, words
):
    backend.delay_seconds = 30.0
    arguments = ["predict", str(folder / "part0"), "--server", backend.address]
    arguments += ["--csv", str(tmp_path / "out.csv"), "--batch_size", "2"]
    process = start(*arguments)
    assert stop(process, number, backend, 1) == words
    assert process.returncode == status
    assert not list(tmp_path.iterdir())


def test_interrupting_a_measurement_ends_it(backend):
    backend.delay_seconds = 0.05
    process = start("bench", "--requests", "100000", "--server", backend.address)
    assert stop(process, signal.SIGINT, backend, 20) == "interrupted\n"
    assert process.returncode == 130


def test_a_port_that_speaks_tls_is_named_as_one(tmp_path, certificates, capsys):
    import grpc

    credentials = grpc.ssl_server_credentials(
        [(certificates.key.read_bytes(), certificates.certificate.read_bytes())]
    )
    server, backend = start_server(tmp_path / "s", credentials)
    once = ["--attempts", "1"]
    try:
        for address, remedy in (
            (backend.address, "The port speaks TLS: ask with --tls"),
            (f"http://{backend.address}", f"ask with https://{backend.address};"),
            (f"grpcs://{backend.address}", "--ca names authorities to trust"),
        ):
            assert main(["status", "--server", address, *once]) == 3
            said = capsys.readouterr().err
            assert remedy in said and "Is a server running there" not in said
            assert said.count("\n") == 1
    finally:
        server.stop(None)


def test_tls_towards_a_port_without_it(backend, capsys):
    arguments = ["status", "--tls", "--server", backend.address, "--attempts", "1"]
    assert main(arguments) == 3
    assert "it does not speak TLS). Ask without --tls" in capsys.readouterr().err


def test_a_port_that_says_nothing_is_not_asked_for_long(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert not speaks_tls(parse_address(address))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "address", ["unix:/run/x", "dns:///", "localhost:0", "[::1]:1", "dns:localhost:1"]
)
def test_what_cannot_be_asked_speaks_no_tls(address):
    assert not speaks_tls(Address("grpc", address, secure=False, text=address))

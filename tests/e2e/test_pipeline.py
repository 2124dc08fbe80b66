"""The whole pipeline as a person runs it, on scikit-learn's digits, in its own process.

Every run is a real one: the commands of the README, a SQLite store, files on disk. What
it says is checked against plain TensorFlow and scikit-learn.
"""

import functools
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.docs.reading import blocks, lines_of
from tests.e2e import warm

pytestmark = [pytest.mark.e2e, pytest.mark.tf]

PROJECT = Path(__file__).parents[2]
TFX = Path(sys.executable).with_name("tfx")
NODES, RESOLVERS = 17, 2  # a Resolver looks something up in every run
SMOKE = {"preset": "smoke", "data.name": "digits"}


@functools.cache
def short_folder() -> tempfile.TemporaryDirectory:
    """Sockets are made in $TMPDIR, and pytest's folders have too long names for them."""
    return tempfile.TemporaryDirectory(prefix="e2e-")


def temporary(output: Path) -> Path:
    """$TMPDIR of the runs into `output`."""
    return Path(short_folder().name, f"{zlib.crc32(os.fsencode(output)):08x}")


def run(
    output: Path,
    *,
    wait: bool = True,
    environment: dict[str, str] | None = None,
    **parameters: str,
) -> subprocess.Popen[str]:
    """Starts `pipeline.py run` into `output`; dots in names are double underscores."""
    command = [sys.executable, str(PROJECT / "pipeline.py"), "run"]
    return start(command, output, wait, parameters, environment)


def start(command, output, wait, parameters, environment=None) -> subprocess.Popen[str]:
    words, settings = command_line(output, parameters)
    # As a person starts it: the run asks for oneDNN itself.
    inherited = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    process = subprocess.Popen(
        [*command, *words],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=inherited | settings | (environment or {}),
    )
    if wait:
        process.output, _ = process.communicate(timeout=400)
    return process


def command_line(output: Path, parameters) -> tuple[list[str], dict[str, str]]:
    """Of a smoke run on digits: what follows the command, and variables."""
    chosen = SMOKE | {k.replace("__", "."): v for k, v in parameters.items()}
    words = []
    for name, value in ({"output_root": str(output)} | chosen).items():
        words += ["--runtime_parameter", f"{name}={value}"]
    temporary(output).mkdir(parents=True, exist_ok=True)
    return words, {"COLUMNS": "100", "TMPDIR": str(temporary(output))}


def start_warm(output: Path, **parameters: str) -> tuple[Any, Path]:
    """As `run`, in a process that has loaded TensorFlow before, and what it says."""
    words, settings = command_line(output, parameters)
    said = temporary(output).with_suffix(".txt")
    return warm.start(PROJECT, ["run", *words], said, settings), said


def run_warm(output: Path, **parameters: str) -> SimpleNamespace:
    """The same, to its end."""
    process, said = start_warm(output, **parameters)
    status = warm.status(process, 900)
    return SimpleNamespace(returncode=status, output=said.read_text())


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run") / "output"


@pytest.fixture(scope="module")
def first(output) -> subprocess.Popen[str]:
    """Also where Keras is set up for something else.

    That this changes nothing is what the comparison of weights with those of a run in a
    plain environment shows, after that one was killed.
    """
    settings = output.with_name("keras") / "keras.json"
    settings.parent.mkdir()
    settings.write_text(
        '{"backend": "torch", "floatx": "float16", "epsilon": 1e-3, '
        '"image_data_format": "channels_first"}'
    )
    keras = {"KERAS_BACKEND": "jax", "KERAS_HOME": str(settings.parent)}
    process = run(output, environment=keras)
    assert process.returncode == 0, process.output
    return process


def report_of(output: Path) -> dict:
    return json.loads((output / "report" / "report.json").read_text())


def examples(output: Path, split: str) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Serialized tf.Examples, images and labels of a split, read with plain TensorFlow."""
    import tensorflow as tf

    (folder,) = (output / "artifacts/CifarExampleGen/examples").iterdir()
    files = sorted(str(f) for f in (folder / f"Split-{split}").iterdir())
    records = [r.numpy() for r in tf.data.TFRecordDataset(files)]
    parsed = [tf.train.Example.FromString(r).features.feature for r in records]
    images = np.stack(
        [np.frombuffer(p["image"].bytes_list.value[0], np.uint8) for p in parsed]
    )
    labels = np.array([p["label"].int64_list.value[0] for p in parsed])
    return records, images.reshape(-1, 32, 32, 3), labels


def versions(output: Path) -> list[int]:
    """Names of the published versions; nothing else but the lock lies beside them."""
    names = {entry.name for entry in (output / "serving/cifar").iterdir()}
    return sorted(int(name) for name in names - {".publish.lock"})


def metadata_of(output: Path):
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(output / "metadata.sqlite")
    return metadata_store.MetadataStore(config)


def assert_nothing_half_written(output: Path) -> None:
    """Every version loads, every artifact folder belongs to an execution that ended."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    executions = metadata_of(output).get_executions()
    ended = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED, mlmd.Execution.CANCELED)
    assert {e.last_known_state for e in executions} <= set(ended)
    good = {e.id for e in executions if e.last_known_state == mlmd.Execution.COMPLETE}
    for folder in output.glob("artifacts/*/*/*"):
        if folder.parent.name != ".system":
            assert int(folder.name) in good, folder
    for version in versions(output):
        assert (output / f"serving/cifar/{version}/saved_model.pb").is_file()


def test_the_run_says_what_it_did(first, output):
    lines = first.output.splitlines()
    assert lines[0].split() == ["data", "digits", "(as", "configured)"]
    for name in ("CifarExampleGen", "BaselineTrainer", "CandidateTrainer", "Report"):
        assert re.search(rf"✓ {name} +[\d.:]+", first.output), name
    assert str(output / "report/report.html") in first.output
    assert str(output / "serving/cifar") in first.output
    # Log noise is in the file, not on the screen.
    assert len(lines) < 40
    (log,) = (output / "logs").iterdir()
    assert "tensorflow" in log.read_text(errors="replace").lower()


def test_the_report_has_the_promised_form(first, output):
    report = report_of(output)
    assert report["schema"] == 1
    assert set(report) == {
        "schema", "run", "data", "models", "difference", "decision", "pushed",
        "components", "canary", "published", "comparison", "in_service", "differences",
        "remarks",
    }  # fmt: skip
    counts = report["data"]["counts"]
    assert counts["train"] + counts["eval"] == 1437
    assert counts["test"] == 360
    assert report["data"]["verified"] is True
    assert set(report["models"]) == {"baseline", "candidate", "in_service"}
    assert report["models"]["in_service"] is None
    for role in ("baseline", "candidate"):
        model = report["models"][role]
        assert 0 <= model["eval"]["error"] <= 1
        low, high = model["eval"]["ci95"]
        assert low <= model["eval"]["error"] <= high
        assert model["parameters"] > 10_000
        assert model["images_per_second"] > 0
    errors = {
        r: report["models"][r]["eval"]["error"] for r in ("baseline", "candidate")
    }
    if errors["baseline"] != errors["candidate"]:
        assert report["decision"]["winner"] == min(errors, key=errors.__getitem__)
    assert {c["state"] for c in report["components"]} <= {"complete", "cached"}
    assert len(report["components"]) == NODES
    assert report["canary"]["passed"] is True
    assert report["canary"]["max_abs_difference"] < 1e-4
    pair = report["comparison"]["eval"]["pairs"]["candidate_minus_baseline"]
    assert pair["difference"] == pytest.approx(errors["candidate"] - errors["baseline"])
    assert report["pushed"]["version"] == versions(output)[-1]
    assert report["in_service"]["version"] == versions(output)[-1]


def test_the_page_is_self_contained(first, output):
    page = (output / "report/report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    # Errors and curves twice, calibration, confusion, the classes of three splits.
    assert page.count('<svg role="img"') == 9
    assert page.count('<img src="data:image/png;base64,') > 80
    # The page keeps a number and its unit on one line.
    assert report_of(output)["decision"]["reason"] in page.replace("\xa0", " ")


def test_plain_tensorflow_predicts_what_tfma_counted(first, output):
    import tensorflow as tf
    from sklearn.metrics import accuracy_score

    report = report_of(output)
    winner = report["models"][report["decision"]["winner"]]
    servable = tf.saved_model.load(report["pushed"]["path"])
    for split in ("eval", "test"):
        records, images, labels = examples(output, split)
        by_example = servable.signatures["serialized_examples"](
            examples=tf.constant(records)
        )
        predicted = by_example["label"].numpy()
        correct = accuracy_score(labels, predicted, normalize=False)
        assert winner[split]["error"] == pytest.approx(1 - correct / len(labels))
        by_pixels = servable.signatures["serving_default"](images=tf.constant(images))
        np.testing.assert_array_equal(by_pixels["label"], predicted)
        np.testing.assert_allclose(
            by_pixels["probabilities"],
            by_example["probabilities"],
            rtol=1e-4,
            atol=1e-6,
        )
        assert set(by_pixels["class_name"].numpy()) <= {b"%d" % i for i in range(10)}


def test_the_version_brings_the_baseline_of_its_requests(first, output):
    """What the model answers is what plain TensorFlow counts, and its images are train's."""
    import tensorflow as tf

    report = report_of(output)
    text = Path(report["pushed"]["path"], "assets.extra/baseline.json").read_text()
    baseline = json.loads(text)
    _, images, labels = examples(output, "eval")
    servable = tf.saved_model.load(report["pushed"]["path"])
    answered = servable.signatures["serving_default"](images=tf.constant(images))
    predicted = answered["label"].numpy()
    assert baseline["answers"] == np.bincount(predicted, minlength=10).tolist()
    correct = sum(each["correct"] for each in baseline["reliability"])
    assert correct == (predicted == labels).sum()
    _, trained, _ = examples(output, "train")
    brightness = trained.mean(axis=(1, 2, 3)) / 255
    found = baseline["numbers"]["brightness"]
    assert found["count"] == len(trained)
    assert found["quantiles"][128] == pytest.approx(np.median(brightness), abs=2e-3)


def test_encoded_images_and_classify_answer_alike(first, output):
    import tensorflow as tf
    from PIL import Image

    servable = tf.saved_model.load(report_of(output)["pushed"]["path"])
    records, images, _ = examples(output, "test")
    records, images = records[:16], images[:16]
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        files.append(buffer.getvalue())
    expected = servable.signatures["serving_default"](images=tf.constant(images))
    encoded = servable.signatures["encoded_images"](encoded=tf.constant(files))
    np.testing.assert_array_equal(encoded["label"], expected["label"])
    classified = servable.signatures["classify"](inputs=tf.constant(records))
    np.testing.assert_allclose(
        classified["scores"], expected["probabilities"], rtol=1e-4, atol=1e-6
    )
    assert classified["classes"].numpy()[3].tolist() == [b"%d" % i for i in range(10)]


def test_pixels_are_those_of_scikit_learn(first, output):
    from sklearn.datasets import load_digits

    digits = load_digits()
    expected = {}
    for image, label in zip(digits.images, digits.target, strict=True):
        pixels = (image.astype(int) * 255 // 16).astype(np.uint8)
        big = np.kron(pixels, np.ones((4, 4), np.uint8))
        expected.setdefault(np.stack([big] * 3, -1).tobytes(), []).append(label)
    seen = 0
    for split in ("train", "eval", "test"):
        _, images, labels = examples(output, split)
        for image, label in zip(images, labels, strict=True):
            assert label in expected[image.tobytes()]
        seen += len(labels)
    assert seen == 1797


def children_seconds() -> float:
    """Processor time of ended children: seconds that other work does not stretch."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_what_the_documents_ask_a_server_is_answered(first, output, tmp_path):
    """README, serving.md, clients.md: blocks that serve, predict and ask by curl."""
    (tmp_path / "output").symlink_to(output)
    found = {
        name: [text for _, text, marked in blocks(PROJECT / name) if not marked]
        for name in ("README.md", "docs/serving.md", "docs/clients.md")
    }
    (serve,) = (
        x for x in found["docs/serving.md"] if x.startswith("python -m serving")
    )
    python = f"{sys.executable} -m serving"
    command = serve.replace("python -m serving", python)
    command = re.sub("(port)=850[01]", r"\1=-1", command)
    server = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = next(x for x in server.stderr if x.startswith("serving "))
        grpc, rest = re.search(r"on 127.0.0.1:(\d+) .*127.0.0.1:(\d+) ", line).groups()

        def here(text: str) -> str:
            text = re.sub(r"(\.venv/bin/)?python -m serving", python, text)
            to = f"predict --server=127.0.0.1:{grpc} output"
            text = text.replace("predict output", to)
            return text.replace("8500", grpc).replace("8501", rest)

        asked = [
            line
            for texts in found.values()
            for text in texts
            for line in lines_of(text)
            if re.match(r"(\S+ -m serving.client predict output/|curl )", line)
        ]
        assert len(asked) == 8  # README 1, serving.md 3, clients.md 4
        for line in asked:
            done = subprocess.run(
                ["bash", "-c", here(line)],
                cwd=tmp_path, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stderr)
            if "curl" in line:
                assert "error" not in json.loads(done.stdout), (line, done.stdout)
            else:
                assert "10 of 10 images classified" in done.stdout + done.stderr
        for text in python_blocks(PROJECT / "README.md"):
            # The run here is at 32 x 32.
            done = subprocess.run(
                [sys.executable, "-c", here(text).replace("16, 16", "32, 32")],
                cwd=tmp_path, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, (text, done.stderr)
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_what_an_alarm_starts_trains_on_the_labelled_requests(first, output, tmp_path):
    """A server's log, labels that come in, an alarm, and the run that it starts."""
    import hashlib

    from serving.client import Classifier

    sent = np.random.default_rng(1).integers(0, 256, (400, 32, 32, 3), np.uint8)
    _, tested, _ = examples(output, "test")
    command = [
        sys.executable,
        "-m",
        "serving.server",
        "--port=-1",
        "--rest_api_port=-1",
    ]
    command += [f"--model_base_path={output}/serving/cifar", "--model_name=cifar"]
    command += [f"--request_log_dir={tmp_path}/log", "--request_log_sampling_rate=1"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    try:
        line = next(x for x in server.stderr if x.startswith("serving "))
        (port,) = re.search(r"on 127.0.0.1:(\d+) ", line).groups()
        with Classifier(f"127.0.0.1:{port}") as classifier:
            classifier.classify(np.concatenate([sent, tested[:20]]))
    finally:
        server.terminate()
        server.communicate(timeout=60)
    keys = [
        hashlib.sha256(each.tobytes()).hexdigest() for each in (*sent, *tested[:20])
    ]
    labels = tmp_path / "labels.csv"
    rows = [f"{key},{n % 10}" for n, key in enumerate(keys) if n < 30 or n >= 400]
    labels.write_text("\n".join(["id,label", *rows]))
    again = f"{sys.executable} {PROJECT}/pipeline.py run output_root={tmp_path}/again "
    again += " ".join(f"{name}={value}" for name, value in SMOKE.items())
    # Noise among so few images is other data indeed.
    again += " data.extra={labelled} drift.skew_images=none drift.skew_labels=none"
    watched = subprocess.run(
        [
            *(sys.executable, "-m", "monitoring", "once", f"--requests={tmp_path}/log"),
            *(f"--pipeline_output={output}", f"--output={tmp_path}/told"),
            *(f"--labels={labels}", f"--retrain={again}", "--fewest=100"),
        ],
        cwd=PROJECT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert watched.returncode == 1, watched.stderr
    assert "started: " in watched.stdout
    report = tmp_path / "again/report/report.json"
    said = next((tmp_path / "told").glob("retrain-*.log"))
    for _ in range(600):
        if report.exists() or "error" in said.read_text():
            break
        time.sleep(0.5)
    assert report.exists(), said.read_text()
    records, images, labelled = examples(tmp_path / "again", "train")
    added = [n for n, each in enumerate(records) if b"-extra" in each]
    assert {(images[n].tobytes(), labelled[n]) for n in added} == {
        (each.tobytes(), n % 10) for n, each in enumerate(sent[:30])
    }
    told = json.loads(report.read_text())["data"]["extra"]
    assert (told["added"], told["left_out"]) == (30, {"test": 20})
    for split in ("eval", "test"):
        assert examples(tmp_path / "again", split)[0] == examples(output, split)[0]


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S)


def test_the_tour_shows_this_run(first, output, tmp_path):
    """examples/tour.ipynb, executed as an editor does; its lines are tour.py's."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    folder = PROJECT / "examples"
    notebook = nbformat.read(folder / "tour.ipynb", as_version=4)
    script = jupytext.read(folder / "tour.py")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ]
    (given,) = (c for c in script.cells if "parameters" in c.metadata.get("tags", ()))
    given.source = f"OUTPUT = {str(output)!r}"
    here = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(script, timeout=300, resources=here).execute()
    shown = [each for cell in script.cells for each in cell.get("outputs", [])]
    text = "".join(each.get("text", "") for each in shown)
    report = report_of(output)
    assert f"version {report['pushed']['version']}: " in text
    assert report["decision"]["reason"] in text
    # The lineage's drawing, the slices, the disagreements, the server's answers.
    assert sum("image/png" in each.get("data", {}) for each in shown) == 4
    (table,) = (
        each.data["text/html"] for each in shown if "text/html" in each.get("data", {})
    )
    for node in ("CifarExampleGen", "Transform", "Evaluator", "AtomicPusher"):
        assert node in table


def test_a_second_run_reuses_everything(first, output):
    before = versions(output)
    began = children_seconds()
    second = run_warm(output)
    seconds = children_seconds() - began
    assert second.returncode == 0, second.output
    assert all(c["cached"] for c in report_of(output)["components"])
    assert second.output.count("↺") == NODES - RESOLVERS
    assert versions(output) == before
    assert f"version {before[-1]} was pushed by an earlier run" in second.output
    assert seconds < 40


def test_the_owners_line_runs_the_pipeline(first, output):
    command = [TFX, "run", "create", "--pipeline_path", PROJECT / "pipeline.py"]
    process = start([str(part) for part in command], output, True, {})
    assert process.returncode == 0, process.output
    assert "verdict" in process.output
    assert all(c["cached"] for c in report_of(output)["components"])


def test_a_deleted_version_is_published_again(first, output):
    old = versions(output)
    shutil.rmtree(output / "serving/cifar")
    again = run_warm(output)
    assert again.returncode == 0, again.output
    cached = {c["id"]: c["cached"] for c in report_of(output)["components"]}
    assert not cached.pop("AtomicPusher")
    assert all(cached.values())
    (version,) = versions(output)
    assert version > old[-1]


def wait_for(condition, is_running, said, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert is_running(), said()
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.02)


def trained_weights(output: Path, trainer: str) -> dict[str, np.ndarray]:
    """All variables in the newest model of a Trainer, by their name in the SavedModel."""
    import tensorflow as tf

    models = output.glob(f"artifacts/{trainer}/model/*")
    newest = max(models, key=lambda path: int(path.name))
    reader = tf.train.load_checkpoint(
        str(newest / "Format-Serving/variables/variables")
    )
    names = [n for n in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in n]
    return {name: reader.get_tensor(name) for name in names}


def test_killed_at_any_stage_the_same_command_ends_well(tmp_path, first, output):
    undisturbed, output = output, tmp_path / "output"
    moments = {
        "ingestion": lambda: any(output.glob("artifacts/CifarExampleGen/examples/*")),
        "training": lambda: any(output.glob("checkpoints/candidate-*/*/ckpt-*.index")),
        "push": lambda: any(output.glob("artifacts/AtomicPusher/pushed_model/*")),
    }
    for moment, arrived in moments.items():
        process, said = start_warm(output, train__checkpoint_seconds="0.5")
        wait_for(arrived, process.is_alive, said.read_text)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, moment
    process = run_warm(output, train__checkpoint_seconds="0.5")
    assert process.returncode == 0, process.output
    assert_nothing_half_written(output)
    assert report_of(output)["pushed"]["version"] == versions(output)[-1]
    assert not any((output / "checkpoints").iterdir())
    logs = "".join(f.read_text(errors="replace") for f in (output / "logs").iterdir())
    assert "resuming at step" in logs
    # Bit by bit what a run that nobody killed has learnt.
    for trainer in ("BaselineTrainer", "CandidateTrainer"):
        expected = trained_weights(undisturbed, trainer)
        found = trained_weights(output, trainer)
        assert len(expected) > 30
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_next_run_has_to_beat_the_model_in_service(first, output):
    served = report_of(output)
    before = versions(output)
    other = run_warm(output, train__seed="2", evaluation__policy="superior")
    assert other.returncode == 0, other.output
    report = report_of(output)
    winner = served["models"][served["decision"]["winner"]]
    assert report["models"]["in_service"]["network"] == winner["network"]
    # On the same images it makes the same errors as when it was chosen.
    for split in ("eval", "test"):
        assert report["models"]["in_service"][split] == winner[split]
    if report["decision"]["winner"] == "in_service":
        assert report["pushed"] is None
        assert versions(output) == before
        assert "stays" in other.output
    else:
        assert versions(output) == [*before, report["pushed"]["version"]]


@pytest.fixture
def interruptible():
    """A shell that runs tests in the background has switched Ctrl-C off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_nothing_is_left_in_the_temporary_folder(first, output):
    assert not list(temporary(output).iterdir())

    # Refused inside of a component, after others have run or were found in the cache.
    failed = run(output, train__precision="mixed_float16")
    assert failed.returncode == 1, failed.output
    assert (
        "train.precision=mixed_float16: TensorFlow has no batch norm" in failed.output
    )
    assert not list(temporary(output).iterdir())

    def trainings() -> set[Path]:
        return set(output.glob("artifacts/BaselineTrainer/model_run/*/events*"))

    before = trainings()
    stopped = run(output, wait=False, train__seed="3")
    wait_for(
        lambda: trainings() - before,
        lambda: stopped.poll() is None,
        lambda: stopped.communicate()[0],
    )
    time.sleep(0.5)
    for _ in range(2):  # as GNU timeout does
        stopped.send_signal(signal.SIGINT)
    text, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGINT, text
    assert "stopped; the same command goes on from here" in text
    # The second signal did not cut short what the first one began.
    assert any(output.glob("checkpoints/baseline-*/*/ckpt-*.index"))
    assert not list(temporary(output).iterdir())


def test_a_copy_stands_alone_and_beats_what_is_served_there(first, output, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    oldest, *_ = known = versions(copy)
    # The first run's model, as if another output folder published it here.
    foreign = copy / f"serving/cifar/{known[-1] + 1}"
    shutil.copytree(copy / f"serving/cifar/{oldest}", foreign)
    before = stamps(output)
    process = run_warm(copy)
    assert process.returncode == 0, process.output
    assert f"moved     from {output}: " in process.output
    assert f"in service: {foreign} was published by no run that is" in process.output
    report = report_of(copy)
    served = report["models"]["in_service"]
    assert f"{foreign} was published by no run" in served["found"]
    assert "was published by no run" in (copy / "report/report.html").read_text()
    # The same training again: the same errors, and no second version.
    (same,) = (
        model
        for role, model in report["models"].items()
        if role != "in_service" and model["network"] == served["network"]
    )
    assert served["eval"] == same["eval"]
    assert versions(copy) == [*known, int(foreign.name)]
    assert stamps(output) == before
    for artifact in metadata_of(copy).get_artifacts():
        assert str(output) not in str(artifact)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """When each file was changed, and how large it is."""
    return {
        str(path): (path.stat().st_ctime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def test_two_runs_do_not_share_a_folder(tmp_path):
    output = tmp_path / "output"
    one = run(output, wait=False)
    wait_for(
        lambda: any(output.glob("artifacts/*")),
        lambda: one.poll() is None,
        lambda: one.communicate()[0],
    )
    one.send_signal(
        signal.SIGSTOP
    )  # held still: it must not end before the other is told
    began = children_seconds()
    other = run(output)
    assert children_seconds() - began < 5  # before TensorFlow loads
    assert other.returncode == 2
    assert f"process {one.pid}" in other.output
    one.send_signal(signal.SIGTERM)
    one.send_signal(signal.SIGCONT)
    text, _ = one.communicate(timeout=60)
    assert one.returncode == 128 + signal.SIGTERM, text
    assert_nothing_half_written_after_stop(output)


def assert_nothing_half_written_after_stop(output: Path) -> None:
    output.joinpath("serving/cifar").mkdir(parents=True, exist_ok=True)
    assert_nothing_half_written(output)

"""What is in service is said alike by everything that says it."""

import base64
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from contract.datasets import Dataset, known
from contract.predictions import Predictions
from pipeline import cli
from pipeline.local import verdict
from pipeline.report import build, collect, pictures, render
from tests.pipeline.report import recorded

pytestmark = pytest.mark.tf

SAVED_MODEL = b"\x08\x01"  # saved_model_schema_version: 1


@pytest.fixture
def root(tmp_path):
    """A run that pushed version 8 while version 7 was in service."""
    root = tmp_path / "output"
    recorded.record(root, served=True)
    for folder in ("serving/cifar/7", "serving/cifar/8", "pushed", "new"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "saved_model.pb").write_bytes(SAVED_MODEL)
    return root


def run(root, *command: str) -> None:
    assert cli.main([*command, f"output_root={root}"], {}) == 0


def said_by_everything(root, capsys) -> dict[str, int]:
    """The version in service: place -> what it says."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    from components.model_in_service import strategy
    from serving.deploy.__main__ import main as deploy

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    next_run = strategy.in_service(strategy.pushes(store, f"{root}/serving/cifar"), [])
    capsys.readouterr()
    run(root, "models", "list", "--json")
    listed = json.loads(capsys.readouterr().out)
    arguments = ["--output_root", str(root), "--versions", "pinned"]
    assert deploy(arguments) == 0
    pinned = json.loads((root / "deploy/deploy.json").read_text())["models"]["cifar"]
    report = json.loads((root / "report/report.json").read_text())
    (current,) = [each["version"] for each in listed if each["in_service"]]
    return {
        "next run": int(next_run.custom_properties["pushed_version"].string_value),
        "models list": current,
        "deploy": pinned["stable"],
        "report": report["in_service"]["version"],
    }


def test_after_a_rollback_all_say_the_same(root, capsys):
    run(root, "report", "data.name=digits")
    assert set(said_by_everything(root, capsys).values()) == {8}
    run(root, "models", "rollback", "7")
    told = capsys.readouterr().out
    assert str(root / "report/report.html") in told
    said = said_by_everything(root, capsys)
    (version,) = set(said.values())
    assert version > 8
    report = json.loads((root / "report/report.json").read_text())
    assert report["pushed"] == {"version": 8, "path": str(root / "serving/cifar/8")}
    serving = report["in_service"]
    assert serving["path"] == str(root / f"serving/cifar/{version}")
    assert (serving["by"], serving["rollback_of"]) == ("rollback", 7)
    page = (root / "report/report.html").read_text()
    assert f"In service is now version <b>{version}</b>, a rollback to 7" in page
    # The same run once more, all from the cache.
    for row in report["components"]:
        row["cached"] = True
    assert verdict.published_lines(report) == {
        "pushed": "nothing new; version 8 was pushed by an earlier run",
        "serving": f"version {version}, a rollback to 7, {serving['path']}",
    }


def test_new_processes_write_the_report(root):
    """What this process has loaded already, such as matplotlib, others have not."""
    environment = {**os.environ}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    page = root / "report/report.html"
    for words in (["report"], ["models", "rollback", "7"]):
        page.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "pipeline.py", *words, f"output_root={root}"],
            cwd=Path(__file__).parents[3],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.rstrip().endswith(str(page))
        assert "<svg" in page.read_text()


def test_a_version_that_is_older_than_the_run_is_not_said_to_be_new(root):
    run(root, "report", "data.name=digits")
    report = json.loads((root / "report/report.json").read_text())
    report["run"]["started"] = "2026-11-29T13:59:30+00:00"
    path = str(root / "serving/cifar/8")
    report["in_service"]["pushed"] = "2026-11-29T13:59:31+00:00"
    assert verdict.published_lines(report) == {"pushed": f"version 8, {path}"}
    # The pusher ran, for its code is new, and found its model in service.
    report["in_service"]["pushed"] = "2026-11-29T13:59:01+00:00"
    assert verdict.published_lines(report) == {
        "pushed": "nothing new; version 8 was pushed by an earlier run",
        "serving": f"version 8, {path}",
    }


def test_a_rollback_is_done_even_if_the_report_cannot_be_written(root, capsys):
    run(root, "report", "data.name=digits")
    (root / "report/report.json").write_text("{}")
    for path in root.rglob("decision.json"):
        path.unlink()
    run(root, "models", "rollback", "7")
    told = capsys.readouterr().out
    assert "version 7 is published again as version" in told
    assert "`pipeline.py report` writes it again" in told
    assert (root / "report/report.json").read_text() == "{}"


def test_a_damaged_decision_is_one_sentence(root, capsys):
    (path,) = root.rglob("decision.json")
    values = json.loads(path.read_text())
    values["comparison"]["models"]["baseline"]["error"] = "low"
    path.write_text(json.dumps(values))
    assert cli.main(["report", f"output_root={root}"], {}) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(
            f"error: {path}: comparison.models.baseline.error=low: must be a number"
        )
    )


def test_a_damaged_canary_is_one_sentence(root, capsys):
    path = root / "canary/canary.json"
    path.write_text(path.read_text().replace('"requests": 50', '"requests": -50'))
    assert cli.main(["report", f"output_root={root}"], {}) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {path}: requests=-50: must be at least 0")


def test_of_a_refusal_that_was_tried_again_the_reasons_are_left(tmp_path):
    """Its folder went with it; what ML Metadata has of it stayed."""
    database, run_id = recorded.record(tmp_path / "output", refused="it is slow")
    (tmp_path / "output/canary/canary.json").unlink()
    found = collect.collect(database, run_id, in_service=None)
    assert found["canary"]["passed"] is False
    assert found["canary"]["reasons"] == ["it is slow"]
    assert found["decision"]["blocked_by"] == ["canary: it is slow"]


def test_damaged_predictions_are_one_sentence(root, capsys):
    (path,) = root.rglob("Evaluator/predictions.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert cli.main(["report", f"output_root={root}"], {}) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {path}: BadZipFile: ")
    assert said.endswith("put back what was written, or make it anew")


def test_how_the_model_in_service_was_trained_may_be_unknown(root, caplog):
    """Its run.json is as foreign as the model: it does not keep the report from others."""
    (root / "pushed/assets.extra/run.json").write_text('{"parameters": "many"}')
    run(root, "report", "data.name=digits")
    report = json.loads((root / "report/report.json").read_text())
    assert report["models"]["in_service"]["parameters"] is None
    assert report["models"]["in_service"]["network"] == "resnet20"
    (told,) = (
        record.getMessage()
        for record in caplog.records
        if record.name == "pipeline.progress"
    )
    assert "run.json: parameters=many: must be a whole number" in told


def test_the_pictures_are_test_images(root):
    from contract import features

    run(root, "report", "data.name=digits")
    (examples,) = root.rglob("Split-test")
    stored = {}
    keys = [features.IMAGE, features.LABEL]
    for batch in pictures._batches(str(examples.parent), features.TEST, keys):
        stored |= dict(zip(*batch.values(), strict=True))
    files = list((root / "report/images").iterdir())
    assert len(files) == len(set(stored.values())) == 10
    for path in files:
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
            assert stored[image.tobytes()] == int(path.stem)


def test_pictures_can_be_left_out(tmp_path):
    """Of the page and of its folder, whose earlier ones go."""
    texts, samples = {}, {}
    for shown in (True, False):
        name = "with" if shown else "without"
        found = report_of(tmp_path / name, report_pictures=shown)
        render.write(found, str(tmp_path / "report"))
        texts[shown] = (tmp_path / "report/report.html").read_text()
        files = [*(tmp_path / "report/images").iterdir()]
        assert len(files) == (10 if shown else 0)
        samples[shown] = found["page"]["samples"]
        assert ("<img" in texts[shown]) == shown == bool(samples[shown])
        assert found["page"]["class_counts"]["test"]
    assert not any(image in texts[False] for row in samples[True] for image in row)
    assert "<code>report_pictures=false</code>" in texts[False]
    assert "report_pictures=false" not in texts[True]  # of a public set nobody is asked


def test_predictions_of_an_image_that_is_not_there_are_one_sentence(root, capsys):
    (path,) = root.rglob("Evaluator/predictions.npz")
    with path.open("rb") as file:
        found = Predictions.read(file, str(path), 10)
    # The baseline alone is wrong on the fifth.
    ids = found.ids.copy()
    ids[4] = b"gone"
    with path.open("wb") as file:
        dataclasses.replace(found, ids=ids).write(file)
    assert cli.main(["report", f"output_root={root}"], {}) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        f"error: {path}: ids has b'gone', which is none of the eval images in "
        f"{root / 'examples'}; "
    )


def report_of(tmp_path, **told) -> dict:
    database, run_id = recorded.record(tmp_path / "output", **told)
    return collect.collect(database, run_id, in_service=None)


def test_further_contenders_are_added_by_their_names(tmp_path):
    further = {"wide": "preact_resnet14", "a": "resnet14"}
    found = report_of(tmp_path, further=further, served=True)
    two = report_of(tmp_path / "two", served=True)
    assert [*two["models"]] == ["baseline", "candidate", "in_service"]
    for name, model in two["models"].items():
        # But for the times, which the canary takes of the winner and what it replaces.
        timed = {"latency_ms": model["latency_ms"]}
        assert found["models"][name] | timed == model
    assert {name: found["models"][name]["network"] for name in further} == further
    # Eight, four, three and two of forty images are wrong.
    wrong = {"candidate": 4, "wide": 3, "a": 2}
    assert found["difference"]["candidate_minus_baseline"] == pytest.approx(-4 / 40)
    assert found["differences"].keys() == wrong.keys()
    p_values = {}
    for name, count in wrong.items():
        difference = found["differences"][name]
        assert difference["minus_baseline"] == pytest.approx((count - 8) / 40)
        # Exact McNemar: the baseline alone is wrong on so many, the other on none.
        p_values[name] = 2 * 0.5 ** (8 - count)
        assert difference["p_value"] == pytest.approx(p_values[name])
        assert difference["only_contender_wrong"] == 0
        assert difference["only_baseline_wrong"] == 8 - count
        low, high = difference["joint_ci95"]
        assert low < difference["ci95"][0] < difference["ci95"][1] < high
    # Holm: the smallest times three, the next times two, none below the one before it.
    smallest, middle, largest = sorted(p_values.values())
    corrected = [3 * smallest, max(3 * smallest, 2 * middle)]
    corrected.append(max(corrected[1], largest))
    holm = [found["differences"][name]["holm_p_value"] for name in ("a", "wide")]
    assert holm == pytest.approx(corrected[:2])
    assert found["differences"]["candidate"]["holm_p_value"] == pytest.approx(
        corrected[2]
    )
    assert found["decision"]["winner"] == "a"
    assert found["page"]["histories"].keys() == {"baseline", "candidate", "wide", "a"}


def test_with_two_contenders_there_is_nothing_to_correct(tmp_path):
    found = report_of(tmp_path)
    (only,) = found["differences"].values()
    assert only["holm_p_value"] == only["p_value"] == found["difference"]["p_value"]
    assert only["joint_ci95"] == only["ci95"] == found["difference"]["ci95"]


def test_disagreements_are_of_the_winner_and_the_baseline(tmp_path):
    """The winner is wrong on the first three images, the baseline on the first eight."""
    found = report_of(tmp_path, further={"wide": "preact_resnet14"})
    assert found["decision"]["winner"] == "wide"
    shown = found["page"]["disagreements"]
    assert shown["between"] == ("baseline", "wide")
    assert len(shown["images"]) == 5
    for image in shown["images"]:
        assert image["right"] == "wide"
        assert image["says"]["wide"]["class"] == image["label"]
        assert image["says"]["baseline"]["class"] != image["label"]


def test_what_the_data_are_is_read_beside_the_examples(tmp_path):
    """Grey images of 8 x 8, of a set that no table knows."""
    names = tuple(f"kind {number}" for number in range(10))
    told = Dataset(
        name="mine",
        title="My own images",
        image_shape=(8, 8, 1),
        labels={"label": names},
    )
    page = report_of(tmp_path, data=told)["page"]
    assert page["dataset_title"] == "My own images at 8 x 8 pixels, grey"
    assert page["classes"] == list(names)
    assert page["pictures"].keys() == set(names)
    for uri in (*page["pictures"].values(), *page["samples"][0]):
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
            assert (image.size, image.mode) == ((8, 8), "L")


def test_what_a_resolver_did_is_called_by_its_name(tmp_path):
    """It makes nothing anew, and nothing of it comes from the cache."""
    from types import SimpleNamespace

    states = collect._STATES
    rows = {
        (state, kind): collect._row(
            "N",
            SimpleNamespace(
                last_known_state=states.Value(state),
                create_time_since_epoch=0,
                last_update_time_since_epoch=1500,
            ),
            kind,
        )
        for state in ("COMPLETE", "CACHED")
        for kind in ("c.N", collect.RESOLVER)
    }
    told = {key: (row["work"], row["cached"]) for key, row in rows.items()}
    assert told == {
        ("COMPLETE", "c.N"): ("done", False),
        ("CACHED", "c.N"): ("cached", True),
        ("COMPLETE", collect.RESOLVER): ("looked_up", True),
        ("CACHED", collect.RESOLVER): ("looked_up", True),
    }
    assert rows["COMPLETE", "c.N"]["seconds"] == 1.5


@pytest.mark.parametrize(
    ("name", "label", "title"),
    [
        ("cifar10", "fine", "CIFAR-10"),
        ("cifar100", "fine", "CIFAR-100"),
        ("cifar100", "coarse", "CIFAR-100, 20 coarse classes"),
    ],
)
def test_the_title_says_which_classes_were_learnt(name, label, title):
    assert build._title(known(name, label)) == title


def test_a_run_of_an_earlier_version_is_reported_as_one_of_today(tmp_path):
    """Its splits had an Evaluator each, which also took the times."""
    told = {}
    for name, earlier in (("before", True), ("now", False)):
        database, run_id = recorded.record(
            tmp_path / name, served=True, earlier=earlier
        )
        told[name] = collect.collect(database, run_id, in_service=None)
    before, now = told["before"]["models"], told["now"]["models"]
    assert {name: model["latency_ms"] for name, model in before.items()} == {
        "baseline": 1.5, "candidate": 1.5, "in_service": 1.5,
    }  # fmt: skip
    # Of today's those two that the canary has served.
    assert {name: model["latency_ms"] for name, model in now.items()} == {
        "baseline": None, "candidate": 1.5, "in_service": 1.4,
    }  # fmt: skip
    for models in (before, now):
        for model in models.values():
            del model["latency_ms"]
    assert before == now
    for split in ("eval", "test"):
        pairs = [told[name]["comparison"][split].pairs for name in told]
        assert pairs[0] == pairs[1]

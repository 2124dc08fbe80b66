"""What is in service is said alike by everything that says it."""

import json

import pytest

from pipeline import cli
from pipeline.local import commands
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
    assert commands._published_lines(report) == {
        "pushed": "nothing new; version 8 was pushed by an earlier run",
        "serving": f"version {version}, a rollback to 7, {serving['path']}",
    }


def test_a_version_that_is_older_than_the_run_is_not_said_to_be_new(root):
    run(root, "report", "data.name=digits")
    report = json.loads((root / "report/report.json").read_text())
    report["run"]["started"] = "2026-11-29T13:59:30+00:00"
    path = str(root / "serving/cifar/8")
    report["in_service"]["pushed"] = "2026-11-29T13:59:31+00:00"
    assert commands._published_lines(report) == {"pushed": f"version 8, {path}"}
    # The pusher ran, for its code is new, and found its model in service.
    report["in_service"]["pushed"] = "2026-11-29T13:59:01+00:00"
    assert commands._published_lines(report) == {
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
    from pipeline.report import collect

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
    from PIL import Image

    from contract import features
    from pipeline.report import build

    run(root, "report", "data.name=digits")
    (examples,) = root.rglob("Split-test")
    stored = {}
    keys = [features.IMAGE, features.LABEL]
    for batch in build._split_dataset(str(examples.parent), features.TEST, keys):
        pixels = batch[features.IMAGE].numpy()
        stored |= dict(zip(pixels, batch[features.LABEL].numpy(), strict=True))
    pictures = list((root / "report/images").iterdir())
    assert len(pictures) == len(set(stored.values())) == 10
    for path in pictures:
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
            assert stored[image.tobytes()] == int(path.stem)


def test_the_title_says_which_classes_were_learnt():
    from contract.datasets import class_names
    from pipeline.report import build

    for name, label, title in (
        ("cifar10", "fine", "CIFAR-10"),
        ("cifar100", "fine", "CIFAR-100"),
        ("cifar100", "coarse", "CIFAR-100, 20 coarse classes"),
    ):
        data = {"name": name, "label": label}
        assert build._title(data, class_names(name, label)) == title

"""`models ...` where output_root is in object storage: through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.atomic_pusher import ledger
from components.atomic_pusher import object_storage as storage
from components.atomic_pusher.ledger import Origin
from pipeline import cli
from pipeline.history import published, stores

PROJECT = Path(__file__).parents[3]


class Cloud:
    """An output folder in a bucket."""

    def __init__(self, bucket, folder: Path):
        self.root = bucket.url("out")
        self.folder = ledger.open_folder(f"{self.root}/serving/cifar")
        self._source = folder

    def run(self, network: str) -> int:
        """A push; returns the version."""
        source = self._source / network
        (source / "variables").mkdir(parents=True)
        (source / "saved_model.pb").write_text(network)
        (source / "variables/variables.index").write_bytes(os.urandom(100))
        origin = Origin(
            network=network,
            role="candidate",
            run=f"run-of-{network}",
            dataset="digits",
            reason=f"{network} is better",
            metrics={"error": 0.0625, "ci95": [0.05, 0.08]},
            config={"preset": "quick"},
            commit="abc",
        )
        return storage.publish(source, self.folder, origin).version

    def command(self, *arguments: str) -> int:
        where = ["--runtime_parameter", f"output_root={self.root}"]
        return cli.main(["models", *arguments, *where], {})

    def served(self) -> tuple[int, str]:
        """What a server would load: the version and its graph."""
        version = ledger.read_served(self.folder).version
        graph = self.folder.blob(f"{version}/saved_model.pb").download_as_text()
        return version or 0, graph


@pytest.fixture
def cloud(object_storage, tmp_path):
    return Cloud(object_storage, tmp_path)


def test_the_list_for_people(cloud, capsys):
    assert cloud.command("list") == 0
    assert capsys.readouterr().out == "nothing was published yet\n"
    first, second = cloud.run("resnet8"), cloud.run("preact_resnet8")
    cloud.folder.blob(f"{first}/saved_model.pb").delete()
    assert cloud.command("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[1].startswith(f"{second} ")
    for words in ("candidate", "6.25 %", "5.0 to 8.0 %", "digits", "there, in service"):
        assert words in lines[1]
    assert lines[2] == "    preact_resnet8 is better"
    assert lines[3].startswith(f"{first} ") and lines[3].endswith("missing")
    # What is gone is not in service, here as on a disk.
    cloud.folder.blob(f"{second}/saved_model.pb").delete()
    where = published.places([f"output_root={cloud.root}"], "/")
    assert not any(each.in_service for each in stores.read(where))


def test_for_programs(cloud, capsys):
    first, second = cloud.run("resnet8"), cloud.run("preact_resnet8")
    assert cloud.command("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["version"] for each in found] == [second, first]
    assert found[0]["path"] == f"{cloud.root}/serving/cifar/{second}"
    assert found[0]["run"] == "run-of-preact_resnet8"
    assert [each["in_service"] for each in found] == [True, False]
    assert cloud.command("show", str(first)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.items() >= found[1].items()
    assert (shown["config"], shown["commit"]) == ({"preset": "quick"}, "abc")
    assert (shown["previous"], shown["registered"]) == (None, None)
    assert shown["files"]["saved_model.pb"]["size"] == len("resnet8")


def test_rollback_publishes_a_new_version(cloud, capsys):
    first, second = cloud.run("resnet8"), cloud.run("preact_resnet8")
    assert cloud.served() == (second, "preact_resnet8")
    assert cloud.command("rollback", str(first)) == 0
    lines = capsys.readouterr().out.splitlines()
    version, graph = cloud.served()
    assert graph == "resnet8" and version > second
    assert lines == [
        f"version {first} is published again as version {version}, "
        f"{cloud.root}/serving/cifar/{version}",
        "TensorFlow Serving takes it when it next reads models.config; Model Registry and "
        "Endpoints stay as they are",
    ]
    where = published.places([f"output_root={cloud.root}"], "/")
    newest, *rest = stores.read(where)
    assert (newest.version, newest.by, newest.rollback_of) == (
        version, "rollback", first,
    )  # fmt: skip
    assert newest.in_service and not any(each.in_service for each in rest)
    for name in ("network", "role", "eval_error", "ci95", "reason", "dataset", "run"):
        assert getattr(newest, name) == getattr(rest[-1], name), name
    # To what is in service there is no way back, under either of its numbers.
    for number, also in ((version, ""), (first, f", as version {version}")):
        assert cloud.command("rollback", str(number)) == 2
        error = capsys.readouterr().err
        assert error == f"error: version {number} is in service already{also}\n"
    # Back again, by the number of the rollback's predecessor.
    assert cloud.command("rollback", str(second)) == 0
    assert cloud.served()[1] == "preact_resnet8"


def test_errors_are_one_line(cloud, capsys, object_storage):
    version = cloud.run("resnet8")
    for action in ("rollback", "show"):
        assert cloud.command(action, "12345") == 2
        assert capsys.readouterr().err == (
            "error: version 12345 was never published from "
            f"output_root={cloud.root}; known: {version}\n"
        )
    second = cloud.run("preact_resnet8")
    cloud.folder.blob(f"{version}/variables/variables.index").delete()
    assert cloud.command("rollback", str(version)) == 2
    error = capsys.readouterr().err
    assert "no whole copy of it is left" in error and error.count("\n") == 1
    assert cloud.served()[0] == second
    object_storage.fail("GET", "models.config", status=403, times=99)
    assert cloud.command("list") == 2
    error = capsys.readouterr().err
    assert f"{cloud.root}/serving/cifar cannot be read: 403" in error
    assert error.count("\n") == 1


def test_folders_are_those_of_a_run(cloud):
    found = published.places(["output_root=gs://b/out/"], "/somewhere")
    assert found.destination == "gs://b/out/serving/cifar"
    found = published.places(
        ["output_root=gs://b/out", "serving.base_directory=gs://c/models",
         "serving.model_name=mine"],
        "/somewhere",
    )  # fmt: skip
    assert (found.output_root, found.destination) == (
        "gs://b/out",
        "gs://c/models/mine",
    )
    assert found.remote
    found = published.places(["serving.base_directory=models"], "/somewhere")
    assert found.destination == "/somewhere/models/cifar"
    assert not found.remote


def test_nothing_heavy_is_loaded(cloud):
    cloud.run("resnet8")
    code = (
        "import sys; from pipeline import cli\n"
        "cli.main(sys.argv[1:], {})\n"
        "heavy = {'tensorflow', 'tfx', 'keras', 'apache_beam', 'ml_metadata',\n"
        "         'google.cloud.aiplatform'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "models", "list"]
        + ["--runtime_parameter", f"output_root={cloud.root}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "resnet8" in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded []"


# As the first program that kept a ledger wrote it, byte for byte.
EARLY_ENTRY = """{
 "schema": 1,
 "state": "complete",
 "publisher": "4711-0123456789abcdef",
 "version": 1795267350,
 "published": "2026-11-21T13:22:30+00:00",
 "previous": null,
 "rollback_of": null,
 "files": {
  "saved_model.pb": {
   "size": 7,
   "crc32c": "lYeBPg=="
  }
 },
 "origin": {
  "network": "resnet8",
  "role": "baseline",
  "model_uri": "gs://b/out/1/BaselineTrainer_2/model",
  "artifact_uri": "gs://b/out/1/AtomicPusher_3/pushed_model",
  "run": "projects/1/locations/l/pipelineJobs/cifar-resnet-20261121",
  "pipeline": "cifar-resnet",
  "dataset": "digits",
  "policy": "best",
  "reason": "resnet8 is better",
  "metrics": {
   "error": 0.0625,
   "ci95": [
    0.05,
    0.08
   ]
  },
  "config": {
   "preset": "quick"
  },
  "commit": "abc"
 },
 "registered": {
  "registered_model": "projects/p/locations/l/models/5@2"
 }
}
"""
EARLY_CONFIG = """# Written with every push; `python pipeline.py models rollback` goes back.
model_config_list {
  config {
    name: "cifar"
    base_path: "gs://b/out/serving/cifar"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1795267350 } }
  }
}
"""


def test_what_an_earlier_program_wrote_is_read(cloud, capsys):
    for name, text in {
        "ledger/1795267350.json": EARLY_ENTRY,
        "models.config": EARLY_CONFIG,
        "1795267350/saved_model.pb": "resnet8",
    }.items():
        cloud.folder.blob(name).upload_from_string(text)
    assert cloud.command("show", "1795267350") == 0
    shown = json.loads(capsys.readouterr().out)
    told = json.loads(EARLY_ENTRY)
    origin = told["origin"]
    assert shown == {
        "version": 1795267350,
        "artifact_id": None,
        "pushed": told["published"],
        "path": f"{cloud.root}/serving/cifar/1795267350",
        "exists": True,
        "in_service": True,
        "by": "run",
        "rollback_of": None,
        "eval_error": 0.0625,
        "ci95": [0.05, 0.08],
        **{name: origin[name] for name in ("network", "role", "reason", "dataset")},
        "run": origin["run"],
        "config": origin.pop("config"),
        "commit": origin.pop("commit"),
        "previous": None,
        "origin": origin,
        "registered": told["registered"],
        "files": told["files"],
    }
    # And it can be gone back to.
    second = cloud.run("preact_resnet8")
    assert cloud.command("rollback", "1795267350") == 0
    version, graph = cloud.served()
    assert (graph, version > second) == ("resnet8", True)

"""`pipeline.py predict`: what is wrong is said before anything loads."""

import pytest

from pipeline import cli


def said(capsys, *arguments: str) -> str:
    assert cli.main(["predict", *arguments], {}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_without_a_model_in_service_the_command_says_so(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"x")
    said(capsys, "--images", str(tmp_path), f"output_root={tmp_path / 'output'}")


def test_a_variable_that_is_not_set_is_not_this_folder(capsys):
    assert "--images=: must be a folder" in said(capsys, "--images", "")


def test_other_machines_must_reach_everything(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"x")
    dataflow = ["vertex.beam=dataflow", "output_root=gs://b/out"]
    images = ["--images", str(tmp_path)]
    assert "vertex.project: is not given" in said(capsys, *images, *dataflow)
    error = said(capsys, *images, *dataflow, "vertex.project=my-project")
    assert error.startswith(f"error: --images={tmp_path}: is on this machine")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("vertex.beam=flink", "vertex.beam=flink: needs the cluster's job service"),
        (
            "vertex.beam=dataflow vertex.project=P",
            "vertex.project=P: must be a project",
        ),
        (
            "vertex.beam=dataflow vertex.project=my-project vertex.region=mars",
            "vertex.region=mars: ",
        ),
        (
            "vertex.beam=spark vertex.beam_endpoint=s:1 "
            "vertex.beam_arguments=--runner=Prism",
            "--runner comes from",
        ),
    ],
)
def test_options_of_beam_are_checked_as_those_of_a_run(capsys, given, words):
    remote = ["--images", "gs://b-images/x", "output_root=gs://b-out/y"]
    assert words in said(capsys, *remote, *given.split())


def test_a_bucket_without_credentials_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    error = said(capsys, "--images", "gs://b-images/x", f"output_root={tmp_path}")
    assert error.startswith("error: --images=gs://b-images/x: ")
    assert "gcloud auth application-default login" in error

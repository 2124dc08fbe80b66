"""`pipeline.py predict`: what is wrong is said before anything loads."""

from pipeline import cli


def said(capsys, *arguments: str) -> str:
    assert cli.main(["predict", *arguments], {}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_without_a_model_in_service_the_command_says_so(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"x")
    said(capsys, "--images", str(tmp_path), f"output_root={tmp_path / 'output'}")


def test_other_machines_must_reach_everything(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"x")
    dataflow = ["vertex.beam=dataflow", "output_root=gs://b/out"]
    images = ["--images", str(tmp_path)]
    assert "vertex.project: is not given" in said(capsys, *images, *dataflow)
    known = ["vertex.project=p", "vertex.repository=us-docker.pkg.dev/p/r"]
    error = said(capsys, *images, *dataflow, *known)
    assert error.startswith(f"error: --images={tmp_path}: is on this machine")

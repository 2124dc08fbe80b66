"""`pipeline.py study` where nothing is trained: the list, tidying up, what is refused."""

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline import cli
from studies.commands import add_parser
from studies.tables import STUDIES
from tests.studies.test_kept import RECORD, answers, files, model


def study(*words: str) -> int:
    return cli.main(["study", *words], {}, [add_parser])


def test_the_list_has_every_study_with_its_rows(capsys):
    assert study() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*STUDIES]
    assert "5 rows small, 10 as published, 5 seeds" in lines[1]


def test_prune_removes_models_whose_answers_are_there(tmp_path, capsys):
    root = tmp_path / "output/studies"
    root.mkdir(parents=True)
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(config)
    answers(store, model(store, root / "model"), root / "answers")
    del store
    assert study("prune", f"output_root={tmp_path / 'output'}") == 0
    assert capsys.readouterr().out == "removed 1 models, 0 MB\n"
    assert files(root / "model") == {RECORD}
    assert study("prune", f"output_root={tmp_path / 'output'}") == 0
    assert capsys.readouterr().out == "removed 0 models, 0 MB\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["prune", "output_root=/nowhere"], "no study has been run there"),
        (["prune", "train.steps=3"], "study prune takes output_root alone"),
        (["plain", "--output", "x.json"], "--output: goes with --engine vertex"),
        (["plain", "--rows", "plain21"], "plain21 is no row of plain"),
        (["plain", "contenders.x=resnet20"], "a study's networks are its rows"),
        (["plain", "--engine", "vertex", "vertex.budget_usd=1"], "vertex.budget_usd=1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(words, sentence, capsys):
    assert study(*words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert sentence in told
    assert told.count("\n") == 1

"""Which folders are meant, which version, and whether it is in service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contract.config.run import RunConfig
from contract.fields import override, to_dict
from pipeline.history import published
from pipeline.history.published import HistoryError, Places
from pipeline.local import rules as local_rules
from pipeline.resolve import resolve
from tests.pipeline.history.recorded import version

HERE = Places("/out", "/out/serving/cifar", "cifar-resnet")


def test_folders_are_those_of_a_run(tmp_path):
    for assignments in (
        ["data.name=digits"],
        ["data.name=digits", "output_root=here", "serving.model_name=mine"],
        ["data.name=digits", f"serving.base_directory={tmp_path}/models"],
    ):
        config = resolve(assignments, {}, str(tmp_path), local_rules).config
        found = published.places(assignments, str(tmp_path))
        assert found.output_root == config.output_root
        assert found.destination == f"{config.serving_root}/{config.serving.model_name}"
        assert found.pipeline_name == config.pipeline_name


def test_folders_of_a_recorded_run_are_found_where_its_outputs_are_now():
    config = override(
        RunConfig(), {"output_root": "/made/here", "serving.model_name": "mine"}
    )
    # A field that this program has no more, as an earlier one wrote it down.
    recorded = to_dict(config) | {"forgotten": 1}
    found = published.places_of_run(recorded, "/moved/there")
    assert found == Places("/moved/there", "/moved/there/serving/mine", "cifar-resnet")
    recorded["serving"] |= {"base_directory": "gs://bucket/models"}
    found = published.places_of_run(recorded, "/moved/there")
    assert (found.destination, found.remote) == ("gs://bucket/models/mine", True)


def test_a_version_is_found_by_number_and_folder():
    own, other = version(7, HERE.destination), version(7, "/other/mine")
    assert published.find([other, own], 7, HERE) is own
    assert published.find([other], 7, HERE) is other
    elsewhere = Places("/out", "/a/third", "cifar-resnet")
    with pytest.raises(HistoryError, match="/other/mine/7, /out/serving/cifar/7"):
        published.find([other, own], 7, elsewhere)
    with pytest.raises(HistoryError, match="output_root=/out; known: 7, 7$"):
        published.find([other, own], 8, HERE)
    with pytest.raises(HistoryError, match="output_root=/out; nothing was$"):
        published.find([], 8, HERE)


def test_in_service_is_said_of_the_own_folder():
    known = {"network": "resnet8", "rollback_of": 5, "by": "rollback"}
    own = version(8, HERE.destination, **known)
    gone = version(9, HERE.destination, in_service=False)
    assert published.in_service([version(7, "/other/mine"), gone, own], HERE) == {
        "version": 8,
        "path": "/out/serving/cifar/8",
        "pushed": "2026-11-29T10:37",
        **known,
    }
    assert published.in_service([version(7, "/other/mine"), gone], HERE) is None


@pytest.mark.parametrize(
    ("number", "rollback_of", "says"),
    [
        (8, None, "version 8 is in service already$"),
        (5, None, "version 5 is in service already, as version 8$"),
        (6, 5, "version 6 is in service already, as version 8$"),  # the same model
        (7, None, None),
    ],
)
def test_a_model_in_service_is_refused_under_all_its_numbers(number, rollback_of, says):
    serving = version(8, HERE.destination, rollback_of=5)
    other = version(number, "/other/mine", rollback_of=rollback_of)
    published.refuse_in_service([serving], other)
    chosen = version(
        number, HERE.destination, rollback_of=rollback_of, in_service=False
    )
    if says is None:
        published.refuse_in_service([serving, chosen], chosen)
    else:
        with pytest.raises(HistoryError, match=says):
            published.refuse_in_service([serving, chosen], chosen)


def test_a_run_on_vertex_ai_needs_nothing_of_local_ones():
    """Its report reads the ledger; pipeline.local and pipeline.vertex stay apart."""
    code = (
        "import sys, pipeline.history.ledger\n"
        "print([n for n in sys.modules if n.startswith('pipeline.local')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout == "[]\n"

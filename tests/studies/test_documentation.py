"""The pages of the documentation are those of the tables and of what was kept."""

import shutil

from studies import documentation
from studies.tables import STUDIES
from tests.studies.found import result, study

ONE = [0.30, 0.31, 0.32, 0.30, 0.31]
TWO = [0.80, 0.81, 0.82, 0.83, 0.80]


def test_pages_are_current():
    assert documentation.main(["--check"]) == 0


def test_a_page_tells_claims_rows_and_that_nothing_was_run():
    text = documentation.page(STUDIES["shortcuts"], {})
    assert text.count("\n- ") >= len(STUDIES["shortcuts"].claims)
    assert (
        "| shortcut-only gating, bias -6 (`shortcutgate6`) | "
        "`resnet110:shortcut=shortcut_only_gating:gate_bias=-6` | 6.91 |" in text
    )
    assert text.count("Not run yet.") == 2


def test_what_is_kept_is_shown_and_has_no_curves(tmp_path):
    found = result({"one": ONE, "two": TWO})
    (tmp_path / "study.json").write_text(found.to_json())
    documentation.keep(tmp_path / "study.json", tmp_path)
    tiny = study()
    kept = documentation.kept(tiny, tmp_path)
    assert set(kept) == {("small", "cifar10")}
    (read,) = kept.values()
    assert read.rows[0].trained[0].history == ()
    assert read.claims == found.claims
    text = documentation.page(
        study(scales={"small": tiny.scales["small"], "paper": tiny.scales["small"]}),
        kept,
    )
    assert "| the one | 6.61 | 31.00 | 30.80 ± 0.84 | reference |" in text
    assert text.count("Not run yet.") == 1  # the other scale
    assert "Small scale" in text


def test_a_page_that_is_not_current_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "studies"
    shutil.copytree(documentation.FOLDER, folder)
    monkeypatch.setattr(documentation, "FOLDER", folder)
    (folder / "plain.md").write_text("other")
    assert documentation.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("plain.md: not current")
    assert documentation.main([]) == 0
    assert documentation.main(["--check"]) == 0

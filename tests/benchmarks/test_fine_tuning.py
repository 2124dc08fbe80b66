"""The benchmark of fine-tuning: how it deals images, and its interval."""

import pytest
from scipy import stats

from benchmarks import fine_tuning


def test_each_image_is_in_one_fold_and_classes_are_spread_evenly(tmp_path):
    for split, count in (("train", 7), ("val", 4)):
        for name in ("ants", "bees"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.JPG").write_bytes(
                    f"{split}{name}{number}".encode()
                )
    folds = fine_tuning.deal(tmp_path, 5)

    files = [path for fold in folds for path, _ in fold]
    assert len(files) == len(set(files)) == 22
    assert all(path.parent.name == name for fold in folds for path, name in fold)
    for fold in folds:
        counts = [sum(name == each for _, name in fold) for each in ("ants", "bees")]
        assert max(counts) - min(counts) <= 1 and sum(counts) in (4, 6)


def test_the_interval_is_students():
    errors = [(5, 3), (9, 4), (7, 7), (6, 1), (8, 6)]
    found = [{"images": 36, "scratch": a, "fine_tuned": b} for a, b in errors]
    test = stats.ttest_1samp([(b - a) / 36 for a, b in errors], 0)

    result = fine_tuning.difference(found)
    assert result["ci95"] == pytest.approx(list(test.confidence_interval()))
    assert result["mean"] == pytest.approx(-14 / 180)

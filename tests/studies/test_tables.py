"""The studies against the papers' tables, typed a second time."""

import dataclasses

import pytest

from contract.config.run import RunConfig
from contract.fields import ConfigError, override
from pipeline.local import rules
from studies import plan
from studies.study import Claim, Row, Scale, Study
from studies.tables import STUDIES
from trainer.units import NetworkError

GATED = "resnet110:shortcut=exclusive_gating"
# 2016b, Tables 1 to 4; 2016a, Table 6.
PUBLISHED = {
    "shortcuts": {
        "resnet110": 6.61,
        "resnet110:shortcut=constant_scaling:shortcut_scale=0:residual_scale=1": "fail",
        "resnet110:shortcut=constant_scaling:residual_scale=1": "fail",
        "resnet110:shortcut=constant_scaling": 12.35,
        f"{GATED}:gate_bias=0": "fail",
        f"{GATED}:gate_bias=-5": "fail",
        GATED: 8.70,
        f"{GATED}:gate_bias=-7": 9.81,
        "resnet110:shortcut=shortcut_only_gating:gate_bias=0": 12.86,
        "resnet110:shortcut=shortcut_only_gating": 6.91,
        "resnet110:shortcut=convolution": 12.22,
        "resnet110:shortcut=dropout": "fail",
    },
    "arrangements": {
        "resnet110": 6.61, "bn_after_addition_resnet110": 8.17,
        "relu_before_addition_resnet110": 7.84,
        "relu_only_preactivation_resnet110": 6.71, "preact_resnet110": 6.37,
        "resnet164": 5.93, "bn_after_addition_resnet164": 6.50,
        "relu_before_addition_resnet164": 6.14,
        "relu_only_preactivation_resnet164": 5.91, "preact_resnet164": 5.46,
    },
    "depth": {
        "resnet110_1layer": 9.90, "preact_resnet110_1layer": 8.91,
        "resnet110": 6.61, "preact_resnet110": 6.37, "resnet164": 5.93,
        "preact_resnet164": 5.46, "resnet1001": 7.61, "preact_resnet1001": 4.92,
    },
    "batch": {"preact_resnet164": 5.46, "preact_resnet1001": 4.62},
    "plain": {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97},
}  # fmt: skip
CIFAR_100 = {
    "resnet164": 25.16, "preact_resnet164": 24.33,
    "resnet1001": 27.82, "preact_resnet1001": 22.71,
}  # fmt: skip


def published(study, data):
    """Network -> figure; of one that is there twice the last, which has its own batch."""
    return {
        row.spec.name: row.published[data]
        for row in study.rows
        if data in row.published
    }


@pytest.mark.parametrize("name", STUDIES)
def test_published_figures_are_the_papers(name):
    assert published(STUDIES[name], "cifar10") == PUBLISHED[name]


def test_figures_on_cifar_100_are_the_papers():
    assert published(STUDIES["depth"], "cifar100") == CIFAR_100


def test_a_claim_is_in_the_direction_of_the_published_figures():
    """What the table says, and only where it has both numbers."""
    judged = 0
    for study in STUDIES.values():
        for claim in study.claims:
            pair = [study.row(name) for name in (claim.row, claim.reference)]
            figures = [row.published.get("cifar10") for row in pair]
            if claim.metric != "test_error" or None in figures:
                continue
            row, reference = (99.0 if f == "fail" else float(f) for f in figures)
            assert (row > reference) == (claim.direction == "higher"), claim.text
            judged += 1
    assert judged == 24  # 10, 6, 6 and 2


def test_a_row_of_two_studies_has_one_name_so_that_it_is_trained_once():
    names: dict[tuple, str] = {}
    for study in STUDIES.values():
        for row in study.rows:
            trained = (row.spec.name, str(row.overrides), str(row.times))
            assert names.setdefault(trained, row.name) == row.name


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_scale_can_be_planned(name, scale):
    found = made(name, scale)
    study = STUDIES[name]
    assert found.seeds == (1, 2, 3, 4, 5)
    assert len(found.rows) == len(study.rows) - len(study.scales[scale].without)
    assert len(found.trainings) == 5 * len(found.rows)
    if scale == "paper":
        assert not study.scales[scale].without
        for each in found.trainings:
            images = each.train.steps * each.train.global_batch_size
            assert images == 64_000 * 128
            assert (each.train.schedule, each.train.nesterov) == ("paper", False)
    else:
        assert found.config.data.image_size == 16


def made(name, scale="small", **asked):
    usual = {"environment": {}, "directory": "/", "rules": rules}
    return plan.make(name, scale, **usual | asked)


def study(**fields):
    rows = (
        Row(name="one", title="one", network="resnet8"),
        Row(name="two", title="two", network="plain8"),
    )
    return Study(
        **{
            "name": "tiny", "title": "t", "source": "s", "question": "q?",
            "reference": "one", "rows": rows, "claims": (),
            "scales": {"small": Scale(assignments={"train.steps": 4}, seeds=2)},
        } | fields
    )  # fmt: skip


def test_one_more_row_is_one_more_training_per_seed_and_changes_no_other():
    before = made("tiny", studies={"tiny": study()})
    more = Row(
        name="gated", title="g",
        network="resnet8:shortcut=exclusive_gating:gate_bias=-8",
    )  # fmt: skip
    after = made("tiny", studies={"tiny": study(rows=(*study().rows, more))})
    assert len(after.trainings) == len(before.trainings) + 2
    kept = [each for each in after.trainings if each.row is not more]
    assert [(e.contender, e.train) for e in kept] == [
        (e.contender, e.train) for e in before.trainings
    ]


def test_rows_change_their_training_and_nothing_else():
    rows = (
        Row(name="one", title="1", network="resnet8"),
        Row(name="two", title="2", network="resnet8", overrides={"train.momentum": 0.5},
            times={"train.global_batch_size": 0.5, "train.steps": 2}),
    )  # fmt: skip
    found = made("tiny", studies={"tiny": study(rows=rows)}, seeds="3")
    one, two = (each.train for each in found.trainings[:2])
    assert one.seed == two.seed == 1
    assert (two.momentum, two.steps) == (0.5, 8)
    assert two.global_batch_size * 2 == one.global_batch_size
    assert dataclasses.replace(
        two, momentum=one.momentum, steps=4, global_batch_size=one.global_batch_size
    ) == one  # fmt: skip


def test_all_rows_have_the_first_seed_before_any_has_the_second():
    found = made("tiny", studies={"tiny": study()}, seeds="6-7")
    names = [each.contender.name for each in found.trainings]
    assert names == ["ones6", "twos6", "ones7", "twos7"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"seeds": "0"}, "--seeds=0: must be a number"),
        ({"seeds": "5-2"}, "the last is before the first"),
        ({"seeds": "1-99999999"}, "its report takes 100 at most"),
        ({"rows": "one,three"}, "three is no row of tiny; it has one, two"),
        ({"rows": "two"}, "must have one, to which the others are compared"),
        ({"assignments": ["candidate.network=resnet20"]}, "networks are its rows"),
        ({"assignments": ["train.seed=3"]}, "give --seeds"),
        ({"assignments": ["train.steps=0"]}, "train.steps=0: must be"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_a_sentence(asked, sentence):
    with pytest.raises(ConfigError, match=sentence):
        made("tiny", studies={"tiny": study()}, **asked)


def test_a_hundred_trainings_fit_into_the_report_and_one_more_does_not():
    assert len(made("tiny", studies={"tiny": study()}, seeds="50").trainings) == 100
    with pytest.raises(ConfigError, match="2 rows with 51 seeds are 102 trainings"):
        made("tiny", studies={"tiny": study()}, seeds="51")


def test_wrong_rows_and_claims_are_refused_when_they_are_written():
    one = study().rows[0]
    claim = Claim(text="t", row="one", reference="three", direction="lower")
    for build, error, sentence in [
        (lambda: Row(name="A", title="", network="resnet8"), ValueError, "lower-case"),
        (lambda: Row(name="a", title="", network="resnet9"), NetworkError, "depth=9"),
        (
            lambda: dataclasses.replace(one, overrides={"data.image_size": 8}),
            ValueError,
            "no field of the training that a row may change",
        ),
        (lambda: study(rows=(one, one)), ValueError, "row one is there twice"),
        (lambda: study(claims=(claim,)), ValueError, "three is no row"),
        (lambda: study(reference="three"), ValueError, "three is no row"),
    ]:
        with pytest.raises(error, match=sentence):
            build()


def test_scales_name_fields_that_there_are():
    for each in STUDIES.values():
        for scale in each.scales.values():
            override(RunConfig(), scale.assignments)

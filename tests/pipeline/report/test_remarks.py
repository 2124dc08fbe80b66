"""The sentence on short trainings says only what the numbers say."""

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from contract.model_run import ModelRun
from pipeline.local import verdict
from pipeline.presets import ANY, RECIPES
from pipeline.report import render
from pipeline.report.remarks import (
    PUBLISHED_STEPS,
    of_run,
    on_short_training,
    on_start,
)
from tests.pipeline.report.forms import comparison, report, served

NO_BREAK = "\u00a0"
DEEP, OTHER = "resnet164", "preact_resnet164"
CONSTANT = 0.9  # of 10 classes that are equally frequent; 80 % of it is 72 %


def run(network=DEEP, last=0.9, steps=102, batch=64) -> ModelRun:
    """A training that began with 90 % errors and ended with `last` on its own batches."""
    errors = [0.9] * 20 + [last] * 10
    return ModelRun(
        network=network,
        steps=steps,
        train={"global_batch_size": batch},
        history=tuple(
            {"step": step, "epoch": 1.0, "accuracy": 1 - error}
            for step, error in enumerate(errors)
        ),
    )


def said(baseline, candidate=(0.031, 0.02), **length) -> Any:
    """Of (eval error, error on the last train batches)."""
    return on_short_training(
        {"baseline": baseline[0], "candidate": candidate[0]},
        CONSTANT,
        {
            "baseline": run(DEEP, baseline[1], **length),
            "candidate": run(OTHER, candidate[1], **length),
        },
    )


def test_who_began_with_trained_weights_is_told():
    tuned = dataclasses.replace(
        run(), initial_weights="/models/7", train={"freeze": "stage1"}
    )
    assert on_start({"baseline": run(), "candidate": run()}) is None
    assert on_start({"baseline": run(), "candidate": tuned}) == (
        "Training began with trained weights for candidate (/models/7), with random ones "
        "for baseline; up to stage1 the trained ones stayed as they were"
    )


def test_who_has_hardly_begun_is_named_with_what_that_shows():
    assert said((0.826, 0.85)) == (
        "After 102 steps of 64 images resnet164 (82.6 % errors) has hardly begun to learn "
        "(always the same answer: 90.0 %), unlike preact_resnet164 (3.1 % errors): what is "
        "seen is how easily each is optimised at this learning rate, not the error that it "
        "would end with (the papers train 64,000 of 128)"
    )


@pytest.mark.parametrize(
    ("baseline", "candidate", "words"),
    [
        ((0.721, 0.9), (0.03, 0.03), "resnet164 (72.1 % errors) has hardly begun"),
        ((0.719, 0.9), (0.03, 0.03), "these errors show how easily"),
        # What a network does not generalise it has still learnt.
        ((0.8, 0.3), (0.03, 0.03), "these errors show how easily"),
        ((0.03, 0.03), (0.8, 0.9), "preact_resnet164 (80.0 % errors) has hardly begun"),
        ((0.8, 0.9), (0.85, 0.9), "have hardly begun"),
    ],
)
def test_the_rule(baseline, candidate, words):
    assert words in said(baseline, candidate)


def test_where_nobody_has_begun_nothing_is_claimed():
    told = said((0.8, 0.9), (0.85, 0.9))
    assert "nothing is seen yet" in told
    assert "optimised" not in told


def test_any_number_of_contenders():
    errors = {"baseline": 0.8, "candidate": 0.1, "wide": 0.85}
    runs = {"baseline": run(), "candidate": run(OTHER, 0.1), "wide": run()}
    told = on_short_training(errors, CONSTANT, runs) or ""
    assert (
        "resnet164 (baseline, 80.0 % errors) and resnet164 (wide, 85.0 % errors) have"
        in told
    )
    assert "unlike preact_resnet164 (10.0 % errors): " in told
    # One that could not be measured is not spoken of.
    del errors["wide"]
    told = on_short_training(errors, CONSTANT, runs) or ""
    assert "resnet164 (80.0 % errors) has hardly begun" in told


def test_a_long_training_needs_no_remark():
    # A tenth of 64,000 steps of 128 images.
    assert said((0.8, 0.9), steps=6_399, batch=128)
    assert said((0.8, 0.9), steps=6_400, batch=128) is None
    assert said((0.8, 0.9), steps=64_000, batch=128) is None


def test_what_was_not_told_is_not_said():
    assert said((0.8, 0.9), steps=None) is None
    assert said((0.8, 0.9), batch=None) is None
    assert on_short_training({"baseline": 0.8}, CONSTANT, {}) is None
    assert on_short_training({}, CONSTANT, {}) is None
    uneven = {"baseline": run(steps=102), "candidate": run(OTHER, steps=103)}
    assert on_short_training(dict.fromkeys(uneven, 0.8), CONSTANT, uneven) is None


def test_the_published_length_is_the_recipes():
    assert RECIPES["paper"][ANY]["train.steps"] == PUBLISHED_STEPS


def test_a_model_in_service_that_cannot_run_is_told():
    compared = served(comparison(0.1))
    assert of_run(compared, {}) == ()
    broken = dataclasses.replace(
        compared.models["in_service"], problem="it takes other images.", measured=None
    )
    models = {**compared.models, "in_service": broken}
    pairs = {k: v for k, v in compared.pairs.items() if "in_service" not in k}
    told = of_run(dataclasses.replace(compared, models=models, pairs=pairs), {})
    assert told == (
        "The model in service, old_net, could not be compared with these "
        "(it takes other images)",
    )


def test_page_and_terminal_say_it_where_there_is_something_to_say():
    words = said((0.826, 0.85))
    page = render.html(report(remarks=(words,)))
    assert f"<p>{words.replace(' %', NO_BREAK + '%')}.</p>" in page
    assert "optimised" not in render.html(report())

    def shown(made) -> str:
        screen = Console(file=io.StringIO(), width=80, highlight=False)
        verdict.show(screen, made | {"differences": {}}, "/x/report.html")
        return screen.file.getvalue()

    assert words in " ".join(shown(report(remarks=(words,))).split())
    assert "\nremark " in shown(report(remarks=(words,)))
    assert "remark" not in shown(report())

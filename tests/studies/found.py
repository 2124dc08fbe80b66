"""Made-up answers of a study's networks, for tests that train nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from contract.config.train import TrainConfig
from contract.fields import to_dict
from contract.model_run import ModelRun
from studies.report.measure import Answered, measure
from studies.report.result import StudyResult
from studies.study import Asked, Claim, Row, Scale, Study

IMAGES = 1000


def study(**fields: object) -> Study:
    """Three rows, of which two are claimed to be worse than the first."""
    given = {
        "name": "tiny",
        "title": "A study <of> tests",
        "source": "nobody 2016",
        "question": "Is it?",
        "reference": "one",
        "rows": (
            Row(name="one", title="the one", network="resnet8",
                published={"cifar10": 6.61}),
            Row(name="two", title="the other & more", network="preact_resnet8",
                published={"cifar10": "fail"}),
            Row(name="three", title="the third", network="plain8"),
        ),
        "claims": (
            Claim(text="two is worse", row="two", reference="one", direction="higher"),
            Claim(text="three is better", row="three", reference="one",
                  direction="lower"),
        ),
        "scales": {"small": Scale(assignments={})},
        "note": "nothing is as published",
    }  # fmt: skip
    return Study(**given | fields)


def answered(
    error: float | None,
    *,
    seed: int,
    network: str = "resnet8",
    train_error: float = 0.3,
    **train: object,
) -> Answered:
    """A network that is wrong on the first images; None: it diverged at step 7."""
    wrong = None
    if error is not None:
        wrong = np.arange(IMAGES) < round(error * IMAGES)
    points = [
        {"step": step, "epoch": step / 10, "loss": 1.0, "accuracy": 1 - value}
        for step, value in ((10, 0.9), (90, 0.5), (95, train_error), (100, train_error))
    ]
    run = ModelRun(
        network=network,
        parameters=1234,
        train=to_dict(TrainConfig(seed=seed, steps=100)) | train,
        train_examples=5000,
        image_shape=(16, 16, 3),
        steps=100 if error is not None else 7,
        seconds=60.0,
        commit="abc",
        versions={"python": "3.11"},
        history=(*points, {"step": 100, "epoch": 10.0, "eval_accuracy": 0.6}),
        problem=None if error is not None else "the loss is nan",
    )
    return Answered(
        run=run,
        wrong=wrong,
        eval_error=error,
        problem=None if error is not None else "there is no model: the loss is nan",
    )


def result(
    errors: Mapping[str, Sequence[float | None]],
    *,
    of: Study | None = None,
    scale: str = "small",
    given: Mapping[str, Answered] | None = None,
) -> StudyResult:
    """What a study found, of the test errors of its rows, a value per seed."""
    seeds = range(1, len(next(iter(errors.values()))) + 1)
    everyone = {
        f"{row}s{seed}": answered(error, seed=seed)
        for row, found in errors.items()
        for seed, error in zip(seeds, found, strict=True)
    }
    return measure(
        of or study(),
        Asked(
            study="tiny",
            scale=scale,
            data="cifar10",
            seeds=tuple(seeds),
            trainings={f"{row}s{seed}": row for row in errors for seed in seeds},
        ),
        everyone | dict(given or {}),
        chance_error=0.9,
        test_images=IMAGES,
    )

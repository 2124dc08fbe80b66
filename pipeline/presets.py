"""Presets: named rows of configuration, applied before a person's own overrides.

A row holds what differs from the defaults of `contract.config`; `ANY` is for every data
set, the other keys for one of them. A leaf: data and one function.
"""

from __future__ import annotations

from typing import Any

ANY = "any"
Row = dict[str, Any]

# 1,437 images before the eval split: more passes, a larger eval share, and no mirror images
# (a mirrored digit is another sign).
_DIGITS: Row = {
    "data.eval_fraction": 0.2,
    "train.epochs": 6.0,
    "train.global_batch_size": 64,
    "train.crop_padding": 2,
    "train.flip": False,
}

# Photographs of any number and kind: a length in steps, since nobody knows what a pass is.
_FOLDER: Row = {
    "data.image_size": 32,
    "train.crop_padding": 4,
    "train.global_batch_size": 64,
    "train.evaluation_steps": 50,
}

# The papers' point in minutes on two laptop cores: their networks at their full depth, in
# a hundred steps, on images that are a quarter of the published ones.
_QUICK: dict[str, Row] = {
    ANY: {
        "baseline.network": "resnet164",
        "candidate.network": "preact_resnet164",
        "data.image_size": 16,
        "train.epochs": 0.35,
        "train.crop_padding": 2,
    },
    "digits": _DIGITS,
    "folder": {**_FOLDER, "train.steps": 300},
}

# The whole flow in a minute or five: shallow networks, in which the units hardly differ.
_FAST: dict[str, Row] = {
    ANY: {
        "baseline.network": "resnet20",
        "candidate.network": "preact_resnet20",
        "train.epochs": 1.0,
    },
    "digits": _DIGITS,
    "folder": {**_FOLDER, "train.steps": 1000},
}

# Seconds, for tests: the whole flow, not a result.
_SMOKE: dict[str, Row] = {
    ANY: {
        "baseline.network": "resnet8",
        "candidate.network": "preact_resnet8",
        "train.epochs": 1.0,
    },
    "digits": {
        **_DIGITS,
        "train.epochs": 3.0,
        "train.learning_rate": 0.05,
    },
    "folder": {**_FOLDER, "train.steps": 20, "train.evaluation_steps": 10},
}

PRESETS: dict[str, dict[str, Row]] = {
    "quick": _QUICK,
    "fast": _FAST,
    "smoke": _SMOKE,
    # The papers' trainings. On a CPU, the whole recipe takes weeks.
    "resnet164": {
        ANY: {
            "train.recipe": "paper",
            "baseline.network": "resnet164",
            "candidate.network": "preact_resnet164",
        }
    },
    "resnet1001": {
        ANY: {
            "train.recipe": "released",
            "baseline.network": "resnet1001",
            "candidate.network": "preact_resnet1001",
            "train.rematerialise": True,
        }
    },
}

# Recipes: rows applied before a preset's. A number as key is for candidates of that depth.
RECIPES: dict[str, dict[str | int, Row]] = {
    "quick": {ANY: {}},
    # He et al. 2016b, appendix: batch 128, learning rate 0.01 for 400 steps, then 0.1,
    # x0.1 at 32,000 and 48,000 of 64,000 steps; the mean image is subtracted.
    "paper": {
        ANY: {
            "data.image_size": None,
            "train.crop_padding": 4,
            "preprocessing.statistics": "per_pixel",
            "preprocessing.divide_by_std": False,
            "train.steps": 64_000,
            "train.schedule": "paper",
            "train.nesterov": False,
        }
    },
    # KaimingHe/resnet-1k-layers on fb.resnet.torch: batch 64, Nesterov, 200 epochs.
    "released": {
        ANY: {
            "data.image_size": None,
            "train.crop_padding": 4,
            "train.global_batch_size": 64,
            "train.last_batch": "keep",
            "train.epochs": 200.0,
            "train.schedule": "released",
            "train.initialiser": "released",
        },
        164: {"train.epochs": 164.0},
    },
    # He et al. 2016a, section 3.4: batch 256, 0.1 divided by 10 where the error falls no more,
    # up to 600,000 steps, momentum 0.9, decay 1e-4. Evaluated after each pass.
    "imagenet": {
        ANY: {
            "data.image_size": 224,
            "train.global_batch_size": 256,
            "train.steps": 600_000,
            "train.evaluation_steps": None,
            "train.schedule": "plateau",
            "train.nesterov": False,
        }
    },
}


def layers(
    preset: str, recipe: str | None, dataset: str, depth: int
) -> list[tuple[str, Row]]:
    """The rows to apply to the defaults, in order, each with what a person calls it.

    Args:
        preset: Key of `PRESETS`.
        recipe: Key of `RECIPES`; None: the preset's own choice.
        dataset: data.name, which is not "auto".
        depth: Of the candidate's network.
    """
    own = [
        (f"preset {preset}", PRESETS[preset][ANY]),
        (f"data set {dataset}", PRESETS[preset].get(dataset, {})),
    ]
    asked = {name: value for _, row in own for name, value in row.items()}
    # A recipe that a person asks for is meant whole; a preset may shorten its own.
    chosen = recipe or asked.get("train.recipe", "quick")
    rows = [
        (f"recipe {chosen}", RECIPES[chosen][ANY]),
        (f"recipe {chosen}", RECIPES[chosen].get(depth, {})),
    ]
    return [*own, *rows] if recipe else [*rows, *own]

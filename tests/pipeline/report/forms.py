"""Reports of every form, as plain numbers: who wins, what is in service, how many classes."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from contract.canary import CanaryResult
from contract.comparison import (
    Bin,
    ComparedModel,
    Comparison,
    Difference,
    ErrorRate,
    Measures,
    Slice,
    SliceDifference,
    pairs_of,
)
from contract.datasets import DATASETS, known
from pipeline.nodes import KINDS

CLASSES = ["cat", "dog <b>", "ship"]


def part(rate: float, examples: int = 10) -> ErrorRate:
    return ErrorRate(
        error=rate, ci95=(rate / 2, rate * 1.5), examples=examples, errors=1
    )


def evaluated(network: str, rate: float) -> ComparedModel:
    whole = part(rate)
    return ComparedModel(
        network=network,
        problem=None,
        latency_ms=1.5,
        images_per_second=1000.0,
        load_seconds=0.5,
        measured=Measures(
            error=whole.error,
            ci95=whole.ci95,
            examples=whole.examples,
            errors=whole.errors,
            top5=None,
            cross_entropy=0.5,
            cross_entropy_ci95=(0.4, 0.6),
            ece=0.05,
            ece_ci95=(0.02, 0.08),
            reliability=(
                Bin(low=0.4, high=0.5, examples=4, confidence=0.45, accuracy=0.5),
                Bin(low=0.9, high=1.0, examples=6, confidence=0.95, accuracy=0.9),
            ),
            confusion=((8, 1, 1), (0, 10, 0), (2, 3, 5)),
            slices={
                Slice("label", 0): whole,
                Slice("label", 1): part(0.9),
                Slice("brightness", "low"): whole,
            },
        ),
    )


def pair(difference: float, slices: Iterable[Slice]) -> Difference:
    found = SliceDifference(difference=-0.1, interval=(-0.3, 0.1), examples=10)
    return Difference(
        difference=difference,
        ci95=(difference - 0.06, difference + 0.06),
        bootstrap_ci95=(difference - 0.05, difference + 0.05),
        p_value=0.0001,
        only_first_wrong=3,
        only_second_wrong=13,
        both_wrong=1,
        examples=1234,
        method="by hand",
        slices=dict.fromkeys(slices, found),
    )


def comparison(error: float | None) -> Comparison:
    models = {
        "baseline": evaluated("resnet20", 0.2),
        "candidate": evaluated("preact_resnet20", 0.1),
    }
    if error is None:
        models["candidate"] = dataclasses.replace(
            models["candidate"], problem="it is broken", measured=None
        )
    slices = models["baseline"].measured.slices
    return Comparison(
        split="eval",
        examples=1234,
        class_names=tuple(CLASSES),
        constant_error=0.9,
        models=models,
        pairs={} if error is None else {("candidate", "baseline"): pair(-0.1, slices)},
    )


def served(compared: Comparison, difference: float = 0.05) -> Comparison:
    """The same with a model in service, from which both contenders differ alike."""
    slices = compared.models["baseline"].measured.slices
    return dataclasses.replace(
        compared,
        models={
            **compared.models,
            "in_service": dataclasses.replace(
                compared.models["baseline"], network="old_net"
            ),
        },
        pairs={
            **compared.pairs,
            **{
                (role, "in_service"): pair(difference, slices)
                for role in ("baseline", "candidate")
                if compared.models[role].measured
            },
        },
    )


def model(network: str, error: float | None, **changes) -> dict:
    measured = {
        "error": error,
        "ci95": None if error is None else [error / 2, error * 2],
    }
    known = error is not None
    return {
        "network": network,
        "parameters": 123_456,
        "eval": measured,
        "test": measured,
        "problem": None if known else "it is broken",
        "top5": None,
        "cross_entropy": 0.5 if known else None,
        "cross_entropy_ci95": [0.4, 0.6] if known else None,
        "ece": 0.05 if known else None,
        "ece_ci95": [0.02, 0.08] if known else None,
        "latency_ms": 1.5 if known else None,
        "train_seconds": 61.0,
        "images_per_second": 1000.0,
    } | changes


def differences(compared: Comparison) -> dict[str, dict[str, Any]]:
    """Of the contenders to the baseline, as report.json has them."""
    return {
        name: {
            "minus_baseline": found.difference,
            "ci95": found.ci95,
            "joint_ci95": found.joint_ci95 or found.ci95,
            "p_value": found.p_value,
            "holm_p_value": found.p_value
            if found.holm_p_value is None
            else found.holm_p_value,
        }
        for (name, other), found in compared.pairs.items()
        if other == "baseline"
    }


CANARY = CanaryResult(
    passed=True, reasons=(), server="embedded", load_seconds=0.4,
    p50_ms=1.2, p99_ms=3.4, requests=50, max_abs_difference=1e-7,
).plain()  # fmt: skip


def report(winner: str | None = "candidate", **changes) -> dict:
    history = [
        {"step": 1, "epoch": 0.5, "loss": 2.0, "accuracy": 0.1, "learning_rate": 0.1},
        {"step": 2, "epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.4},
    ]
    error = 0.1 if winner else None
    said = {"class": "cat", "probability": 0.9}
    return {
        "schema": 1,
        "run": {
            "id": "r1",
            "preset": "quick",
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 75.0,
            "commit": "abc",
            "versions": {"python": "3.11"},
        },
        "data": {
            "name": "digits",
            "source": "made <script>alert(1)</script>",
            "verified": False,
            "verification": "nobody looked",
            "reason": "a test",
            "counts": {"train": 30, "eval": 10, "test": 10},
            "extra": None,
            "consistency": None,
            "warnings": [],
        },
        "models": {
            "baseline": model("resnet20", 0.2),
            "candidate": model("preact_resnet20", error),
            "in_service": None,
        },
        "difference": {
            "candidate_minus_baseline": -0.1,
            "ci95": [-0.2, 0.01],
            "bootstrap_ci95": [-0.19, 0.0],
            "only_candidate_wrong": 3,
            "only_baseline_wrong": 13,
            "p_value": float("nan"),
            "method": "by hand",
        },
        "differences": differences(comparison(error)),
        "decision": {
            "policy": "best",
            "winner": winner,
            "reason": "because",
            "blocked_by": [] if winner else ["candidate: it is <i>broken</i>"],
        },
        "remarks": [],
        "canary": CANARY,
        "pushed": {"version": 7, "path": "/x/7"} if winner else None,
        "in_service": None,
        "published": {"baseline": None, "candidate": {"error": 0.0546, "source": "He"}},
        "comparison": {"eval": comparison(error), "test": comparison(error)},
        "components": [
            {"id": "A", "state": "complete", "seconds": 1.5, "cached": False}
        ],
        "page": {
            "config": {
                "preset": "quick",
                "train": {"label_smoothing": 0.0, "ema": 0.0},
            },
            "platform": "Linux",
            "dataset_title": "Digits",
            "classes": CLASSES,
            "histories": {"baseline": history, "candidate": history},
            "class_counts": {
                "train": [10, 10, 10],
                "eval": [3, 3, 4],
                "test": [3, 3, 4],
            },
            "samples": [["data:image/png;base64,AAAA"]] * 3,
            "pictures": {"cat": "data:image/png;base64,AAAA"},
            "disagreements": {
                "between": ("baseline", "candidate"),
                "images": [
                    {
                        "picture": "data:image/png;base64,AAAA",
                        "label": "dog <b>",
                        "right": "candidate",
                        "says": {
                            "baseline": said,
                            "candidate": said | {"class": "dog <b>"},
                        },
                    }
                ],
            },
            "artifacts": [
                {"id": 1, "node": "A", "key": "k", "type": "T", "uri": "/tmp/a"}
            ],
        },
    } | changes


def in_service(report: dict) -> dict:
    """The same with a model in service that stays."""
    report["models"]["in_service"] = model(
        "old_net", 0.05, parameters=None, train_seconds=None, images_per_second=None
    )
    report["comparison"]["eval"] = served(report["comparison"]["eval"])
    report["decision"] |= {"winner": "in_service"}
    return report | {
        "pushed": None,
        "canary": CANARY
        | {"passed": False, "reasons": ["nothing to check"], "load_seconds": None},
    }


def all_forms() -> dict[str, dict[str, Any]]:
    """Name -> report; together they show whatever the page can show."""
    refused = "serving_default answers 0.9 for class cat where training answered 0.1"
    long = "/home/somebody/" + "a_folder_with_a_rather_long_name/" * 6
    blocked = report(None)
    blocked["decision"]["blocked_by"] = [f"candidate: {refused}", long]
    stays = in_service(realistic("digits"))
    cloud = realistic("cifar10")
    cloud["pushed"] |= {
        "path": f"gs://{long[1:]}serving/cifar/1795285205",
        "registered_model": f"projects/p{long}models/5@2",
        "registered_alias": "best",
        "endpoint": "projects/some-project/locations/europe-west4/endpoints/6",
        "traffic_percent": 10,
    }
    cloud["page"]["artifacts"] *= 3
    for artifact in cloud["page"]["artifacts"]:
        artifact["uri"] = long + "artifacts/BaselineTrainer/model_run/12"
    for row in cloud["components"]:
        row["seconds"] = None
    cloud["data"]["source"] = f"archive {long}cifar-10-binary.tar.gz (binary form)"
    return {
        "plain numbers": report(),
        "nothing pushed": blocked,
        "baseline wins": realistic("digits", winner="baseline"),
        "in service stays": stays,
        "refused by the server": realistic("digits") | {
            "pushed": None, "canary": CANARY | {"passed": False, "reasons": [refused]},
        },
        "cloud and long paths": cloud,
        "hundred classes": realistic("cifar100"),
        "twenty long classes": realistic("cifar100", label="coarse"),
        "three contenders": with_more(realistic("digits"), {"wide": "preact_resnet110"}),
        "two and in service, three": with_more(
            in_service(realistic("cifar10")), {"a": "relu_before_addition_resnet164"}
        ),
        "seven contenders": with_more(realistic("cifar10"), SEVEN, winner="gated"),
        "more than can be told apart": with_more(
            stays, {f"n{number}": f"resnet{6 * number + 2}" for number in range(1, 12)}
        ),
    }  # fmt: skip


SEVEN = {
    "after": "bn_after_addition_resnet110",
    "before": "relu_before_addition_resnet110",
    "gated": "resnet110:shortcut=exclusive_gating:gate_bias=-7",
    "onlyreluhasalongnameofitsownxx": "relu_only_preactivation_resnet110",
    "wide": "preact_resnet164",
}


def with_more(
    report: dict[str, Any], further: Mapping[str, str], winner: str | None = None
) -> dict[str, Any]:
    """The same with further contenders, name -> network; the last one was not measured."""
    made = copy.deepcopy(report)
    winner = winner or made["decision"]["winner"]
    dice = np.random.default_rng(11)
    compared = made["comparison"]["eval"]
    models, slices = dict(compared.models), compared.models["baseline"].measured.slices
    history = made["page"]["histories"]["baseline"]
    for name, network in further.items():
        error = 0.04 if name == winner else float(dice.uniform(0.05, 0.3))
        broken = len(further) > 1 and name == [*further][-1]
        made["models"][name] = made["models"]["baseline"] | {
            "network": network, "parameters": 1_730_714,
            "eval": {"error": error, "ci95": [error * 0.8, error * 1.2]},
            "test": {"error": error * 1.1, "ci95": [error, error * 1.3]},
        }  # fmt: skip
        models[name] = dataclasses.replace(
            compared.models["baseline"],
            network=network,
            measured=dataclasses.replace(
                compared.models["baseline"].measured,
                error=error,
                reliability=tuple(
                    Bin(low=n / 8, high=(n + 1) / 8, examples=20, confidence=(n + 0.5) / 8,
                        accuracy=float(np.clip((n + dice.uniform(-1, 2)) / 8, 0, 1)))
                    for n in range(8)
                ),
            ),
        )  # fmt: skip
        if broken:
            unmeasured = {"error": None, "ci95": None}
            made["models"][name] |= model(
                network, None, eval=unmeasured, test=unmeasured
            )
            models[name] = dataclasses.replace(
                models[name], measured=None, problem="it is broken"
            )
        factor = float(dice.uniform(0.6, 1.4))
        made["page"]["histories"][name] = [
            {
                key: value * (factor if "loss" in key else 1)
                for key, value in point.items()
            }
            for point in history
        ]
        made["published"][name] = None
    measured = [name for name, found in models.items() if found.measured]
    pairs = {}
    for first, second in pairs_of(measured):
        rates = [models[name].measured.error for name in (first, second)]
        pairs[first, second] = dataclasses.replace(
            pair(rates[0] - rates[1], slices),
            joint_ci95=(rates[0] - rates[1] - 0.09, rates[0] - rates[1] + 0.09),
            holm_p_value=0.042 if second == "baseline" else None,
            p_value=0.0083,
        )
    made["comparison"]["eval"] = dataclasses.replace(
        compared, models=models, pairs=pairs
    )
    made["differences"] = differences(made["comparison"]["eval"])
    made["decision"]["winner"] = winner
    if winner not in ("in_service", None):
        said = made["page"]["disagreements"]
        said["between"] = ("baseline", winner)
        for image in said["images"]:
            image["right"] = said["between"][image["right"] != "baseline"]
            image["says"] = dict(
                zip(said["between"], image["says"].values(), strict=True)
            )
    return made


def realistic(
    data: str, *, label: str = "fine", winner: str = "candidate"
) -> dict[str, Any]:
    """A report with the sizes of a real one: names, histories, classes, pictures."""
    dice = np.random.default_rng(7)
    made = report(winner)
    classes = list(known(data, label).class_names)
    networks = {"baseline": "resnet1001", "candidate": "preact_resnet1001"}
    history = [
        {"step": step, "epoch": step / 10, "loss": 2 / (1 + step), "accuracy": 1 - 0.9 / step}
        for step in range(1, 31)
    ] + [
        {"step": 10 * n, "epoch": n, "eval_loss": 1.5 / n, "eval_accuracy": 1 - 0.8 / n}
        for n in range(1, 4)
    ]  # fmt: skip
    slices = [Slice("label", n) for n in range(len(classes))]
    slices += [Slice("brightness", "low"), Slice("contrast", "highest")]
    models = {}
    for role, network in networks.items():
        made["models"][role] |= {
            "network": network, "parameters": 10_327_194, "train_seconds": 36_061.0,
            "top5": {"error": 0.0123, "ci95": [0.0101, 0.0149]} if len(classes) > 10 else None,
        }  # fmt: skip
        counts = 50 * np.eye(len(classes), dtype=int)
        counts += dice.poisson(4 / len(classes), counts.shape)
        found = evaluated(network, 0.1)
        models[role] = dataclasses.replace(
            found,
            measured=dataclasses.replace(
                found.measured,
                confusion=tuple(map(tuple, counts.tolist())),
                slices=dict.fromkeys(slices, part(0.1)),
            ),
        )
    made["comparison"]["eval"] = dataclasses.replace(
        made["comparison"]["eval"],
        class_names=tuple(classes),
        models=models,
        pairs={("candidate", "baseline"): pair(-0.1, slices)},
    )
    made["models"]["baseline"]["eval"] = {"error": 0.0139, "ci95": [0.005, 0.035]}
    said = {"class": classes[0], "probability": 0.97}
    made["page"] |= {
        "dataset_title": DATASETS[data].title,
        "classes": classes,
        "histories": dict.fromkeys(networks, history),
        "class_counts": {
            split: dice.poisson(mean, len(classes)).tolist()
            for split, mean in (("train", 4500), ("eval", 500), ("test", 1000))
        },
        "samples": [[picture(dice) for _ in range(8)] for _ in classes[:20]],
        "disagreements": {
            "between": ("baseline", "candidate"),
            "images": [
                {
                    "picture": picture(dice), "label": max(classes, key=len),
                    "right": ("baseline", "candidate")[n % 2],
                    "says": {
                        "baseline": said,
                        "candidate": said | {"class": max(classes, key=len)},
                    },
                }
                for n in range(6)
            ],
        },
    }  # fmt: skip
    made["difference"]["p_value"] = 0.125
    made["components"] = [
        {"id": node, "state": "complete", "seconds": 36_062.0, "cached": False}
        for kind in KINDS.values()
        for node in kind.ids(("baseline", "candidate"))
    ]
    made["data"]["warnings"] = [
        "10,000 of 10,000 test images stand in the training data as well (8,993 in train, "
        "1,007 in eval): the test error does not tell how well new images are classified"
    ]
    return made


def picture(dice: np.random.Generator) -> str:
    """A data URI of coarse noise."""
    pixels = dice.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

"""TFMA over precomputed predictions, a block of examples at a time.

In: the predictions of all contenders on the same images. Out: TFMA's own result (metrics
of every model, overall and per slice, and the differences to the baseline), which
`tfma.load_eval_result(path, model_name=...)` opens in a notebook.

TFMA hands examples to its stock metrics one by one: 10 s for two models and 10,000
images, as long as a small network's own forward passes. Here an "example" is a block:
all images with the same class and bands, and so in the same slices. Slicing, models,
differences and files stay TFMA's; the metrics below add up whole blocks with NumPy.
Source: tensorflow_model_analysis 0.52, api/model_eval_lib.py, metrics/metric_types.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from components.evaluator.measures import (
    TOP,
    TOP_CLASSES,
    Images,
    cross_entropies,
    ranks,
)
from contract.comparison import BASELINE

EXAMPLES, ERRORS, TOP_ERRORS, ENTROPY = range(4)
EXAMPLE_COUNT, ERROR, TOP5_ERROR, CROSS_ENTROPY = (
    "example_count", "error", f"top{TOP}_error", "cross_entropy",
)  # fmt: skip


def eval_config(
    roles: Sequence[str], label_key: str, bands: Iterable[str], classes: int
) -> config_pb2.EvalConfig:
    """What TFMA measures: overall, per class and per band; no thresholds, no blessing.

    Choosing, and blessing what was chosen, is the ModelChooser's work.

    Args:
        roles: Of the contenders; the baseline, if it is there, is TFMA's.
        label_key: Feature with the true class.
        bands: Names of the band features.
        classes: Number of classes.
    """
    names = model_names(roles)
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                is_baseline=name == BASELINE,
                label_key=label_key,
            )
            for name in names
        ],
        metrics_specs=[
            config_pb2.MetricsSpec(
                model_names=names,
                metrics=[
                    config_pb2.MetricConfig(
                        class_name=BlockMetrics.__name__,
                        module=BlockMetrics.__module__,
                        config=f'{{"classes": {classes}}}',
                    )
                ],
            )
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[k]) for k in (label_key, *bands)),
        ],
    )


def model_names(roles: Sequence[str]) -> list[str]:
    """What TFMA calls the models; a single one has no name there, whatever it is given."""
    return list(roles) if len(roles) > 1 else [""]


def evaluate(
    images: Images,
    probabilities: Mapping[str, np.ndarray],
    label_key: str,
    output_path: str,
    make_pipeline: Callable[[], Any],
) -> None:
    """Runs TFMA and writes its result.

    Args:
        images: Labels and bands, [n].
        probabilities: By role, float32 [n, classes]; at least one role.
        label_key: Feature with the true class.
        output_path: Folder.
        make_pipeline: Gives a new Beam pipeline.
    """
    roles = list(probabilities)
    classes = next(iter(probabilities.values())).shape[1]
    config = eval_config(roles, label_key, images.bands, classes)
    extractors = [
        tfma.extractors.SliceKeyExtractor(
            [tfma.slicer.SingleSliceSpec(spec=spec) for spec in config.slicing_specs]
        )
    ]
    evaluators = tfma.default_evaluators(eval_config=config)
    # tfma.default_writers without the plots, attributions and validations that nobody made:
    # three empty files, and a fifth of the time.
    writers = [
        tfma.writers.EvalConfigWriter(output_path, config),
        tfma.writers.MetricsPlotsAndValidationsWriter(
            {tfma.METRICS_KEY: os.path.join(output_path, tfma.METRICS_KEY)}, config
        ),
    ]
    with make_pipeline() as pipeline:
        _ = (
            pipeline
            | "Blocks" >> beam.Create(blocks(images, probabilities, label_key))
            | tfma.ExtractAndEvaluate(extractors=extractors, evaluators=evaluators)
            | tfma.WriteResults(writers=writers)
        )


def blocks(
    images: Images, probabilities: Mapping[str, np.ndarray], label_key: str
) -> list[dict[str, Any]]:
    """TFMA extracts, one for each class and combination of bands that occurs."""
    called = dict(zip(model_names(list(probabilities)), probabilities, strict=True))
    keys = np.stack([images.labels, *images.bands.values()], axis=1)
    distinct, member = np.unique(keys, axis=0, return_inverse=True)
    member = member.reshape(-1)
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(len(distinct) + 1))
    names = (label_key, *images.bands)
    found = []
    for number, values in enumerate(distinct):
        inside = order[starts[number] : starts[number + 1]]
        found.append(
            {
                tfma.FEATURES_KEY: {
                    name: np.array([value])
                    for name, value in zip(names, values, strict=True)
                },
                tfma.LABELS_KEY: {name: images.labels[inside] for name in called},
                tfma.PREDICTIONS_KEY: {
                    name: probabilities[role][inside] for name, role in called.items()
                },
                tfma.EXAMPLE_WEIGHTS_KEY: {name: np.array([1.0]) for name in called},
            }
        )
    return found


class _SumBlocks(beam.CombineFn):
    """Sums of one model over blocks: images, errors, top-5 errors, cross-entropy."""

    def __init__(self, keys: Mapping[str, Any], model_name: str) -> None:
        self._keys = keys
        self._model_name = model_name

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(4)

    def add_input(self, mutable_accumulator: np.ndarray, element: Any) -> np.ndarray:
        labels = element[tfma.LABELS_KEY][self._model_name]
        values = element[tfma.PREDICTIONS_KEY][self._model_name]
        # Not by argmax, as `measures` counts errors: the two are held together.
        rank = ranks(values, labels)
        entropy = cross_entropies(values, labels)
        return mutable_accumulator + [
            len(labels), (rank > 0).sum(), (rank >= TOP).sum(), entropy.sum(),
        ]  # fmt: skip

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(accumulators), axis=0)

    def extract_output(self, accumulator: np.ndarray) -> dict[Any, float]:
        examples = accumulator[EXAMPLES]
        values = {
            EXAMPLE_COUNT: examples,
            ERROR: accumulator[ERRORS] / examples,
            TOP5_ERROR: accumulator[TOP_ERRORS] / examples,
            CROSS_ENTROPY: accumulator[ENTROPY] / examples,
        }
        return {key: float(values[name]) for name, key in self._keys.items()}


def _create_computations(
    classes: int, model_names: Sequence[str] = ("",), **_: Any
) -> metric_types.MetricComputations:
    names = [EXAMPLE_COUNT, ERROR, CROSS_ENTROPY]
    if classes >= TOP_CLASSES:
        names.append(TOP5_ERROR)
    computations = []
    for model in model_names:
        keys = {name: metric_types.MetricKey(name, model_name=model) for name in names}
        computations.append(
            metric_types.MetricComputation(
                keys=list(keys.values()),
                preprocessors=None,
                combiner=_SumBlocks(keys, model),
            )
        )
    return computations


class BlockMetrics(metric_types.Metric):
    """example_count, error, cross_entropy and, of 20 classes or more, top5_error."""

    def __init__(self, classes: int, name: str = "block_metrics") -> None:
        super().__init__(_create_computations, classes=classes, name=name)


metric_types.register_metric(BlockMetrics)

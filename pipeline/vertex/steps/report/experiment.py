"""A run in Vertex AI Experiments: parameters, metrics, and curves in managed TensorBoard.

In: the report's dictionary. Out: one run of the experiment per contender. What Experiments
keeps where is the SDK's business: its public classes are used, which work over TLS alone.
"""

from __future__ import annotations

import collections
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from contract.config.run import RunConfig
from contract.config.vertex import VertexConfig
from contract.fields import to_json
from pipeline.vertex.names import label
from pipeline.vertex.place import VertexError, find

# A recording that fails for a moment is begun again, for so long.
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the step is told."""

    project: str
    region: str
    experiment: str
    tensorboard: str | None  # resource name; None: no curves
    kms_key: str | None


def encode(config: RunConfig) -> str | None:
    """Canonical JSON of what `decode` reads; None if no experiment is asked for."""
    vertex = config.vertex
    if vertex.experiment is None or vertex.project is None:
        return None
    settings = Settings(
        project=vertex.project,
        region=vertex.region,
        experiment=vertex.experiment,
        tensorboard=vertex.tensorboard,
        kms_key=vertex.kms_key,
    )
    return to_json(settings)


def decode(text: str) -> Settings:
    """Reads what `encode` wrote."""
    return Settings(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is kept of one contender."""

    name: str  # of the experiment's run
    params: Mapping[str, float | int | str]
    metrics: Mapping[str, float | int | str]
    curves: Mapping[int, Mapping[str, float]]  # by step
    failed: bool  # the training diverged


def recordings(report: Mapping[str, Any]) -> list[Recording]:
    """What is kept of each contender of a run.

    Args:
        report: As `pipeline.report.build.build` makes it.
    """
    page = report["page"]
    return [
        Recording(
            name=label(f"{report['run']['id']}-{name}").replace("_", "-"),
            params=_params(report, name),
            metrics=_metrics(report, name),
            curves=_curves(history),
            failed=bool((report["models"][name] or {}).get("problem")),
        )
        for name, history in page["histories"].items()
    ]


def _params(report: Mapping[str, Any], name: str) -> dict[str, float | int | str]:
    model = report["models"][name] or {}
    found = {
        "contender": name,
        "network": model.get("network"),
        "parameters": model.get("parameters"),
        "preset": report["run"]["preset"],
        "data": report["data"]["name"],
        "commit": report["run"]["commit"],
        **{
            f"train.{key}": value
            for key, value in report["page"]["config"]["train"].items()
        },
    }
    return {
        key: value if isinstance(value, int | float) else str(value)
        for key, value in found.items()
        if value is not None
    }


def _metrics(report: Mapping[str, Any], name: str) -> dict[str, float | int | str]:
    model = report["models"][name] or {}
    found = {
        f"{split}_error": (model.get(split) or {}).get("error")
        for split in ("eval", "test")
    } | {
        key: model.get(key)
        for key in (
            *("cross_entropy", "ece", "latency_ms"),
            *("train_seconds", "images_per_second"),
        )
    }
    return {
        **{key: value for key, value in found.items() if _is_number(value)},
        "won": int(report["decision"]["winner"] == name),
    }


def _curves(history: Any) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = collections.defaultdict(dict)
    for point in history:
        found[int(point["step"])] |= {
            key: float(value)
            for key, value in point.items()
            if key not in ("step", "epoch") and _is_number(value)
        }
    return dict(sorted(found.items()))


def _is_number(value: Any) -> TypeGuard[float]:
    """TensorBoard and the store of metadata draw no infinity."""
    return isinstance(value, int | float) and math.isfinite(value)


def record(
    settings: Settings, report: Mapping[str, Any], credentials: Any = None
) -> list[str]:
    """Records a run; what an earlier try has recorded is left as it is.

    Args:
        settings: Which experiment.
        report: As of `recordings`.
        credentials: google.auth's; None: the environment's.

    Returns:
        Names of the experiment's runs.

    Raises:
        VertexError: The service is at an address without TLS.
        google.api_core.exceptions.GoogleAPICallError: Vertex AI refuses.
    """
    vertex = VertexConfig(project=settings.project, region=settings.region)
    place = find(vertex, os.environ)
    if not place.secure:
        raise VertexError(
            f"{place.target}: Google's SDK records experiments over TLS alone; give an "
            "https:// address"
        )
    from google.api_core import exceptions, retry
    from google.cloud import aiplatform

    aiplatform.init(
        project=settings.project,
        location=settings.region,
        api_endpoint=place.target,
        credentials=credentials,
        encryption_spec_key_name=settings.kms_key,
    )
    again = retry.Retry(
        predicate=retry.if_exception_type(
            exceptions.ServiceUnavailable,
            exceptions.DeadlineExceeded,
            exceptions.Aborted,
            exceptions.AlreadyExists,  # somebody makes the experiment just now
        ),
        initial=2.0,
        timeout=_PATIENCE_SECONDS,
    )
    experiment = again(aiplatform.Experiment.get_or_create)(settings.experiment)
    found = recordings(report)
    for each in found:
        again(_record)(experiment, each, settings.tensorboard)
    return [each.name for each in found]


def _record(experiment: Any, recording: Recording, tensorboard: str | None) -> None:
    """One run of the experiment: whole, or begun anew."""
    from google.cloud import aiplatform

    states = aiplatform.gapic.Execution.State
    run = aiplatform.ExperimentRun.get(recording.name, experiment=experiment)
    if run is not None:
        if run.state in (states.COMPLETE, states.FAILED):
            return
        # What a killed try has left: points of a curve are not written twice.
        run.delete(delete_backing_tensorboard_run=True)
    run = aiplatform.ExperimentRun.create(
        recording.name, experiment=experiment, tensorboard=tensorboard
    )
    run.log_params(dict(recording.params))
    run.log_metrics(dict(recording.metrics))
    if tensorboard is not None:
        for step, values in recording.curves.items():
            run.log_time_series_metrics(dict(values), step=step)
    run.update_state(states.FAILED if recording.failed else states.COMPLETE)

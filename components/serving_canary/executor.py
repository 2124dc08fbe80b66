"""Work of the ServingCanary: a model in, a verdict about serving it out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from absl import logging
from tfx.components.util import model_utils
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    PushedModel,
)
from tfx.utils import io_utils, path_utils

from components import own_record
from components.declaration import Output, executor_of
from components.serving_canary import canary
from components.serving_canary.canary import Named
from contract import pushed_model
from contract.canary import CanaryResult
from contract.config.canary import CanaryConfig
from contract.contenders import BASELINE, IN_SERVICE
from contract.datasets import Dataset
from contract.records import CANARY_FILE
from trainer.examples import dataset_in

# As TFX's InfraValidator writes them, for whom a Pusher cannot tell the two apart. (Not
# imported from it: that loads the clients of Docker and Kubernetes.)
_BLESSED_PROPERTY = "blessed"
_MARKS = {True: "INFRA_BLESSED", False: "INFRA_NOT_BLESSED"}


def try_model(
    *,
    model: Model,
    model_blessing: ModelBlessing,
    baseline: Model | None,
    in_service: PushedModel | None,
    examples: Examples,
    config: CanaryConfig,
    blessing: Output[InfraBlessing],
) -> None:
    """Serves the blessed model in a process of its own and holds it against training.

    TFX's InfraValidator needs Docker or Kubernetes and asks only whether the server
    answers; this one needs neither and also asks what it answers, and how fast. A model
    that does not pass is not blessed; the component succeeds, and nothing is pushed.

    Args:
        model: With a SavedModel in Format-Serving/; empty if nobody won.
        model_blessing: Without a blessing nothing is checked.
        baseline: Whose latency the winner's is held against where no model is in service.
        in_service: Whose latency it is held against where one is.
        examples: Of the data set whose images and classes the model must have.
        config: What is asked of the model.
        blessing: As TFX's InfraValidator writes it (INFRA_BLESSED or INFRA_NOT_BLESSED,
            custom property `blessed`), with canary.json beside it, server.log if the
            model did not pass, and the custom property `reasons`.

    Raises:
        components.serving_canary.server.ServerMissing: The configured server cannot be
            started on this machine, whatever the model.
    """
    if model_utils.is_model_blessed(model_blessing):
        winner = Named(
            name=model.get_string_custom_property(pushed_model.ROLE) or "winner",
            model=_saved_model(model),
        )
        other = None
        if in_service is not None and own_record.is_in_service(in_service):
            other = Named(name=IN_SERVICE, model=in_service.uri)
        elif baseline is not None and winner.name != BASELINE:
            other = Named(name=BASELINE, model=_saved_model(baseline))
        dataset = dataset_in(examples)
        found = _check(winner, other, dataset, config, blessing.uri)
    else:
        found = canary.nothing_to_check(config)
    for reason in found.reasons:
        logging.warning("The canary did not pass: %s", reason)
    io_utils.write_string_file(
        os.path.join(blessing.uri, CANARY_FILE),
        found.to_json(indent=2, allow_nan=False) + "\n",
    )
    blessing.set_string_custom_property("reasons", "; ".join(found.reasons))
    io_utils.write_string_file(os.path.join(blessing.uri, _MARKS[found.passed]), "")
    blessing.set_int_custom_property(_BLESSED_PROPERTY, int(found.passed))


Executor = executor_of(try_model)


def _saved_model(model: Model) -> str:
    return path_utils.serving_model_path(
        model.uri, path_utils.is_old_model_artifact(model)
    )


def _check(
    winner: Named,
    other: Named | None,
    dataset: Dataset,
    config: CanaryConfig,
    output: str,
) -> CanaryResult:
    with tempfile.TemporaryDirectory(prefix="canary-files-") as folder:
        kept = Path(folder, "kept")
        kept.mkdir()
        here = [
            each
            and Named(name=each.name, model=_local(each.model, Path(folder, place)))
            for each, place in ((winner, "model"), (other, "other"))
        ]
        assert here[0] is not None
        found = canary.check(here[0], here[1], dataset, config, kept)
        for file in kept.iterdir():
            io_utils.copy_file(str(file), os.path.join(output, file.name))
    return found


def _local(source: str, copy: Path) -> str:
    """A server reads local files, as the folders of artifacts on a local run are."""
    if "://" not in source:
        return source
    io_utils.copy_dir(source, str(copy))
    return str(copy)

"""Contract of the ServingCanary: what it reads and what it hands on."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.serving_canary import executor


class ServingCanarySpec(types.ComponentSpec):
    """Inputs, output and parameters of the ServingCanary."""

    PARAMETERS = {
        executor.CONFIG: component_spec.ExecutionParameter(type=str),
        executor.CLASS_NAMES: component_spec.ExecutionParameter(type=str),
        executor.SOURCE: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.MODEL_BLESSING: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }
    OUTPUTS = {
        executor.BLESSING: component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing
        )
    }


class ServingCanary(base_component.BaseComponent):
    """Serves the blessed model in a process of its own and holds it against training.

    TFX's InfraValidator needs Docker or Kubernetes and asks only whether the server
    answers; this one needs neither and also asks what it answers, and how fast. A model
    that does not pass is not blessed; the component succeeds, and nothing is pushed.

    `outputs`:
      - `blessing`: as TFX's InfraValidator writes it (INFRA_BLESSED or
        INFRA_NOT_BLESSED, custom property `blessed`), with canary.json beside it,
        server.log if the model did not pass, and the custom property `reasons`.
    """

    SPEC_CLASS = ServingCanarySpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        config: str,
        class_names: Sequence[str],
        source: str = "",
    ):
        """Creates the node.

        Args:
            model: Model with a SavedModel in Format-Serving/; empty if nobody won.
            model_blessing: ModelBlessing; without a blessing nothing is checked.
            config: JSON of `contract.config.canary`.
            class_names: Of the data set, in label order.
            source: Digest of the server's code, so that a result of other code is not
                taken from the cache.
        """
        super().__init__(
            ServingCanarySpec(
                model=model,
                model_blessing=model_blessing,
                config=config,
                class_names=json.dumps(list(class_names)),
                source=source,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )

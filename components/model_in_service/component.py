"""Contract of ModelInService, where no ML Metadata can be asked (on Vertex AI)."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.model_in_service import executor


class ModelInServiceSpec(types.ComponentSpec):
    """Inputs, output and parameter of ModelInService."""

    PARAMETERS = {executor.DESTINATION: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.BASELINE: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
        executor.CANDIDATE: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
    }
    OUTPUTS = {
        executor.PUSHED: component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel
        )
    }


class ModelInService(base_component.BaseComponent):
    """Finds the model that a run's contenders have to beat, in the ledger of the pushes.

    The same as InServiceStrategy finds in ML Metadata. It reads what other runs wrote, so
    that it must never be taken from a cache.

    `outputs`:
      - `pushed`: the version in service, with the custom properties of
        contract/pushed_model.py; `pushed` is 0 when there is none.
    """

    SPEC_CLASS = ModelInServiceSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        destination: str,
        baseline: types.BaseChannel,
        candidate: types.BaseChannel,
    ):
        """Creates the node.

        Args:
            destination: gs:// folder `<base>/<model name>` of the pushes.
            baseline: Model that this run trained: no model is compared with itself.
            candidate: The other one.
        """
        super().__init__(
            ModelInServiceSpec(
                destination=destination,
                baseline=baseline,
                candidate=candidate,
                pushed=types.Channel(type=standard_artifacts.PushedModel),
            )
        )

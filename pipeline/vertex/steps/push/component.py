"""Contract of VertexPush: what was pushed in, where Vertex AI has it out."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from pipeline.vertex.steps.push import executor


class VertexPushSpec(types.ComponentSpec):
    """Input, output and parameter of VertexPush."""

    PARAMETERS = {executor.SETTINGS: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.PUSHED_MODEL: component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel
        )
    }
    OUTPUTS = {
        executor.REGISTERED: component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel
        )
    }


class VertexPush(base_component.BaseComponent):
    """Registers a pushed version in Model Registry, and deploys it to an Endpoint.

    The folder in object storage stays what decides; this follows it. A task that is
    repeated finds what an earlier try has made. What Vertex AI has is no artifact, so
    that this must never be taken from a cache.

    `outputs`:
      - `registered`: with the custom properties of contract/pushed_model.py, also those
        of Model Registry and Endpoint; `pushed` is 0 when nothing was pushed.
    """

    SPEC_CLASS = VertexPushSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, *, pushed_model: types.BaseChannel, settings: str):
        """Creates the node.

        Args:
            pushed_model: PushedModel of the AtomicPusher, at gs://.
            settings: JSON of pipeline/vertex/steps/push/settings.py.
        """
        super().__init__(
            VertexPushSpec(
                pushed_model=pushed_model,
                settings=settings,
                registered=types.Channel(type=standard_artifacts.PushedModel),
            )
        )

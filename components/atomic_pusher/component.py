"""Contract of the AtomicPusher: what it reads and what it hands on."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components import artifacts
from components.atomic_pusher import executor


class AtomicPusherSpec(types.ComponentSpec):
    """Inputs, output and parameter of the AtomicPusher."""

    PARAMETERS = {executor.DESTINATION: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.MODEL_BLESSING: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
        executor.INFRA_BLESSING: component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
        executor.DECISION: component_spec.ChannelParameter(
            type=artifacts.Decision, optional=True
        ),
        executor.CONFIGURATION: component_spec.ChannelParameter(
            type=artifacts.RunConfiguration, optional=True
        ),
    }
    OUTPUTS = {
        executor.PUSHED_MODEL: component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel
        )
    }


class AtomicPusher(base_component.BaseComponent):
    """Publishes a blessed model as a new version, all or nothing.

    TFX's Pusher copies file by file under the final name and skips a second push in the
    same second; this one never shows half a version and never skips. To a gs:// folder it
    publishes by components/atomic_pusher/object_storage.py.

    `outputs`:
      - `pushed_model`: a copy of what was pushed, with the custom properties of
        contract/pushed_model.py.
    """

    SPEC_CLASS = AtomicPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(  # noqa: PLR0913 - inputs of a node, all named
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        destination: str,
        infra_blessing: types.BaseChannel | None = None,
        decision: types.BaseChannel | None = None,
        configuration: types.BaseChannel | None = None,
    ):
        """Creates the node.

        Args:
            model: Model with a SavedModel in Format-Serving/.
            model_blessing: ModelBlessing; without a blessing nothing is pushed.
            destination: Folder `<base>/<model name>`, local or gs://, that TensorFlow
                Serving watches.
            infra_blessing: InfraBlessing; if given, needed as well.
            decision: Decision, for the ledger in object storage.
            configuration: RunConfiguration, for the same.
        """
        super().__init__(
            AtomicPusherSpec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                decision=decision,
                configuration=configuration,
                destination=destination,
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )

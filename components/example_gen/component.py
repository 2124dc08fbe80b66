"""The contract of CifarExampleGen."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.example_gen import executor


class CifarExampleGenSpec(types.ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "data": ExecutionParameter(type=str),
        "fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}


class CifarExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests CIFAR-10, CIFAR-100 or digits into the splits train, eval and test.

    The output `examples` has the custom properties `name`, `source`, `verified` (0 or
    1), `verification` (a sentence) and `counts` (JSON: split -> examples). Features of
    an example: see contract.features. Ids and splits depend on the pixels alone, see
    components.example_gen.identity.
    """

    SPEC_CLASS = CifarExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.CifarExampleGenExecutor)

    def __init__(self, data: str, fingerprint: str):
        """Declares the node.

        Args:
            data: `contract.config.to_json` of a DataConfig whose name is resolved.
            fingerprint: `components.example_gen.sources.fingerprint` of the same; only
                tells the cache that the data have changed.
        """
        super().__init__(
            spec=CifarExampleGenSpec(
                data=data,
                fingerprint=fingerprint,
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )

"""Contract of DatasetSchema: a schema, written down, as an artifact."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.dataset_schema import executor


class DatasetSchemaSpec(types.ComponentSpec):
    """Parameter and output of DatasetSchema."""

    PARAMETERS = {executor.TEXT: component_spec.ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {
        executor.SCHEMA: component_spec.ChannelParameter(type=standard_artifacts.Schema)
    }


class DatasetSchema(base_component.BaseComponent):
    """Hands a schema to the flow.

    It is not inferred from data, as SchemaGen would do, because what a data set must
    look like is known, and a broken archive shall not teach the flow that broken is
    normal. The text is the parameter, so another schema means another execution, cache
    or not.

    `outputs`:
      - `schema`: schema.pbtxt.
    """

    SPEC_CLASS = DatasetSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, schema: str):
        """Creates the node.

        Args:
            schema: Text form of a tensorflow.metadata.v0.Schema, for instance from
                `components.dataset_schema.text.schema_text`.
        """
        super().__init__(
            DatasetSchemaSpec(
                text=schema, schema=types.Channel(type=standard_artifacts.Schema)
            )
        )

"""Work of DatasetSchema: from what a data set is to a schema."""

from __future__ import annotations

import os

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types.standard_artifacts import Examples, Schema
from tfx.utils import io_utils

from components.dataset_schema import text
from components.declaration import Output, executor_of
from contract.config.drift import DriftConfig
from contract.records import SCHEMA_FILE
from trainer.examples import dataset_in


def write_schema(
    *, examples: Examples, drift: DriftConfig | None = None, schema: Output[Schema]
) -> None:
    """Hands a schema to the flow.

    It is not inferred from the examples, as SchemaGen would do, because what a data set
    must look like is known, and a broken archive shall not teach the flow that broken is
    normal: of the examples, dataset.json alone is read.

    Args:
        examples: Of which data set they are.
        drift: With these thresholds, what must not change from run to run
            (`components.dataset_schema.text.invariants_text`); without, what each example
            must look like (`schema_text`).
        schema: Gets schema.pbtxt.

    Raises:
        contract.typed_json.RecordError: dataset.json cannot be used.
    """
    dataset = dataset_in(examples)
    written = (
        text.schema_text(dataset)
        if drift is None
        else text.invariants_text(dataset, drift)
    )
    parsed = text_format.Parse(written, schema_pb2.Schema())
    io_utils.write_pbtxt_file(os.path.join(schema.uri, SCHEMA_FILE), parsed)


Executor = executor_of(write_schema)

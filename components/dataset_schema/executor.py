"""Work of DatasetSchema: checks the text and writes it."""

from __future__ import annotations

import os

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types.standard_artifacts import Schema
from tfx.utils import io_utils

from components.declaration import Output, executor_of
from contract.records import SCHEMA_FILE


def write_schema(*, text: str, schema: Output[Schema]) -> None:
    """Hands a schema to the flow.

    It is not inferred from data, as SchemaGen would do, because what a data set must
    look like is known, and a broken archive shall not teach the flow that broken is
    normal. The text is the parameter, so another schema means another execution, cache
    or not.

    Args:
        text: Text form of a tensorflow.metadata.v0.Schema, for instance from
            `components.dataset_schema.text.schema_text`.
        schema: Gets schema.pbtxt.

    Raises:
        google.protobuf.text_format.ParseError: The text is no schema.
    """
    parsed = text_format.Parse(text, schema_pb2.Schema())
    io_utils.write_pbtxt_file(os.path.join(schema.uri, SCHEMA_FILE), parsed)


Executor = executor_of(write_schema)

"""Work of DatasetSchema: checks the text and writes it."""

from __future__ import annotations

import os
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from contract.records import SCHEMA_FILE

TEXT, SCHEMA = "text", "schema"


class Executor(base_executor.BaseExecutor):
    """Writes schema.pbtxt."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the schema.

        Args:
            input_dict: Empty.
            output_dict: `schema`.
            exec_properties: `text`, the schema's text form.

        Raises:
            google.protobuf.text_format.ParseError: The text is no schema.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        schema = text_format.Parse(exec_properties[TEXT], schema_pb2.Schema())
        io_utils.write_pbtxt_file(
            os.path.join(
                artifact_utils.get_single_uri(output_dict[SCHEMA]), SCHEMA_FILE
            ),
            schema,
        )

"""Work of PreviousStatistics: records in, the accepted statistics to compare with out."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.example_validator import accepted_records
from components.example_validator.executor import (
    EMPTY,
    EXAMPLES,
    EXAMPLES_URI,
    INVARIANTS,
    INVARIANTS_URI,
    NAME,
    PREVIOUS,
    RECORDS,
)


class Executor(base_executor.BaseExecutor):
    """Chooses as `components.example_validator.previous` does, whose reasons hold here."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Finds the newest accepted statistics of the same data set from another run.

        Args:
            input_dict: `examples` and `invariants` of this run.
            output_dict: `previous_statistics`: becomes the found artifact, address and
                all; with none, its custom property `empty` is 1.
            exec_properties: `records`, the folder the ExampleValidator writes to.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES])
        invariants = artifact_utils.get_single_instance(input_dict[INVARIANTS])
        found = artifact_utils.get_single_instance(output_dict[PREVIOUS])
        name = examples.get_string_custom_property(NAME)
        for record in accepted_records.newest_first(exec_properties[RECORDS]):
            this_run = (record.examples_uri, record.invariants_uri) == (
                examples.uri,
                invariants.uri,
            )
            if record.name == name and not this_run and fileio.exists(record.uri):
                found.uri = record.uri
                found.split_names = artifact_utils.encode_split_names(
                    record.split_names
                )
                for key in (NAME, EXAMPLES_URI, INVARIANTS_URI):
                    found.set_string_custom_property(key, getattr(record, key))
                return
        found.split_names = artifact_utils.encode_split_names([])
        found.set_int_custom_property(EMPTY, 1)

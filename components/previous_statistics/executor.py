"""Work of PreviousStatistics: records in, the accepted statistics to compare with out."""

from __future__ import annotations

from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Schema

from components.declaration import Output, executor_of
from components.example_validator import accepted_records
from components.example_validator.executor import (
    EMPTY,
    EXAMPLES_URI,
    INVARIANTS_URI,
    NAME,
)
from components.previous_statistics.comparable import of_one_form


def find_previous(
    *,
    examples: Examples,
    invariants: Schema,
    records: str,
    previous_statistics: Output[ExampleStatistics],
) -> None:
    """Finds the newest accepted statistics of the same data set from another run.

    The form of `components.previous_statistics.strategy.PreviousStatistics`, whose reasons
    hold here, for engines without resolvers of ML Metadata (Vertex AI): it asks records
    in object storage. What it finds changes without its inputs, so it must not be
    answered from a cache.

    Args:
        examples: Of this run, with the custom property `name`.
        invariants: With the thresholds of this run.
        records: Folder, as given to the ExampleValidator.
        previous_statistics: Becomes the found artifact (`accepted_statistics` of an
            earlier run), address and all; with none, its custom property `empty` is 1.
    """
    name = examples.get_string_custom_property(NAME)
    for record in accepted_records.newest_first(records):
        this_run = (record.examples_uri, record.invariants_uri) == (
            examples.uri,
            invariants.uri,
        )
        if (
            record.name == name
            and not this_run
            and fileio.exists(record.uri)
            and of_one_form(name, examples.uri, record.examples_uri)
        ):
            previous_statistics.uri = record.uri
            previous_statistics.split_names = artifact_utils.encode_split_names(
                record.split_names
            )
            for key in (NAME, EXAMPLES_URI, INVARIANTS_URI):
                previous_statistics.set_string_custom_property(
                    key, getattr(record, key)
                )
            return
    previous_statistics.split_names = artifact_utils.encode_split_names([])
    previous_statistics.set_int_custom_property(EMPTY, 1)


Executor = executor_of(find_previous)

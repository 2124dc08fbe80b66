"""Work of ModelInService: the ledger in, the version in service out."""

from __future__ import annotations

from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.atomic_pusher import ledger
from contract import pushed_model as properties

DESTINATION = "destination"
BASELINE, CANDIDATE = "baseline", "candidate"
PUSHED = "pushed"


class Executor(base_executor.BaseExecutor):
    """Reads the ledger."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Points at the version that the contenders have to beat, if there is one.

        Args:
            input_dict: `baseline` and `candidate`, the models of this run.
            output_dict: `pushed`; its folder becomes the version's own.
            exec_properties: `destination`, `<base>/<model name>`.

        Raises:
            PublishError: The ledger cannot be read.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[PUSHED])
        own = [
            artifact_utils.get_single_uri(input_dict[key])
            for key in (BASELINE, CANDIDATE)
        ]
        folder = ledger.open_folder(exec_properties[DESTINATION])
        with ledger.errors(f"{folder.uri} cannot be read"):
            _, history = ledger.published(folder)
            there = ledger.are_there(folder, history)
        entry = ledger.entry_to_beat(history, there, own)
        if entry is None:
            logging.info("Nothing is in service at %s yet", folder.uri)
            pushed.set_int_custom_property(properties.PUSHED, 0)
            return
        path = folder.version_uri(entry.version)
        # Of an earlier version somebody may have removed the folder, but not the copy.
        exists = there[history.index(entry)]
        pushed.uri = path if exists else entry.origin.artifact_uri or path
        logging.info("In service: version %d, %s", entry.version, pushed.uri)
        pushed.set_int_custom_property(properties.PUSHED, 1)
        for name, value in {
            properties.DESTINATION: path,
            properties.VERSION: str(entry.version),
            properties.NETWORK: entry.origin.network,
            properties.ROLE: entry.origin.role,
            properties.MODEL_URI: entry.origin.model_uri,
            properties.ROLLBACK_OF: entry.rollback_of and str(entry.rollback_of),
        }.items():
            if value:
                pushed.set_string_custom_property(name, value)

"""Work of Transform: TFX's own, whose preprocessing_fn learns what the data set is."""

from __future__ import annotations

import json
from typing import Any

from tfx import types
from tfx.components.transform import executor as upstream
from tfx.types import artifact_utils, standard_component_specs

from trainer.examples import dataset_in

# Also what makes the function's file part of this node's digest of code.
PREPROCESSING_FN = "trainer.preprocessing.preprocessing_fn"


class Executor(upstream.Executor):
    """TFX's own; `custom_config` gets "dataset", the JSON of contract.datasets.Dataset."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads dataset.json beside the examples, and leaves the rest to TFX."""
        key = standard_component_specs.CUSTOM_CONFIG_KEY
        examples = artifact_utils.get_single_instance(
            input_dict[standard_component_specs.EXAMPLES_KEY]
        )
        dataset = dataset_in(examples)
        config = json.loads(exec_properties[key]) | {"dataset": dataset.to_json()}
        super().Do(input_dict, output_dict, exec_properties | {key: json.dumps(config)})

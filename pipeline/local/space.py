"""Is there room on the disk for a run? Known before anything long begins.

Standard library only.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from components.example_gen.sources import expected, find
from contract.config.run import RunConfig
from contract.fields import ConfigError
from trainer.program import count_parameters
from trainer.units import parse_network

# What a SavedModel holds besides the weights: graph, class names, warm-up requests.
_GRAPH_BYTES = 1_000_000
# float32 weights and momentum; two checkpoints are kept while a third is written.
_CHECKPOINT_BYTES = 3 * 2 * 4
# Statistics, evaluations, report, metadata, log.
_REST_BYTES = 5_000_000


def needed(config: RunConfig) -> int:
    """Bytes that a run writes below its output folder if nothing is cached, roughly."""
    data = expected(config.data)
    # Photographs hardly compress; digits are blocks of equal pixels in all sizes but 8 x 8.
    kept = data
    if data.name == "digits":
        kept = expected(replace(config.data, image_size=8))
    if data.crop is None:
        examples = sum(data.counts.values()) * kept.image_bytes
    else:  # files, as they are
        examples = sum(map(os.path.getsize, find(config.data).files))
    classes, channels = len(data.class_names), data.pixels[-1]
    models = [
        count_parameters(parse_network(each.network), classes, channels)
        for each in config.all_contenders
    ]
    saved = [_GRAPH_BYTES + 4 * parameters for parameters in models]
    # The winner thrice more: chosen, pushed and served.
    return (
        examples
        + sum(saved)
        + 3 * max(saved)
        + _CHECKPOINT_BYTES * max(models)
        + _REST_BYTES
    )


def check(config: RunConfig) -> str | None:
    """Compares the free space with what the run needs.

    Returns:
        A warning where an earlier run's results may be reused; None if there is room.

    Raises:
        ConfigError: Too little, and there is nothing to reuse.
    """
    free, need = shutil.disk_usage(config.output_root).free, needed(config)
    if free >= need:
        return None
    numbers = (
        f"{free / 1e6:,.0f} MB are free, and a run of this configuration writes about "
        f"{need / 1e6:,.0f} MB"
    )
    if config.enable_cache and os.path.exists(
        os.path.join(config.output_root, "metadata.sqlite")
    ):
        return f"{numbers}, unless it is answered from the cache"
    raise ConfigError(
        f"output_root={config.output_root}: {numbers}; free some space, or choose a "
        "folder on another disk"
    )

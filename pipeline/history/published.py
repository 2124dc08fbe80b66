"""A published version as everybody sees it, wherever it was recorded.

Two stores record what was published: ML Metadata in an output folder on a disk
(metadata.py), the ledger beside the versions in object storage (ledger.py). Both answer
with the values of this file, and stores.py asks the right one. What a command line or a
run's configuration means by "here" is said here as well.

Loads neither of the two, nor TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.config.run import RunConfig
from contract.fields import override, parse_assignments
from pipeline.resolve import absolute, output_root


class HistoryError(Exception):
    """The command cannot be carried out; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published version, as ML Metadata or the ledger knows it."""

    version: int
    artifact_id: int | None  # of the PushedModel in ML Metadata
    pushed: str  # UTC, ISO 8601
    path: str  # <serving>/<model name>/<version>
    exists: bool  # whether the folder is still there
    in_service: bool  # the newest push to its folder that still exists
    by: str  # "run", "rollback", or "found": no run that is recorded here
    rollback_of: int | None  # the version of the run that made the same model
    network: str | None
    role: str | None  # of the contender that won
    eval_error: float | None  # fraction
    ci95: tuple[float, float] | None
    reason: str | None  # the verdict
    dataset: str | None
    run: str | None  # id of the pipeline run that published it

    @property
    def folder(self) -> str:
        """<serving>/<model name>, where TensorFlow Serving looks for versions."""
        return os.path.dirname(self.path)

    @property
    def original(self) -> int:
        """The version of the run that made the model; its own if that was no rollback."""
        return self.rollback_of or self.version

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as `models list --json` and `models show` print them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Places:
    """Where an output folder keeps what this room reads and writes."""

    output_root: str
    destination: str  # <serving>/<model name>
    pipeline_name: str

    @property
    def remote(self) -> bool:
        """Whether versions are published to object storage."""
        return "://" in self.destination


def places(assignments: Sequence[str], directory: str) -> Places:
    """The folders that a command line means; rules as in pipeline/resolve.py.

    Data and networks are not looked at: they need not be there for this.

    Args:
        assignments: `name=value` texts, later ones win.
        directory: Where relative paths start.

    Raises:
        contract.fields.ConfigError: A field that cannot be used.
    """
    overrides = parse_assignments(assignments)
    config = override(RunConfig(), overrides)
    config = override(
        config, {"output_root": output_root(config, overrides, directory)}
    )
    return places_of(config, directory)


def places_of(config: RunConfig, directory: str) -> Places:
    """The folders of a configuration whose `output_root` is absolute.

    Args:
        config: As a run resolves it.
        directory: Where a relative `serving.base_directory` starts.
    """
    destination = f"{config.serving_root}/{config.serving.model_name}"
    return Places(
        output_root=config.output_root,
        destination=absolute(destination, directory),
        pipeline_name=config.pipeline_name,
    )


def places_of_run(config: Mapping[str, Any], output_root: str) -> Places:
    """The folders of a recorded run.

    Args:
        config: Its configuration as it was written down, maybe by an earlier program: only
            what is needed here is read.
        output_root: Where its outputs are now; they may have been moved since.
    """
    serving = config["serving"]
    values = {
        "output_root": output_root,
        "pipeline_name": config["pipeline_name"],
        "serving.base_directory": serving["base_directory"],
        "serving.model_name": serving["model_name"],
    }
    return places_of(override(RunConfig(), values), os.getcwd())


def find(history: Sequence[Published], version: int, where: Places) -> Published:
    """The published version with a number.

    Raises:
        HistoryError: There is none, or several.
    """
    found = [each for each in history if each.version == version]
    own = [each for each in found if each.folder == where.destination]
    if len(own) == 1 or len(found) == 1:
        return (own or found)[0]
    if found:
        raise HistoryError(
            f"version {version} was published to several folders "
            f"({', '.join(each.path for each in found)}); choose one by "
            "serving.model_name and serving.base_directory"
        )
    known = ", ".join(str(each.version) for each in history)
    raise HistoryError(
        f"version {version} was never published from output_root={where.output_root}; "
        + (f"known: {known}" if known else "nothing was")
    )


def refuse_in_service(history: Sequence[Published], chosen: Published) -> None:
    """Raises a HistoryError if the model of a version is in service in its folder."""
    for each in history:
        if not each.in_service or each.folder != chosen.folder:
            continue
        if chosen.original in (each.version, each.rollback_of):
            also = (
                "" if each.version == chosen.version else f", as version {each.version}"
            )
            raise HistoryError(f"version {chosen.version} is in service already{also}")


def in_service(history: Sequence[Published], where: Places) -> dict[str, Any] | None:
    """What is in service in a run's serving folder, for everyone who has to say it.

    Returns:
        report.json's "in_service": of `Published` what a program needs; None: nothing was
        published there, or nothing of that is left.
    """
    for each in history:
        if each.in_service and each.folder == where.destination:
            names = ("version", "path", "network", "pushed", "by", "rollback_of")
            return {name: getattr(each, name) for name in names}
    return None

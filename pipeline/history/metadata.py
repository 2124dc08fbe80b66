"""What ML Metadata knows of published versions, for output folders on a disk.

In: metadata.sqlite of an output folder, which every push is recorded in, and decision.json
of the runs. Out: all published versions, and the whole lineage of one. Read only, so both
work while a run is going on; rollback.py writes.

Loads ML Metadata when a folder is opened, and neither TensorFlow nor TFX.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import pushed_model, run_facts
from contract.comparison import ComparedModel, Decision
from contract.pushed_model import (
    DESTINATION,
    MODEL_ID,
    NETWORK,
    ROLE,
    ROLLBACK_OF,
    VERSION,
)
from contract.records import DECISION_FILE
from contract.run_facts import RunFacts
from contract.typed_json import Record, RecordError, Share
from pipeline.history.published import (
    HistoryError,
    Places,
    Published,
    find,
)
from pipeline.local import database, relocation

ROLLBACK = "Rollback"  # type and node of the executions that rollback.py records
PUSHED_MODEL = "pushed_model"  # key of their input and output
_EXAMPLES = "Examples"
_DECISIONS = ("components.Decision", "Decision")  # the second: as it was once called


@dataclass(frozen=True, kw_only=True)
class _FirstErrorRate(Record):
    error: Share | None
    ci95: tuple[Share, Share] | None


@dataclass(frozen=True, kw_only=True)
class _FirstContender(Record):
    network: str
    measured: _FirstErrorRate

    @classmethod
    def adapted(cls, values: dict[str, Any], where: str) -> dict[str, Any]:  # noqa: ARG003
        return values | {"measured": values.get("eval")}


@dataclass(frozen=True, kw_only=True)
class _FirstDecision(Record):
    """decision.json of the first pushes, which held no comparison; what is shown of it."""

    winner: str | None
    models: Mapping[str, _FirstContender]


def read(where: Places) -> list[Published]:
    """All published versions, newest first.

    Raises:
        HistoryError: There is no metadata.
    """
    return Store(where).published()


def lineage(where: Places, version: int) -> dict[str, Any]:
    """One version with every execution and artifact that it came from, for JSON.

    Models that were in service before, which its contenders were compared with, are named,
    but not followed further.

    Raises:
        HistoryError: There is no metadata, or no such version.
    """
    store = Store(where)
    chosen = find(store.published(), version, where)
    executions, artifacts = store.ancestors(chosen.artifact_id or 0)
    facts = store.facts(executions)
    return {
        **chosen.to_dict(),
        "config": facts and facts.config,
        "commit": facts and facts.commit,
        "executions": [store.describe_execution(each) for each in executions],
        "artifacts": [_describe_artifact(each) for each in artifacts],
    }


def check(where: Places) -> None:
    """Raises a HistoryError, or a ConfigError, if there is no metadata to be read."""
    database.check(where.output_root)
    if not os.path.isfile(database.path(where.output_root)):
        raise HistoryError(
            f"output_root={where.output_root}: no metadata is there, so nothing was "
            "published from it; it must be the folder of a run"
        )


class Store:
    """The metadata of one output folder, read once."""

    def __init__(self, where: Places, *, write: bool = False):
        check(where)
        relocation.settle(where.output_root)
        from ml_metadata import errors
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2

        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = database.path(where.output_root)
        modes = metadata_store_pb2.SqliteMetadataSourceConfig
        config.sqlite.connection_mode = modes.READWRITE if write else modes.READONLY
        try:
            self.client = metadata_store.MetadataStore(config)
            self._load()
        # The second is what opening a file that is no database raises.
        except (errors.StatusError, RuntimeError) as error:
            raise HistoryError(
                f"{config.sqlite.filename_uri} cannot be read: {error}"
            ) from None

    def _load(self) -> None:
        from ml_metadata.proto import metadata_store_pb2

        kinds, client = metadata_store_pb2.Event, self.client
        self.artifacts = {each.id: each for each in client.get_artifacts()}
        self._executions = {each.id: each for each in client.get_executions()}
        self._inputs: dict[int, list[tuple[str, int]]] = {}
        self._outputs: dict[int, list[tuple[str, int]]] = {}
        self._producer: dict[int, int] = {}
        numbers = sorted(self._executions)
        events = client.get_events_by_execution_ids(numbers) if numbers else []
        for event in sorted(events, key=lambda event: event.execution_id):
            step = event.path.steps[0].key if event.path.steps else ""
            entry = (step, event.artifact_id)
            if event.type == kinds.INPUT:
                self._inputs.setdefault(event.execution_id, []).append(entry)
            elif event.type == kinds.OUTPUT:
                self._outputs.setdefault(event.execution_id, []).append(entry)
                # Executions that were taken from the cache name the same artifacts later.
                self._producer.setdefault(event.artifact_id, event.execution_id)

    def published(self) -> list[Published]:
        """All pushes, newest first."""
        pushes = pushed_model.pushes(
            artifact
            for artifact in self.artifacts.values()
            if artifact.type == pushed_model.TYPE_NAME
        )
        there: dict[int, bool] = {}
        folders: dict[str, list[int]] = {}
        for artifact in pushes:
            path = pushed_model.text(artifact, DESTINATION)
            there[artifact.id] = pushed_model.folder_is_there(path)
            folders.setdefault(os.path.dirname(path), []).append(artifact.id)
        serving = {
            numbers[index]
            for numbers in folders.values()
            if (index := pushed_model.in_service([there[n] for n in numbers]))
            is not None
        }
        return [
            self._describe(artifact, there[artifact.id], artifact.id in serving)
            for artifact in reversed(pushes)
        ]

    def _describe(self, artifact: Any, exists: bool, in_service: bool) -> Published:
        path = pushed_model.text(artifact, DESTINATION)
        original = pushed_model.text(artifact, ROLLBACK_OF)
        producer = self._producer.get(artifact.id)
        decision, reason = self._decision(artifact)
        role = pushed_model.text(artifact, ROLE) or (decision and decision.winner)
        model = _contenders(decision).get(role or "")
        measured = model and model.measured
        return Published(
            version=int(pushed_model.text(artifact, VERSION)),
            artifact_id=artifact.id,
            pushed=_utc(artifact.create_time_since_epoch),
            path=path,
            exists=exists,
            in_service=in_service,
            by="rollback" if original else "run" if producer else "found",
            rollback_of=int(original) if original else None,
            network=pushed_model.text(artifact, NETWORK) or (model and model.network),
            role=role,
            eval_error=measured and measured.error,
            ci95=measured and measured.ci95,
            reason=reason,
            dataset=self._dataset(artifact),
            run=self._run_of(producer),
        )

    def _made_from(self, artifact: Any) -> dict[str, int]:
        """Inputs of the push that first published this model: key -> artifact id."""
        while True:
            inputs = dict(self._inputs.get(self._producer.get(artifact.id, 0), []))
            earlier = inputs.get(PUSHED_MODEL)
            if earlier is None or not pushed_model.text(artifact, ROLLBACK_OF):
                return inputs
            artifact = self.artifacts[earlier]

    def _decision(
        self, artifact: Any
    ) -> tuple[Decision | _FirstDecision | None, str | None]:
        """decision.json and the reason behind a push; None where they are gone."""
        chosen = self._made_from(artifact).get("model", 0)
        for _, number in self._outputs.get(self._producer.get(chosen, 0), []):
            found = self.artifacts[number]
            if found.type in _DECISIONS:
                told = _read_decision(os.path.join(found.uri, DECISION_FILE))
                return told, pushed_model.text(found, "reason") or None
        return None, None

    def _dataset(self, artifact: Any) -> str | None:
        """Name of the examples that the model was trained on."""
        trained = pushed_model.number(artifact, MODEL_ID)
        if not trained:
            blessing = self._made_from(artifact).get("model_blessing")
            if blessing is None:
                return None
            trained = pushed_model.number(self.artifacts[blessing], "current_model_id")
        for _, number in self._inputs.get(self._producer.get(trained, 0), []):
            if self.artifacts[number].type == _EXAMPLES:
                return pushed_model.text(self.artifacts[number], "name") or None
        return None

    def ancestors(self, artifact_id: int) -> tuple[list[Any], list[Any]]:
        """Executions and artifacts upstream of an artifact, itself included, by id."""
        executions: set[int] = set()
        artifacts, waiting = {artifact_id}, [artifact_id]
        while waiting:
            producer = self._producer.get(waiting.pop())
            if producer is None or producer in executions:
                continue
            executions.add(producer)
            rolled_back = self._executions[producer].type == ROLLBACK
            for _, number in self._inputs.get(producer, []):
                if number in artifacts:
                    continue
                artifacts.add(number)
                if rolled_back or self.artifacts[number].type != pushed_model.TYPE_NAME:
                    waiting.append(number)
            artifacts.update(number for _, number in self._outputs.get(producer, []))
        return (
            [self._executions[number] for number in sorted(executions)],
            [self.artifacts[number] for number in sorted(artifacts)],
        )

    def facts(self, executions: Sequence[Any]) -> RunFacts | None:
        """What the runner kept of the run that the last of these belongs to."""
        for execution in sorted(executions, key=lambda each: -each.id):
            for context in self.client.get_contexts_by_execution(execution.id):
                told = context.custom_properties[run_facts.PROPERTY].string_value
                if context.type == "pipeline_run" and told:
                    with contextlib.suppress(RecordError):
                        return RunFacts.from_json(told, context.name)
                    return None
        return None

    def _run_of(self, execution_id: int | None) -> str | None:
        if execution_id is None:
            return None
        contexts = self.client.get_contexts_by_execution(execution_id)
        runs = sorted(c.name for c in contexts if c.type == "pipeline_run")
        return runs[0] if runs else None

    def describe_execution(self, execution: Any) -> dict[str, Any]:
        """An execution for JSON."""
        contexts = self.client.get_contexts_by_execution(execution.id)
        nodes = [c.name.split(".", 1)[-1] for c in contexts if c.type == "node"]
        return {
            "id": execution.id,
            "node": nodes[0] if nodes else execution.type.rsplit(".", 1)[-1],
            "type": execution.type,
            "started": _utc(execution.create_time_since_epoch),
            "inputs": _by_key(self._inputs.get(execution.id, [])),
            "outputs": _by_key(self._outputs.get(execution.id, [])),
            "parameters": _plain(execution.custom_properties),
        }


def _read_decision(path: str) -> Decision | _FirstDecision | None:
    """None: it is gone, or damaged."""
    for kind in (Decision, _FirstDecision):
        with contextlib.suppress(OSError, RecordError), open(path, "rb") as file:
            return kind.read(file, path)
    return None


def _contenders(
    decision: Decision | _FirstDecision | None,
) -> Mapping[str, ComparedModel] | Mapping[str, _FirstContender]:
    """What was compared, by role."""
    if isinstance(decision, Decision):
        return decision.comparison.models
    return decision.models if decision else {}


def _describe_artifact(artifact: Any) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "type": artifact.type,
        "uri": artifact.uri,
        "exists": os.path.exists(artifact.uri),
        "made": _utc(artifact.create_time_since_epoch),
        "properties": _plain(artifact.properties) | _plain(artifact.custom_properties),
    }


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Property values for JSON; structures, which nobody reads here, are left out."""
    found = {}
    for name, value in sorted(properties.items()):
        kind = value.WhichOneof("value")
        if kind in ("int_value", "double_value", "string_value", "bool_value"):
            found[name] = getattr(value, kind)
    return found


def _by_key(
    entries: Iterator[tuple[str, int]] | list[tuple[str, int]],
) -> dict[str, Any]:
    found: dict[str, list[int]] = {}
    for key, number in entries:
        found.setdefault(key, []).append(number)
    return found


def _utc(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="seconds")

"""`python pipeline.py models ...`: what was published, why, and an earlier one again.

In: the ML Metadata of an output folder, which every push is recorded in; of one in object
storage the ledger (pipeline/history/ledger.py). Out: a list of all published versions, the
whole lineage of one, or, for a rollback, one more version that is recorded like those of
the pipeline, so that the next run finds it in service.

Loads ML Metadata or google-cloud-storage, and only once a command runs; neither
TensorFlow nor TFX.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.atomic_pusher import publish
from contract import pushed_model, stored
from contract.config.run import RunConfig
from contract.fields import override, parse_assignment
from contract.pushed_model import (
    DESTINATION,
    MODEL_ID,
    NETWORK,
    PUSHED,
    ROLE,
    ROLLBACK_OF,
    VERSION,
)
from contract.records import DECISION_FILE, REPORT_FILE, REPORT_FOLDER
from pipeline.local import database, relocation
from pipeline.local.exclusive import exclusive
from pipeline.resolve import absolute, output_root
from serving import quiet

EXECUTION_TYPE = NODE = "Rollback"
EXAMPLES = "Examples"
DECISIONS = ("components.Decision", "Decision")  # the second: as it was once called
INPUT_KEY = OUTPUT_KEY = "pushed_model"
_MOST_DECISION = 16 << 20  # bytes
_RUN_FACTS = "run_facts"  # of a run's context, see pipeline/report/collect.py


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


@dataclass(frozen=True)
class Places:
    """Where an output folder keeps what this file reads and writes."""

    output_root: str
    destination: str  # <serving>/<model name>
    pipeline_name: str

    @property
    def remote(self) -> bool:
        """Whether versions are published to object storage."""
        return "://" in self.destination

    @property
    def database(self) -> str:
        """ML Metadata's SQLite file."""
        return database.path(self.output_root)


# --- Commands ------------------------------------------------------------------------


def add_parser(
    commands: Any, add_overrides: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Adds `models list`, `models show` and `models rollback` to the command line."""

    def add(group: Any, name: str, help: str) -> argparse.ArgumentParser:
        return group.add_parser(name, help=help, description=help)

    models = add(
        commands,
        "models",
        "list published versions, show one, publish an earlier one again",
    )
    actions = models.add_subparsers(required=True, metavar="ACTION")

    listing = add(actions, "list", "all published versions, newest first (the default)")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)

    show = add(actions, "show", "one version with its whole lineage, JSON")
    show.add_argument("version", type=int, metavar="VERSION")
    show.set_defaults(command=_show)

    rollback = add(
        actions, "rollback", "publish an earlier version again, as a new one"
    )
    rollback.add_argument("version", type=int, metavar="VERSION")
    rollback.set_defaults(command=_rollback)
    for parser in (listing, show, rollback):
        add_overrides(parser)


def _list(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    found = read(places(options.runtime_parameter, os.getcwd()))
    if options.json:
        _print(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    else:
        _print(as_text(found))
    return 0


def _show(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    where = places(options.runtime_parameter, os.getcwd())
    _print(json.dumps(lineage(where, options.version), indent=2))
    return 0


def _rollback(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    where = places(options.runtime_parameter, os.getcwd())
    new = rollback(where, options.version)
    _print(
        f"version {options.version} is published again as version {new.version}, "
        f"{new.path}"
    )
    if where.remote:
        from pipeline.history import ledger as cloud_history

        _print(cloud_history.AFTER_ROLLBACK)
    elif os.path.isfile(os.path.join(where.output_root, REPORT_FOLDER, REPORT_FILE)):
        _write_report_again(where)
    return 0


def _write_report_again(where: Places) -> None:
    """The last run's report says what is in service; TensorFlow's import takes a while."""
    try:
        with quiet.loading_tensorflow():
            from pipeline.report import collect

            page = collect.write_again(where.output_root)
        _print(f"report    {page}")
    except Exception as error:  # noqa: BLE001 - the rollback is done, whatever is missing
        _print(
            f"the report still says what was in service before ({error}); "
            "`pipeline.py report` writes it again"
        )


def _print(text: str) -> None:
    print(text)  # noqa: T201


# --- What there is -------------------------------------------------------------------


def places(assignments: Sequence[str], directory: str) -> Places:
    """The folders that a command line means; rules as in pipeline/resolve.py.

    Data and networks are not looked at: they need not be there for this.

    Args:
        assignments: `name=value` texts, later ones win.
        directory: Where relative paths start.

    Raises:
        contract.fields.ConfigError: A field that cannot be used.
    """
    overrides = dict(map(parse_assignment, assignments))
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
    destination = absolute(destination, directory)
    return Places(
        output_root=config.output_root,
        destination=destination,
        pipeline_name=config.pipeline_name,
    )


def read(where: Places) -> list[Published]:
    """All published versions, newest first.

    Raises:
        HistoryError: There is no metadata.
    """
    if where.remote:
        from pipeline.history import ledger as cloud_history

        return cloud_history.read(where)
    return _Store(where).published()


def in_service(where: Places) -> dict[str, Any] | None:
    """What is in service in a run's serving folder, for everyone who has to say it.

    Returns:
        Of `Published` what a program needs; None: nothing was published there, or nothing
        of that is left.

    Raises:
        HistoryError: There is no metadata.
    """
    for each in read(where):
        if each.in_service and each.path.rpartition("/")[0] == where.destination:
            names = ("version", "path", "network", "pushed", "by", "rollback_of")
            return {name: getattr(each, name) for name in names}
    return None


def as_text(history: Sequence[Published]) -> str:
    """A table for people, the verdict below each version.

    What others wrote stands there without what could move a terminal's cursor.
    """
    # Here, as elsewhere: every command line waits for what this file imports.
    from pipeline.report.render import interval, percent

    if not history:
        return "nothing was published yet"
    rows = [
        ("version", "published (UTC)", "network", "role", "eval error",
         "95 % interval", "data", "by", "folder"),
    ]  # fmt: skip
    folders = {os.path.dirname(each.path) for each in history}
    for each in history:
        by = f"rollback to {each.rollback_of}" if each.rollback_of else each.by
        state = "there" if each.exists else "missing"
        state += ", in service" if each.in_service else ""
        if len(folders) > 1:  # of several models, each has a version in service
            state += f", {os.path.dirname(each.path)}"
        rows.append(
            (
                str(each.version),
                each.pushed[:16].replace("T", " "),
                each.network or "–",
                each.role or "–",
                percent(each.eval_error),
                interval(each.ci95),
                each.dataset or "–",
                by,
                state,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    for index in reversed(range(len(history))):
        reason = history[index].reason
        if reason:
            lines.insert(index + 2, f"    {reason}")
    return "\n".join(
        "".join(c if c.isprintable() else "?" for c in line) for line in lines
    )


def lineage(where: Places, version: int) -> dict[str, Any]:
    """One version with every execution and artifact that it came from, for JSON.

    Models that were in service before, which its contenders were compared with, are named,
    but not followed further.

    Raises:
        HistoryError: There is no metadata, or no such version.
    """
    if where.remote:
        from pipeline.history import ledger as cloud_history

        return cloud_history.lineage(where, version)
    store = _Store(where)
    chosen = find(store.published(), version, where)
    executions, artifacts = store.ancestors(chosen.artifact_id or 0)
    return {
        **dataclasses.asdict(chosen),
        "config": store.facts(executions).get("config"),
        "commit": store.facts(executions).get("commit"),
        "executions": [store.describe_execution(each) for each in executions],
        "artifacts": [_describe_artifact(each) for each in artifacts],
    }


def rollback(where: Places, version: int) -> Published:
    """Publishes an earlier version again, as a new one, and records it.

    What is published is the copy that the metadata's artifact holds, or else the version's
    own folder; every byte of it is read before anything is published. Takes the output
    folder's lock, so that no run is going on meanwhile.

    Returns:
        The new version.

    Raises:
        HistoryError: There is no such version, it is in service already, or no readable
            copy of it is left.
        pipeline.local.exclusive.FolderInUse: A run is going on.
    """
    if where.remote:
        from pipeline.history import ledger as cloud_history

        return cloud_history.rollback(where, version)
    _check_database(where)
    with exclusive(where.output_root):
        relocation.follow(where.output_root)
        store = _Store(where, write=True)
        history = store.published()
        chosen = find(history, version, where)
        original = chosen.rollback_of or chosen.version
        folder = os.path.dirname(chosen.path)
        refuse_in_service(history, chosen)
        number = store.record_rollback(chosen, original, folder)
        return next(
            each
            for each in store.published()
            if each.version == number and os.path.dirname(each.path) == folder
        )


def find(history: Sequence[Published], version: int, where: Places) -> Published:
    """The published version with a number.

    Raises:
        HistoryError: There is none, or several.
    """
    found = [each for each in history if each.version == version]
    own = [each for each in found if os.path.dirname(each.path) == where.destination]
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
    original = chosen.rollback_of or chosen.version
    folder = os.path.dirname(chosen.path)
    for each in history:
        if not each.in_service or os.path.dirname(each.path) != folder:
            continue
        if original in (each.version, each.rollback_of):
            also = (
                "" if each.version == chosen.version else f", as version {each.version}"
            )
            raise HistoryError(f"version {chosen.version} is in service already{also}")


def _check_database(where: Places) -> None:
    database.check(where.output_root)
    if not os.path.isfile(where.database):
        raise HistoryError(
            f"output_root={where.output_root}: no metadata is there, so nothing was "
            "published from it; name the folder of a run with --runtime_parameter "
            "output_root=..."
        )


# --- ML Metadata ---------------------------------------------------------------------


class _Store:
    """The metadata of one output folder, read once."""

    def __init__(self, where: Places, *, write: bool = False):
        _check_database(where)
        relocation.settle(where.output_root)
        from ml_metadata import errors
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2

        self._where = where
        self._mlmd = metadata_store_pb2
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = where.database
        modes = metadata_store_pb2.SqliteMetadataSourceConfig
        config.sqlite.connection_mode = modes.READWRITE if write else modes.READONLY
        try:
            self._store = metadata_store.MetadataStore(config)
            self._load()
        # The second is what opening a file that is no database raises.
        except (errors.StatusError, RuntimeError) as error:
            raise HistoryError(f"{where.database} cannot be read: {error}") from None

    def _load(self) -> None:
        mlmd, store = self._mlmd, self._store
        self._artifacts = {each.id: each for each in store.get_artifacts()}
        self._executions = {each.id: each for each in store.get_executions()}
        self._inputs: dict[int, list[tuple[str, int]]] = {}
        self._outputs: dict[int, list[tuple[str, int]]] = {}
        self._producer: dict[int, int] = {}
        numbers = sorted(self._executions)
        events = store.get_events_by_execution_ids(numbers) if numbers else []
        for event in sorted(events, key=lambda event: event.execution_id):
            step = event.path.steps[0].key if event.path.steps else ""
            entry = (step, event.artifact_id)
            if event.type == mlmd.Event.INPUT:
                self._inputs.setdefault(event.execution_id, []).append(entry)
            elif event.type == mlmd.Event.OUTPUT:
                self._outputs.setdefault(event.execution_id, []).append(entry)
                # Executions that were taken from the cache name the same artifacts later.
                self._producer.setdefault(event.artifact_id, event.execution_id)

    def published(self) -> list[Published]:
        """All pushes, newest first."""
        pushes = [
            artifact
            for artifact in self._artifacts.values()
            if artifact.type == pushed_model.TYPE_NAME
            and pushed_model.number(artifact, PUSHED)
        ]
        pushes.sort(key=lambda artifact: artifact.id)
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
        role = pushed_model.text(artifact, ROLE) or decision.get("winner")
        # The second form is that of the first pushes: models[role]["eval"].
        models = _part(decision.get("comparison", decision), "models")
        model = _part(models, role)
        measured = _part(model, "eval") or model
        network = model.get("network")
        return Published(
            version=int(pushed_model.text(artifact, VERSION)),
            artifact_id=artifact.id,
            pushed=_utc(artifact.create_time_since_epoch),
            path=path,
            exists=exists,
            in_service=in_service,
            by="rollback" if original else "run" if producer else "found",
            rollback_of=int(original) if original else None,
            network=pushed_model.text(artifact, NETWORK)
            or (network if isinstance(network, str) else None),
            role=role if isinstance(role, str) else None,
            eval_error=share(measured.get("error")),
            ci95=bounds(measured.get("ci95")),
            reason=reason,
            dataset=self._dataset(artifact),
            run=self._run_of(producer),
        )

    def _made_from(self, artifact: Any) -> dict[str, int]:
        """Inputs of the push that first published this model: key -> artifact id."""
        while True:
            inputs = dict(self._inputs.get(self._producer.get(artifact.id, 0), []))
            earlier = inputs.get(INPUT_KEY)
            if earlier is None or not pushed_model.text(artifact, ROLLBACK_OF):
                return inputs
            artifact = self._artifacts[earlier]

    def _decision(self, artifact: Any) -> tuple[dict[str, Any], str | None]:
        """decision.json and the reason behind a push; empty where they are gone."""
        chosen = self._made_from(artifact).get("model", 0)
        for _, number in self._outputs.get(self._producer.get(chosen, 0), []):
            found = self._artifacts[number]
            if found.type in DECISIONS:
                content: dict[str, Any] = {}
                with contextlib.suppress(OSError, stored.Unreadable):
                    path = os.path.join(found.uri, DECISION_FILE)
                    with open(path, "rb") as file:
                        content = stored.json_object(file, _MOST_DECISION)
                return content, pushed_model.text(found, "reason") or None
        return {}, None

    def _dataset(self, artifact: Any) -> str | None:
        """Name of the examples that the model was trained on."""
        trained = pushed_model.number(artifact, MODEL_ID)
        if not trained:
            blessing = self._made_from(artifact).get("model_blessing")
            if blessing is None:
                return None
            trained = pushed_model.number(self._artifacts[blessing], "current_model_id")
        for _, number in self._inputs.get(self._producer.get(trained, 0), []):
            if self._artifacts[number].type == EXAMPLES:
                return pushed_model.text(self._artifacts[number], "name") or None
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
            rolled_back = self._executions[producer].type == EXECUTION_TYPE
            for _, number in self._inputs.get(producer, []):
                if number in artifacts:
                    continue
                artifacts.add(number)
                if (
                    rolled_back
                    or self._artifacts[number].type != pushed_model.TYPE_NAME
                ):
                    waiting.append(number)
            artifacts.update(number for _, number in self._outputs.get(producer, []))
        return (
            [self._executions[number] for number in sorted(executions)],
            [self._artifacts[number] for number in sorted(artifacts)],
        )

    def facts(self, executions: Sequence[Any]) -> dict[str, Any]:
        """What the runner kept of the run that the last of these belongs to."""
        for execution in sorted(executions, key=lambda each: -each.id):
            for context in self._store.get_contexts_by_execution(execution.id):
                text = context.custom_properties[_RUN_FACTS].string_value
                if context.type == "pipeline_run" and text:
                    return json.loads(text)
        return {}

    def _run_of(self, execution_id: int | None) -> str | None:
        if execution_id is None:
            return None
        contexts = self._store.get_contexts_by_execution(execution_id)
        runs = sorted(c.name for c in contexts if c.type == "pipeline_run")
        return runs[0] if runs else None

    def describe_execution(self, execution: Any) -> dict[str, Any]:
        """An execution for JSON."""
        contexts = self._store.get_contexts_by_execution(execution.id)
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

    def record_rollback(self, chosen: Published, original: int, folder: str) -> int:
        """Publishes and records; see `rollback`."""
        mlmd, store = self._mlmd, self._store
        earlier = self._artifacts[chosen.artifact_id]
        kind = mlmd.ExecutionType(name=EXECUTION_TYPE)
        execution = mlmd.Execution(
            type_id=store.put_execution_type(kind),
            last_known_state=mlmd.Execution.RUNNING,
        )
        execution.custom_properties["version"].int_value = chosen.version
        (execution.id,) = store.put_executions([execution])
        # Laid out as TFX does, so that the sweeper of killed runs finds it.
        uri = os.path.join(
            self._where.output_root, "artifacts", NODE, OUTPUT_KEY, str(execution.id)
        )
        try:
            _copy_readable([earlier.uri, chosen.path], uri, chosen.version)
            try:
                number = publish.publish(uri, folder)
            except publish.PublishError as error:
                raise HistoryError(str(error)) from error
        except BaseException:
            shutil.rmtree(uri, ignore_errors=True)
            execution.last_known_state = mlmd.Execution.FAILED
            store.put_executions([execution])
            raise
        execution.last_known_state = mlmd.Execution.COMPLETE
        self._record(
            execution, earlier, original, uri, os.path.join(folder, str(number))
        )
        self._load()
        return number

    def _record(
        self, execution: Any, earlier: Any, original: int, uri: str, path: str
    ) -> None:
        """The new PushedModel, its lineage and its contexts, in one transaction."""
        mlmd, store = self._mlmd, self._store
        pushed = mlmd.Artifact(
            type_id=earlier.type_id,
            uri=uri,
            state=mlmd.Artifact.LIVE,
            custom_properties=earlier.custom_properties,
        )
        pushed.custom_properties[DESTINATION].string_value = path
        pushed.custom_properties[VERSION].string_value = os.path.basename(path)
        pushed.custom_properties[ROLLBACK_OF].string_value = str(original)

        def event(kind: Any, key: str) -> Any:
            made = mlmd.Event(type=kind)
            made.path.steps.add().key = key
            made.path.steps.add().index = 0
            return made

        name = self._where.pipeline_name
        store.put_execution(
            execution,
            [
                (earlier, event(mlmd.Event.INPUT, INPUT_KEY)),
                (pushed, event(mlmd.Event.OUTPUT, OUTPUT_KEY)),
            ],
            [
                self._context("pipeline", name),
                self._context("node", f"{name}.{NODE}"),
            ],
            reuse_context_if_already_exist=True,
        )

    def _context(self, kind: str, name: str) -> Any:
        found = self._store.get_context_by_type_and_name(kind, name)
        if found is not None:
            return found
        mlmd = self._mlmd
        type_id = self._store.put_context_type(
            mlmd.ContextType(name=kind), can_add_fields=True, can_omit_fields=True
        )
        return mlmd.Context(type_id=type_id, name=name)


def share(value: Any) -> float | None:
    """A fraction that was read from a file; None for all that is none."""
    fits = type(value) in (int, float) and 0 <= value <= 1
    return float(value) if fits else None


def bounds(value: Any) -> tuple[float, float] | None:
    """An interval of fractions that was read from a file; None for all that is none."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = map(share, value)
    return None if low is None or high is None else (low, high)


def _part(section: Any, key: Any) -> dict[str, Any]:
    """A section of a section that was read from a file; empty if there is none."""
    found = section.get(key) if isinstance(section, dict) and key else None
    return found if isinstance(found, dict) else {}


def _copy_readable(sources: Sequence[str], target: str, version: int) -> None:
    """Copies the first source that is a whole SavedModel, as far as can be told.

    Raises:
        HistoryError: None is; the message says what is wrong with each.
    """
    problems = []
    for source in sources:
        problem = _problem(source)
        if problem is None:
            try:
                shutil.copytree(source, target)
            except (OSError, shutil.Error) as error:
                shutil.rmtree(target, ignore_errors=True)
                problem = f"it cannot be read ({error})"
        if problem is None:
            return
        problems.append(f"{source}: {problem}")
    raise HistoryError(
        f"version {version} cannot be published again, no whole copy of it is left: "
        + "; ".join(problems)
    )


def _problem(folder: str) -> str | None:
    """What is wrong with a SavedModel, as far as its files tell without TensorFlow."""
    from google.protobuf import empty_pb2
    from google.protobuf.message import DecodeError

    if not os.path.isdir(folder):
        return "there is no such folder"
    try:
        with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
            content = file.read()
        # Any message parses as one without fields, unless it is cut off or no message.
        empty_pb2.Empty.FromString(content)
    except OSError as error:
        return f"saved_model.pb cannot be read ({error.strerror})"
    except DecodeError:
        return "saved_model.pb is damaged"
    if not content:
        return "saved_model.pb is empty"
    variables = os.path.join(folder, "variables")
    if os.path.isdir(variables):
        names = os.listdir(variables)
        data = [name for name in names if name.startswith("variables.data-")]
        if "variables.index" not in names or not data:
            return "its variables are incomplete"
    return None


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

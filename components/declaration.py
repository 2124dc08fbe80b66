"""Components from typed functions: what goes in and out is written once.

    # executor.py
    def choose(*, evaluation: ModelEvaluation, rule: EvaluationConfig,
               decision: Output[Decision]) -> None:
        ...

    Executor = executor_of(choose)

    # component.py
    class ModelChooser(Component, executor=Executor):
        ...

    # pipeline/dag.py
    ModelChooser(evaluation=..., rule=config.evaluation).outputs["decision"]

All parameters of such a function are keyword-only, and the annotation says what each is:

| annotation | is | the function gets | ML Metadata keeps |
|---|---|---|---|
| class of an artifact | input | the artifact | |
| `Output[class of an artifact]` | output | the artifact | |
| `str`, `int` | parameter | the value | the same |
| `Sequence[str]` | parameter | a list | JSON |
| section of contract.config | parameter | the section | its canonical JSON |
| `Beam` | | what makes a Beam pipeline with the run's options | |
| `**inputs: Annotated[Artifact, {key: class, ...}]` | inputs | those that are there | |
| `**values: Output[Artifact]` | outputs that a compiled job adds | all of them | |

With `class | None`, in the table too, it may be left out. Each node has one parameter more,
`source`: the digest of the code that it runs, so that edited code is not answered from the
cache.

TFX's own function components drop keyword-only parameters without a word, need annotations
that are not postponed, and turn bool, list and dict into other types on Vertex AI (TFX
1.21.0: tfx/dsl/component/experimental/function_parser.py).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Annotated, Any, TypeVar

import apache_beam
from tfx import types
from tfx.dsl.components.base import (
    base_beam_executor,
    base_component,
    base_executor,
    executor_spec,
)
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from contract.fields import from_json, to_json
from contract.provenance import source_digest

_Artifact = TypeVar("_Artifact", bound=types.Artifact)
_OUTPUT, _SOURCE = "output", "source"

Output = Annotated[_Artifact, _OUTPUT]
Beam = Callable[[], apache_beam.Pipeline]


@dataclass(frozen=True)
class Parameter:
    """What a function is told, and ML Metadata keeps of each execution."""

    kind: Any  # str, int, Sequence[str] or a section of the configuration
    optional: bool
    default: Any  # None: none

    def recorded(self, value: Any) -> Any:
        """A value as TFX keeps it.

        Raises:
            TypeError: A value of another kind.
        """
        if self.kind in (str, int) or isinstance(value, RuntimeParameter):
            return value  # TFX checks it
        if dataclasses.is_dataclass(self.kind):
            if type(value) is self.kind:
                return to_json(value)
        elif not isinstance(value, str) and all(isinstance(v, str) for v in value):
            return json.dumps(list(value))
        raise TypeError(f"{value!r}: must be {self.kind}")

    def value(self, recorded: Any) -> Any:
        """The value that was recorded."""
        if self.kind in (str, int):
            return recorded
        if dataclasses.is_dataclass(self.kind):
            return from_json(typing.cast(type, self.kind), recorded)
        return json.loads(recorded)


@dataclass(frozen=True)
class Contract:
    """What goes in and out of a function, by name."""

    inputs: dict[str, ChannelParameter] = field(default_factory=dict)
    outputs: dict[str, ChannelParameter] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    beam: list[str] = field(default_factory=list)  # parameters that take Beam
    more_outputs: bool = False


def contract_of(work: Callable[..., None]) -> Contract:
    """Reads the contract of a function from its signature.

    Raises:
        TypeError: A parameter that the table above does not know, by name.
    """
    found = Contract()
    hints = typing.get_type_hints(work, include_extras=True)
    for name, parameter in inspect.signature(work).parameters.items():
        kind, mark, optional = _parsed(hints.get(name))
        more = parameter.kind is parameter.VAR_KEYWORD
        if more and isinstance(mark, Mapping):
            for key, entry in mark.items():
                kind, _, optional = _parsed(entry)
                found.inputs[key] = ChannelParameter(kind, optional=optional)
        elif more and mark == _OUTPUT:
            found = dataclasses.replace(found, more_outputs=True)
        elif parameter.kind is not parameter.KEYWORD_ONLY or name == _SOURCE:
            raise TypeError(f"{work.__qualname__}: {parameter} cannot be a parameter")
        elif mark == _OUTPUT and not optional:
            found.outputs[name] = ChannelParameter(kind)
        elif inspect.isclass(kind) and issubclass(kind, types.Artifact) and not mark:
            found.inputs[name] = ChannelParameter(kind, optional=optional)
        elif kind == Beam:
            found.beam.append(name)
        elif kind in (str, int, Sequence[str]) or dataclasses.is_dataclass(kind):
            default = parameter.default
            if default is parameter.empty:
                default = None
            found.parameters[name] = Parameter(kind, optional, default)
        else:
            raise TypeError(f"{work.__qualname__}: {parameter} is of no known kind")
    return found


def _parsed(annotation: Any) -> tuple[Any, Any, bool]:
    """Type, mark of Annotated, and whether None may stand in its place."""
    members = typing.get_args(annotation)
    optional = NoneType in members
    if optional:
        (annotation,) = (member for member in members if member is not NoneType)
    mark = None
    if typing.get_origin(annotation) is Annotated:
        annotation, mark = typing.get_args(annotation)
    return annotation, mark, optional


def executor_of(work: Callable[..., None]) -> type[base_executor.BaseExecutor]:
    """The class by which TFX calls a function; its module must name it `Executor`.

    Raises:
        TypeError: As `contract_of`.
    """
    contract = contract_of(work)
    named = inspect.signature(work).parameters

    def do(
        self: Any,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        given: dict[str, Any] = {}
        for name, channel in contract.inputs.items():
            if input_dict.get(name) or (name in named and not channel.optional):
                given[name] = _single(input_dict, name)
            elif name in named:
                given[name] = None
        for name in output_dict if contract.more_outputs else contract.outputs:
            given[name] = _single(output_dict, name)
        for name, parameter in contract.parameters.items():
            recorded = exec_properties.get(name)
            given[name] = parameter.default
            if recorded is not None:
                given[name] = parameter.value(recorded)
            elif parameter.default is None and not parameter.optional:
                raise ValueError(f"{name}: no value is given")
        for name in contract.beam:
            given[name] = self._make_beam_pipeline
        work(**given)

    base = base_executor.BaseExecutor
    if contract.beam:
        base = base_beam_executor.BaseBeamExecutor
    made = {
        "Do": do,
        "CONTRACT": contract,
        "__doc__": work.__doc__,
        "__module__": work.__module__,
    }
    return typing.cast(
        type[base_executor.BaseExecutor], type("Executor", (base,), made)
    )


def _single(artifacts: Mapping[str, Sequence[types.Artifact]], name: str) -> Any:
    found = artifacts.get(name) or ()
    if len(found) != 1:
        raise ValueError(f"{name}: {len(found)} artifacts are given, 1 is needed")
    return found[0]


class Component(base_component.BaseComponent):
    """A node that carries out a function, whose signature is the contract.

        class Name(Component, executor=Executor):

    `source=False`: for a node that the parameter `source` would say nothing of.
    """

    def __init_subclass__(
        cls,
        *,
        executor: type[base_executor.BaseExecutor],
        source: bool = True,
    ) -> None:
        super().__init_subclass__()
        contract: Contract = executor.CONTRACT
        parameters = {
            name: ExecutionParameter(int if p.kind is int else str, p.optional)
            for name, p in contract.parameters.items()
        }
        if source:
            parameters[_SOURCE] = ExecutionParameter(str)
        cls.SPEC_CLASS = type(
            f"{cls.__name__}Spec",
            (types.ComponentSpec,),
            {
                "PARAMETERS": parameters,
                "INPUTS": contract.inputs,
                "OUTPUTS": contract.outputs,
                "__module__": cls.__module__,
            },
        )
        kind = executor_spec.ExecutorClassSpec
        if contract.beam:
            kind = executor_spec.BeamExecutorSpec
        cls.EXECUTOR_SPEC = kind(executor)

    def __init__(self, **given: Any) -> None:
        """Creates the node.

        Args:
            **given: Channels and values by the names of the function's parameters; None
                is as good as left out.

        Raises:
            TypeError: An unknown name, or a value of another kind.
            ValueError: One that is needed is missing.
        """
        executor = self.EXECUTOR_SPEC.executor_class
        contract: Contract = executor.CONTRACT
        known = contract.inputs.keys() | contract.parameters.keys()
        if unknown := sorted(given.keys() - known):
            raise TypeError(
                f"{type(self).__name__} takes no {', '.join(unknown)}; it takes "
                f"{', '.join(sorted(known))}"
            )
        for name, parameter in contract.parameters.items():
            value = given.get(name)
            if value is None:
                value = parameter.default
            if value is not None:
                given[name] = parameter.recorded(value)
        for name, channel in contract.outputs.items():
            given[name] = types.Channel(channel.type)
        if _SOURCE in self.SPEC_CLASS.PARAMETERS:
            file = executor.__module__.replace(".", "/") + ".py"
            given[_SOURCE] = source_digest(file)
        super().__init__(
            self.SPEC_CLASS(**{k: v for k, v in given.items() if v is not None})
        )

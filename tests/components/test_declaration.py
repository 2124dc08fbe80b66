"""Contracts of components: each as its function's source says, and written in one place."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from tfx import types
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types.standard_artifacts import Examples, Model, PushedModel, String
from tfx.utils import import_utils

from components.declaration import Beam, Component, Output, contract_of, executor_of
from contract.config.canary import CanaryConfig
from contract.fields import to_json
from contract.provenance import source_digest

pytestmark = pytest.mark.tf

PROJECT = Path(__file__).parents[2]
# Those made of a function; two subclass a component of TFX's, which is TFX's own contract.
COMPONENTS = {
    path.parent.relative_to(PROJECT)
    for room in ("components", "pipeline/vertex/steps")
    for path in (PROJECT / room).glob("*/component.py")
} - {Path("components/transform"), Path("pipeline/vertex/steps/train")}
given: dict[str, Any] = {}


def work(
    *,
    examples: Examples,
    model: Model | None,
    split: str,
    count: int,
    names: Sequence[str] = (),
    section: CanaryConfig,
    folder: str | None,
    pushed: Output[PushedModel],
    make: Beam,
    **others: Annotated[types.Artifact, {"a": Model, "b": Examples | None}],
) -> None:
    """Does nothing."""
    given.update(locals())


Executor = executor_of(work)


class Node(Component, executor=Executor):
    """Of all kinds."""


SECTION = CanaryConfig(requests=3)
VALUES = {"split": "eval", "count": 5, "section": SECTION}


def channels(**kinds: Any) -> dict[str, types.Channel]:
    return {name: types.Channel(kind) for name, kind in kinds.items()}


def artifact(kind: Any) -> Any:
    made = kind()
    made.uri = f"/nowhere/{kind.__name__}"
    return made


def test_a_node_has_what_its_function_names():
    node = Node(**channels(examples=Examples, a=Model), **VALUES)
    assert node.exec_properties == {
        "split": "eval",
        "count": 5,
        "names": "[]",
        "section": to_json(SECTION),
        "source": source_digest("tests/components/test_declaration.py"),
    }
    assert list(node.inputs) == ["examples", "a"]
    assert {key: channel.type for key, channel in node.outputs.items()} == {
        "pushed": PushedModel
    }
    assert node.id == "Node"
    assert node.type == f"{__name__}.Node"
    assert Executor.__doc__ == work.__doc__


def test_an_executor_gives_the_function_what_the_node_recorded():
    node = Node(
        **channels(examples=Examples, a=Model, b=Examples, model=Model),
        names=("x", "y"),
        folder="gs://b/f",
        **VALUES,
    )
    inputs = {key: [artifact(channel.type)] for key, channel in node.inputs.items()}
    pushed = artifact(PushedModel)
    context = base_beam_executor.BaseBeamExecutor.Context(
        make_beam_pipeline_fn=lambda: "pipeline"  # type: ignore
    )
    kind = import_utils.import_class_by_path(node.executor_spec.class_path)
    assert kind is Executor
    given.clear()
    kind(context).Do(inputs, {"pushed": [pushed]}, node.exec_properties)
    assert given.pop("make")() == "pipeline"
    assert given == {
        "examples": inputs["examples"][0],
        "model": inputs["model"][0],
        "others": {"a": inputs["a"][0], "b": inputs["b"][0]},
        "pushed": pushed,
        "names": ["x", "y"],
        "folder": "gs://b/f",
        **VALUES,
    }


def test_what_may_be_left_out_is_none():
    node = Node(**channels(examples=Examples, a=Model), model=None, **VALUES)
    inputs = {key: [artifact(channel.type)] for key, channel in node.inputs.items()}
    given.clear()
    Executor().Do(
        {**inputs, "model": []}, {"pushed": [artifact(PushedModel)]},
        node.exec_properties,
    )  # fmt: skip
    assert (given["model"], given["folder"], given["names"]) == (None, None, [])
    assert list(given["others"]) == ["a"]


GOOD: dict[str, Any] = {**channels(examples=Examples, a=Model), **VALUES}


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        (
            {"example": GOOD["examples"]},
            TypeError,
            "Node takes no example; it takes a, b",
        ),
        ({"source": "00"}, TypeError, "Node takes no source"),
        ({"pushed": types.Channel(PushedModel)}, TypeError, "Node takes no pushed"),
        ({"examples": None}, ValueError, "examples"),
        ({"a": None}, ValueError, "'a'"),
        ({"split": None}, ValueError, "split"),
        ({"examples": types.Channel(Model)}, TypeError, "examples"),
        ({"count": "5"}, TypeError, "count"),
        ({"names": "ab"}, TypeError, "'ab': must be"),
        ({"names": ["a", 1]}, TypeError, "must be"),
        ({"section": to_json(SECTION)}, TypeError, "must be"),
    ],
)
def test_what_a_node_cannot_be_made_of_is_refused_by_name(changed, error, words):
    with pytest.raises(error, match=words):
        Node(**{**GOOD, **changed})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({}, "examples: 0 artifacts"), ({"examples": 2, "a": 1}, "examples: 2 artifacts")],
)
def test_an_executor_refuses_what_is_not_one_artifact(inputs, words):
    node = Node(**GOOD)
    with pytest.raises(ValueError, match=words):
        Executor().Do(
            {key: [artifact(Examples)] * count for key, count in inputs.items()},
            {"pushed": [artifact(PushedModel)]},
            node.exec_properties,
        )


def test_an_executor_refuses_a_value_that_is_missing():
    inputs = {"examples": [artifact(Examples)], "a": [artifact(Model)]}
    with pytest.raises(ValueError, match="split: no value is given"):
        Executor().Do(inputs, {"pushed": [artifact(PushedModel)]}, {"count": 5})


def test_a_run_may_give_a_parameter():
    parameter = RuntimeParameter(name="given", ptype=str)
    node = Node(**{**GOOD, "split": parameter})
    assert node.exec_properties["split"] is parameter


def positional(examples: Examples) -> None: ...
def unmarked(*, examples) -> None: ...
def listed(*, examples: list[Examples]) -> None: ...
def truth(*, wanted: bool) -> None: ...
def fraction(*, rate: float) -> None: ...
def half(*, pushed: Output[PushedModel] | None) -> None: ...
def taken(*, source: str) -> None: ...
def anything(**others: Examples) -> None: ...


@pytest.mark.parametrize(
    "function",
    [positional, unmarked, listed, truth, fraction, half, taken, anything],
    ids=lambda function: function.__name__,
)
def test_no_parameter_is_passed_over(function):
    """As TFX's function components pass over keyword-only ones."""
    with pytest.raises(TypeError, match=f"{function.__name__}: "):
        contract_of(function)


def test_outputs_that_only_a_compiled_job_has_are_handed_on():
    def hand_out(*, pushed: Output[PushedModel], **values: Output[String]) -> None:
        given.update(pushed=pushed, values=values)

    outputs = {"pushed": [artifact(PushedModel)], "x": [artifact(String)]}
    executor_of(hand_out)().Do({}, outputs, {})
    assert given["values"] == {"x": outputs["x"][0]}
    assert list(contract_of(hand_out).outputs) == ["pushed"]


# The components of this project, held against the text of their functions.


def node_class(package: Path) -> Any:
    module = importlib.import_module(".".join([*package.parts, "component"]))
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Component)
        if value is not Component
    )
    return found


def function_of(package: Path) -> ast.FunctionDef:
    """The function that `executor_of` is given, from the source."""
    tree = ast.parse((PROJECT / package / "executor.py").read_text())
    (name,) = (
        call.args[0].id  # type: ignore
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "executor_of"
    )
    return next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )


def last_name(annotation: str) -> str:
    return annotation.rpartition(".")[2]


@pytest.mark.parametrize("package", sorted(COMPONENTS), ids=str)
def test_a_contract_is_what_the_source_of_its_function_says(package):
    """Read by other means: as text."""
    node, function = node_class(package), function_of(package)
    spec = node.SPEC_CLASS
    assert not function.args.args
    assert not function.args.posonlyargs
    # The first step hands the digests out.
    seen: set[str] = {"source"} - (
        {"source"} if package.name == "first_step" else set()
    )
    for argument in function.args.kwonlyargs:
        name, annotation = argument.arg, ast.unparse(argument.annotation)  # type: ignore
        optional = annotation.endswith(" | None")
        kind = annotation.removesuffix(" | None")
        if kind == "Beam":
            continue
        seen.add(name)
        if kind.startswith("Output["):
            channel = spec.OUTPUTS[name]
            assert channel.type.__name__ == last_name(kind.removesuffix("]")[7:])
        elif name in spec.INPUTS:
            channel = spec.INPUTS[name]
            assert channel.type.__name__ == last_name(kind)
            assert channel.optional is optional
        else:
            recorded = spec.PARAMETERS[name]
            assert recorded.type is (int if kind == "int" else str), name
            assert recorded.optional is optional
            assert kind in ("int", "str", "Sequence[str]") or kind.endswith("Config")
    table = function.args.kwarg
    declared = {*spec.PARAMETERS, *spec.INPUTS, *spec.OUTPUTS}
    assert seen == declared if table is None else seen <= declared
    beam = any(ast.unparse(a.annotation) == "Beam" for a in function.args.kwonlyargs)  # type: ignore
    assert isinstance(node.EXECUTOR_SPEC, executor_spec.BeamExecutorSpec) is beam


@pytest.mark.parametrize("package", sorted(COMPONENTS), ids=str)
def test_a_function_documents_each_of_its_parameters(package):
    function = function_of(package)
    documented = ast.get_docstring(function) or ""
    assert "Args:" in documented
    for argument in function.args.kwonlyargs:
        assert f"\n    {argument.arg}: " in documented, argument.arg


@pytest.mark.parametrize("package", sorted(COMPONENTS), ids=str)
def test_a_component_is_loaded_by_the_paths_of_its_package(package):
    node = node_class(package)
    path = ".".join([*package.parts, "executor", "Executor"])
    assert node.EXECUTOR_SPEC.class_path == path
    assert import_utils.import_class_by_path(path) is node.EXECUTOR_SPEC.executor_class
    assert node.__module__ == ".".join([*package.parts, "component"])


TFX_DICTIONARIES = {"input_dict", "output_dict", "exec_properties"}


def keys_written(path: Path) -> set[str]:
    """The texts by which a file names keys: of constants, and in TFX's dictionaries."""
    tree = ast.parse(path.read_text())
    places: list[ast.AST] = []
    if path.name in ("component.py", "executor.py"):
        places += [
            entry.value
            for entry in tree.body
            if isinstance(entry, ast.Assign)
            if ast.unparse(entry.targets[0]).strip("()").isupper()
        ]
    for entry in ast.walk(tree):
        if isinstance(entry, ast.Subscript):
            if ast.unparse(entry.value) in TFX_DICTIONARIES:
                places.append(entry.slice)
        elif isinstance(entry, ast.Call):
            called = ast.unparse(entry.func)
            if called in {f"{name}.get" for name in TFX_DICTIONARIES}:
                places += entry.args
    if path.name == "component.py":
        places = [tree]
    return {
        constant.value
        for place in places
        for constant in ast.walk(place)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


@pytest.mark.parametrize("package", sorted(COMPONENTS), ids=str)
def test_a_key_of_a_component_stands_in_one_place(package):
    spec = node_class(package).SPEC_CLASS
    keys = {*spec.PARAMETERS, *spec.INPUTS, *spec.OUTPUTS}
    again = {
        path.name: names
        for path in (PROJECT / package).glob("*.py")
        if (names := keys & keys_written(path))
    }
    assert again == {}
    # Neither do the arguments of another function of TFX's stand beside the first's.
    component = ast.parse((PROJECT / package / "component.py").read_text())
    assert not [node for node in ast.walk(component) if isinstance(node, ast.arg)]

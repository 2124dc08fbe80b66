"""The pipeline parameter `overrides`: strict, typed, and the same on both ends."""

import json
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contract.config.canary import CanaryConfig
from contract.config.run import RunConfig
from contract.fields import (
    ConfigError,
    assignment,
    from_json,
    leaves,
    override,
    to_json,
)
from pipeline.vertex import overrides
from pipeline.vertex.overrides import decode, encode

FIELDS = leaves(RunConfig)
FREE = sorted(name for name in FIELDS if not overrides.is_compiled(name))


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        decode(text)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("overrides")
    return message


def values(name: str) -> st.SearchStrategy:
    """Legal values of a field, of its own type."""
    field = FIELDS[name]
    kinds = [k.strip() for k in str(field.annotation).split("|")]
    options = []
    if "Literal" in str(field.annotation):
        options.append(st.sampled_from(list(field.annotation.__args__)))
    elif field.annotation is bool:
        options.append(st.booleans())
    elif "int" in str(kinds[0]):
        options.append(st.integers(int(field.low), int(field.high)))
    elif "float" in str(kinds[0]):
        options.append(st.floats(field.low, field.high, allow_subnormal=False))
    else:
        letters = string.ascii_letters + string.digits + '/:._-äß€ "\\'
        text = st.text(letters, min_size=1, max_size=30)
        fits = field.problem or (lambda _: None)
        options.append(
            text.filter(lambda t: t.strip() and t.lower() not in NONE and not fits(t))
        )
    if "None" in str(field.annotation):
        options.append(st.none())
    return st.one_of(options)


NONE = ("none", "null")

chosen = st.lists(st.sampled_from(FREE), unique=True, max_size=8).flatmap(
    lambda names: st.fixed_dictionaries({name: values(name) for name in names})
)


@given(chosen)
def test_what_is_encoded_is_decoded(values):
    text = encode({k: assignment(k, v).split("=", 1)[1] for k, v in values.items()})
    assert decode(text) == values
    assert {k: type(v) for k, v in decode(text).items()} == {
        k: float if FIELDS[k].annotation in (float, float | None) and v is not None
        else type(v)
        for k, v in values.items()
    }  # fmt: skip


@given(chosen)
def test_the_text_is_canonical(values):
    given = {k: assignment(k, v).split("=", 1)[1] for k, v in values.items()}
    text = encode(given)
    assert text == encode(dict(reversed(given.items())))
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@given(chosen)
def test_decoded_overrides_are_those_of_a_command_line(values):
    texts = [assignment(k, v) for k, v in values.items()]
    by_command_line = override(RunConfig(), dict(t.split("=", 1) for t in texts))
    assert override(RunConfig(), decode(json.dumps(values))) == by_command_line


@given(chosen, st.randoms())
def test_a_name_twice_is_refused_even_with_the_same_value(values, random):
    assume(values)
    pairs = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in values.items()]
    name = random.choice(list(values))
    pairs.append(f"{json.dumps(name)}: {json.dumps(values[name])}")
    random.shuffle(pairs)
    assert name in refusal("{" + ", ".join(pairs) + "}")


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused_in_one_sentence(text):
    try:
        decoded = decode(text)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("overrides")
    else:
        assert json.loads(text) == {} == decoded


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(FREE), JSON)
def test_any_value_is_taken_as_the_command_line_takes_it_or_refused(name, value):
    text = json.dumps({name: value})
    try:
        decoded = decode(text)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert name in str(error) or "NaN" in str(error) or "Infinity" in str(error)
        return
    assert override(RunConfig(), decoded) == override(RunConfig(), {name: value})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_has_not_are_refused(text):
    message = refusal('{"train.epochs": ' + text + "}")
    assert message == f"overrides: {text} is not JSON; give a finite number"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", '"train.epochs=3"', "null", "{'train.epochs': 3}", "{}{}", "["],
)
def test_only_an_object_is_taken(text):
    assert '{"train.epochs": 3}' in refusal(text)


def test_endless_nesting_is_refused():
    refusal('{"train.epochs": ' + "[" * 100_000)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"train.epochs": "3"}', 'train.epochs="3": must be a number'),
        ('{"train.epochs": true}', "train.epochs=true: must be a number"),
        ('{"train.epochs": [3]}', "train.epochs=[3]: must be a number"),
        ('{"train.epochs": {"value": 3}}', "must be a number"),
        ('{"train": {"epochs": 3}}', "train: there is no such configuration field"),
        ('{"train.steps": 3.0}', "train.steps=3.0: must be a whole number"),
        ('{"train.steps": 0}', "train.steps=0: must be a whole number from 1"),
        ('{"train.flip": 1}', "train.flip=1: must be true or false"),
        ('{"train.flip": "true"}', 'train.flip="true": must be true or false'),
        ('{"candidate.network": 164}', 'candidate.network=164: must be text in quotes'),
        ('{"candidate.network": null}', "candidate.network=null: must be text"),
        ('{"data.name": "mnist"}', "data.name=mnist: must be one of auto, cifar10"),
        ('{"train.epoch": 3}', "did you mean train.epochs?"),
        ('{"train.epochs": 1e999}', "train.epochs=inf: must be a number"),
        ('{"train.steps": 1' + "0" * 400 + "}", "must be a whole number"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_the_rule(text, rule):
    assert rule in refusal(text)


@pytest.mark.parametrize("name", sorted(set(leaves(RunConfig)) - set(FREE)))
def test_what_is_compiled_is_fixed(name):
    assert f"{name} is fixed when the pipeline is compiled" in refusal(
        json.dumps({name: "x"})
    )
    with pytest.raises(ConfigError, match="fixed when the pipeline is compiled"):
        encode({name: "x"})


def test_the_fixed_fields_are_all_of_vertex_and_those_of_places_and_nodes():
    fixed = overrides.fixed(RunConfig())
    assert {name for name in fixed if not name.startswith("vertex.")} == {
        "contenders", "pipeline_name", "output_root", "enable_cache", "serving.push",
        "serving.base_directory", "batch_predict.images",
    }  # fmt: skip
    assert {name for name in leaves(RunConfig) if name.startswith("vertex.")} <= set(
        fixed
    )
    assert fixed["vertex.region"] == "us-central1"


def test_split_parts_every_assignment_once():
    given = {
        "vertex.scheduling": "spot",
        "train.epochs": "3",
        "serving.push": "registry",
    }
    fixed, free = overrides.split(given)
    assert fixed == {"vertex.scheduling": "spot", "serving.push": "registry"}
    assert free == {"train.epochs": "3"}


@pytest.mark.parametrize("text", ["250", "250.0", "2.5e2"])
def test_a_limit_stays_a_number_all_the_way_to_the_canary(text):
    """Parameters of nodes are text and whole numbers; a limit is neither."""
    found = decode(f'{{"canary.max_p99_ms": {text}, "canary.max_latency_ratio": 3}}')
    config = override(
        RunConfig(),
        dict(assignment(name, value).split("=", 1) for name, value in found.items()),
    )
    # As the first step hands it out, and the node's executor reads it.
    parameter = to_json(config.canary)
    section = from_json(CanaryConfig, parameter)
    assert isinstance(section.max_p99_ms, float) and section.max_p99_ms == 250
    assert isinstance(section.max_latency_ratio, float)
    assert '"max_p99_ms":250.0' in parameter  # one text, so one key in the cache

"""Every node of every DAG has one row in the table, and every row a node."""

import functools
import itertools
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from contract.config.run import RunConfig
from contract.fields import override, parse_assignments
from pipeline import nodes
from pipeline.local import rules as local_rules
from pipeline.presets import PRESETS
from pipeline.resolve import resolve
from pipeline.vertex import rules as vertex_rules
from pipeline.vertex.estimate.prices import PRICES
from trainer.program import weight_shapes
from trainer.units import parse_network

PROJECT = Path(__file__).parents[2]
TWO = ("baseline", "candidate")
# DAGs by the engine and serving.push; local runs push into a directory.
DAGS = [("local", "directory")] + [
    ("vertex", push) for push in ("directory", "registry", "endpoint")
]
ALL_DAGS = [(*dag, preset) for dag, preset in itertools.product(DAGS, PRESETS)]


@functools.cache
def dag(engine: str, push: str, preset: str) -> dict:
    """Id -> node."""
    from pipeline.dag import create_pipeline
    from pipeline.local.engine import Local
    from pipeline.vertex import jobs
    from pipeline.vertex.compile import first_step
    from pipeline.vertex.engine import Vertex

    typed = [f"preset={preset}", f"serving.push={push}"]
    if engine == "local":
        typed += ["data.name=digits"]
        config = resolve(typed, {}, "/", local_rules).config
        pipeline = create_pipeline(config, "", Local(config))
    else:
        typed += ["vertex.project=my-project", "output_root=gs://my-bucket/cifar"]
        typed += ["batch_predict.images=gs://my-bucket/photos"]
        config = resolve(typed, {}, "/", vertex_rules).config
        training_jobs = {
            role: jobs.training_job(config, role) for role in ("baseline", "candidate")
        }
        pipeline = create_pipeline(
            config,
            "",
            Vertex(config, training_jobs, first_step(config, training_jobs)),
        )
    return {node.id: node for node in pipeline.components}


@pytest.mark.tf
@pytest.mark.parametrize(("engine", "push", "preset"), ALL_DAGS)
def test_every_node_is_of_one_kind_and_a_known_one_of_it(engine, push, preset):
    for name in dag(engine, push, preset):
        kind = nodes.kind_of(name)  # one, or it raises
        assert name in kind.ids(TWO)
        assert kind.push is None or push in kind.push


@pytest.mark.tf
def test_the_cache_knows_initial_weights_by_their_contents(tmp_path):
    from pipeline.dag import create_pipeline
    from pipeline.local.engine import Local

    def trainers(value: float) -> dict[str, dict]:
        shapes = weight_shapes(parse_network("preact_resnet8"), 10)
        arrays = {name: np.full(shape, value) for name, shape in shapes.items()}
        np.savez(tmp_path / "w.npz", **arrays)
        typed = ["preset=smoke", "data.name=digits"]
        typed += [f"candidate.initial_weights={tmp_path}/w.npz"]
        config = resolve(typed, {}, "/", local_rules).config
        return {
            node.id: json.loads(node.exec_properties["custom_config"])
            for node in create_pipeline(config, "", Local(config)).components
            if node.id.endswith("Trainer")
        }

    one, other = trainers(1.0), trainers(2.0)
    assert one["BaselineTrainer"] == other["BaselineTrainer"]
    key = "initial_weights_digest"
    assert key not in one["BaselineTrainer"]
    assert one["CandidateTrainer"].pop(key) != other["CandidateTrainer"].pop(key)
    assert one["CandidateTrainer"] == other["CandidateTrainer"]


@pytest.mark.tf
@pytest.mark.parametrize("push", ["directory", "registry", "endpoint"])
def test_on_vertex_ai_every_kind_has_its_nodes(push):
    expected = {
        name
        for kind in nodes.KINDS.values()
        if kind.push is None or push in kind.push
        for name in kind.ids(TWO)
    }
    assert set(dag("vertex", push, "quick")) == expected


def test_a_run_has_a_node_if_it_pushes_so_and_its_field_is_given():
    def there(*typed: str) -> set[str]:
        config = override(RunConfig(), parse_assignments(typed))
        return {name for name, kind in nodes.KINDS.items() if kind.is_in(config)}

    some = {"VertexPush", "BatchPredict"}
    assert there() == nodes.KINDS.keys() - some
    assert there("serving.push=registry") == nodes.KINDS.keys() - {"BatchPredict"}
    assert there("batch_predict.images=gs://b/c") == nodes.KINDS.keys() - {"VertexPush"}


@pytest.mark.tf
def test_every_kind_has_a_node_somewhere():
    found = {name for engine, push in DAGS for name in dag(engine, push, "quick")}
    assert found == {name for kind in nodes.KINDS.values() for name in kind.ids(TWO)}


@pytest.mark.tf
@pytest.mark.parametrize(("engine", "push"), DAGS)
def test_what_carries_a_node_out_is_what_tfx_says(engine, push):
    from tfx.components.trainer.component import Trainer
    from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

    for name, node in dag(engine, push, "quick").items():
        work = nodes.kind_of(name).work
        assert (work == "training") == isinstance(node, Trainer), name
        executor = getattr(node, "executor_spec", None)
        assert (work == "beam") == isinstance(executor, BeamExecutorSpec), name


@pytest.mark.tf
@pytest.mark.parametrize(("engine", "push"), DAGS)
def test_parts_of_the_report_are_outputs_of_the_node(engine, push):
    from tfx.types import standard_artifacts

    from components import artifacts

    found = dag(engine, push, "quick")
    for name, part in nodes.parts(TWO).items():
        if part.node not in found:
            continue
        kind = found[part.node].outputs[part.output.key].type
        module = (
            artifacts if hasattr(artifacts, part.output.type) else standard_artifacts
        )
        assert kind.TYPE_NAME == getattr(module, part.output.type).TYPE_NAME, name


def test_a_level_is_the_longest_way_from_the_first_node():
    # tests/pipeline/vertex/test_compile.py holds this file against the DAG.
    golden = PROJECT / "tests/pipeline/vertex/golden/gpu8.json"
    root = json.loads(golden.read_text("utf-8"))["pipelineSpec"]["root"]
    tasks = root["dag"]["tasks"]

    @functools.cache
    def level(name: str) -> int:
        before = tasks[name].get("dependentTasks", ())
        return 1 + max(map(level, before), default=-1)

    assert {name: level(name) for name in tasks} == {
        name: kind.level for kind in nodes.KINDS.values() for name in kind.ids(TWO)
    }
    levels = [kind.level for kind in nodes.KINDS.values()]
    assert levels == sorted(levels)  # those of one level stand together


def test_parts_are_called_as_the_report_calls_them():
    # Inputs of the node Report: a compiled specification of another release names them.
    assert {
        name: f"{part.node}.{part.output.key}"
        for name, part in nodes.parts(TWO).items()
    } == {
        "examples": "CifarExampleGen.examples",
        "schema": "DatasetSchema.schema",
        "statistics": "StatisticsGen.statistics",
        "invariants": "DataInvariants.schema",
        "previous_statistics": "PreviousStatistics.previous_statistics",
        "anomalies": "ExampleValidator.anomalies",
        "transform_graph": "Transform.transform_graph",
        "baseline": "BaselineTrainer.model",
        "baseline_run": "BaselineTrainer.model_run",
        "candidate": "CandidateTrainer.model",
        "candidate_run": "CandidateTrainer.model_run",
        "in_service": "ModelInService.pushed",
        "evaluation": "Evaluator.evaluation",
        "test_evaluation": "Evaluator.test_evaluation",
        "model": "ModelChooser.model",
        "blessing": "ModelChooser.blessing",
        "decision": "ModelChooser.decision",
        "infra_blessing": "ServingCanary.blessing",
        "pushed_model": "AtomicPusher.pushed_model",
        "registered": "VertexPush.registered",
    }


def test_ids_of_one_kind_are_of_no_other():
    for kind in nodes.KINDS.values():
        for name, contender in zip(kind.ids(TWO), TWO, strict=False):
            assert nodes.kind_of(name) is kind
            assert kind.contender(name) == (contender if kind.per_contender else "")


def test_one_more_contender_is_of_its_kind():
    for kind in ("Trainer", "Answers"):
        found = nodes.kind_of(f"Full_preactivation{kind}")
        assert found is nodes.KINDS[kind]
        assert found.contender(f"Full_preactivation{kind}") == "full_preactivation"
    found = nodes.parts((*TWO, "wide"))
    assert found["wide_run"].node == "WideTrainer"
    # Its number is that of its place; a name is no input of the compiled node.
    assert found["wide_run"].input == "model_run_002"
    assert {name: part.input for name, part in found.items()}.items() >= {
        "baseline": "model_000",
        "candidate_run": "model_run_001",
        "decision": "decision",
        "in_service": "in_service",
    }.items()


def test_the_model_in_service_has_a_row_of_its_own():
    assert nodes.kind_of("InServiceAnswers") is nodes.KINDS["InServiceAnswers"]
    assert nodes.kind_of("InServiceAnswers").contender("InServiceAnswers") == ""


def test_runs_of_earlier_versions_have_the_parts_where_they_had_them():
    assert nodes.parts(TWO)["test_evaluation"].places == (
        ("Evaluator", "test_evaluation"),
        ("TestEvaluator", "evaluation"),
    )


@pytest.mark.parametrize(
    "name",
    ["VertexReport", "Pusher", "BaselineTrainer2", "Trainer", "TestEvaluator", ""],
)
def test_a_node_without_a_row_is_refused_with_its_name(name):
    with pytest.raises(LookupError, match=rf"^'?node {name}: must be of one kind"):
        nodes.kind_of(name)


def test_the_prices_are_of_kinds_of_nodes():
    steps = tomllib.loads(PRICES.read_text("utf-8"))["steps"]
    starts = {"start_seconds", "job_start_seconds", "dataflow_start_seconds"}
    assert starts < steps.keys()
    assert steps.keys() - starts <= nodes.KINDS.keys()


def test_the_documents_name_every_node():
    flow = (PROJECT / "docs/pipeline.md").read_text("utf-8")
    table = flow[flow.index("## Stages") : flow.index("## Normalisation")]
    told = re.findall(r"^\| ([A-Z][\w, ]+) \|", table, re.M)
    local = {name for row in told for name in row.split(", ")}
    vertex = (PROJECT / "docs/vertex-reference.md").read_text("utf-8")
    cache = vertex[vertex.index("### Cache") : vertex.index("### Failures")]
    uncached = re.search(r"`pipeline/nodes.py`\): ([\w,\s]+)\.", cache)[1]
    everywhere = {name for kind in nodes.KINDS.values() for name in kind.ids(TWO)}
    on_vertex = {"RunConfiguration", "VertexPush", "Report"}
    assert local == everywhere - on_vertex
    assert set(re.split(r",\s+", uncached)) == {
        name
        for kind in nodes.KINDS.values()
        if not kind.cached
        for name in kind.ids(TWO)
    }

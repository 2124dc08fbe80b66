"""What a node is: every fact about the nodes of the DAG, one row per kind of node.

pipeline/dag.py says what follows what and what a node is made of; this table what is true
of a node wherever it runs: its title, whether a cache may answer for it, what carries it
out, what it is given on Vertex AI, by which rule its cost is estimated, and which of its
outputs are parts of the report. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from components import numbered
from contract.config.run import RunConfig
from contract.contenders import title
from contract.fields import value_of


@dataclass(frozen=True)
class Resources:
    """What a step on Vertex AI may use that is no training job."""

    cpu: float
    memory_gb: float


# Vertex AI gives a step the closest of its machine types: 4 and 16 is an e2-standard-4. That
# is ample: of a whole local run on 60,000 images, all steps in one process, no step but
# the trainings held more than 2.2 GB, 1.2 of them TensorFlow and TFX. The Trainers' steps
# only wait for their jobs.
_USUAL = Resources(4, 16)
# Answers and BatchPredict run a model over images, on the processor: the deeper the
# network, the more cores pay.
_MANY_CORES = Resources(8, 32)


@dataclass(frozen=True)
class Output:
    """An output that is a part of the report."""

    key: str
    type: str  # class in TFX's standard_artifacts or components.artifacts
    part: str  # name of the part, behind the contender's: "run" is "baseline_run"
    needed: bool = False  # else it is named in the lineage, if it is there at all
    # Node and key of the same in runs of earlier versions, whose reports are still made.
    earlier: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A row: what all nodes of one kind have in common."""

    # The id of its only node; where there is one per contender, what their ids end with.
    name: str
    title: str  # for people, in a few words
    # Length of the longest way to it from the first node on Vertex AI; nodes of one level
    # run at the same time.
    level: int
    per_contender: bool = (
        False  # a node for each, "BaselineTrainer" and so on; else one
    )
    # Values of serving.push with which it is in the DAG; None: with all.
    push: tuple[str, ...] | None = None
    # Field of the configuration without which it is not in the DAG.
    field: str | None = None
    # Whether Vertex AI's cache may answer for it. Not where a node reads or changes
    # something outside the run, so that equal inputs do not mean equal results; nor where
    # it judges the machine it is on.
    cached: bool = True
    # What carries it out: the step itself, Beam's workers, or a job that the step waits for.
    work: Literal["step", "beam", "training"] = "step"
    resources: Resources = _USUAL
    # Cost: besides the seconds that pipeline/vertex/estimate/prices.toml has under its
    # name, a pass of a model over the images of eval and of test.
    forward_passes: bool = False
    outputs: tuple[Output, ...] = ()

    def is_in(self, config: RunConfig) -> bool:
        """Whether the DAG of a run has it, on an engine that has it at all."""
        if self.push is not None and config.serving.push not in self.push:
            return False
        return self.field is None or value_of(config, self.field) is not None

    def ids(self, contenders: Sequence[str]) -> tuple[str, ...]:
        """Of its nodes, in a run of contenders with these names."""
        if not self.per_contender:
            return (self.name,)
        return tuple(f"{title(name)}{self.name}" for name in contenders)

    def has(self, node_id: str) -> bool:
        """Whether a node is of this kind, whatever its contender is called."""
        if not self.per_contender:
            return node_id == self.name
        return node_id.endswith(self.name) and node_id not in (self.name, *KINDS)

    def contender(self, node_id: str) -> str:
        """Whose node it is: "baseline" of BaselineTrainer; empty if it is nobody's."""
        return node_id.removesuffix(self.name).lower()


# In the order of the DAG.
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="RunConfiguration",  # on Vertex AI
            title="settles what the run does",
            level=0,
            cached=False,  # looks at the data and at the clock
        ),
        Kind(
            name="CifarExampleGen",
            title="images of a source, as examples in train, eval and test",
            level=1,
            work="beam",
            outputs=(Output("examples", "Examples", "examples", needed=True),),
        ),
        Kind(
            name="DatasetSchema",
            title="what examples must look like",
            level=2,
            outputs=(Output("schema", "Schema", "schema"),),
        ),
        Kind(
            name="DataInvariants",
            title="how far data may move, from run to run and from split to split",
            level=2,
            outputs=(Output("schema", "Schema", "invariants"),),
        ),
        Kind(
            name="StatisticsGen",
            title="statistics of every split",
            level=3,
            work="beam",
            outputs=(Output("statistics", "ExampleStatistics", "statistics"),),
        ),
        Kind(
            name="PreviousStatistics",
            title="finds the statistics of the last accepted run",
            level=3,
            cached=False,  # reads records
            outputs=(
                Output(
                    "previous_statistics", "ExampleStatistics", "previous_statistics"
                ),
            ),
        ),
        Kind(
            name="ExampleValidator",
            title="holds the data against the schema, earlier data and each other",
            level=4,
            cached=False,  # writes a record
            outputs=(Output("anomalies", "ExampleAnomalies", "anomalies"),),
        ),
        Kind(
            name="Transform",
            title="mean and deviation of the train split, as a graph",
            level=5,
            work="beam",
            outputs=(Output("transform_graph", "TransformGraph", "transform_graph"),),
        ),
        Kind(
            name="Trainer",
            title="trains a network",
            level=6,
            per_contender=True,
            work="training",
            outputs=(
                Output("model", "Model", ""),
                Output("model_run", "ModelRun", "run", needed=True),
            ),
        ),
        Kind(
            name="ModelInService",
            title="finds the model in service",
            level=7,
            cached=False,  # reads the ledger
            outputs=(Output("pushed", "PushedModel", "in_service"),),
        ),
        Kind(
            name="Answers",
            title="what a network answers to every image of eval and test",
            level=7,
            per_contender=True,
            resources=_MANY_CORES,
            forward_passes=True,
        ),
        Kind(
            name="InServiceAnswers",
            title="the same of the model in service",
            level=8,
            resources=_MANY_CORES,
            forward_passes=True,
        ),
        Kind(
            name="Evaluator",
            title="compares everyone's answers to the same images",
            level=9,
            work="beam",
            outputs=(
                Output("evaluation", "ModelEvaluation", "evaluation", needed=True),
                Output(
                    "test_evaluation",
                    "ModelEvaluation",
                    "test_evaluation",
                    needed=True,
                    earlier=("TestEvaluator", "evaluation"),
                ),
            ),
        ),
        Kind(
            name="ModelChooser",
            title="the better one, with the reason",
            level=10,
            outputs=(
                Output("model", "Model", "model"),
                Output("blessing", "ModelBlessing", "blessing"),
                Output("decision", "Decision", "decision", needed=True),
            ),
        ),
        Kind(
            name="ServingCanary",
            title="tries the winner in a server of its own",
            level=11,
            cached=False,  # judges this machine
            outputs=(
                Output("blessing", "InfraBlessing", "infra_blessing", needed=True),
            ),
        ),
        Kind(
            name="AtomicPusher",
            title="publishes the winner as a new version",
            level=12,
            cached=False,  # publishes
            outputs=(
                Output("pushed_model", "PushedModel", "pushed_model", needed=True),
            ),
        ),
        Kind(
            name="VertexPush",  # on Vertex AI
            title="registers the new version, and sends an endpoint's requests to it",
            level=13,
            push=("registry", "endpoint"),
            cached=False,  # registers and deploys
            outputs=(Output("registered", "PushedModel", "registered"),),
        ),
        Kind(
            name="Report",  # on Vertex AI; locally the command line writes it
            title="the page and report.json",
            level=14,
            cached=False,  # writes a copy into the output folder
        ),
        Kind(
            name="BatchPredict",
            title="what the new version answers to a folder of images",
            level=15,
            field="batch_predict.images",
            cached=False,  # reads the folder, writes into the output folder
            work="beam",
            resources=_MANY_CORES,
        ),
    )
}


# Behind the Answers of a study, whose other nodes are a run's (studies/dag.py).
STUDY_REPORT = Kind(
    name="StudyReport",
    title="compares the rows of a study, seed by seed",
    level=8,
)


def kind_of(node_id: str) -> Kind:
    """The row of a node.

    Raises:
        LookupError: It has none, or several.
    """
    known = (*KINDS.values(), STUDY_REPORT)
    found = [kind for kind in known if kind.has(node_id)]
    if len(found) != 1:
        names = ", ".join(kind.name for kind in found) or "none"
        raise LookupError(
            f"node {node_id}: must be of one kind in pipeline/nodes.py, and is of {names}"
        )
    return found[0]


@dataclass(frozen=True)
class Part:
    """A part of the report: an output of a node."""

    node: str
    output: Output
    # What the node Report calls it, on Vertex AI: by the part's name, or, of a contender's
    # nodes, by its number.
    input: str

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Node and key of the output, and the earlier ones."""
        now = (self.node, self.output.key)
        return (now, self.output.earlier) if self.output.earlier else (now,)


def parts(contenders: Sequence[str]) -> dict[str, Part]:
    """The report's parts by name, on every engine.

    Args:
        contenders: Their names, the baseline first.
    """
    found = {}
    for kind in KINDS.values():
        for number, node in enumerate(kind.ids(contenders)):
            for output in kind.outputs:
                name = output.part
                if kind.per_contender:
                    name = "_".join(filter(None, (contenders[number], output.part)))
                    place = numbered.key(output.key, number)
                else:
                    place = name
                found[name] = Part(node, output, place)
    return found

"""What a node is: every fact about the nodes of the DAG, one row per kind of node.

pipeline/dag.py says what follows what and what a node is made of; this table what is true
of a node wherever it runs: its title, whether a cache may answer for it, what carries it
out, what it is given on Vertex AI, by which rule its cost is estimated, and which of its
outputs are parts of the report. A leaf: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contract import features
from contract.contenders import BASELINE, CANDIDATE


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
# The evaluators run every contender over the images, on the processor: the deeper the
# networks, the more cores pay.
_MANY_CORES = Resources(8, 32)


@dataclass(frozen=True)
class Output:
    """An output that is a part of the report."""

    key: str
    type: str  # class in TFX's standard_artifacts or components.artifacts
    part: str  # name of the part, behind the member's: "run" is "baseline_run"
    needed: bool = False  # else it is named in the lineage, if it is there at all


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A row: what all nodes of one kind have in common."""

    # The id of its only node; where there are several, what their ids end with.
    name: str
    title: str  # for people, in a few words
    # Length of the longest way to it from the first node on Vertex AI; nodes of one level
    # run at the same time.
    level: int
    # What tells its nodes apart, as their ids begin: "baseline" is the BaselineTrainer.
    members: tuple[str, ...] = ("",)
    # Values of serving.push with which it is in the DAG; None: with all.
    push: tuple[str, ...] | None = None
    # Whether Vertex AI's cache may answer for it. Not where a node reads or changes
    # something outside the run, so that equal inputs do not mean equal results; nor where
    # it judges the machine it is on.
    cached: bool = True
    # What carries it out: the step itself, Beam's workers, or a job that the step waits for.
    work: Literal["step", "beam", "training"] = "step"
    resources: Resources = _USUAL
    # Cost: besides the seconds that pipeline/vertex/estimate/prices.toml has under its
    # name, a pass of all contenders over the split that the member is called.
    forward_passes: bool = False
    outputs: tuple[Output, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its nodes."""
        return tuple(f"{member.capitalize()}{self.name}" for member in self.members)

    def has(self, node_id: str) -> bool:
        """Whether a node is of this kind; of several, also one that is not known yet."""
        if self.members == ("",):
            return node_id == self.name
        return node_id.endswith(self.name)

    def member(self, node_id: str) -> str:
        """Which of its nodes: "baseline" of BaselineTrainer; empty if it has no name."""
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
            members=(BASELINE, CANDIDATE),
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
            name="Evaluator",
            title="compares all contenders on the same images",
            level=8,
            members=("", features.TEST),  # no name: eval, which decides
            work="beam",
            resources=_MANY_CORES,
            forward_passes=True,
            outputs=(
                Output("evaluation", "ModelEvaluation", "evaluation", needed=True),
            ),
        ),
        Kind(
            name="ModelChooser",
            title="the better one, with the reason",
            level=9,
            outputs=(
                Output("model", "Model", "model"),
                Output("blessing", "ModelBlessing", "blessing"),
                Output("decision", "Decision", "decision", needed=True),
            ),
        ),
        Kind(
            name="ServingCanary",
            title="tries the winner in a server of its own",
            level=10,
            cached=False,  # judges this machine
            outputs=(
                Output("blessing", "InfraBlessing", "infra_blessing", needed=True),
            ),
        ),
        Kind(
            name="AtomicPusher",
            title="publishes the winner as a new version",
            level=11,
            cached=False,  # publishes
            outputs=(
                Output("pushed_model", "PushedModel", "pushed_model", needed=True),
            ),
        ),
        Kind(
            name="VertexPush",  # on Vertex AI
            title="registers the new version, and sends an endpoint's requests to it",
            level=12,
            push=("registry", "endpoint"),
            cached=False,  # registers and deploys
            outputs=(Output("registered", "PushedModel", "registered"),),
        ),
        Kind(
            name="Report",  # on Vertex AI; locally the command line writes it
            title="the page and report.json",
            level=13,
            cached=False,  # writes a copy into the output folder
        ),
    )
}


def kind_of(node_id: str) -> Kind:
    """The row of a node.

    Raises:
        LookupError: It has none, or several.
    """
    found = [kind for kind in KINDS.values() if kind.has(node_id)]
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


# The report's parts by name, on every engine.
PARTS: Mapping[str, Part] = {
    "_".join(filter(None, (member, output.part))): Part(node, output)
    for kind in KINDS.values()
    for member, node in zip(kind.members, kind.ids, strict=True)
    for output in kind.outputs
}

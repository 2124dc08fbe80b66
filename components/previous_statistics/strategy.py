"""Which earlier run the data are compared with."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio

from components.example_validator.executor import EXAMPLES_URI, INVARIANTS_URI, NAME
from components.previous_statistics.comparable import of_one_form
from components.previous_statistics.executor import Executor

# As the component that does the same on engines without ML Metadata.
_EXAMPLES, _INVARIANTS = Executor.CONTRACT.inputs
(_PREVIOUS,) = Executor.CONTRACT.outputs


class PreviousStatistics(resolver.ResolverStrategy):
    """Chooses the newest accepted statistics of the same data set from another run.

    - Accepted: the ExampleValidator publishes none of data that it refused, so data that
      are refused once are refused again, and never become the measure of others.
    - From another run: of other examples, or accepted with other thresholds. The same
      command a second time thus finds what the first one found, and is answered from the
      cache; and data that were accepted with a threshold switched off are compared with
      themselves, and pass, when it is back.
    - Of the same data set in the same form: CIFAR-10 after digits in the same folder is no
      drift, nor are images that were reduced to another size, nor other classes.

    Use it as

        Resolver(
            strategy_class=PreviousStatistics,
            examples=example_gen.outputs["examples"],
            invariants=invariants.outputs["schema"],
            previous_statistics=Channel(type=standard_artifacts.ExampleStatistics),
        )

    The channel names no producer: it would be the ExampleValidator, which comes after.
    """

    def resolve_artifacts(
        self,
        store: object,  # noqa: ARG002 - TFX's signature
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Returns the same keys; `previous_statistics` has one artifact or none.

        Args:
            store: Unused.
            input_dict: `examples` and `invariants` of this run, and as
                `previous_statistics` all there are; StatisticsGen's own among them do
                not say of what examples they are.
        """
        (examples,), (invariants,) = input_dict[_EXAMPLES], input_dict[_INVARIANTS]
        this_run = (examples.uri, invariants.uri)
        name = _text(examples, NAME)
        found = [
            artifact
            for artifact in input_dict[_PREVIOUS]
            if _text(artifact, EXAMPLES_URI)
            and _text(artifact, NAME) == name
            and (_text(artifact, EXAMPLES_URI), _text(artifact, INVARIANTS_URI))
            != this_run
            and fileio.exists(artifact.uri)  # people delete folders
            and of_one_form(name, examples.uri, _text(artifact, EXAMPLES_URI))
        ]
        newest = sorted(found, key=lambda artifact: artifact.id)[-1:]
        return input_dict | {_PREVIOUS: newest}


def _text(artifact: types.Artifact, name: str) -> str:
    return artifact.get_string_custom_property(name)

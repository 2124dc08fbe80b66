"""What a verdict does not tell by itself: sentences for page and terminal.

What a network began with, if not with random numbers; what a short training shows of
networks and what it does not; that nothing was compared with the model in service. In: what
was measured, and how the contenders were trained. Out: words, or none where there is nothing
to say. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.model_chooser.choice import percent
from contract.comparison import IN_SERVICE, ComparedModel, Comparison
from contract.model_run import ModelRun
from contract.sentences import enumeration

# He et al. 2016b, appendix: so many steps of so many images.
PUBLISHED_STEPS, PUBLISHED_BATCH = 64_000, 128
# A training on less than this share of the published images is a short one.
_SHORT = 0.1
# A network that still makes this share of the errors of always giving the most frequent
# answer, on the images it is trained on as well, has hardly begun to learn.
_BEGUN = 0.8
_LAST_POINTS = 10  # of the learning curve: single batches are noisy


def of_run(
    comparison: Comparison, trainings: Mapping[str, ModelRun]
) -> tuple[str, ...]:
    """The sentences that a run's verdict needs beside it, without their full stops.

    Args:
        comparison: On the eval split.
        trainings: Contender -> how it was trained.
    """
    errors = {
        name: model.measured.error
        for name in comparison.contenders
        if (model := comparison.models[name]).measured
    }
    found = (
        on_start({name: trainings[name] for name in errors if name in trainings}),
        on_short_training(errors, comparison.constant_error, trainings),
        on_service(comparison.models.get(IN_SERVICE)),
    )
    return tuple(sentence for sentence in found if sentence)


def on_start(trainings: Mapping[str, ModelRun]) -> str | None:
    """Which networks began with trained weights; None where none did.

    Args:
        trainings: Contender -> how it was trained.
    """
    begun = {
        name: run.initial_weights
        for name, run in trainings.items()
        if run.initial_weights
    }
    if not begun:
        return None
    told = enumeration([f"{name} ({path})" for name, path in begun.items()])
    sentence = f"Training began with trained weights for {told}"
    others = [name for name in trainings if name not in begun]
    if others:
        sentence += f", with random ones for {enumeration(others)}"
    frozen = trainings[next(iter(begun))].train.get("freeze", "none")
    if frozen != "none":
        sentence += f"; up to {frozen} the trained ones stayed as they were"
    return sentence


def on_service(served: ComparedModel | None) -> str | None:
    """That the model in service could not be compared, such as for other images' size."""
    if served is None or not served.problem:
        return None
    return (
        f"The model in service, {served.network}, could not be compared with these "
        f"({served.problem.rstrip('.: ')})"
    )


def on_short_training(
    errors: Mapping[str, float],
    constant_error: float,
    trainings: Mapping[str, ModelRun],
) -> str | None:
    """Says what is seen of networks after few steps.

    Args:
        errors: Contender -> error rate on the eval split; those that were measured.
        constant_error: Of whoever always gives the most frequent answer there.
        trainings: Contender -> how it was trained.

    Returns:
        A sentence without its full stop; None where a training was not short, where two
        differ in length, or where that is not known.
    """
    runs = {name: trainings[name] for name in errors if name in trainings}
    lengths = {(run.steps, run.train.get("global_batch_size")) for run in runs.values()}
    if len(runs) < len(errors) or len(lengths) != 1:
        return None
    ((steps, batch),) = lengths
    if not steps or not batch:
        return None
    if steps * batch >= _SHORT * PUBLISHED_STEPS * PUBLISHED_BATCH:
        return None
    after = f"After {steps:,} steps of {batch} images"
    published = f"the papers train {PUBLISHED_STEPS:,} of {PUBLISHED_BATCH}"
    limit = _BEGUN * constant_error
    behind = [n for n in errors if min(errors[n], _last_train_error(runs[n])) > limit]
    others = [name for name in errors if name not in behind]
    if not behind:
        return (
            f"{after} these errors show how easily each network is optimised at this "
            f"learning rate, not the error that it would end with ({published})"
        )
    begun = (
        f"{after} {_listed(behind, errors, runs)} {'have' if behind[1:] else 'has'} hardly "
        f"begun to learn (always the same answer: {percent(constant_error)})"
    )
    if not others:
        return f"{begun}: nothing is seen yet of where they would end ({published})"
    return (
        f"{begun}, unlike {_listed(others, errors, runs)}: what is seen is how easily each "
        "is optimised at this learning rate, not the error that it would end with "
        f"({published})"
    )


def _last_train_error(run: ModelRun) -> float:
    """Share of wrong answers on the last batches; 1 if that was not told."""
    found = [1 - point["accuracy"] for point in run.history if "accuracy" in point]
    last = found[-_LAST_POINTS:]
    return sum(last) / len(last) if last else 1.0


def _listed(
    names: Sequence[str], errors: Mapping[str, float], runs: Mapping[str, ModelRun]
) -> str:
    networks = [run.network for run in runs.values()]
    told = []
    for name in names:
        network = runs[name].network or name
        # Two of the same network differ in their names alone.
        role = f"{name}, " if networks.count(network) > 1 else ""
        told.append(f"{network} ({role}{percent(errors[name])} errors)")
    return enumeration(told)

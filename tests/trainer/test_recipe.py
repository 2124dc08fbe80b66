"""Learning-rate schedules against the figures of the papers."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config.train import TrainConfig
from trainer import recipe


def test_the_paper_warms_up_and_drops_where_it_says():
    config = TrainConfig(schedule="paper", learning_rate=0.1)
    rate = recipe.learning_rate(config, 64_000, per_epoch=351)
    assert [rate(s) for s in (0, 399)] == pytest.approx([0.01, 0.01])
    assert [rate(s) for s in (400, 31_999)] == [0.1, 0.1]
    assert [rate(s) for s in (32_000, 47_999)] == pytest.approx([0.01, 0.01])
    assert [rate(s) for s in (48_000, 63_999)] == pytest.approx([0.001, 0.001])


def test_the_released_code_drops_after_80_and_121_epochs():
    config = TrainConfig(schedule="released", learning_rate=0.1)
    rate = recipe.learning_rate(config, 200 * 782, per_epoch=782)
    assert rate(0) == rate(80 * 782 - 1) == 0.1
    assert rate(80 * 782) == pytest.approx(0.01)
    assert rate(121 * 782 - 1) == pytest.approx(0.01)
    assert rate(121 * 782) == rate(200 * 782 - 1) == pytest.approx(0.001)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@given(steps=st.integers(1, 3000), warmup=st.floats(0, 0.9), peak=st.floats(1e-6, 10))
def test_cycles_rise_to_the_peak_once_and_fall(schedule, steps, warmup, peak):
    config = TrainConfig(schedule=schedule, warmup_fraction=warmup, learning_rate=peak)
    rate = recipe.learning_rate(config, steps, per_epoch=10)
    rates = [rate(step) for step in range(steps)]
    assert all(0 < value <= peak * (1 + 1e-9) for value in rates)
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(peak)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_lengths():
    config = TrainConfig(epochs=182, global_batch_size=128)
    assert recipe.total_steps(config, 45_000) == 182 * 351
    kept = dataclasses.replace(config, last_batch="keep")
    assert recipe.total_steps(kept, 45_000) == 182 * 352
    assert recipe.total_steps(dataclasses.replace(config, epochs=0.001), 45_000) == 1
    assert recipe.total_steps(dataclasses.replace(config, steps=7), 45_000) == 7


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ValueError, match="global_batch_size=128.*only 100 images"):
        recipe.total_steps(TrainConfig(global_batch_size=128), 100)


def test_a_plateau_ends_after_so_many_evaluations_without_a_new_lowest_error():
    config = TrainConfig(schedule="plateau", plateau_evaluations=2)

    def drops(*accuracies):
        points = [{"step": 1, "epoch": 1.0, "eval_accuracy": a} for a in accuracies]
        return recipe.drops(config, [{"step": 1, "epoch": 1.0, "loss": 1.0}, *points])

    assert drops() == 0
    assert drops(0.5, 0.6, 0.6) == 0
    assert drops(0.5, 0.6, 0.6, 0.59) == 1
    # The next one needs two more, even though the best is as far away as before.
    assert drops(0.5, 0.6, 0.6, 0.59, 0.6) == 1
    assert drops(0.5, 0.6, 0.6, 0.59, 0.6, 0.6) == 2
    assert drops(0.5, 0.6, 0.6, 0.59, 0.7, 0.6) == 1
    assert (
        recipe.drops(TrainConfig(), [{"step": 1, "epoch": 1, "eval_accuracy": 0}] * 9)
        == 0
    )


def test_evaluations_come_after_passes_or_as_asked():
    assert recipe.evaluate_every(TrainConfig(), 351) == 351
    assert recipe.evaluate_every(TrainConfig(evaluation_steps=20), 351) == 20

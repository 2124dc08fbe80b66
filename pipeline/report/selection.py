"""Which models the page shows where there is no room for all of a run.

Tables of results and differences show every contender. Figures can tell so many apart, see
looks.py; and what is shown in detail is held against the baseline one at a time.
"""

from __future__ import annotations

from collections.abc import Collection

from contract.comparison import BASELINE, CANDIDATE, IN_SERVICE, Comparison
from pipeline.report import looks


def best_first(comparison: Comparison) -> list[str]:
    """The contenders that were measured, by their error; at a tie in their usual order."""
    rates = {
        name: measured.error
        for name in comparison.contenders
        if (measured := comparison.models[name].measured)
    }
    return sorted(rates, key=lambda name: rates[name])


def rival(comparison: Comparison, winner: str | None) -> str:
    """Who is held against the baseline in detail: the winner, or the best of the others.

    Of two contenders it is the candidate, whatever it did.
    """
    if winner in comparison.contenders and winner != BASELINE:
        return winner
    others = [name for name in best_first(comparison) if name != BASELINE]
    return others[0] if others else CANDIDATE


def drawn(comparison: Comparison, winner: str | None) -> list[str]:
    """The models in figures, in their usual order, the model in service last.

    Of more contenders than can be told apart: the baseline, the candidate, the winner and
    those with the lowest errors.
    """
    contenders = list(comparison.contenders)
    if len(contenders) > looks.MOST_CONTENDERS:
        first = [BASELINE, CANDIDATE, rival(comparison, winner)]
        ranked = dict.fromkeys([*first, *best_first(comparison), *contenders])
        kept = [name for name in ranked if name in comparison.models]
        kept = kept[: looks.MOST_CONTENDERS]
        contenders = [name for name in contenders if name in kept]
    served = [IN_SERVICE] if IN_SERVICE in comparison.models else []
    return contenders + served


def disagreeing(
    comparison: Comparison, winner: str | None, answered: Collection[str]
) -> tuple[str, str] | None:
    """The two whose answers are shown side by side; None where fewer than two answered.

    The baseline and its rival; where one of them has no answers, the two best.
    """
    pair = (BASELINE, rival(comparison, winner))
    if not set(pair) <= set(answered):
        best = [name for name in best_first(comparison) if name in answered][:2]
        pair = tuple(name for name in comparison.contenders if name in best)
    return (pair[0], pair[1]) if len(pair) == 2 else None

"""How models are told apart in figures and legends: colour, line and marker.

What is told by colour is told by line and marker as well, for eyes that do not tell these
colours apart and for grey printers. Any two colours of a scheme differ by more than three
times what can just be told apart, also to eyes without one kind of cones; those of the
baseline and the candidate are Okabe and Ito's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from contract.comparison import BASELINE, CANDIDATE, IN_SERVICE


@dataclass(frozen=True)
class Look:
    """A row of the table."""

    name: str  # the page's CSS variable for the colour
    light: str  # in the page's light scheme, in which figures are drawn
    dark: str
    dashes: tuple[float, ...]  # on and off, in line widths; none: a solid line
    marker: str  # as matplotlib names it
    path: str  # the same in SVG, 10 high, its middle at (20, 5)


LOOKS = {
    look.name: look
    for look in (
        Look(BASELINE, "#0072b2", "#58a9e6", (), "o", "M16 5a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"),
        Look(CANDIDATE, "#d55e00", "#f58b3c", (4, 2), "s", "M16 1h8v8h-8z"),
        Look(IN_SERVICE, "#41a480", "#00e9a5", (1.2, 1.2), "^", "M20 0l5 9H15z"),
        # Further contenders.
        Look("other1", "#bb086d", "#c528bf", (6, 1.5, 1.2, 1.5), "D", "M20 0l5 5-5 5-5-5z"),
        Look("other2", "#145823", "#f2e21d", (2.5, 1), "v", "M20 10l5-9H15z"),
        Look("other3", "#6a0ef2", "#6265ff", (9, 2), "P",
             "M18.2 .5h3.6v2.7h2.7v3.6h-2.7v2.7h-3.6V6.8h-2.7V3.2h2.7z"),
        Look("other4", "#977eff", "#bbe6fc", (6, 1.5, 1.2, 1.5, 1.2, 1.5), "<",
             "M15 5l8-4.5v9z"),
        Look("other5", "#610158", "#9e7474", (4, 1.2, 4, 1.2, 1.2, 1.2), "X",
             "M17.2 .5L20 3.2 22.8 .5l1.7 1.7L21.8 5l2.7 2.8-1.7 1.7L20 6.8 17.2 9.5 "
             "15.5 7.8 18.2 5 15.5 2.2z"),
        Look("other6", "#1f00a0", "#ee1200", (1.5, 3), "*",
             "M20 0l1.3 3.7h3.9L22.1 6l1.1 3.7L20 7.5l-3.2 2.2L17.9 6l-3.1-2.3h3.9z"),
    )
}  # fmt: skip
_OWN = (BASELINE, CANDIDATE, IN_SERVICE)
MOST_CONTENDERS = sum(name != IN_SERVICE for name in LOOKS)


def assigned(names: Iterable[str]) -> dict[str, Look]:
    """The look of each model; the further contenders take theirs in the order given.

    Args:
        names: "in_service" and `MOST_CONTENDERS` others at most, if the baseline and the
            candidate are among them.
    """
    others = (look for name, look in LOOKS.items() if name not in _OWN)
    return {name: LOOKS[name] if name in _OWN else next(others) for name in names}

"""Draws docs/architecture.svg: the rooms and the one direction of their imports.

In: import-linter's contracts in pyproject.toml, and of each room the first sentence of its
docstring. `--check` says whether the drawing is current.

    python -m scripts.architecture [--check]
"""

from __future__ import annotations

import ast
import sys
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
DRAWING = PROJECT / "docs" / "architecture.svg"
_WIDTH, _MARGIN, _GAP, _ARROW, _BELOW = 960, 20, 16, 26, 12
_LINE = 15  # pixels from line to line
_STYLE = (
    'text{font-family:system-ui,"DejaVu Sans",sans-serif;text-anchor:middle;fill:#1f2328}'
    " .t{font-size:15px;font-weight:600} .s{font-size:12px;fill:#57606a}"
    " .l{font-size:12px;fill:#57606a;text-anchor:start}"
)


def main(arguments: Sequence[str]) -> int:
    """Writes the drawing, or with `--check` compares; returns the exit code."""
    text = drawing(tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8")))
    if "--check" not in arguments:
        DRAWING.write_text(text, "utf-8")
    elif not DRAWING.is_file() or DRAWING.read_text("utf-8") != text:
        print(f"{DRAWING.name} is not current; run `make architecture`")
        return 1
    return 0


def drawing(project: Mapping[str, Any]) -> str:
    """The SVG of a project's contracts.

    Args:
        project: pyproject.toml, parsed.
    """
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    inner = [each["modules"] for each in contracts if each["type"] == "independence"]
    shapes: list[str] = []
    top = _MARGIN
    for number, layer in enumerate(layers):
        if number:
            middle = _WIDTH // 2
            shapes.append(
                f'<path d="M{middle} {top + 2} L{middle} {top + _ARROW - 2}" fill="none" '
                'stroke="#57606a" stroke-width="1.4" marker-end="url(#a)"/>'
            )
            top += _ARROW
        rooms = layer.split(" | ")
        width = (_WIDTH - 2 * _MARGIN - _GAP * (len(rooms) - 1)) / len(rooms)
        drawn = [
            _room(room, _MARGIN + place * (width + _GAP), top, width, inner)
            for place, room in enumerate(rooms)
        ]
        shapes += [shape for room, _ in drawn for shape in room]
        top += max(height for _, height in drawn)
    top += _BELOW
    for each in contracts:
        if each["type"] != "layers":
            top += _LINE + 3
            shapes.append(_text(_MARGIN, top, "l", f"{each['name']}."))
    height = top + _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'role="img" aria-label="Rooms and the direction of imports">',
            f"<style>{_STYLE}</style>",
            '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#57606a"/>'
            "</marker></defs>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#f6f8fa" rx="10"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def _room(
    name: str, left: float, top: float, width: float, inner: Sequence[Sequence[str]]
) -> tuple[list[str], float]:
    """A room with the rooms in it that know nothing of each other; and its height."""
    lines = textwrap.wrap(
        _purpose(name), int((width - 12) / 6.4), break_long_words=False
    )
    middle = left + width / 2
    shapes = [_text(middle, top + 22, "t", f"{name.rpartition('.')[2]}/")]
    height: float = 24
    for line in lines:
        height += _LINE
        shapes.append(_text(middle, top + height, "s", line))
    height += 12
    for group in inner:
        rooms = [module for module in group if module.rpartition(".")[0] == name]
        if not rooms:
            continue
        part = (width - _GAP * (len(rooms) + 1)) / len(rooms)
        drawn = [
            _room(room, left + _GAP + place * (part + _GAP), top + height, part, ())
            for place, room in enumerate(rooms)
        ]
        shapes += [shape for room, _ in drawn for shape in room]
        height += max(size for _, size in drawn) + _GAP
    fill = "#ffffff" if "." in name else "#e8f1fb"
    box = (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="7" '
        f'fill="{fill}" stroke="#0072B2" stroke-width="1.4"/>'
    )
    return [box, *shapes], height


def _purpose(room: str) -> str:
    """The first sentence of a package's docstring."""
    path = PROJECT.joinpath(*room.split("."), "__init__.py")
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


def _text(x: float, y: float, style: str, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

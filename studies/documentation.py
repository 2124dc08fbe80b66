"""A page of the documentation per study: docs/studies, made from the table and what was found.

    python -m studies.documentation [--check]
    python -m studies.documentation --keep output/studies/plain/study.json

The second keeps a finished study's findings, without its curves, in docs/studies, and makes
the pages anew. A study that nobody has run says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from studies.report import markdown
from studies.report.result import StudyResult
from studies.study import Scale, Study
from studies.tables import STUDIES

FOLDER = Path(__file__).parents[1] / "docs" / "studies"
_DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def main(arguments: Sequence[str]) -> int:
    """Writes the pages, or with `--check` compares them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m studies.documentation")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--keep", metavar="FILE", help="study.json of a finished study")
    options = parser.parse_args(arguments)
    if options.keep:
        keep(Path(options.keep))
    stale = []
    for study in STUDIES.values():
        path, text = FOLDER / f"{study.name}.md", page(study, kept(study))
        if not path.is_file() or path.read_text("utf-8") != text:
            stale.append(path.name)
            if not options.check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, "utf-8")
    if options.check and stale:
        print(f"{', '.join(stale)}: not current; run `{parser.prog}`")  # noqa: T201
        return 1
    return 0


def keep(file: Path, folder: Path = FOLDER) -> None:
    """Keeps a study's findings for its page; curves stay in its report."""
    with file.open("rb") as opened:
        found = StudyResult.read(opened, str(file))
    rows = tuple(
        replace(row, trained=tuple(replace(each, history=()) for each in row.trained))
        for row in found.rows
    )
    text = replace(found, rows=rows).to_json(indent=1) + "\n"
    path = folder / f"{found.study}-{found.scale}-{found.data}.json"
    path.write_text(text, "utf-8")


def kept(study: Study, folder: Path = FOLDER) -> dict[tuple[str, str], StudyResult]:
    """What was kept of a study, by scale and data set."""
    found = {}
    for scale in study.scales:
        for data in study.data:
            path = folder / f"{study.name}-{scale}-{data}.json"
            if path.is_file():
                with path.open("rb") as file:
                    found[scale, data] = StudyResult.read(file, str(path))
    return found


def page(study: Study, found: Mapping[tuple[str, str], StudyResult]) -> str:
    """The page of a study.

    Args:
        study: From the table.
        found: By scale and data set, as of `kept`.
    """
    parts = [
        "<!-- Made by `python -m studies.documentation`; edit studies/tables.py. -->",
        f"# {study.title}",
        f"{study.question} After {study.source}. How studies are run, resumed and read: "
        "[Studies](../studies.md).",
        "```bash\n"
        f"make study STUDY={study.name} SCALE=small\n"
        f"make study STUDY={study.name} SCALE=paper\n"
        "```",
        "## What is claimed",
        "\n".join(f"- {_claim(study, number)}" for number in range(len(study.claims))),
        "## What was published",
        markdown.table(
            ("row", "network", *(f"{_DATA[data]}, test error in %" for data in study.data),
             "differs in"),
            [
                (
                    f"{row.title} (`{row.name}`)",
                    f"`{row.network}`",
                    *(_published(row.published.get(data)) for data in study.data),
                    ", ".join(
                        [f"`{k}={v}`" for k, v in row.overrides.items()]
                        + [f"`{k}` times {v:g}" for k, v in row.times.items()]
                    ),
                )
                for row in study.rows
            ],
        ),
        "## How this differs",
        _differs(study),
        "## What was found here",
    ]  # fmt: skip
    for scale in ("small", "paper"):
        for data in study.data:
            parts.append(f"### {scale.capitalize()} scale, {_DATA[data]}")
            result = found.get((scale, data))
            parts.append(
                "Not run yet."
                if result is None
                else markdown.findings(result).strip().replace("\n## ", "\n#### ")
            )
            if result is not None and study.scales[scale].reading:
                parts += ["#### How to read this", study.scales[scale].reading]
    return "\n\n".join(parts) + "\n"


def _claim(study: Study, number: int) -> str:
    claim = study.claims[number]
    metric = claim.metric.replace("_", " ").replace("train ", "training ")
    plus = f", {100 * claim.margin:g} % added" if claim.margin else ""
    row, reference = study.row(claim.row).title, study.row(claim.reference).title
    return f"{claim.text}: {metric} of *{row}* {claim.direction} than of *{reference}*{plus}"


def _published(figure: float | str | None) -> str:
    if figure is None:
        return "\u2013"
    return figure if isinstance(figure, str) else f"{figure:.2f}"


def _differs(study: Study) -> str:
    lines = [
        "- Small scale: "
        + _settings(study.scales["small"])
        + (
            f"; without {', '.join(study.row(r).title for r in study.scales['small'].without)}"
            if study.scales["small"].without
            else ""
        )
        + ".",
        "- Paper scale: the published training ("
        + _settings(study.scales["paper"])
        + "); 1 % of the train images are held out, the papers' final trainings have all.",
    ]
    if study.note:
        lines.append(f"- {study.note[:1].upper()}{study.note[1:]}.")
    return "\n".join(lines)


def _settings(scale: Scale) -> str:
    fields = ", ".join(f"`{name}={value}`" for name, value in scale.assignments.items())
    return f"{fields}; {scale.seeds} seeds"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

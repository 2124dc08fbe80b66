"""Reads the code blocks of the documents."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCUMENTS = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    PROJECT / "serving/client/README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
]
MARK = re.compile(
    r"<!-- needs (an account|Docker|Kubernetes|a GPU|TensorFlow Serving|grpcurl) -->"
)


def blocks(document: Path) -> list[tuple[int, str, bool]]:
    """Line, text, and whether it is marked, of each block that may hold commands."""
    found = []
    lines = document.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        opened = re.match(r"```(\w*)$", lines[number])
        number += 1
        if not opened:
            continue
        start = number
        while lines[number] != "```":
            number += 1
        if opened[1] in ("", "sh"):
            before = next((x for x in reversed(lines[: start - 1]) if x.strip()), "")
            marked = MARK.fullmatch(before.strip()) is not None
            found.append((start, "\n".join(lines[start:number]), marked))
        number += 1
    return found


def lines_of(text: str) -> list[str]:
    """A block's command lines, joined where they go on, without comments."""
    if text.startswith("$ "):  # what it prints stands below
        text = "\n".join(x[2:] for x in text.splitlines() if x.startswith("$ "))
    found, open_quote = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        line = f"{open_quote}\n{line}" if open_quote else line
        try:
            shlex.split(line, comments=True)
        except ValueError:  # a quotation that ends in a later line
            open_quote = line
            continue
        open_quote = ""
        if shlex.split(line, comments=True):
            found.append(line)
    return found


def programs(line: str, variables: dict[str, str]) -> list[list[str]]:
    """The simple commands of a line, with its variables filled in."""
    line = re.sub(r"\$([A-Z])\b", lambda name: variables.get(name[1], ""), line)
    found: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word in ("&&", "|", ";"):
            found.append([])
        else:
            found[-1].append(word.strip("()") if not found[-1] else word)
    return [words for words in map(without_environment, found) if words]


def without_environment(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words

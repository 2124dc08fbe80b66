"""Which code made a result: its digest, the commit, and versions of what it stands on.

A leaf: standard library only.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import platform
import re
import subprocess
import urllib.parse
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_DISTRIBUTIONS = (
    "tfx",
    "tensorflow",
    "keras",
    "apache-beam",
    "tensorflow-model-analysis",
    "tensorflow-transform",
    "numpy",
)
_PROJECT = Path(__file__).parents[1]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DOTTED = re.compile(r"[a-z_]\w*(?:\.\w+)+")


def source_digest(*scripts: str, project: Path = _PROJECT) -> str:
    """Digests of the code that a node runs: edited code is never answered from the cache.

    What counts is `closure`, as syntax trees without docstrings, so that a comment or a
    line break runs nothing again, and the versions of the main libraries. Each file has a
    digest of its own, so that `code_changes` can name what was edited.

    Args:
        *scripts: Files that the node runs, below `project`, e.g. "trainer/run.py".
        project: Folder that holds the packages.

    Returns:
        "keras==3.15.1 ... trainer/run.py:0123456789ab ...": words without quotes, since
        it travels as JSON within JSON; 12 hexadecimal digits a file.
    """
    words = [f"{name}=={version}" for name, version in sorted(versions().items())]
    for path in closure(*scripts, project=project):
        name = urllib.parse.quote(path.relative_to(project).as_posix())
        content = _read(path, path.stat().st_mtime_ns).content
        words.append(f"{name}:{hashlib.sha256(content).hexdigest()[:12]}")
    return " ".join(words)


def code_changes(before: str, after: str) -> list[str] | None:
    """What differs between two texts of `source_digest`, in words, a file or library each.

    None: one of them is of an earlier version, which kept a single digest.
    """
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        return None
    told = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one == other:
            continue
        if not name.endswith("=="):
            verb = "edited" if one and other else "new" if other else "gone"
            told.append(f"{urllib.parse.unquote(name[:-1])} {verb}")
        else:
            told.append(f"{name[:-2]} {one or 'none'} -> {other or 'none'}")
    return told


def _parts(digests: str) -> dict[str, str] | None:
    """Name with what ends it (":" or "==") -> digest or version."""
    found = [re.fullmatch(r"([^:=]+(?::|==))(.+)", word) for word in digests.split(" ")]
    if not all(found):
        return None
    return {match[1]: match[2] for match in found if match}


def closure(*scripts: str, project: Path = _PROJECT) -> list[Path]:
    """The project's files that running some of them can come to use.

    Followed are imports, wherever they stand, but for those of type checkers; strings that
    name a module of the project ("trainer.run.run_fn", "serving.server" for `python -m`);
    and strings that name a file beside a module (a template, a table). What nothing names
    does not count: files of a build, a notebook, an editor, a virtual environment.

    Returns:
        Files, sorted.
    """
    waiting: list[Path] = []
    for script in scripts:
        waiting += _modules(project, [*Path(script).with_suffix("").parts])
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        file = _read(path, path.stat().st_mtime_ns)
        package = path.relative_to(project).parts[:-1]
        for level, name in file.imports:
            # `from . import x` starts in the file's own package, each dot more one above.
            base = package[: len(package) + 1 - level] if level else ()
            waiting += _modules(project, [*base, *name.split(".")])
        for text in file.texts:
            if _DOTTED.fullmatch(text):
                waiting += _modules(project, text.split("."), runs=True)
            beside = path.parent / text
            if _is_name(text) and beside.is_file():
                waiting.append(beside)
    return sorted(found)


def _is_name(text: str) -> bool:
    """Whether a text can be a file's name, and none of a script's."""
    return (
        len(text) < 100 and "." in text and "/" not in text and not text.endswith(".py")
    )


def _modules(project: Path, parts: list[str], *, runs: bool = False) -> list[Path]:
    """The files that importing (or with `runs`, running) a dotted name executes.

    Of names that go on behind a module (`trainer.run.run_fn`) the module's; none where
    the name is not one of the project's.
    """
    found: list[Path] = []
    folder = project
    for part in parts:
        folder = folder / part
        # A package wins its name over a script beside it (pipeline/, pipeline.py).
        if (package := folder / "__init__.py").is_file():
            found.append(package)
        elif (script := folder.with_suffix(".py")).is_file():
            return [*found, script]
        else:
            return found
    main = folder / "__main__.py"
    return [*found, main] if runs and main.is_file() else found


@dataclass(frozen=True)
class _File:
    """What a file says, and which other files it names."""

    content: bytes
    imports: tuple[tuple[int, str], ...] = ()  # (dots before it, dotted name)
    texts: tuple[str, ...] = ()


@functools.cache
def _read(path: Path, _modified: int) -> _File:
    """Reads a file once per process and time of change."""
    if path.suffix != ".py":
        return _File(path.read_bytes())
    tree = ast.parse(path.read_bytes())
    imports: list[tuple[int, str]] = []
    texts: set[str] = set()
    for node in ast.walk(tree):  # what a type checker alone imports is not run
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            del node.body[0]
        if isinstance(node, ast.Import):
            imports += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = f"{node.module}." if node.module else ""
            imports += [(node.level, start + alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return _File(ast.dump(tree).encode(), tuple(imports), tuple(sorted(texts)))


def commit() -> str | None:
    """The project's git commit, "+changes" if the work tree differs; None without git."""
    root = _PROJECT

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        # A project that was copied into another repository is not that repository.
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        changed = "+changes" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def versions() -> dict[str, str]:
    """Python and the libraries a result depends on most."""
    found = {name: metadata.version(name) for name in _DISTRIBUTIONS}
    return {"python": platform.python_version(), **found}


def machine() -> str:
    """The machine in words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"

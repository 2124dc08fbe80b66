"""A hook of MkDocs: makes the pages under docs/ and the files beside them one site.

README.md, CONTRIBUTING.md and the like stay where people look for them, and are pages as
well. Links to files that are no pages (code, mostly) become their paths as text, since the
site has no source code; a link to a file that is not there ends the build.
https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

_PROJECT = Path(__file__).parents[1]
# Page -> the file that it shows.
_FILES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security-policy.md": "SECURITY.md",
}
_PAGES = {file: page for page, file in _FILES.items()}
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not under docs/."""
    for page, name in _FILES.items():
        text = (_PROJECT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites the links of a page."""
    source = _FILES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return rewritten(markdown, source, page.file.src_uri)


def rewritten(markdown: str, source: str, page: str) -> str:
    """A file's text with links as they must be on the site.

    Args:
        markdown: The text.
        source: Path of the file below the project, where its relative links start.
        page: Path of its page below docs/.

    Raises:
        PluginError: A link to a file that is not there.
    """
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts.append(_LINK.sub(replacement(source, page), markdown[end : code.start()]))
        parts.append(code[0])
        end = code.end()
    parts.append(_LINK.sub(replacement(source, page), markdown[end:]))
    return "".join(parts)


def replacement(source: str, page: str) -> Any:
    """What stands in place of a link, as re.sub takes it; arguments as of `rewritten`."""

    def replace(link: re.Match[str]) -> str:
        path, sign, anchor = link["target"].partition("#")
        if "://" in path or path.startswith("mailto:") or not path:
            return link[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if file.startswith("..") or not (_PROJECT / file).exists():
            raise PluginError(f"{source}: {link[0]} leads nowhere")
        target = _PAGES.get(file) or file.removeprefix("docs/")
        if file not in _PAGES and not file.startswith("docs/"):
            text = link["text"].strip("`")
            return f"`{text}`" if text.endswith(file) else f"{link['text']} (`{file}`)"
        target = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"{link['picture']}[{link['text']}]({target}{sign}{anchor})"

    return replace

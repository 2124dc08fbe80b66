"""The page to try a model on: one HTML file without any outside part.

Off unless --web_page is given. The page talks to this server's own REST interface, and
its Content-Security-Policy allows nothing else: no foreign script, style, image or
connection, and of inline ones only those in page.html, by their SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import html as html_text
import json
import re
from collections.abc import Sequence
from pathlib import Path

PATH = "/"

_TEMPLATE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def _hash(tag: str) -> str:
    """The CSP source of the only inline element of that name."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", _TEMPLATE, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash('script')}",
            f"style-src {_hash('style')}",
            "img-src blob: data:",  # the picture that was dropped, and no icon
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def html(models: Sequence[str]) -> bytes:
    """The page, for these models' names."""
    names = html_text.escape(json.dumps(list(models)))
    return _TEMPLATE.replace("{{models}}", names).encode()

"""Links of README and docs as they must be on the documentation's site."""

import pytest
from mkdocs.exceptions import PluginError

from scripts.site import rewritten


@pytest.mark.parametrize(
    "source, page, text, expected",
    [
        ("README.md", "index.md", "[a](docs/data.md#x)", "[a](data.md#x)"),
        ("README.md", "index.md", "![a](docs/flow.svg)", "![a](flow.svg)"),
        ("README.md", "index.md", "[how](SECURITY.md)", "[how](security-policy.md)"),
        ("README.md", "index.md", "[b](#two-commands)", "[b](#two-commands)"),
        ("docs/data.md", "data.md", "[m](../README.md#models)", "[m](index.md#models)"),
        ("docs/data.md", "data.md", "[t](training.md)", "[t](training.md)"),
        ("docs/api/client.md", "api/client.md", "[g](../clients.md)", "[g](../clients.md)"),
        ("docs/pipeline.md", "pipeline.md", "[pipeline/dag.py](../pipeline/dag.py)",
         "`pipeline/dag.py`"),
        ("docs/pipeline.md", "pipeline.md", "[the flow](../pipeline/dag.py)",
         "the flow (`pipeline/dag.py`)"),
        ("README.md", "index.md", "[x](https://a.b/c)", "[x](https://a.b/c)"),
        ("README.md", "index.md", "```\n[x](gone.md)\n```", "```\n[x](gone.md)\n```"),
        ("README.md", "index.md", "`[x](gone.md)`", "`[x](gone.md)`"),
    ],
)  # fmt: skip
def test_links_lead_to_pages_and_code_is_named(source, page, text, expected):
    assert rewritten(text, source, page) == expected


@pytest.mark.parametrize("target", ["gone.md", "docs/gone.md#a", "../outside.md"])
def test_a_link_that_leads_nowhere_ends_the_build(target):
    with pytest.raises(PluginError, match="README.md: .* leads nowhere"):
        rewritten(f"see [this]({target})", "README.md", "index.md")

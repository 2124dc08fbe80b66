"""Writes google_provider.json: what Terraform's Google provider takes of each resource.

The provider itself comes from Terraform's registry only. Its prebuilt bindings for
CDKTF are on npm and PyPI, and say of every attribute and block what the provider says:
name, type, nesting, required, optional or computed. Only these facts are kept.

    pip download --no-deps cdktf-cdktf-provider-google==16.12.1   # provider 6.50.0
    python tests/deploy/extract_schema.py cdktf_cdktf_provider_google-*.whl
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = HERE / "google_provider.json"
TERRAFORM = HERE.parents[1] / "deploy" / "vertex"

_TYPES = {"string": "string", "number": "number", "boolean": "bool"}
_GETTERS = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getStringMapAttribute": ["map", "string"],
    "StringMap": ["map", "string"],
}


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".jsii.tgz")]
        bindings = io.BytesIO(archive.read(name))
    text = "".join(p.read_text() for p in sorted(TERRAFORM.glob("**/*.tf")))
    resources = set(re.findall(r'^resource "(google_\w+)"', text, re.MULTILINE))
    data = set(re.findall(r'^data "(google_\w+)"', text, re.MULTILINE))
    schema: dict = {"resources": {}, "data": {}}
    with tarfile.open(fileobj=bindings) as package:

        def read(folder: str) -> dict:
            member = package.extractfile(f"package/lib/{folder}/index.js")
            assert member is not None
            source = typescript(member.read().decode())
            (schema["version"],) = set(re.findall(r"Version: '([\d.]+)'", source))
            return top(source)

        schema["provider"] = read("provider")
        for name in sorted(resources):
            folder = name.removeprefix("google_").replace("_", "-")
            schema["resources"][name] = read(folder)
        for name in sorted(data):
            schema["data"][name] = read("data-" + name.replace("_", "-"))
    OUTPUT.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


def typescript(javascript: str) -> str:
    """The source that the JavaScript was made from: its comments tell what is required."""
    encoded = javascript.rpartition("sourceMappingURL=")[2].partition(",")[2]
    (source,) = json.loads(base64.b64decode(encoded))["sourcesContent"]
    return source


def top(source: str) -> dict:
    match = re.search(r"export class (\w+) extends cdktf.Terraform", source)
    assert match
    name = match[1]
    body = class_body(source, name)
    described = body[body.index("synthesizeHclAttributes") :]
    return block(source, body, described)


def block(source: str, body: str, described: str) -> dict:
    """Attributes and nested blocks of the class that stands for a block."""
    found: dict = {"attributes": {}, "blocks": {}}
    inputs = {
        match[1]: match.groups()[1:]
        for match in re.finditer(
            r"^ +(\w+): \{\n +value: [^\n]+\n +isBlock: (\w+),\n +type: \"(\w+)\",\n"
            r" +storageClassType: \"(\w+)\"",
            described,
            re.MULTILINE,
        )
    }
    for match in re.finditer(
        r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n"
        r"(.*?)(?=\n  // \w+ - |\Z)",
        body,
        re.DOTALL,
    ):
        name, computed, optional, required, rest = match.groups()
        is_block, kind, storage = inputs.get(name, ("false", "", ""))
        if is_block == "true":
            struct = storage.removesuffix("List")
            if f"export class {struct}OutputReference" not in source:
                continue  # the provider's own blocks, which nothing here uses
            inner = class_body(source, f"{struct}OutputReference")
            function = struct[0].lower() + struct[1:] + "ToHclTerraform"
            start = source.index(f"export function {function}(")
            found["blocks"][name] = {
                "nesting": {"struct": "single"}.get(kind, kind),
                "min": int(required == "true" and kind != "struct"),
                "max": 0 if f"new {struct}List(" in rest else 1,
                **block(source, inner, source[start : source.index("\n}\n", start)]),
            }
        else:
            found["attributes"][name] = {
                "type": attribute_type(kind, storage, rest),
                **{
                    key: True
                    for key, value in (
                        ("computed", computed),
                        ("optional", optional),
                        ("required", required),
                    )
                    if value == "true"
                },
            }
    return found


def attribute_type(kind: str, storage: str, rest: str) -> object:
    if storage in _TYPES:
        return _TYPES[storage]
    for suffix in ("List", "Map"):
        if storage.endswith(suffix) and storage.removesuffix(suffix) in _TYPES:
            return [kind, _TYPES[storage.removesuffix(suffix)]]
    for getter, value in _GETTERS.items():
        if getter in rest:
            return value
    return "dynamic"  # computed lists of objects, which nothing here reads


def class_body(source: str, name: str) -> str:
    start = source.index(f"export class {name} extends ")
    return source[start : source.index("\n}\n", start)]


if __name__ == "__main__":
    main(*sys.argv[1:])

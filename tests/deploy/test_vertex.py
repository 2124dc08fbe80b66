"""Terraform below deploy/vertex: what holds whatever values it is given."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest
import yaml

from tests.deploy import stand_in_provider

VERTEX = Path(__file__).parents[2] / "deploy" / "vertex"
FILES = sorted(VERTEX.glob("*.tf"))
WORKFLOWS = sorted(VERTEX.glob("*.yaml"))
TEXT = "\n".join(file.read_text() for file in FILES)
CODE = re.sub(r"#.*", "", TEXT)


def unquoted(value):
    """hcl2 keeps the quotation marks of names and texts."""
    return value.strip('"') if isinstance(value, str) else value


@functools.cache
def parsed(file: Path) -> dict:
    return hcl2.loads(file.read_text())


def blocks(kind: str) -> dict[tuple[str, ...], dict]:
    """Top-level blocks of a kind by their labels."""
    found: dict[tuple[str, ...], dict] = {}
    for file in FILES:
        for block in parsed(file).get(kind, []):
            labels: tuple[str, ...] = ()
            depth = {"resource": 2, "data": 2, "variable": 1, "output": 1}.get(kind, 0)
            for _ in range(depth):
                ((label, block),) = [
                    (k, v) for k, v in block.items() if not k.startswith("__")
                ]
                labels += (unquoted(label),)
            found[labels or (str(len(found)),)] = block
    return found


def test_every_reference_has_something_to_refer_to():
    local = {name for block in blocks("locals").values() for name in block}
    assert set(re.findall(r"\bvar\.(\w+)", CODE)) == {n for (n,) in blocks("variable")}
    assert set(re.findall(r"\blocal\.(\w+)", CODE)) <= local
    resources, data = set(blocks("resource")), set(blocks("data"))
    used_data = set(re.findall(r"\bdata\.(\w+)\.(\w+)", CODE))
    assert used_data <= data
    used = set(re.findall(r"(?<!data\.)\b(google_\w+)\.(\w+)", CODE))
    assert used <= resources


def test_every_variable_says_what_it_is_and_is_checked():
    for (name,), variable in blocks("variable").items():
        assert len(unquoted(variable["description"])) > 20, name
        assert "type" in variable, name
        # Anything goes for true or false.
        assert "validation" in variable or unquoted(variable["type"]) == "bool", name
        for validation in variable.get("validation", []):
            assert unquoted(validation["error_message"]).startswith((name, f"{name}."))


def test_every_output_says_what_it_is():
    assert all(len(unquoted(b["description"])) > 20 for b in blocks("output").values())


def test_roles_are_narrow_and_for_named_accounts():
    roles = set(re.findall(r'"(roles/[\w.]+)"', CODE))
    # One word after the slash is a primitive role; *.admin and *.owner can give rights away.
    assert {role for role in roles if "." not in role} == set()
    assert not {r for r in roles if re.search(r"\.(admin|owner|editor)$|Admin$", r)}
    assert "allUsers" not in CODE and "allAuthenticatedUsers" not in CODE
    assert not re.search(r"google_\w+_iam_(binding|policy)\b", CODE), (
        "takes from others"
    )
    assert not re.search(r"\bgoogle_service_account_key\b", CODE), "a key can be stolen"
    assert not re.search(r'"[\w.]+\.\*"|setIamPolicy', CODE), "custom roles name rights"


def test_ci_builds_and_uploads_unless_it_is_told_to_submit():
    lines = [line.strip() for line in CODE.splitlines() if 'account = "ci"' in line]
    always, told = (
        {
            name
            for line in lines
            if line.startswith("var.ci_submits ? ") == submits
            for name in re.findall(r'"(ci [^"]+)" +=', line)
        }
        for submits in (False, True)
    )
    assert always == {
        *("ci starts builds", "ci logging.logWriter", "ci as ci"),
        *("ci serviceusage.services.use", "ci stages sources", "ci sees sources"),
        *("ci writes templates", "ci sees templates", "ci writes images"),
    }
    assert told == {"ci submits runs", "ci sees outputs on submit", "ci as pipeline"}
    assert blocks("variable")[("ci_submits",)]["default"] is False


def test_no_bucket_can_be_public():
    for (kind, name), block in blocks("resource").items():
        if kind == "google_storage_bucket":
            assert block["uniform_bucket_level_access"] is True, name
            assert unquoted(block["public_access_prevention"]) == "enforced", name
            assert block["versioning"][0]["enabled"] is True, name


def test_no_secret_and_nothing_of_somebodys_project():
    assert not re.search(r"password|secret|private_key|-----BEGIN|AIza", CODE)
    everything = TEXT + "".join(p.read_text() for p in WORKFLOWS)
    assert set(re.findall(r"[\w.-]+@[\w.-]+", everything)) == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_is_well_formed(path):
    document = yaml.safe_load(path.read_text())
    terraform = (VERTEX / "trigger.tf").read_text() + (VERTEX / "alerts.tf").read_text()
    provided = {"GOOGLE_CLOUD_PROJECT_ID", "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID"}
    provided |= set(re.findall(r"\b([A-Z_]{4,}) += ", terraform))
    calls = {"http.get", "http.post", "sys.log", "sys.sleep"} | set(document)
    calls |= {"googleapis.pubsub.v1.projects.topics.publish"}
    for routine in document.values():
        steps = dict(walk(routine["steps"]))
        known = set(routine.get("params", []))
        for step in steps.values():
            known |= {
                re.split(r"[.\[]", key)[0] for a in step.get("assign", []) for key in a
            }
            known |= {step[key] for key in ("result", "as") if key in step}
            for part in (step.get("try", {}), step.get("except", {})):
                known |= {part[key] for key in ("result", "as") if key in part}
        for name, step in steps.items():
            targets = [
                step.get("next"),
                *(c.get("next") for c in step.get("switch", [])),
            ]
            assert {t for t in targets if t} <= set(steps) | {"end"}, name
            call = step.get("call") or step.get("try", {}).get("call")
            assert call is None or call in calls, name
            for expression in expressions(step):
                # Google's limit, and what a person reads in one go.
                assert len(expression) <= 400, name
                assert expression.count("(") == expression.count(")"), name
                assert set(re.findall(r'get_env\("(\w+)"\)', expression)) <= provided
                bare = re.sub(r'"(\\.|[^"\\])*"', "", expression)
                names = set(re.findall(r"(?<![\w.\"\]])([a-z_]+)\b(?!\()", bare))
                allowed = {"and", "or", "in", "null", "true", "http", "sys", "text"}
                allowed |= {"json", "map", "base64", "time"}
                assert names - allowed <= known, (name, expression)


def test_the_jobs_own_text_is_kept_once():
    """It has 112 KB with two networks, and Workflows 512 KB for all variables."""
    steps = dict(
        walk(yaml.safe_load((VERTEX / "launch.yaml").read_text())["start_run"]["steps"])
    )
    assert steps["create"]["try"]["args"]["query"]["fields"] == "name"
    assert {"template": None} in steps["merge"]["assign"]


def test_the_alert_on_workflows_names_those_that_there_are():
    names = {
        re.sub(r".*-", "", unquoted(block["name"]))
        for (kind, _), block in blocks("resource").items()
        if kind == "google_workflows_workflow"
    }
    assert names == {path.stem for path in WORKFLOWS}
    assert f"-({'|'.join(sorted(names))})$" in (VERTEX / "alerts.tf").read_text()


def walk(steps):
    """Name and content of each step, nested ones too."""
    for entry in steps:
        ((name, step),) = entry.items()
        yield name, step
        nested = [step, step.get("try", {}), step.get("except", {})]
        for part in [*nested, *step.get("switch", [])]:
            yield from walk(part.get("steps", []))


def expressions(value):
    """Every ${...} of a step, without the braces; not those of nested steps."""
    if isinstance(value, str):
        yield from re.findall(r"^\$\{(.*)\}$", value, re.DOTALL)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "steps":
                yield from expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item)


# Terraform itself, if it is there: no package registry has it.
needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)


@pytest.fixture(scope="module")
def terraform(tmp_path_factory):
    """Runs terraform in a copy, against the stand-in for Google's provider."""
    folder = tmp_path_factory.mktemp("terraform") / "vertex"
    shutil.copytree(VERTEX, folder, ignore=shutil.ignore_patterns(".terraform*"))
    settings = folder.parent / "terraformrc"
    settings.write_text("")
    with stand_in_provider.serving() as environment:
        environment |= os.environ | environment
        environment |= {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1"}
        environment |= {"TF_IN_AUTOMATION": "1"}

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = ["terraform", f"-chdir={folder}", *arguments, "-no-color"]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=300
            )

        run.folder = folder
        assert run("init", "-backend=false", "-input=false").returncode == 0
        yield run


@needs_terraform
def test_terraform_finds_it_valid(terraform):
    result = terraform("validate")
    assert result.returncode == 0, result.stderr


@needs_terraform
def test_terraform_finds_it_formatted(terraform):
    result = terraform("fmt", "-check", "-recursive", "-diff")
    assert result.returncode == 0, result.stdout


@needs_terraform
@pytest.mark.parametrize(
    ("resource", "complaint"),
    [
        ('google_pubsub_topic" "x" { nam = "x" }', 'An argument named "nam" is not'),
        ('google_pubsub_topic" "x" {}', 'The argument "name" is required'),
        ('google_no_such_thing" "x" {}', "Invalid resource type"),
        (
            'google_eventarc_trigger" "x" {\nname = "x"\nlocation = "y"\n'
            'matching_criteria {\nattribute = "a"\nvalue = "b"\n}\n}',
            "At least 1 ",
        ),
    ],
)
def test_terraform_knows_what_google_knows(terraform, resource, complaint):
    """Else the test of validity would mean nothing."""
    extra = terraform.folder / "extra.tf"
    extra.write_text(f'resource "{resource}\n')
    try:
        result = terraform("validate")
    finally:
        extra.unlink()
    assert result.returncode == 1
    assert complaint in result.stderr


@needs_terraform
def test_plans_are_as_expected(terraform):
    """The project's own `terraform test` (deploy/vertex/tests)."""
    result = terraform("test")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 failed" in result.stdout


@needs_terraform
def test_everything_waits_until_the_apis_that_it_needs_are_switched_on(terraform):
    """In a new project most are off, Cloud Resource Manager's too, which says who may what."""
    result = terraform("graph")
    assert result.returncode == 0, result.stderr
    edges = re.findall(r'^ *"([^"]+)" -> "([^"]+)"', result.stdout, re.M)
    waiting = {"google_project_service.api"}
    for _ in edges:
        waiting |= {name for name, after in edges if after in waiting}
    made = {".".join(labels) for labels in blocks("resource")}
    made |= {".".join(("data", *labels)) for labels in blocks("data")}
    assert made - waiting == set()
    assert "cloudresourcemanager.googleapis.com" in (VERTEX / "apis.tf").read_text()

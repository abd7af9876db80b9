"""The trap: a reusable workflow that hands a secret to a stranger's pull request, or an input to a shell.

Its steps are run here as they stand, in bash, with programs of ours in place of curl and detection-pack.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.cli import _parser
from house.test_workflow import PINNED, README, faults, loaded, workflow_commands
from judges.zizmor_judge import judged

DEPLOY = ROOT / ".github" / "workflows" / "deploy.yml"
#: Writes how it was called, and what it was given.
STUB = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    read = "" if sys.stdin.isatty() or not sys.argv[0].endswith("curl") else sys.stdin.read()
    tokens = {k: v for k, v in os.environ.items() if k.endswith(("_TOKEN", "_KEY", "_SECRET"))}
    print(json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], read, tokens]), file=calls)
if sys.argv[0].endswith("curl"):
    print(json.dumps({"access_token": "given"}) if os.environ.get("GIVEN") != "no" else "{}")
sys.exit(int(os.environ.get("CODE", "0")) if "--apply" not in sys.argv else 0)
"""


def step() -> dict[str, Any]:
    """The one step that has variables."""
    [found] = [one for one in loaded(DEPLOY)["jobs"]["deploy"]["steps"] if "env" in one]
    assert isinstance(found, dict)
    return found


def ran(tmp_path: Path, **given: str) -> tuple[int, list[list[Any]]]:
    """The step's exit code and calls, with such inputs."""
    for path in (tmp_path / ".venv/bin/detection-pack", tmp_path / "bin/curl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB, encoding="utf-8")
        path.chmod(0o755)
    environment = dict.fromkeys(step()["env"], "") | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "OVERWRITE": "false",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step()["run"]],
        env=environment | given, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    calls = tmp_path / "calls"
    lines = calls.read_text("utf-8").splitlines() if calls.exists() else []
    return done.returncode, [json.loads(line) for line in lines]


def test_a_stranger_gets_no_secret_and_no_shell() -> None:
    workflow = loaded(DEPLOY)
    assert set(workflow[True]) == {"workflow_call"}
    assert faults(workflow) == ["names a secret"]
    named = {name for name, job in workflow["jobs"].items() if "secrets." in json.dumps(job)}
    assert named == {"deploy"}
    job = workflow["jobs"]["deploy"]
    assert job["if"] == "github.event_name == 'push' && github.ref_type == 'tag'"
    assert job["needs"] == "build" and job["environment"] == "${{ inputs.environment }}"
    with_secrets = [one for one in job["steps"] if "secrets." in json.dumps(one)]
    assert with_secrets == [step()] and "secrets." in json.dumps(step()["env"])
    assert workflow["jobs"]["diff"]["if"] == "github.event_name == 'pull_request'"
    assert "if" not in workflow["jobs"]["build"]
    # Two tags never deploy into one product at a time.
    assert job["concurrency"]["cancel-in-progress"] is False
    assert job["concurrency"]["group"] == "deploy-${{ inputs.environment }}-${{ inputs.product }}"
    assert all(not secret["required"] for secret in workflow[True]["workflow_call"]["secrets"].values())


def test_its_actions_are_those_of_the_gate() -> None:
    text = DEPLOY.read_text(encoding="utf-8")
    gate = set(PINNED.findall((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")))
    pins = PINNED.findall(text)
    assert set(pins) <= gate and len(pins) == len(re.findall(r"^\s+- uses: ", text, re.MULTILINE))


def test_it_installs_as_readme_does_and_runs_what_exists() -> None:
    runs = workflow_commands(loaded(DEPLOY))
    [command] = re.findall(r"^(python3 -m venv .*) && \.venv/bin/detection-pack build", README, re.MULTILINE)
    assert [run for run in runs if "pip install" in run] == [command] * 3
    for words in (["build", "--check"], ["validate"], ["diff", "--format", "markdown", "--", "main"]):
        _parser().parse_args(words)
    assert ".venv/bin/detection-pack build --check" in runs and ".venv/bin/detection-pack validate" in runs


@pytest.mark.parametrize(
    ("product", "given", "options"),
    [
        ("elastic", {"URL": "https://k", "KIBANA_API_KEY": "k"}, ["--url=https://k"]),
        ("splunk", {"URL": "https://s", "LOCATION": "/a b", "OVERWRITE": "true", "SPLUNK_TOKEN": "t"},
         ["--url=https://s", "--overwrite", "--location=/a b"]),
        ("splunk", {"URL": "https://s", "SAVE_ALLOW_LIST": "true", "SPLUNK_TOKEN": "t"},
         ["--url=https://s", "--save-allow-list=allow-list.csv"]),
        ("sentinel", {"SUBSCRIPTION": "s", "RESOURCE_GROUP": "$(touch x)", "WORKSPACE": "`touch x`"},
         ["--subscription=s", "--resource-group=$(touch x)", "--workspace=`touch x`"]),
        ("defender", {"URL": "--apply; touch x"}, ["--url=--apply; touch x"]),
    ],
)  # fmt: skip
def test_the_step_runs_dry_first_and_then_applies(
    tmp_path: Path, product: str, given: dict[str, str], options: list[str]
) -> None:
    given |= {
        "PRODUCT": product,
        "TENANT": "contoso.example",
        "CLIENT_ID": "c",
        "CLIENT_SECRET": "hunter2&=é",
    }
    code, calls = ran(tmp_path, **given)
    deploys = [arguments for name, arguments, _, _ in calls if name == "detection-pack"]
    assert code == 0 and deploys == [["deploy", product, *options], ["deploy", product, "--apply", *options]]
    for arguments in deploys:
        parsed = _parser().parse_args(arguments)
        assert parsed.product == product
    assert not (tmp_path / "x").exists()
    asked = [(arguments, read) for name, arguments, read, _ in calls if name == "curl"]
    # The secret is nobody's argument.
    assert "hunter2" not in json.dumps([arguments for _, arguments, _, _ in calls])
    if product in ("elastic", "splunk"):
        assert asked == []
        return
    [(arguments, read)] = asked
    scope = {"sentinel": "https://management.azure.com", "defender": "https://graph.microsoft.com"}[product]
    assert read == "hunter2&=é" and f"scope={scope}/.default" in arguments
    assert arguments[-1] == "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"
    name = {"sentinel": "AZURE_ACCESS_TOKEN", "defender": "GRAPH_ACCESS_TOKEN"}[product]
    assert [tokens.get(name) for who, _, _, tokens in calls if who == "detection-pack"] == ["given"] * 2
    assert all("CLIENT_SECRET" not in tokens for who, _, _, tokens in calls if who == "detection-pack")


def test_the_step_ends_where_nothing_can_be_asked(tmp_path: Path) -> None:
    for number, (given, applied) in enumerate([
        ({"PRODUCT": "elastic", "CODE": "2"}, False),
        ({"PRODUCT": "elastic", "CODE": "1"}, True),
        ({"PRODUCT": "nonsense; touch x"}, False),
        ({"PRODUCT": "sentinel", "TENANT": "a/../b?x="}, False),
        ({"PRODUCT": "sentinel", "TENANT": "contoso.example", "GIVEN": "no"}, False),
    ]):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        code, calls = ran(folder, **given)
        assert any("--apply" in arguments for _, arguments, _, _ in calls) is applied, given
        assert (code == 0) is applied and not (folder / "x").exists()


def test_zizmor_finds_nothing_in_it() -> None:
    code, said = judged(DEPLOY)
    assert code == 0, said

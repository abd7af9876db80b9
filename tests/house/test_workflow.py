"""The trap: a gate that is stricter in one place than in another, and a workflow that a stranger can steer.

.ci/run, the pre-commit hooks and the GitHub workflow run the same commands: one that is added to .ci/run
alone fails here. A pull request is untrusted: no text of it reaches a shell, and what runs it cannot write.
"""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.cli import _parser
from judges.zizmor_judge import judged

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
#: Actions of GitHub itself, each by the hash of a commit: a tag can be moved to other code.
OURS = re.compile(r"(actions/[a-z-]+|github/codeql-action/[a-z-]+)@[0-9a-f]{40}")
#: The same with the version that a reader, and the update bot, goes by.
PINNED = re.compile(r"uses: ([\w/-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$", re.MULTILINE)
#: What the gate runs and nobody waits for before a push.
CAMPAIGNS = "pytest -q --campaigns -m campaign"


def loaded(path: Path) -> dict[Any, Any]:
    """A YAML file. YAML 1.1 reads the workflow's key "on" as true."""
    data: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def gate_commands(script: str, readme: str) -> set[str]:
    """The checks of .ci/run: what it runs out of the environment, and the test command out of README.md."""
    checks = set(re.findall(r"^ *(?:counted )?\.venv/bin/(.+?)\s*$", script, re.MULTILINE))
    if re.search(r'^counted bash -euo pipefail -c "\$readme"$', script, re.MULTILINE):
        [command] = re.findall(r"^python3 -m venv .* && \.venv/bin/(pytest.*)$", readme, re.MULTILINE)
        checks.add(command)
    return checks


def hook_commands(config: dict[Any, Any]) -> set[str]:
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    return {hook["entry"].removeprefix(".venv/bin/") for hook in hooks}


def workflow_commands(workflow: dict[Any, Any]) -> list[str]:
    return [str(step["run"]) for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
CLI = (ROOT / "scripts" / "detection_pack" / "cli.py").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


# -- the same commands ---------------------------------------------------------------------------------


def test_hooks_run_what_the_gate_runs() -> None:
    gate = gate_commands(SCRIPT, README)
    assert gate >= {"ruff check .", "ruff format --check .", "mypy", "detection-pack validate", "pytest -q"}
    assert hook_commands(loaded(ROOT / ".pre-commit-config.yaml")) == gate - {CAMPAIGNS}
    assert CAMPAIGNS in gate


def test_a_command_of_the_gate_alone_is_found() -> None:
    more = gate_commands(SCRIPT + "\nstep x\n.venv/bin/detection-pack replay\n", README)
    hooks = hook_commands(loaded(ROOT / ".pre-commit-config.yaml"))
    assert more - hooks - {CAMPAIGNS} == {"detection-pack replay"}


def test_hooks_take_the_whole_pack_and_start_on_what_they_read() -> None:
    hooks = {h["id"]: h for r in loaded(ROOT / ".pre-commit-config.yaml")["repos"] for h in r["hooks"]}
    for hook in hooks.values():
        assert hook["pass_filenames"] is False and hook["language"] == "system", hook["id"]
    starts = {
        "validate": ["sigma/core/a.yml", "pipelines/a/splunk.yml", "tests/events/a.yml", "scripts/build.py"],
        "build-check": [
            "sigma/core/a.yml", "pipelines/a/splunk.yml", "tests/events/a.yml", "scripts/build.py",
            "dist/manifest.json", "docs/rules/a.md", "pyproject.toml",
        ],
    }  # fmt: skip
    for identifier, paths in starts.items():
        assert not [path for path in paths if not re.search(hooks[identifier]["files"], path)]
    for identifier in ("ruff-check", "ruff-format", "mypy"):
        assert set(hooks[identifier]["types_or"]) >= {"python", "toml"}
    assert hooks["pytest"]["always_run"] is True and hooks["pytest"]["stages"] == ["pre-push"]


def test_workflow_runs_the_gate_itself_on_the_oldest_and_a_new_python() -> None:
    workflow = loaded(WORKFLOW)
    gate = workflow["jobs"]["gate"]
    assert [step["run"] for step in gate["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    oldest = re.search(
        r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert oldest and gate["strategy"]["matrix"]["python"][0] == oldest[1]
    assert len(gate["strategy"]["matrix"]["python"]) >= 2 and "if" not in gate
    assert set(workflow[True]) == {"push", "pull_request"}


def test_commands_of_the_workflow_exist() -> None:
    """Every detection-pack command in it is one that the command line takes."""
    named = [
        command.replace('"$BASE"', "main").split()
        for run in workflow_commands(loaded(WORKFLOW))
        for command in re.findall(r"\.venv/bin/detection-pack ((?:[\w-]+|\"\$BASE\"| )+)", run)
    ]
    assert [words[0] for words in named] == ["diff", "validate"]
    for words in named:
        _parser().parse_args(words)


def test_the_report_compares_with_the_base_and_is_kept() -> None:
    [step] = [
        s for s in loaded(WORKFLOW)["jobs"]["diff"]["steps"] if "detection-pack diff" in s.get("run", "")
    ]
    assert step["run"].endswith('--check -- "$BASE" >> "$GITHUB_STEP_SUMMARY"') and "markdown" in step["run"]
    checkout = loaded(WORKFLOW)["jobs"]["diff"]["steps"][0]
    assert checkout["with"]["fetch-depth"] == 0


# -- a stranger's pull request -------------------------------------------------------------------------


def faults(workflow: dict[Any, Any]) -> list[str]:
    """What a stranger could use."""
    found = []
    if set(workflow[True]) & {"pull_request_target", "workflow_run", "issue_comment"}:
        found.append("runs strangers' text with our token")
    if workflow.get("permissions") != {"contents": "read"}:
        found.append("a token that may do more than read")
    for name, job in workflow["jobs"].items():
        if "timeout-minutes" not in job:
            found.append(f"{name} has no end")
        granted = job.get("permissions", {})
        writes = isinstance(granted, str) or [k for k, v in granted.items() if v != "read"]
        if writes and (name != "annotate" or writes != ["security-events"]):
            found.append(f"{name} may write")
        if writes and any("run" in step for step in job["steps"]):
            found.append(f"{name} may write and runs commands")
        if writes and "head.repo.full_name == github.repository" not in job.get("if", ""):
            found.append(f"{name} may write for a fork")
        for step in job["steps"]:
            if "${{" in str(step.get("run", "")) or "${{" in str(step.get("shell", "")):
                found.append(f"{name} puts text into a command")
            if "uses" in step and not OURS.fullmatch(step["uses"]):
                found.append(f"{name} uses {step['uses']}")
            if str(step.get("uses", "")).startswith("actions/checkout@"):
                if step.get("with", {}).get("persist-credentials") is not False:
                    found.append(f"{name} leaves a token in the clone")
                if "ref" in step.get("with", {}) or "repository" in step.get("with", {}):
                    found.append(f"{name} checks out what the event does not name")
    if not re.search(r"secrets|GITHUB_TOKEN", yaml.safe_dump(workflow)):
        return found
    return [*found, "names a secret"]


def test_a_stranger_cannot_steer_the_workflow() -> None:
    assert faults(loaded(WORKFLOW)) == []
    assert loaded(WORKFLOW)["concurrency"]["group"]


def _inject(workflow: dict[Any, Any]) -> None:
    workflow["jobs"]["diff"]["steps"].append({"run": "echo ${{ github.event.pull_request.title }}"})


def _target(workflow: dict[Any, Any]) -> None:
    workflow[True]["pull_request_target"] = None


def _write_all(workflow: dict[Any, Any]) -> None:
    workflow["jobs"]["gate"]["permissions"] = "write-all"


def _run_with_token(workflow: dict[Any, Any]) -> None:
    workflow["jobs"]["annotate"]["steps"].append({"run": ".ci/run"})


def _any_fork(workflow: dict[Any, Any]) -> None:
    del workflow["jobs"]["annotate"]["if"]


def _keep_token(workflow: dict[Any, Any]) -> None:
    del workflow["jobs"]["gate"]["steps"][0]["with"]


def _by_tag(workflow: dict[Any, Any]) -> None:
    workflow["jobs"]["gate"]["steps"][0]["uses"] = "actions/checkout@v6"


def _foreign_action(workflow: dict[Any, Any]) -> None:
    workflow["jobs"]["gate"]["steps"].append({"uses": "somebody/action@main"})


def _no_permissions(workflow: dict[Any, Any]) -> None:
    del workflow["permissions"]


def _secret(workflow: dict[Any, Any]) -> None:
    workflow["jobs"]["gate"]["steps"][-1]["env"] = {"T": "${{ secrets.TOKEN }}"}


@pytest.mark.parametrize(
    "spoil",
    [_inject, _target, _write_all, _run_with_token, _any_fork, _keep_token, _by_tag, _foreign_action,
     _no_permissions, _secret],
)  # fmt: skip
def test_each_fault_would_be_found(spoil: Any) -> None:
    workflow = copy.deepcopy(loaded(WORKFLOW))
    spoil(workflow)
    assert faults(workflow)


def test_an_action_has_one_hash_and_says_its_version() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    pins = PINNED.findall(text)
    assert len(pins) == text.count("uses:") >= 10
    assert len({name for name, _, _ in pins}) == len(set(pins))


def test_the_workflow_installs_as_readme_does() -> None:
    installs = [run for run in workflow_commands(loaded(WORKFLOW)) if "pip install" in run]
    [command] = re.findall(r"^(python3 -m venv .*) && \.venv/bin/detection-pack build", README, re.MULTILINE)
    assert installs == [command] * 2


def test_zizmor_finds_nothing() -> None:
    code, said = judged(WORKFLOW, ROOT / ".github" / "dependabot.yml", ROOT / ".pre-commit-config.yaml")
    assert code == 0, said

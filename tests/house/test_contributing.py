"""The trap: a guide whose commands were once right.

Every fenced command of CONTRIBUTING.md runs, in order, in a copy of the repository; every fenced edit is made
in the files that it names; what is shown is what came out. "…" marks a cut. No block is left out: a block is
a command (sh), its output (text), an edit (diff), or an excerpt that must load as what it is (yaml).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from house.test_readme import shows
from support.checkout import core_alone

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\S*)(?: exit=(\d))?\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
NAME = "transport_rule_created"
SCRIPT = """#!/bin/sh
PYTHONPATH='{root}/scripts' exec '{python}' -m {module} "$@"
"""


def copy_of_the_repository(target: Path) -> Path:
    """As a clone has it after the README's set-up command, whose programs are those of this environment."""
    kept = ("sigma", "pipelines", "scripts", "tests", "docs", "dist", "reference", "requirements", "response")
    ignored = shutil.ignore_patterns("node_modules", "__pycache__", ".*_cache", "*.egg-info")
    for name in kept:
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for path in (path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"):
        shutil.copy(path, target / path.name)
    programs = target / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, module in (("detection-pack", "detection_pack.cli"), ("pytest", "pytest")):
        text = SCRIPT.format(root=target, python=sys.executable, module=module)
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return target


def edit(root: Path, diff: str) -> None:
    """Make an edit: the lines that stay and go must stand in the file, once, in one piece a hunk."""
    first, *lines = diff.splitlines()
    path = root / first.removeprefix("--- ")
    text = path.read_text(encoding="utf-8")
    for hunk in "\n".join(lines).split("\n@@\n"):
        stated = hunk.splitlines()
        assert all(line[:1] in (" ", "-", "+") for line in stated), hunk
        old = "".join(f"{line[1:]}\n" for line in stated if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in stated if line[0] in " +")
        assert text.count(f"\n{old}") + text.startswith(old) == 1, f"{path.name} does not hold, once:\n{old}"
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")


def run(root: Path, command: str, code: int = 0) -> str:
    """What one command prints. It must end with this exit code."""
    setting = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTEST_"))},
        **{
            f"GIT_{who}_{what}": "contributor"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=root,
        env=setting,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{command}\n{done.stdout}"
    return done.stdout.replace(f"{root}/", "")


@pytest.mark.campaign
@pytest.mark.skipif(not shutil.which("git") and "CI" not in os.environ, reason="needs git")
def test_the_guide_works_from_its_first_command_to_its_last(tmp_path: Path) -> None:
    # The core alone: what the guide shows is the same, and each command takes a fraction of the time.
    root = core_alone(copy_of_the_repository(tmp_path / "clone"))
    run(root, ".venv/bin/detection-pack build")
    run(root, "git init -q -b main && git add -A && git commit -q -m start")
    output, ran = "", []
    for kind, code, block in BLOCKS:
        if kind == "sh":
            # Commands of one block share their output, not their shell; the exit code is that of the last.
            ran += (commands := block.splitlines())
            output = "".join(run(root, command) for command in commands[:-1])
            output += run(root, commands[-1], int(code or 0))
        elif kind == "text":
            assert shows(block, output), f"shown:\n{block}\ncame out:\n{output}"
            assert len(block) > 10
        elif kind == "diff":
            edit(root, block)
    every = [
        line for line in GUIDE.splitlines() if re.match(r"\s*(\$ )?(\.venv/bin/|git |detection-pack )", line)
    ]
    assert ran == every and len(ran) >= 10
    assert run(root, "git status --porcelain") == ""
    changed = run(root, "git diff --name-only main").splitlines()
    assert {f"sigma/extended/{NAME}.yml", f"tests/events/{NAME}.yml", "dist/manifest.json"} <= set(changed)
    assert all(path.split("/")[0] in ("sigma", "tests", "docs", "dist") for path in changed)
    # What the core alone has no say in: the facts, the response and the filters of all rules.
    whole = copy_of_the_repository(tmp_path / "whole")
    for path in changed:
        if path.split("/")[0] in ("sigma", "tests"):
            shutil.copy(root / path, whole / path)
    assert run(whole, ".venv/bin/detection-pack validate") == "valid\n"


def test_every_block_is_of_a_kind_that_is_run_made_or_loaded() -> None:
    assert len(BLOCKS) * 2 == GUIDE.count("```")
    assert {kind for kind, *_ in BLOCKS} == {"sh", "text", "diff", "yaml"}
    for kind, _, block in BLOCKS:
        if kind == "yaml":
            assert isinstance(yaml.safe_load(block), dict | list)


def test_the_rule_of_the_guide_is_not_in_the_pack() -> None:
    assert not list(ROOT.rglob(f"sigma/*/{NAME}.yml"))


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", GUIDE)
    assert targets and all(target.startswith("https://") or (ROOT / target).exists() for target in targets)

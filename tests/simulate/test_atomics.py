"""The trap: atomic tests that no runner takes, or that leave the lab as an intruder would.

Judged by the format of Atomic Red Team, restated as a schema, and by what its own validator asks beside it:
each argument is declared and used. What changes something has a way back.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from conftest import ROOT
from detection_pack.simulate.record_sets import load_record_sets
from support.sources import SOURCES

FILES = sorted((ROOT / "tests" / "atomics").glob("*/*.yaml"))
SCHEMA = json.loads((ROOT / "tests" / "data" / "atomic_technique.schema.json").read_text(encoding="utf-8"))
TECHNIQUE: dict[str, Any] = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
TESTS: list[dict[str, Any]] = TECHNIQUE["atomic_tests"]
_ARGUMENT = re.compile(r"#\{(.*?)\}")
#: Commands after which something is there that was not, or is not as it was.
_CHANGES = re.compile(
    r"\b(?:Add|New|Set)-(?!PSSnapin)[A-Z]\w+|-Method (?:POST|DELETE)|-X POST(?! \"https://outlook)|vault POST"
)


def faults(technique: dict[str, Any]) -> list[str]:
    """What is wrong with the tests of a technique, none if nothing is."""
    found = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(technique)]
    for test in technique.get("atomic_tests", ()):
        used = {name for text in commands(test) for name in _ARGUMENT.findall(text)}
        declared = set(test.get("input_arguments") or ())
        found += [f"{name} is not declared" for name in sorted(used - declared)]
        found += [f"{name} is not used" for name in sorted(declared - used)]
    return found


def commands(test: dict[str, Any]) -> list[str]:
    executor = test.get("executor") or {}
    texts = [executor.get(key) for key in ("command", "cleanup_command", "steps")]
    for one in test.get("dependencies") or ():
        texts += [one.get("prereq_command"), one.get("get_prereq_command")]
    return [text for text in texts if text]


def test_the_files_are_named_by_their_technique() -> None:
    assert [path.name for path in FILES] == [f"{path.parent.name}.yaml" for path in FILES]
    assert TECHNIQUE["attack_technique"] == FILES[0].stem


def test_they_are_of_the_format() -> None:
    assert faults(TECHNIQUE) == []


SPOILT = {
    "an unknown key": lambda test: test.update(colour="red"),
    "an unknown platform": lambda test: test.update(supported_platforms=["office365"]),
    "an argument that nothing uses": lambda test: test["input_arguments"].update(
        other={"description": "x", "type": "string", "default": "x"}
    ),
    "an argument that is not declared": lambda test: test["executor"].update(command="#{nothing}"),
    "an argument of another type": lambda test: test["input_arguments"]["mailboxes"].update(default=5),
    "an executor without a command": lambda test: test["executor"].pop("command"),
    "an unknown executor": lambda test: test["executor"].update(name="zsh"),
    "an executor of dependencies that are not there": lambda test: test.pop("dependencies"),
    "no description": lambda test: test.pop("description"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_fault_is_found(spoil: Any) -> None:
    spoilt = deepcopy(TECHNIQUE)
    spoil(spoilt["atomic_tests"][0])
    assert faults(spoilt)


def test_every_test_has_records_and_every_record_its_test() -> None:
    named = [one.test for one in load_record_sets(ROOT, SOURCES) if one.test is not None]
    guids = [test["auto_generated_guid"] for test in TESTS]
    assert len(guids) == len(set(guids))
    assert set(named) == set(guids)


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test["name"])
def test_what_changes_something_has_a_way_back(test: dict[str, Any]) -> None:
    executor = test["executor"]
    if executor["name"] == "manual":
        assert "lean up" in executor["steps"]
        return
    changed = _CHANGES.findall(executor["command"].replace("login.microsoftonline", ""))
    if [one for one in changed if one not in ("New-Object",)]:
        assert executor.get("cleanup_command"), changed
    if test.get("dependencies"):
        assert "dependency_executor_name" in test


def test_commands_that_need_a_cleanup_are_told() -> None:
    assert _CHANGES.findall("Add-MailboxPermission -Identity x") and _CHANGES.findall("x -Method POST -Uri y")
    assert not _CHANGES.findall("Get-Mailbox x") and not _CHANGES.findall("Add-PSSnapin x")


@pytest.mark.parametrize(
    "test", [t for t in TESTS if t["executor"]["name"] == "sh"], ids=lambda test: test["name"]
)
def test_shell_commands_can_be_read(test: dict[str, Any], tmp_path: Path) -> None:
    """By a shell's own parser, with the arguments' defaults in their places."""
    arguments = {name: str(one["default"]) for name, one in (test.get("input_arguments") or {}).items()}
    sh = shutil.which("sh")
    assert sh is not None
    for number, text in enumerate(commands(test)):
        script = tmp_path / f"{number}.sh"
        script.write_text(_ARGUMENT.sub(lambda found: arguments[found[1]], text), encoding="utf-8")
        done = subprocess.run([sh, "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

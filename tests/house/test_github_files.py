"""The trap: a form that GitHub does not show, a link that leads nowhere, a manifest that no bot reads.

GitHub ignores an issue form with a fault in it and says so to nobody. What it takes is in its documentation
("Syntax for GitHub's form schema"); the rules that a form can break are checked here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
ELEMENTS = {"markdown", "input", "textarea", "dropdown", "checkboxes"}
#: File that states dependencies -> ecosystem of the update bot.
MANIFESTS = {"pyproject.toml": "pip", "package.json": "npm", "pom.xml": "maven"}


def loaded(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def faults(form: dict[str, Any]) -> list[str]:
    """What GitHub would refuse the form for."""
    found = [f"no {key}" for key in ("name", "description", "body") if not form.get(key)]
    found += [
        f"unknown key {key}" for key in form.keys() - {"name", "description", "body", "title", "labels"}
    ]
    asked = [element for element in form.get("body", []) if element.get("type") != "markdown"]
    if not asked:
        found.append("nothing is asked")
    identifiers = [element.get("id") for element in asked]
    labels = [element.get("attributes", {}).get("label") for element in asked]
    for named in (identifiers, labels):
        if None in named or len(set(named)) != len(named):
            found.append(f"not each by a name of its own: {named}")
    for element in form.get("body", []):
        attributes = element.get("attributes", {})
        if element.get("type") not in ELEMENTS:
            found.append(f"unknown element {element.get('type')}")
        if element.get("type") == "markdown" and not attributes.get("value"):
            found.append("text without a value")
        if element.get("type") == "dropdown" and len(set(attributes.get("options", []))) < 2:
            found.append("nothing to choose")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(element.get("id", "x"))):
            found.append(f"id {element['id']}")
    return found


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_shows(path: Path) -> None:
    assert faults(loaded(path)) == []


def test_there_is_a_form_for_each_kind_of_report() -> None:
    assert {path.stem for path in FORMS} == {"wrong_verdict", "rule_request", "unread_log"}
    for stem in ("wrong_verdict", "unread_log"):
        assert "made-up" in (GITHUB / "ISSUE_TEMPLATE" / f"{stem}.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda form: form.pop("description"),
        lambda form: form.update(assignee="somebody"),
        lambda form: form["body"].append({"type": "text", "id": "x", "attributes": {"label": "x"}}),
        lambda form: form["body"].append(form["body"][-1]),
        lambda form: form["body"][-1].update(id="a b"),
        lambda form: form["body"][-1]["attributes"].pop("label"),
    ],
)
def test_each_fault_of_a_form_would_be_found(spoil: Any) -> None:
    form = loaded(FORMS[0])
    spoil(form)
    assert faults(form)


def test_a_vulnerability_is_reported_in_private() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "private vulnerability reporting" in text and "Security" in text
    assert not re.search(r"[\w.+-]+@[\w-]+\.\w", text), "an address that nobody reads"
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_every_manifest_is_kept_current() -> None:
    updates = loaded(GITHUB / "dependabot.yml")["updates"]
    watched = {(update["package-ecosystem"], update["directory"]) for update in updates}
    left_out = {".venv", "node_modules", "build", ".git"}
    for name, ecosystem in MANIFESTS.items():
        for path in ROOT.rglob(name):
            folder = path.parent.relative_to(ROOT)
            if not left_out & set(folder.parts):
                assert (ecosystem, f"/{folder.as_posix()}".removesuffix(".")) in watched, path
    assert ("github-actions", "/") in watched
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)

"""The trap: a step that nobody knows how to undo, and an alert for which nobody says what to do.

The playbook is data. Every rule that alerts or hunts is of one kind, every step says its right, what it
breaks and how to undo it, and a fault is a finding with its line.
"""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.playbook import GUIDE, PLAYBOOK, dangling, load_playbook, read_playbook

#: What the response to mail theft has to contain, as issue and plan name it: word of a title -> phase.
CONTAINED = {
    "sessions": "contain",
    "tokens": "contain",
    "consents": "contain",
    "application permissions": "contain",
    "role": "contain",
    "export": "contain",
    "delegation": "contain",
    "audit records": "keep",
    "everything that the account did": "scope",
    "password": "recover",
    "must know": "notify",
}


def copied(tmp_path: Path, change: Any = None, guide: Any = None) -> Path:
    """The pack's two files below another root, changed."""
    for path, edit in ((PLAYBOOK, change), (GUIDE, guide)):
        data = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        if edit is not None:
            edit(data)
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(
            yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    return tmp_path


def test_every_rule_that_finds_something_is_of_one_kind(pack: Pack) -> None:
    named = [name for kind in pack.playbook.kinds for name in kind.rules]
    assert len(named) == len(set(named))
    assert set(named) == {rule.name for rule in pack.rules if rule.tier != "investigation"}
    for rule in pack.rules:
        assert (rule.guide is not None) == (rule.tier != "investigation"), rule.name


def test_every_kind_has_each_phase_and_questions(pack: Pack) -> None:
    for kind in pack.playbook.kinds:
        assert {step.phase for step in kind.steps} == set(pack.playbook.phases), kind.id
        assert kind.normal and kind.cannot_show and len(kind.questions) >= 2, kind.id
        assert kind.queries, kind.id


def test_every_step_and_every_query_is_used(pack: Pack) -> None:
    used = {step.id for kind in pack.playbook.kinds for step in kind.steps}
    assert used == {step.id for step in pack.playbook.steps}
    asked = {name for kind in pack.playbook.kinds for name in kind.queries}
    assert asked == {rule.name for rule in pack.rules if rule.tier == "investigation"}


def test_the_playbook_contains_what_a_theft_of_mail_asks_for(pack: Pack) -> None:
    for words, phase in CONTAINED.items():
        assert any(words in s.title.lower() and s.phase == phase for s in pack.playbook.steps), words


def test_what_was_read_nowhere_is_marked(pack: Pack) -> None:
    for step in pack.playbook.steps:
        if "general knowledge" in step.source:
            assert step.unconfirmed, step.id


def _drop(key: str) -> Any:
    return lambda data: data["steps"][3].pop(key)


@pytest.mark.parametrize("key", ["right", "breaks", "undo", "source", "read", "command"])
def test_a_step_that_lacks_a_part_is_a_finding_with_its_line(tmp_path: Path, key: str) -> None:
    root = copied(tmp_path, _drop(key))
    with pytest.raises(PackError) as caught:
        load_playbook(root)
    findings = caught.value.findings
    assert any(f"lacks {key}" in finding.what and finding.line > 10 for finding in findings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["steps"][0].update(phase="panic"), '"panic" is not a phase'),
        (lambda d: d["steps"][0].update(how="telepathy"), '"telepathy" is not a how'),
        (lambda d: d["steps"][0].update(read="yesterday"), '"yesterday" is not a date'),
        (lambda d: d["steps"][0].update(color="red"), '"color" is unknown here'),
        (lambda d: d["steps"].append(deepcopy(d["steps"][0])), "cannot be the id of this step"),
        (lambda d: d["kinds"][0]["steps"].append("run-away"), '"run-away" is not a step'),
        (lambda d: d["kinds"][1]["rules"].append(d["kinds"][0]["rules"][0]), "is of the kind"),
        (lambda d: d.pop("steps"), 'states no "steps"'),
        (lambda d: d.pop("phases"), "states no phases"),
    ],
)
def test_a_fault_is_a_finding(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(PackError) as caught:
        load_playbook(copied(tmp_path, change))
    assert said in str(caught.value)


def test_a_guide_of_no_kind_and_a_question_without_words_are_findings(tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data["kinds"]["nobody"] = deepcopy(data["kinds"]["mail-rule"])
        data["kinds"]["ediscovery"]["questions"][0].pop("ask")

    with pytest.raises(PackError) as caught:
        load_playbook(copied(tmp_path, guide=change))
    assert '"nobody" is not a kind' in str(caught.value) and "lacks ask" in str(caught.value)


def test_names_of_nothing_are_found(tmp_path: Path, pack: Pack) -> None:
    def guide(data: Any) -> None:
        data["kinds"]["mail-rule"]["questions"][1]["queries"] = ["no_such_query"]

    root = copied(tmp_path, lambda d: d["kinds"][2]["rules"].append("no_such_rule"), guide)
    playbook, documents = read_playbook(root)
    found = list(dangling(playbook, documents, {rule.name: rule.tier for rule in pack.rules}))
    assert ['"no_such_rule"' in found[0].what, '"no_such_query"' in found[1].what] == [True, True]
    assert all(finding.line > 1 for finding in found) and len(found) == 2


def test_a_pack_without_a_playbook_has_an_empty_one(tmp_path: Path) -> None:
    assert load_playbook(tmp_path).kinds == ()
    shutil.copytree(ROOT / "response", tmp_path / "response")
    assert load_playbook(tmp_path).kinds

"""The trap: a step that nobody knows how to undo, and an alert for which nobody says what to do.

The playbook is data. Every rule that alerts or hunts is of one kind, every step says its right, what it
breaks and how to undo it, and a fault is a finding with its line.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.playbook import GUIDE, PLAYBOOK, Kind, dangling, load_playbook, read_playbook

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

#: A cmdlet that leaves something behind, and what it acts on.
LEAVES = re.compile(r"(?:New|Set|Add|Update|Start)-([A-Za-z]+)")
#: Acts of a log that are no cmdlets, as rules name them -> the step that takes them back.
UNDONE_BY = {
    "Add app role assignment to service principal.": "remove-application-permission",
    "Add delegated permission grant.": "revoke-consent",
    "AddFolderPermissions": "remove-folder-permission",
    "MicrosoftGraphDataConnectConsent": "stop-data-connect",
    "RestoreTask": "stop-data-connect",
    "AUTHORIZE_API_CLIENT_ACCESS": "google-remove-delegation",
    "CREATE_EMAIL_MONITOR": "google-stop-monitor",
    "MESSAGE_SECURITY_RULE": "google-stop-mail-rule",
    "EMAIL_ROUTE": "google-stop-mail-rule",
    "ENABLE_EMAIL_AUTOFORWARDING": "google-close-setting",
    "ENABLE_MAIL_DELEGATION_WITHIN_DOMAIN": "google-close-setting",
    "ENABLE_POP_ACCESS": "google-close-setting",
    "IMAP_ACCESS": "google-close-setting",
}
#: Requests whose body is empty, by how their address ends.
EMPTY = "/signOut"


def texts(value: Any) -> Iterator[str]:
    """Every text of a rule's detection."""
    if isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def before(kind: Kind, first: str, then: str) -> bool:
    named = [step.id for step in kind.steps]
    return first in named and named.index(first) < named.index(then)


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


def test_what_a_rule_sees_done_is_taken_back_by_a_step_of_its_kind(pack: Pack) -> None:
    seen = set()
    for rule in pack.rules:
        if rule.guide is None:
            continue
        contain = [step for step in rule.guide.kind.steps if step.phase == "contain"]
        undone = {n for s in contain for n in re.findall(r"(?!Get-)\b[A-Z][a-z]+-([A-Za-z]+)", s.command)}
        for document in rule.documents:
            for said in texts(document.data.get("detection")):
                if match := LEAVES.fullmatch(said):
                    assert match[1] in undone, (rule.name, said)
                elif said in UNDONE_BY:
                    assert UNDONE_BY[said] in {step.id for step in contain}, (rule.name, said)
                else:
                    continue
                seen.add(said)
    assert {*UNDONE_BY, "New-JournalRule", "Add-RecipientPermission", "Set-CASMailbox"} <= seen


def test_an_account_is_shut_out_before_its_sessions_end(pack: Pack) -> None:
    order = {"revoke-sessions": "disable-account", "google-sign-out": "google-suspend"}
    checked = 0
    for kind in pack.playbook.kinds:
        for then in {step.id for step in kind.steps} & set(order):
            assert before(kind, order[then], then), (kind.id, then)
            checked += 1
        resets = {step.id for step in kind.steps} & {"reset-password", "reset-ad-password"}
        assert not resets or before(kind, "disable-account", resets.pop()), kind.id
    assert checked >= len(pack.playbook.kinds) - 1


def test_an_account_of_a_server_is_shut_out_where_it_lives(pack: Pack) -> None:
    [kind] = [kind for kind in pack.playbook.kinds if "exchange_server_export" in kind.rules]
    assert before(kind, "disable-ad-account", "reset-ad-password")
    assert "reset-password" not in {step.id for step in kind.steps}
    [cloud] = [step for step in pack.playbook.steps if step.id == "disable-account"]
    assert "synchronised" in cloud.breaks


def test_a_request_that_needs_a_body_has_one(pack: Pack) -> None:
    sent = re.compile(r"(POST|PATCH|PUT) (https://\S+)(?: (\{.*\}))?")
    found = 0
    for step in pack.playbook.steps:
        for line in (*step.command.splitlines(), step.undo):
            if line.startswith(("POST", "PATCH", "PUT")):
                match = sent.fullmatch(line)
                assert match, (step.id, line)
                assert (match[3] is None) == match[2].endswith(EMPTY), (step.id, line)
                assert match[3] is None or json.loads(match[3]), step.id
                found += 1
    assert found >= 6


def test_what_is_written_down_is_what_an_undo_reads(pack: Pack) -> None:
    kept = " ".join(step.command for step in pack.playbook.steps if step.phase == "keep")
    for step in pack.playbook.steps:
        assert "written down" not in step.undo or re.search(r"[A-Z]_FILE\b", step.undo), step.id
        for name in re.findall(r"\b[A-Z_]+_FILE\b", step.undo):
            assert name in kept, (step.id, name)
    for noun in ("MailboxFolderPermission", "TransportRule", "JournalRule", "ManagementRoleAssignment"):
        assert re.search(rf"Get-{noun}\b.*\| Export-Clixml [A-Z_]+_FILE", kept), noun


def test_auditing_is_turned_on_without_losing_what_was_audited(pack: Pack) -> None:
    for step in pack.playbook.steps:
        assert "-DefaultAuditSet" not in step.command, step.id
    [kind] = [kind for kind in pack.playbook.kinds if "mailbox_audit_disabled" in kind.rules]
    assert before(kind, "keep-mailbox-settings", "restore-auditing")


def test_each_way_of_copying_mail_is_stopped_by_itself(pack: Pack) -> None:
    for step in pack.playbook.steps:
        rules = set(re.findall(r"Disable-[A-Za-z]+Rule\b", step.command))
        assert len(rules) + ("-Forwarding" in step.command) <= 1, step.id
        assert all(line.count("-Forwarding") <= 1 for line in step.command.splitlines()), step.id


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
        (lambda d: d["steps"][0].update(command="a > A_FILE\nb > A_FILE"), '"A_FILE" is written twice'),
        (lambda d: d["steps"][-1].update(undo="read NO_FILE"), '"NO_FILE" is written by no step before'),
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

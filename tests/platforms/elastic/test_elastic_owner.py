"""The trap: a field that is overwritten on the way in.

The o365 integration moves a mailbox's owner to user.email and then, where UserId is an address, writes
UserId over it: a rule that counts user.email never fires for such accounts. The bulk rule must give the same
verdicts whether the owner is still there or gone.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.case import Case, load_cases
from detection_pack.model.event import Event, Hit
from detection_pack.platforms.elastic.documents import ingested
from detection_pack.platforms.elastic.store import Store
from detection_pack.replay.verdict import clock_for, judge
from support.engines import SOUND_ONLY, run_elastic, run_rules
from support.sources import M365

BULK = "bulk_cross_mailbox_access"


def completed(event: Event) -> Event:
    """The record with the GUID and the SIDs that the service always writes and a test may leave out."""
    record: dict[str, Any] = dict(event.record)
    owner = str(record.get("MailboxOwnerUPN") or "").lower()
    if owner:
        record["MailboxOwnerSid"] = _sid(owner)
        if record.get("UserId"):
            record["LogonUserSid"] = _sid(str(record["UserId"]).lower())
        record["MailboxGuid"] = "guid-" + _sid(owner)
    return Event(event.id, event.source, record)


def _sid(name: str) -> str:
    return "S-1-5-21-" + hashlib.sha256(name.encode()).hexdigest()[:12]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return load_cases(ROOT / "tests" / "events" / f"{BULK}.yml", M365)


@pytest.mark.parametrize("keeps_item_owner", [True, False])
def test_same_verdicts_on_both_shapes(cases: list[Case], keeps_item_owner: bool) -> None:
    events = [completed(event) for case in cases for event in case.events]
    entries = [entry for entry in rule_entries(DIST) if entry.name == BULK]
    clock = clock_for(events)
    hits = [
        hit
        for execute in (run_elastic, run_rules)
        for hit in execute(DIST, entries, events, clock, variables={"keeps_item_owner": keeps_item_owner})
    ]
    verdicts = judge(DIST, {BULK: cases}, {(BULK, "elastic"): hits})
    assert [v.artefact.rpartition(".")[2] for v in verdicts] == ["esql", "json", "ndjson", "json"]
    assert [line for verdict in verdicts for line in verdict.wrong] == []


def test_the_shapes_differ_where_the_trap_is(cases: list[Case]) -> None:
    event = completed(cases[0].events[0])
    emails = {}
    for keeps in (True, False):
        with Store([event], variables={"keeps_item_owner": keeps}) as store:
            emails[keeps] = store.documents[event.id]["user.email"]
    assert emails == {True: event.record["MailboxOwnerUPN"], False: event.record["UserId"]}
    assert len(ingested([event], variables={"keeps_item_owner": False})) == 1


def test_threshold_covers_the_exact_rule_on_both_shapes(cases: list[Case]) -> None:
    excepted = {case.title for case in cases if "threshold" in case.exceptions}
    events = [completed(e) for case in cases if case.title not in excepted for e in case.events]
    entries = [entry for entry in rule_entries(DIST) if entry.name == BULK]

    def groups(hits: list[Hit], sound: bool) -> set[tuple[tuple[str, str], ...]]:
        found = [hit.group for hit in hits if hit.artefact.endswith(SOUND_ONLY) == sound and hit.group]
        return {tuple((field, value.lower()) for field, value in group) for group in found}

    for keeps in (True, False):
        hits = run_elastic(DIST, entries, events, clock_for(events), variables={"keeps_item_owner": keeps})
        assert groups(hits, sound=False) <= groups(hits, sound=True)
        assert len(groups(hits, sound=False)) > 20

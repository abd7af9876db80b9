"""The trap: a difference from the reference that nobody decided.

Each departure of docs/departures.md, executed on all platforms; and none without a test, none tested that is
not listed.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.languages.lucene.document_table import Document
from detection_pack.languages.lucene.lucene_index import During, Indices
from detection_pack.model.event import Clock, Event, Hit
from support.engines import ENGINES, SOUND_ONLY, run_elastic
from support.sources import M365
from support.spl import BYTES, UTF, Mode, stanzas
from support.spl import run as interpret
from support.splunk_index import index_of

CLOCK = Clock(datetime(2026, 3, 10, 13, 0, tzinfo=UTC))
BULK, EWS, ADMIN = "bulk_cross_mailbox_access", "suspicious_ews_client", "exchange_admin_cmdlet"
ITEM = {
    "RecordType": 2,
    "Workload": "Exchange",
    "Operation": "Create",
    "CreationTime": "2026-03-10T12:00:00",
    "UserId": "visitor@contoso.example",
    "ClientIP": "198.51.100.7",
    "ClientIPAddress": "198.51.100.7",
    "LogonType": 2,
}
TESTED = (
    "upn-case",
    "letter-case",
    "record-type-digits",
    "aggregated-records",
    "client-ip",
    "missing-user",
    "elastic-long-values",
    "elastic-winlogbeat",
    "elastic-letters",
    "elastic-address",
    "elastic-owner",
    "elastic-threshold",
    "splunk-letters",
    "splunk-latin-pairs",
)


def run(platform: str, rule: str, records: list[dict[str, Any]], threshold: bool = False) -> list[Hit]:
    events = [Event(f"e{i}", M365, {"Id": f"e{i}", **ITEM, **r}) for i, r in enumerate(records)]
    entries = [entry for entry in rule_entries(DIST) if entry.name == rule]
    hits = ENGINES[platform](DIST, entries, events, CLOCK)
    return [hit for hit in hits if hit.artefact.endswith(SOUND_ONLY) == threshold]


def matched(platform: str, rule: str, record: dict[str, Any]) -> bool:
    return run(platform, rule, [record])[0].events == {"e0"}


def owners(*names: str, **fields: Any) -> list[dict[str, Any]]:
    """One record for each owner, with the mailbox's GUID, which is the same for every spelling."""
    return [
        {
            "MailboxOwnerUPN": f"{name}@contoso.example",
            "MailboxGuid": f"guid-{name.lower()}",
            "MailboxOwnerSid": f"S-{name.lower()}",
            "LogonUserSid": "S-visitor",
            **fields,
        }
        for name in names
    ]


def test_every_departure_is_listed_and_tested() -> None:
    text = (ROOT / "docs" / "departures.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == TESTED


every_platform = pytest.mark.parametrize("platform", sorted(ENGINES))


@every_platform
def test_upn_case(platform: str) -> None:
    """Counted, compared and grouped without regard to case."""
    assert run(platform, BULK, owners("a", "A", "b", "c", "d")) == []
    assert run(platform, BULK, owners("a", "b", "c", "d", "Visitor")) == []
    split = [*owners("a", "b", "c"), *owners("d", "e", UserId="VISITOR@contoso.example")]
    [hit] = run(platform, BULK, split)
    assert hit.value == 5 and hit.group is not None
    assert dict(hit.group)["UserId"] == "visitor@contoso.example"


@every_platform
def test_letter_case(platform: str) -> None:
    assert len(run(platform, BULK, owners("a", "b", "c", "d", "e", Operation="CREATE"))) == 1


@every_platform
def test_record_type_digits(platform: str) -> None:
    """Sentinel spells type 50 in digits; the other platforms have one spelling each."""
    assert matched(platform, EWS, {"RecordType": 50, "ClientInfoString": "curl/8.5"})


@every_platform
def test_aggregated_records(platform: str) -> None:
    record = {
        "RecordType": 50,
        "Operation": "MailItemsAccessed",
        "ClientInfoString": "x python-requests/2.25.1[y];",
    }
    assert matched(platform, EWS, record)
    assert not matched(platform, EWS, {**record, "RecordType": 1})


@every_platform
def test_client_ip(platform: str) -> None:
    """One address, whichever port it came from and whichever field has it."""
    mixed = [
        *owners("a", "b", ClientIP="198.51.100.7:1000"),
        *owners("c", "d", ClientIP="198.51.100.7:2000", ClientIPAddress="198.51.100.7"),
        *owners("e", ClientIP=None),
    ]
    [hit] = run(platform, BULK, mixed)
    assert hit.group is not None and dict(hit.group)["ClientIP"] == "198.51.100.7"


@every_platform
def test_elastic_long_values(platform: str) -> None:
    record = {"ClientInfoString": "x" * 1100 + ";curl/8.5"}
    assert matched(platform, EWS, record) == (platform != "elastic")


@pytest.mark.parametrize(("kind", "found"), [("wildcard", {"short", "long"}), ("keyword", {"short"})])
def test_elastic_winlogbeat(kind: str, found: set[str]) -> None:
    """The limit is the index's: a wildcard field holds any length, a keyword field up to 1,024 characters."""
    text = (DIST / "elastic/queries/onprem_powershell_collection.lucene").read_text(encoding="utf-8").strip()
    typed = {"type": kind} | ({"ignore_above": 1024} if kind == "keyword" else {})
    properties = {
        "event.type": {"type": "keyword"},
        "process.name": {"type": "keyword"},
        "process.command_line": typed,
    }
    held = [
        Document(
            name,
            "winlogbeat-9.1.0",
            json.dumps(
                {
                    "event.type": "start",
                    "process.name": "powershell.exe",
                    "process.command_line": "powershell Search-Mailbox ".ljust(length, "x"),
                }
            ),
        )
        for name, length in (("short", 1024), ("long", 1025))
    ]
    with Indices(held, {"mappings": {"properties": properties}}) as indices:
        assert indices.search(text, ["winlogbeat-*"], During("@timestamp", None, None)) == found


@every_platform
def test_elastic_letters(platform: str) -> None:
    """A living script's letters end no word on any platform; a rare one's do on Elastic."""
    assert not matched(platform, EWS, {"ClientInfoString": "жMailSniper"})
    assert matched(platform, EWS, {"ClientInfoString": "\U00010330MailSniper"}) == (platform == "elastic")


@every_platform
def test_elastic_address(platform: str) -> None:
    """ClientIP differs on every record, ClientIPAddress does not."""
    mixed = [
        {**record, "ClientIP": f"198.51.100.{i}", "ClientIPAddress": "203.0.113.9"}
        for i, record in enumerate(owners("a", "b", "c", "d", "e"))
    ]
    assert len(run(platform, BULK, mixed)) == (platform == "elastic")
    [hit] = run(platform, BULK, owners("a", "b", "c", "d", "e", ClientIP="none", ClientIPAddress="none"))
    assert hit.group is not None
    assert dict(hit.group)["ClientIP"] == ("" if platform == "elastic" else "none")


def test_elastic_owner() -> None:
    """Told apart by GUID and SIDs where they are there; test_elastic_owner.py has every case."""
    entries = [entry for entry in rule_entries(DIST) if entry.name == BULK]
    for sids, fired in (({}, 1), ({"MailboxOwnerSid": None, "LogonUserSid": None}, 0)):
        records = [{**record, **sids} for record in owners("a", "b", "c", "d", "e")]
        events = [Event(f"e{i}", M365, {**ITEM, **r}) for i, r in enumerate(records)]
        hits = run_elastic(DIST, entries, events, CLOCK, variables={"keeps_item_owner": False})
        assert len([hit for hit in hits if not hit.artefact.endswith(SOUND_ONLY)]) == fired


@every_platform
@pytest.mark.parametrize("absent", [None, ""])
def test_missing_user(platform: str, absent: str | None) -> None:
    [hit] = run(platform, BULK, owners("a", "b", "c", "d", "e", UserId=absent))
    assert hit.group is not None
    assert dict(hit.group)["UserId"] == "s-visitor"
    two = [*owners("a", "b", "c", UserId=absent), *owners("d", "e", UserId=absent, LogonUserSid="S-other")]
    assert run(platform, BULK, two) == []


def test_elastic_threshold() -> None:
    """Four other mailboxes and the user's own: the threshold rule may fire, the ES|QL must not."""
    four_and_own = owners("a", "b", "c", "d", "visitor")
    assert run("elastic", BULK, four_and_own) == []
    assert len(run("elastic", BULK, four_and_own, threshold=True)) == 1
    assert run("elastic", BULK, owners("a", "b", "c", "d"), threshold=True) == []
    assert len(run("elastic", BULK, owners("a", "b", "c", "d", "e"), threshold=True)) >= 1


def agents_found(mode: Mode, *agents: str) -> set[str]:
    """The user agents that the search of Splunk finds where PCRE reads its texts in this way."""
    records = [{"Id": f"e{i}", **ITEM, "ClientInfoString": agent} for i, agent in enumerate(agents)]
    events = [Event(f"e{i}", M365, record) for i, record in enumerate(records)]
    macros = {
        name: about["definition"]
        for name, about in stanzas((DIST / "splunk" / "macros.conf").read_text(encoding="utf-8")).items()
    }
    text = (DIST / "splunk" / "queries" / f"{EWS}.spl").read_text(encoding="utf-8")
    rows = interpret(text, index_of(events)[1], macros, CLOCK.now.timestamp(), mode)
    return {agents[int(event[1:])] for row in rows for event in row.events}


def test_splunk_letters() -> None:
    """A rune, and what is no departure: letters of living scripts, quotation marks, an emoji, a long s."""
    others = (
        "écurl/",
        "яcurl/",
        "中curl/",
        "عcurl/",
        "“curl/",
        "😀curl/",
        "EWSEditor”",
        "EW\u017fEditor",
        "EWSEditorж",
    )
    expected = {"“curl/", "😀curl/", "EWSEditor”"}
    assert agents_found(UTF, "ᚠcurl/", *others) == expected
    assert agents_found(BYTES, "ᚠcurl/", *others) == {"ᚠcurl/", *expected}


def test_splunk_latin_pairs() -> None:
    """`has` finds the first and no other."""
    pairs = ("×«curl/", "EWSEditorß²", "é²curl/", "²curl/", "EWSEditorß")
    assert agents_found(UTF, *pairs) == {"EWSEditorß²", "é²curl/"}
    assert agents_found(BYTES, *pairs) == {"×«curl/"}

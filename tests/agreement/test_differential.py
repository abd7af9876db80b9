"""The trap: three queries that look alike and answer differently.

Over 20,000 generated events, letter case, boundaries and absent fields varied: the reference query on one
side, the KQL, SPL, Lucene and ES|QL of dist/ on the other. Not one disagreement is allowed but for the
departures, and every departure is named and has a test of its own in test_departures.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from conftest import DIST, REFERENCE
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.platforms.elastic import run as elastic
from detection_pack.platforms.sentinel.run import Workspace
from detection_pack.replay.verdict import ENGINES, SOUND_ONLY
from support import generator
from support import reference_model as model

COUNT = int(os.environ.get("DIFFERENTIAL_EVENTS", "20000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "20261123"))
CLOCK = Clock(generator.END)
PLAIN = ("exchange_admin_cmdlet", "suspicious_ews_client", "onprem_powershell_collection")
BULK = "bulk_cross_mailbox_access"
REFERENCE_TYPES = {
    "exchange_admin_cmdlet": "Exchange Admin Cmdlet",
    "suspicious_ews_client": "Suspicious EWS Client",
    "onprem_powershell_collection": "On-Prem Exchange PowerShell Collection",
}


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return generator.generate(COUNT, SEED)


@pytest.fixture(scope="module", params=sorted(ENGINES))
def hits(request: pytest.FixtureRequest, events: list[Event]) -> list[Hit]:
    return ENGINES[request.param](DIST, rule_entries(DIST), events, CLOCK)


def test_generated_events_are_dense_on_both_sides(events: list[Event]) -> None:
    assert len(events) >= COUNT
    for rule in PLAIN:
        found = sum(model.matches(rule, event, departures=True) for event in events)
        assert len(events) * 0.015 < found < len(events) * 0.6, f"{rule}: {found}"
    groups = model.bulk_cross_mailbox_access(events, departures=True)
    assert len(groups) > len(events) / 400


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference query is not beside the checkout")
def test_model_is_the_reference_query(events: list[Event]) -> None:
    rows = _run_reference(events)
    for rule, shown in REFERENCE_TYPES.items():
        found = {str(row["_EventId"]) for row in rows if row["DetectionType"] == shown}
        expected = {event.id for event in events if model.matches(rule, event, departures=False)}
        assert found == expected, _difference(found, expected)
    found_groups = {
        (row["UserId"], row["ClientIP"], row["WindowStart_"]): row["DistinctMailboxes"]
        for row in rows
        if row["DetectionType"] == "Bulk Cross-Mailbox Access"
    }
    expected_groups = {
        (user, address, hour.replace(tzinfo=None)): count
        for (user, address, hour), count in model.bulk_cross_mailbox_access(events, departures=False).items()
    }
    assert found_groups == expected_groups


@pytest.mark.parametrize("rule", PLAIN)
def test_no_disagreement_event_for_event(rule: str, hits: list[Hit], events: list[Event]) -> None:
    found = {event for hit in hits if hit.rule == rule for event in hit.events}
    expected = {event.id for event in events if model.matches(rule, event, departures=True)}
    assert found == expected, _difference(found, expected)


def test_no_disagreement_group_for_group(hits: list[Hit], events: list[Event]) -> None:
    exact = [hit for hit in hits if hit.rule == BULK and not hit.artefact.endswith(SOUND_ONLY)]
    found = {}
    for hit in exact:
        assert hit.group is not None and hit.window is not None
        named = dict(hit.group)
        found[named["UserId"], named["ClientIP"], hit.window] = hit.value
    assert len(found) == len(exact)
    assert found == model.bulk_cross_mailbox_access(events, departures=True)


def test_no_disagreement_where_elastic_has_lost_the_owner(events: list[Event]) -> None:
    """The bulk rule once more, on records whose owner the integration has overwritten."""
    items = [event for event in events if str(event.record.get("UserId", "")).lower().startswith("user")]
    entries = [entry for entry in rule_entries(DIST) if entry.name == BULK]
    hits = elastic.run(DIST, entries, items, CLOCK, variables={"keeps_item_owner": False})
    exact = [hit for hit in hits if not hit.artefact.endswith(SOUND_ONLY)]
    named = [dict(hit.group or ()) | {"hour": hit.window, "count": hit.value} for hit in exact]
    found = {(n["UserId"], n["ClientIP"], n["hour"]): n["count"] for n in named}
    assert found == model.bulk_cross_mailbox_access(items, departures=True) and len(found) > 20


def _run_reference(events: Sequence[Event]) -> list[dict[str, object]]:
    """The query as it stands, with the identity of its rows added to its projections."""
    workspace = Workspace(events)
    workspace.connection.sql("ALTER TABLE DeviceProcessEvents ADD COLUMN Timestamp TIMESTAMP")
    workspace.connection.sql("UPDATE DeviceProcessEvents SET Timestamp = TimeGenerated")
    text = REFERENCE.read_text(encoding="utf-8")
    text = text.replace("| project TimeGenerated, ", "| project _EventId, TimeGenerated, ")
    text = text.replace(
        "| project TimeGenerated = Timestamp,", "| project _EventId, TimeGenerated = Timestamp,"
    )
    text = text.replace(
        "| project TimeGenerated = FirstSeen,",
        "| project DistinctMailboxes, WindowStart_ = bin(FirstSeen, 1h), TimeGenerated = FirstSeen,",
    )
    assert text.count("_EventId") == 3 and "DistinctMailboxes, WindowStart_" in text
    return workspace.query(text, CLOCK)


def _difference(found: set[str], expected: set[str]) -> str:
    more, less = sorted(found - expected), sorted(expected - found)
    return f"{len(more)} too many {more[:5]}, {len(less)} missed {less[:5]}"

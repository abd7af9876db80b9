"""The trap: three queries that look alike and answer differently.

Over 20,000 generated events (3,000 of them in the ordinary run), letter case, boundaries and absent fields
varied: reference/ on one side, read as Python and as Kusto, the KQL, SPL, Lucene and ES|QL of dist/ on the
other. Not one disagreement is allowed but for the departures, and every departure is named and has a test of
its own in test_departures.py.
"""

from __future__ import annotations

import os

import pytest

from conftest import DIST
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.platforms.kusto.run import Workspace
from support import generator, reference_query
from support import reference_model as model
from support.engines import ENGINES, SOUND_ONLY, run_elastic

COUNTS = [3_000, pytest.param(20_000, marks=pytest.mark.campaign)]
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "20261123"))
CLOCK = Clock(generator.END)
PLAIN = ("exchange_admin_cmdlet", "suspicious_ews_client", "onprem_powershell_collection")
BULK = "bulk_cross_mailbox_access"
BEHAVIOURS = reference_query.load()


@pytest.fixture(scope="module", params=COUNTS)
def events(request: pytest.FixtureRequest) -> list[Event]:
    return generator.generate(request.param, SEED)


@pytest.fixture(scope="module")
def workspace(events: list[Event]) -> Workspace:
    return Workspace(events)


@pytest.fixture(scope="module", params=sorted(ENGINES))
def hits(request: pytest.FixtureRequest, events: list[Event]) -> list[Hit]:
    compared = [entry for entry in rule_entries(DIST) if entry.name in (*PLAIN, BULK)]
    assert len(compared) == len(PLAIN) + 1
    return ENGINES[request.param](DIST, compared, events, CLOCK)


def test_generated_events_are_dense_on_both_sides(events: list[Event]) -> None:
    assert len(events) >= 3_000
    for rule in PLAIN:
        found = sum(model.matches(rule, event, departures=True) for event in events)
        assert len(events) * 0.015 < found < len(events) * 0.6, f"{rule}: {found}"
    groups = model.bulk_cross_mailbox_access(events, departures=True)
    assert len(groups) > len(events) / 400


@pytest.mark.parametrize("rule", PLAIN)
def test_model_reads_the_reference_as_kusto_does(
    rule: str, workspace: Workspace, events: list[Event]
) -> None:
    rows = workspace.query(reference_query.query(rule, BEHAVIOURS), CLOCK)
    found = {str(row["_EventId"]) for row in rows}
    expected = {event.id for event in events if model.matches(rule, event, departures=False)}
    assert found == expected, _difference(found, expected)


def test_model_counts_as_kusto_does(workspace: Workspace, events: list[Event]) -> None:
    rows = workspace.query(reference_query.query(BULK, BEHAVIOURS), CLOCK)
    found = {(row["UserId"], row["ClientIP"], row["Window"]): row["Counted"] for row in rows}
    groups = model.bulk_cross_mailbox_access(events, departures=False).items()
    assert found == {(user, address, hour.replace(tzinfo=None)): n for (user, address, hour), n in groups}
    assert len(found) > len(events) / 1000


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
    hits = run_elastic(DIST, entries, items, CLOCK, variables={"keeps_item_owner": False})
    exact = [hit for hit in hits if not hit.artefact.endswith(SOUND_ONLY)]
    named = [dict(hit.group or ()) | {"hour": hit.window, "count": hit.value} for hit in exact]
    found = {(n["UserId"], n["ClientIP"], n["hour"]): n["count"] for n in named}
    assert found == model.bulk_cross_mailbox_access(items, departures=True) and len(found) > 20


def _difference(found: set[str], expected: set[str]) -> str:
    more, less = sorted(found - expected), sorted(expected - found)
    return f"{len(more)} too many {more[:5]}, {len(less)} missed {less[:5]}"

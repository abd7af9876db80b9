"""The trap: a query that reads a whole record in a way that the parts of it do not answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from detection_pack.model.event import Clock, Event
from detection_pack.platforms.kusto.run import DEFENDER, Workspace
from detection_pack.platforms.kusto.tables import Tables
from detection_pack.platforms.records import Probe
from support.sources import M365, SOURCES

CLOCK = Clock(datetime(2026, 4, 1, tzinfo=UTC))
RECORD = {
    "Id": "r1",
    "CreationTime": "2026-03-10T09:15:00",
    "Operation": "Create",
    "RecordType": 2,
    "UserId": 'a"b\\c@contoso.example',
    "MailboxOwnerUPN": None,
    "Item": {"Subject": "Hello", "Parts": [{"Name": "one"}, {"Name": "two"}]},
    "Parameters": [{"Name": "Role", "Value": "Mailbox Search"}],
    "Two Words": "yes",
}
QUERIES = {
    "parts": (
        "CloudAppEvents | extend u = tostring(RawEventData.UserId)"
        " | extend o = tostring(RawEventData.MailboxOwnerUPN)"
        " | project u, o, r = toint(RawEventData.RecordType)",
        True,
    ),
    "below a part": (
        "CloudAppEvents | where tostring(RawEventData.Item.Subject) =~ 'hello' and"
        " RawEventData.Item.Parts[1].Name == 'two' | project s = tostring(RawEventData.Item.Subject)",
        True,
    ),
    "a part opened": (
        "CloudAppEvents | mv-expand p = RawEventData.Parameters | where tostring(p.Name) == 'Role'"
        " | project v = tostring(p.Value)",
        True,
    ),
    "a part that no record has": ("CloudAppEvents | project x = isempty(tostring(RawEventData.Nope))", True),
    "counted and listed": (
        "CloudAppEvents | summarize n = dcount(tostring(RawEventData.UserId)),"
        " s = make_set(RawEventData.RecordType) by tostring(RawEventData.Operation) | project n, tostring(s)",
        True,
    ),
    "a key with a blank": ("CloudAppEvents | project x = tostring(RawEventData['Two Words'])", False),
    "the whole as text": (
        "CloudAppEvents | where tostring(RawEventData) has 'Mailbox Search' | project ActionType",
        False,
    ),
    "the whole searched": (
        "CloudAppEvents | where RawEventData has 'Mailbox Search' | project ActionType",
        False,
    ),
    "the whole shown": (
        "CloudAppEvents | where tostring(RawEventData.UserId) != '' | project RawEventData",
        False,
    ),
    "every column": ("CloudAppEvents | where tostring(RawEventData.UserId) != ''", False),
}


def rows(text: str) -> list[dict[str, Any]]:
    event = Event("r1", M365, RECORD)
    return Workspace([event], schema=DEFENDER, sources=SOURCES.values()).query(text, CLOCK)


@pytest.mark.parametrize("case", QUERIES)
def test_the_parts_answer_as_the_whole(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = QUERIES[case]
    found = rows(text)
    monkeypatch.setattr(Tables, "_partial", lambda _self, sql: (sql, None))
    assert found == rows(text) and len(found) == 1


@pytest.mark.parametrize("case", QUERIES)
def test_the_whole_is_read_only_where_it_must_be(case: str) -> None:
    text, partial = QUERIES[case]
    probe = Probe(SOURCES.values())
    Workspace(probe, schema=DEFENDER).query(text, CLOCK)
    assert (probe.whole == set()) == partial


def test_one_workspace_answers_both_kinds_in_any_order() -> None:
    workspace = Workspace([Event("r1", M365, RECORD)], schema=DEFENDER, sources=SOURCES.values())
    for case in [*QUERIES, *reversed(QUERIES)]:
        assert len(workspace.query(QUERIES[case][0], CLOCK)) == 1
    [row] = workspace.query(QUERIES["the whole shown"][0], CLOCK)
    assert json.loads(row["RawEventData"]) == RECORD


def test_all_may_arrive_at_one_moment() -> None:
    moment = datetime(2026, 3, 10, 10, tzinfo=UTC)
    event = Event("r1", M365, RECORD)
    query = "OfficeActivity | extend t = ingestion_time() | project t"
    for arrived in (moment, {"r1": moment}):
        assert Workspace([event], arrived, sources=SOURCES.values()).query(query, CLOCK)[0][
            "t"
        ] == moment.replace(tzinfo=None)
    assert Workspace([event], {"other": moment}, sources=SOURCES.values()).query(query, CLOCK)[0]["t"] is None
    assert Workspace([event], sources=SOURCES.values()).query(query, CLOCK)[0]["t"] is None

"""The trap: a correlation that the stock backend cannot say, said almost right.

Each Sigma correlation type as KQL, executed: the group that must fire, and the group that is one event, one
minute or one order short of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from detection_pack.model.event import Clock, Event
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.kusto.query import query_of
from detection_pack.platforms.kusto.run import Workspace
from platforms.sentinel.test_sentinel_backend import PIPELINE
from support.sources import M365

NOW = Clock(datetime(2026, 3, 10, 17, 0, tzinfo=UTC))

CORRELATIONS = {
    "event_count": "condition: {gte: 10}",
    "value_count": "condition: {gte: 5, field: MailboxOwnerUPN}",
    "value_count of two fields": "condition: {gte: 5, field: [MailboxOwnerUPN, ClientIP]}",
    "value_sum": "condition: {gt: 100, field: InternalLogonType}",
    "value_avg": "condition: {lt: 100, field: InternalLogonType}",
    "value_percentile": "condition: {gte: 3, field: InternalLogonType, percentile: 95}",
    "value_median": "condition: {neq: 3, field: InternalLogonType}",
    "temporal": "",
    "temporal_ordered": "",
    "temporal with a condition": "condition: a and not b",
}


def correlation_file(folder: Path, kind: str) -> Path:
    rules = ["a", "b"] if kind.startswith("temporal") else ["a"]
    plain = "".join(
        f"title: {name}\nname: {name}\nlogsource: {{product: m365}}\ndetection:\n"
        f"  selection: {{Operation: {operation}}}\n  condition: selection\n---\n"
        for name, operation in (("a", "Send"), ("b", "Move"))
        if name in rules
    )
    condition = f"\n  {CORRELATIONS[kind]}" if CORRELATIONS[kind] else ""
    listed = "" if "and not" in condition else f"\n  rules: [{', '.join(rules)}]"
    path = folder / "correlated.yml"
    path.write_text(
        f"{plain}title: Correlated\ncorrelation:\n  type: {kind.split(maxsplit=1)[0]}{listed}\n"
        f"  group-by: [UserId]\n  timespan: 2h{condition}\n",
        encoding="utf-8",
    )
    return path


def sent(records: list[dict[str, Any]]) -> list[Event]:
    """The records as events, each a Send at ten past twelve unless it says otherwise."""
    base = {
        "RecordType": 2,
        "Workload": "Exchange",
        "Operation": "Send",
        "CreationTime": "2026-03-10T12:10:00",
    }
    return [Event(str(i), M365, {**base, **record}) for i, record in enumerate(records)]


def fired(folder: Path, kind: str, records: list[dict[str, Any]]) -> set[str]:
    """The users for whom the correlation fires on these records."""
    rule = load_rule(correlation_file(folder, kind), "other", named_by_stem=True)
    events = sent(records)
    lines = query_of(rule, PIPELINE).text().split("\n| extend DetectionType")[0]
    return {row["UserId"] for row in Workspace(events).query(lines, NOW)}


def at(minute: str, **fields: Any) -> dict[str, Any]:
    return {"CreationTime": f"2026-03-10T{minute}:00", **fields}


def logons(user: str, values: list[int]) -> list[dict[str, Any]]:
    return [{"UserId": user, "InternalLogonType": value} for value in values]


EXECUTED: list[tuple[str, list[dict[str, Any]], set[str]]] = [
    ("event_count", [*[{"UserId": "ten"}] * 10, *[{"UserId": "nine"}] * 9], {"ten"}),
    (
        "event_count",  # nine at 13:59: one at 14:00 is within two hours, one at 16:10 is not
        [
            *[at("13:59", UserId=user) for user in ("near", "far") for _ in range(9)],
            at("14:00", UserId="near"),
            at("16:10", UserId="far"),
        ],
        {"near"},
    ),
    (
        "value_count",
        [
            *[{"UserId": "five", "MailboxOwnerUPN": f"m{i}"} for i in range(5)],
            *[{"UserId": "four", "MailboxOwnerUPN": m} for m in ("a", "A", "b", "c", "d", "")],
        ],
        {"five"},
    ),
    (
        "value_count of two fields",
        [
            *[{"UserId": "pairs", "MailboxOwnerUPN": "m", "ClientIP": f"198.51.100.{i}"} for i in range(5)],
            *[{"UserId": "same", "MailboxOwnerUPN": "m", "ClientIP": "198.51.100.1"}] * 9,
        ],
        {"pairs"},
    ),
    ("value_sum", [*logons("over", [50, 51]), *logons("just", [50, 50])], {"over"}),
    ("value_avg", [*logons("under", [10, 188]), *logons("over", [100, 100])], {"under"}),
    ("value_percentile", [*logons("high", [1, 9, 9]), *logons("low", [1, 1, 2])], {"high"}),
    ("value_median", [*logons("other", [1, 2, 2]), *logons("three", [1, 3, 9])], {"other"}),
    (
        "temporal",
        [
            at("12:20", UserId="both", Operation="Move"),
            at("12:10", UserId="both"),
            at("12:10", UserId="one"),
            at("11:50", UserId="far"),
            at("14:10", UserId="far", Operation="Move"),
        ],
        {"both"},
    ),
    (
        "temporal_ordered",
        [
            at("12:10", UserId="ordered"),
            at("12:20", UserId="ordered", Operation="Move"),
            at("12:20", UserId="reversed"),
            at("12:10", UserId="reversed", Operation="Move"),
            at("12:10", UserId="at once", Operation="Move"),
            at("12:10", UserId="at once"),
        ],
        {"ordered", "at once"},
    ),
    (
        "temporal with a condition",
        [{"UserId": "alone"}, {"UserId": "both"}, {"UserId": "both", "Operation": "Move"}],
        {"alone"},
    ),
]


@pytest.mark.parametrize(("kind", "records", "expected"), EXECUTED)
def test_fires_for_these_users_only(
    tmp_path: Path, kind: str, records: list[dict[str, Any]], expected: set[str]
) -> None:
    assert fired(tmp_path, kind, records) == expected


def test_every_type_is_executed() -> None:
    assert {kind for kind, _, _ in EXECUTED} == set(CORRELATIONS)


def test_columns_outside_the_grouping_survive_the_aggregation(tmp_path: Path) -> None:
    """An alert shows the values of its events, sorted, an empty one not at all."""
    text = correlation_file(tmp_path, "event_count").read_text(encoding="utf-8").replace("gte: 10", "gte: 3")
    path = tmp_path / "shown.yml"
    path.write_text(
        f'{text}alert:\n  type: Sent\n  detail: "{{count}} by {{ClientInfoString}}"\n  user: UserId\n'
        "  source: ClientIP\n  agent: ClientInfoString\n  extra: Operation\n",
        encoding="utf-8",
    )
    query = query_of(load_rule(path, "other", named_by_stem=True), PIPELINE)
    records = [
        at("12:10", UserId="u@contoso.example", ClientIP=address, ClientInfoString="Client=OWA")
        for address in ("198.51.100.7", "", "192.0.2.9:4431", "198.51.100.7")
    ]
    [row] = Workspace(sent(records)).query(query.text(), NOW)
    assert row["UserId"] == "u@contoso.example"
    assert row["ClientIP"] == "192.0.2.9, 198.51.100.7"
    assert row["ClientAgent"] == "Client=OWA"
    assert row["DetectionDetail"] == "4 by Client=OWA"


def test_an_alert_shows_what_it_does_not_group_by(tmp_path: Path) -> None:
    """`summarize` drops every column that it is not told of: the view gathers what it shows."""
    path = correlation_file(tmp_path, "value_count")
    view = "alert: {type: T, detail: 'by {ClientInfoString}', user: UserId, source: ClientIP}\n"
    text = path.read_text(encoding="utf-8").replace("group-by: [UserId]", "group-by: [LogonUserSid]")
    path.write_text(text + view, encoding="utf-8")
    rule = load_rule(path, "other", named_by_stem=True)
    owners = [f"box{n}@x.example" for n in range(5)]
    shared = {"LogonUserSid": "S-1", "UserId": "ann@x.example", "ClientInfoString": "Client=REST"}
    events = sent([{**shared, "MailboxOwnerUPN": o, "ClientIP": f"192.0.2.{len(o) % 2 + 1}"} for o in owners])
    rows = Workspace(events).query(query_of(rule, PIPELINE).text(), NOW)
    assert rows
    for row in rows:
        assert (row["UserId"], row["DetectionDetail"]) == ("ann@x.example", "by Client=REST")
        assert row["ClientIP"].startswith("192.0.2.")

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
from detection_pack.platforms.sentinel.query import query_of
from detection_pack.platforms.sentinel.run import Workspace
from platforms.sentinel.test_sentinel_backend import PIPELINE
from support.sources import M365

NOW = Clock(datetime(2026, 3, 10, 16, 0, tzinfo=UTC))

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
        "event_count",  # nine at 13:59, one at 14:00: two windows
        [*[at("13:59", UserId="split")] * 9, at("14:00", UserId="split")],
        set(),
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
            at("13:50", UserId="far"),
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
        ],
        {"ordered"},
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

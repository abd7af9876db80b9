"""The trap: a record that Elasticsearch would not take and that a replay finds all the same, and a threshold
rule that alerts on less than it states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from detection_pack.events import Event
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.platforms.elastic.store import Store, iso

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def audit(number: int, **more: Any) -> Event:
    record = {"CreationTime": f"2026-01-01T12:0{number}:00", "UserId": "u", "ClientIP": "10.0.0.1", **more}
    return Event(f"e{number}", "m365", record)


def test_a_record_that_the_index_refuses_is_not_there() -> None:
    events = [
        audit(0),
        audit(1, **{"X..Y": "x"}),
        audit(2, Z="x"),
        audit(3, **{"Z.a": "x"}),
        audit(4, **{" ": 1}),
    ]
    with Store(events) as held:
        assert held.lucene("*:*") == {"e0", "e2"} == set(held.documents)
        assert set(held.refused) == {"e1", "e3", "e4"}
        assert {row["event.id"] for row in held.esql("FROM logs-*\n| KEEP event.id")} == {None}


def test_values_that_are_malformed_are_left_out_of_both_languages() -> None:
    events = [audit(0, ExternalAccess="maybe", OperationCount="5.9"), audit(1, ClientIP="none"), audit(2)]
    with Store(events) as held:
        assert held.lucene("NOT _exists_:o365.audit.ExternalAccess") == {"e0", "e1", "e2"}
        assert held.lucene("o365.audit.OperationCount:5") == {"e0"}
        assert held.lucene('source.ip:"10.0.0.0/8"') == {"e0", "e2"}
        rows = held.esql("FROM logs-*\n| WHERE o365.audit.OperationCount == 5\n| KEEP source.ip")
        assert rows == [{"source.ip": "10.0.0.1"}]


def test_a_search_is_bounded_by_index_and_time() -> None:
    events = [audit(n) for n in range(5)]
    events.append(Event("p", "process", {"UtcTime": "2026-01-01 12:01:00", "CommandLine": "x"}))
    with Store(events) as held:
        during = (NOON + timedelta(minutes=1), NOON + timedelta(minutes=3))
        assert held.lucene("*:*", ["logs-o365.audit-*"], during) == {"e2", "e3"}
        assert held.lucene("*:*", ["logs-endpoint*", "logs-o365.audit-default"], (None, during[0])) == {
            "e0",
            "e1",
            "p",
        }
        assert held.lucene("*:*", ["nowhere-*"]) == frozenset()
        assert held.times("*:*", ["logs-o365*"], during) == [NOON + timedelta(minutes=n) for n in (2, 3)]
    later = {"e0": NOON + timedelta(hours=1, microseconds=1999)}
    with Store(events, times=later) as held:
        assert held.lucene("*:*", during=(NOON + timedelta(minutes=59), None)) == {"e0"}
        assert held.document("e0")["@timestamp"] == iso(later["e0"]) == "2026-01-01T13:00:00.001Z"
    with Store(events) as held, pytest.raises(UnsupportedLucene):
        held.lucene("user.id:u u")


@pytest.mark.parametrize(
    ("value", "least", "groups"),
    [
        (1, 0, {"u": (3, 2), "v": (2, 2)}),
        (3, 0, {"u": (3, 2)}),
        (2, 2, {"u": (3, 2), "v": (2, 2)}),
        (1, 3, {}),
    ],
)
def test_a_threshold_counts_events_and_distinct_values(
    value: int, least: int, groups: dict[str, tuple[int, int]]
) -> None:
    operations = [("u", "a"), ("u", "b"), ("u", "b"), ("v", "a"), ("v", "A"), (None, "a")]
    events = [audit(n, UserId=user, Operation=operation) for n, (user, operation) in enumerate(operations)]
    cardinality = [{"field": "event.action", "value": least}]
    stated = {
        "index": ["logs-*"],
        "threshold": {"field": ["user.id", "source.ip"], "value": value, "cardinality": cardinality},
    }
    with Store(events) as held:
        found = held.buckets("*:*", stated, (None, None))
    assert {b.key["user.id"]: (b.events, b.distinct) for b in found} == groups
    for bucket in found:
        assert bucket.key["source.ip"] == "10.0.0.1"
        first = NOON + timedelta(minutes=0 if bucket.key["user.id"] == "u" else 3)
        assert (bucket.first, bucket.last) == (first, first + timedelta(minutes=bucket.events - 1))

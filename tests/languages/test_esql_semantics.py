"""The trap: ES|QL is three-valued, sees letter case, and looks like SQL where it is not. A model that guesses
would pass its own mistakes on; what it does not know it must refuse, with the position."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from detection_pack.languages.esql.esql_sql import UnsupportedEsql
from detection_pack.model.event import Event
from detection_pack.platforms.elastic.esql_text import string
from detection_pack.platforms.elastic.store import Store
from support.sources import M365, PROCESS

RECORDS: list[dict[str, Any]] = [
    {"UserId": "A@x.com", "UserKey": "a", "ClientIP": "10.0.0.1", "CreationTime": "2026-01-01T12:59:59"},
    {"UserId": "a@x.com", "UserKey": 'q"\\', "CreationTime": "2026-01-01T13:00:00"},
    {"UserKey": "line\nbreak", "CreationTime": "2026-01-01T13:59:59.999"},
    {"CreationTime": "2026-01-01T14:00:00", "OperationCount": 7},
]


def rows(text: str) -> list[dict[str, Any]]:
    events = [Event(str(n), M365, record) for n, record in enumerate(RECORDS)]
    with Store(events) as store:
        return store.esql(text)


def count(condition: str) -> int:
    found = rows(f"FROM logs-o365.audit-*\n| WHERE {condition}\n| STATS n = COUNT(*)")
    return int(found[0]["n"])


CONDITIONS = [
    ("user.id == user.id", 2),  # null == null is null
    ("NOT (user.id == user.id)", 0),  # NOT null is null
    ("NOT COALESCE(user.id == user.id, false)", 2),
    ('user.id == "a@x.com"', 1),
    ('TO_LOWER(user.id) == "a@x.com"', 2),
    ('NOT TO_LOWER(user.id) == "a@x.com"', 0),
    ('user.id != "a@x.com"', 1),
    ('user.id IN ("a@x.com", "b")', 1),
    ('NOT user.id IN ("b")', 2),
    ("user.id IS NULL", 2),
    ("user.id IS NOT NULL", 2),
    ("user.id IS NULL OR user.id == user.id", 4),
    (f"o365.audit.UserKey == {string(chr(113) + chr(34) + chr(92))}", 1),
    ('o365.audit.UserKey == "line\\nbreak"', 1),
    ('o365.audit.UserKey RLIKE "l.*k"', 1),
    ('o365.audit.UserKey RLIKE "line"', 0),  # anchored
    ('o365.audit.UserKey RLIKE "[^a-p].*"', 1),
    ('NOT o365.audit.UserKey RLIKE "a"', 2),
    ("o365.audit.OperationCount >= 7", 1),
    ('CIDR_MATCH(source.ip, "10.0.0.0/8")', 1),
    ('NOT CIDR_MATCH(source.ip, "11.0.0.0/8")', 1),
    ('CIDR_MATCH(source.ip, "::/0")', 1),  # IPv4 is mapped into IPv6
    ('CIDR_MATCH(source.ip, "::ffff:0:0/96")', 1),
    ('CIDR_MATCH(source.ip, "2000::/3")', 0),
    ("CASE(user.id == user.id, 1, 0) == 0", 2),  # null is not true
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS)
def test_conditions(condition: str, expected: int) -> None:
    assert count(condition) == expected


def test_count_distinct_leaves_null_out_and_groups_keep_it() -> None:
    found = rows(
        "FROM logs-o365.audit-*\n// a comment\n| EVAL user.id = TO_LOWER(user.id) /* and another */\n"
        "| STATS n = COUNT_DISTINCT(o365.audit.UserKey), all = COUNT(*) BY user.id\n| SORT n DESC"
    )
    assert [(r["user.id"], r["n"], r["all"]) for r in found] == [("a@x.com", 2, 2), (None, 1, 2)]


def test_date_trunc_cuts_at_the_clock_hour() -> None:
    found = rows(
        "FROM logs-o365.audit-*\n| EVAL window = DATE_TRUNC(1 hour, @timestamp)\n"
        "| STATS n = COUNT(*) BY window\n| SORT window"
    )
    hours = [(datetime(2026, 1, 1, hour, tzinfo=UTC), n) for hour, n in ((12, 1), (13, 2), (14, 1))]
    assert [(r["window"], r["n"]) for r in found] == hours


def test_a_list_is_expanded_and_a_date_is_a_number_of_milliseconds() -> None:
    found = rows(
        "FROM logs-o365.audit-*\n| EVAL back = [0, 3600000]\n| MV_EXPAND back\n"
        "| EVAL window = TO_DATETIME(TO_LONG(DATE_TRUNC(1 hour, @timestamp)) - back)\n"
        "| STATS n = COUNT(*) BY window\n| SORT window"
    )
    hours = [(datetime(2026, 1, 1, hour, tzinfo=UTC), n) for hour, n in ((11, 1), (12, 3), (13, 3), (14, 1))]
    assert [(r["window"], r["n"]) for r in found] == hours


def test_now_is_the_end_of_what_a_rule_looks_at() -> None:
    events = [Event(str(n), M365, record) for n, record in enumerate(RECORDS)]
    with Store(events) as store:
        during = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 14, 30, tzinfo=UTC))
        text = "FROM logs-o365.audit-*\n| WHERE @timestamp > NOW() - 1 hour\n| STATS n = COUNT(*)"
        assert store.esql(text, during)[0]["n"] == sum(
            record["CreationTime"][10:15] > "T13:3" for record in RECORDS
        )
        with pytest.raises(UnsupportedEsql):
            store.esql(text)


def test_other_indices_are_not_read() -> None:
    assert rows("FROM logs-endpoint.events.process-*\n| STATS n = COUNT(*)")[0]["n"] == 0


UNSUPPORTED = [
    ("FROM a-*\n| MV_EXPAND user.id", 2, 3),
    ("FROM a-*\n| EVAL x = user.id - 1 hour", 2, 22),
    ("FROM a-*\n| EVAL x = TO_LONG(user.id)", 2, 12),
    ("FROM a-*\n| DISSECT x", 2, 3),
    ("FROM a-*\n| WHERE LENGTH(user.id) > 3", 2, 9),
    ('FROM a-*\n| WHERE user.id LIKE "a*"', 2, 17),
    ("FROM a-*\n| WHERE user.id > 3", 2, 9),
    ('FROM a-*\n| WHERE user.id RLIKE "a@b"', 2, 9),
    ('FROM a-*\n| WHERE user.id RLIKE "\\\\d"', 2, 9),
    ("FROM a-*\n| STATS m = MEDIAN(o365.audit.OperationCount)", 2, 13),
    ("FROM a-*\n| STATS n = COUNT(*)\n| KEEP user.id", 3, 3),
    ("FROM a-*\n| WHERE user.id", 2, 3),
    ("FROM a-*\n| EVAL x = DATE_TRUNC(1 month, @timestamp)", 2, 25),
    ("FROM a-*\n| EVAL x = DATE_TRUNC(7 days, @timestamp)", 2, 12),  # a week of the calendar
]


@pytest.mark.parametrize(("text", "line", "column"), UNSUPPORTED)
def test_unsupported_is_refused_with_its_position(text: str, line: int, column: int) -> None:
    with pytest.raises(UnsupportedEsql) as caught:
        rows(text)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)


def test_lower_case_is_that_of_java() -> None:
    """A final sigma, and an i that keeps its dot."""
    words = {"ΑΣ": "ας", "ΑΣ.GR": "ασ.gr", "ΣΑΣΣ ΣΣ": "σασς σς", "Σ": "σ", "İx": "i̇x", "ẞ": "ß"}
    records = [{"Id": text, "UserKey": text, "CreationTime": "2026-01-01T12:00:00"} for text in words]
    with Store([Event(record["Id"], M365, record) for record in records]) as store:
        found = store.esql(
            "FROM *\n| EVAL low = TO_LOWER(o365.audit.UserKey)\n| KEEP event.id, low\n| SORT low"
        )
    assert {row["event.id"]: row["low"] for row in found} == words


def test_a_keyword_that_the_index_lacks_is_null() -> None:
    records = [{"UserKey": "x" * n, "CreationTime": "2026-01-01T12:00:00"} for n in (1024, 1025)]
    records.append({"UserKey": "\U0001f4e7" * 513, "CreationTime": "2026-01-01T12:00:00"})
    with Store([Event(str(n), M365, record) for n, record in enumerate(records)]) as store:
        found = store.esql("FROM *\n| WHERE o365.audit.UserKey IS NOT NULL\n| STATS n = COUNT(*)")
    assert found == [{"n": 1}]


SEVERAL = [
    ('event.type == "start"', 1),  # null where there are two
    ('NOT (event.type == "end")', 1),
    ('NOT (COALESCE(event.type == "end", false))', 2),
    ('event.type IN ("start", "end")', 2),
    ('TO_LOWER(event.type) RLIKE ".*"', 2),
]


@pytest.mark.parametrize(("condition", "expected"), SEVERAL)
def test_several_values_are_null_in_a_comparison(condition: str, expected: int) -> None:
    assert _with_several(f"FROM *\n| WHERE {condition}\n| STATS n = COUNT(*)") == [{"n": expected}]


@pytest.mark.parametrize(
    "command",
    ["WHERE event.type IS NULL", "STATS n = COUNT(*) BY event.type", "STATS n = COUNT_DISTINCT(event.type)"],
)
def test_several_values_elsewhere_are_refused(command: str) -> None:
    with pytest.raises(UnsupportedEsql):
        _with_several(f"FROM *\n| {command}")


def _with_several(text: str) -> list[dict[str, Any]]:
    """Documents with the types start, end, and both."""
    events = [
        Event(str(n), PROCESS, {"UtcTime": "2026-01-01 12:00:00", "Image": f"{n}", "EventType": "start"})
        for n in range(3)
    ]
    with Store(events) as store:
        store.documents["1"]["event.type"] = "end"
        store.documents["2"]["event.type"] = ["start", "end"]
        return store.esql(text)


def test_an_address_has_one_spelling() -> None:
    spelt = ("::ffff:c633:6414", "198.51.100.20", "fe80::1%eth0", "FE80:0::1")
    records = [{"ClientIPAddress": text, "CreationTime": "2026-01-01T12:00:00"} for text in spelt]
    with Store([Event(str(n), M365, record) for n, record in enumerate(records)]) as store:
        found = store.esql("FROM *\n| STATS n = COUNT(*) BY source.ip\n| SORT n")
    assert sorted(row["source.ip"] for row in found) == ["198.51.100.20", "fe80::1"]

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
from support.sources import M365

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


def test_other_indices_are_not_read() -> None:
    assert rows("FROM logs-endpoint.events.process-*\n| STATS n = COUNT(*)")[0]["n"] == 0


UNSUPPORTED = [
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
]


@pytest.mark.parametrize(("text", "line", "column"), UNSUPPORTED)
def test_unsupported_is_refused_with_its_position(text: str, line: int, column: int) -> None:
    with pytest.raises(UnsupportedEsql) as caught:
        rows(text)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)

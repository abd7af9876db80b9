"""What is known of a query's columns before it is translated, and that the SQL says the same with less."""

from __future__ import annotations

from typing import Any

import duckdb
import duckdb_kql
import pytest

from detection_pack.languages.kql.known_text import text_columns, without_dispatch
from detection_pack.languages.kql.named_columns import named_columns, names_its_columns

NAMED = (
    "T | project a",
    "T | where a > 1 | project a | sort by a | where a < 9",
    "let n = 5m;\nT\n| extend w = bin(t, n) - b * n\n| summarize c = count() by w",
    'T | where a has "x | take 1" // | take 1\n| project b = "*"',
    "T | where a in (U | project a) | project a",
)
UNNAMED = (
    "T",
    "T | where a == 1",
    "T | extend b = 1",
    "T | project a | extend b = 1",
    "T | summarize arg_max(t, *) by a | project a",
    "T | summarize take_any(*) by a",
    "T | distinct *",
    'T | where * has "x" | project a',
    "T | join (U | project a) on a | project a",
    "T | project-away a",
    "union T, U | project a",
    'search "x" | project a',
    "T | extend p = pack_all() | project p",
    "T | evaluate bag_unpack(d) | project a",
    "let V = T | project a;\nV",
    "T | where a in (U | project a)",
    "T | getschema | project ColumnName",
)
STRINGS = {"s": True, "u": True, "d": False, "n": False, "t": False}
#: A query, and what of its names is text.
TEXTS: dict[str, set[str]] = {
    "T | extend s = iff(isnotempty(s), s, u) | project s, u": {"s", "u"},
    'T | extend s = replace_regex(s, @"^(a),", @"\\1"), x = strcat(s, "|", u) | project s, x': {
        "s",
        "u",
        "x",
    },
    "T | extend s = tostring(d.a), u = d.b | project s, u": {"s"},
    "T | extend s = iff(s == u, s, d) | project s, u": {"u"},
    "T | extend s = strcat(s, u) == u | project s, u": {"u"},
    "T | extend s = tolower(s), n = n + 1 | extend u = s | project s, u, n": {"s", "u"},
    "T | extend u = s | extend s = n | project s, u": set(),
    "T | mv-expand s | project s, u": {"u"},
    "T | mv-expand s = d | project s, u": {"u"},
    "T | summarize s = make_set(s), n = dcount(u) by u = tolower(u) | project s, u, n": {"u"},
    "T | project u, S = d": {"u"},
    "T | extend s = u": set(),
}


@pytest.mark.parametrize("text", NAMED)
def test_a_query_that_names_what_it_reads(text: str) -> None:
    assert names_its_columns(text)


@pytest.mark.parametrize("text", UNNAMED)
def test_a_query_that_may_read_what_it_does_not_name(text: str) -> None:
    assert not names_its_columns(text)
    assert named_columns(text, ["a", "other"]) == ["a", "other"]


def test_a_column_may_be_named_in_any_case_and_in_a_longer_name() -> None:
    columns = ["UserId", "Operation", "Item", "Folder"]
    assert named_columns("T | project userid, Operation1", columns, "Item > 1") == columns[:3]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_text(text: str) -> None:
    found = text_columns(text, [STRINGS, {"s": True}])
    assert {name for name in found if name in "sux"} == TEXTS[text]
    assert not text_columns(text, [STRINGS, {"s": False, "u": False}]) & {"s", "u"}


@pytest.mark.parametrize("text", [*TEXTS, "T | where s has 'a' and u =~ 'B' or d has 'a' | project s, d"])
def test_the_sql_says_the_same(text: str) -> None:
    made = str(duckdb_kql.to_sql(text, schema={"T": list(STRINGS)}))
    shorter = without_dispatch(made, text_columns(text, [STRINGS]))
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE T(s VARCHAR, u VARCHAR, d JSON, n BIGINT, t TIMESTAMP)")
        connection.execute(
            "INSERT INTO T VALUES ('a', 'B', '{\"a\": \"a\"}', 1, NULL),"
            " ('[\"a\"]', '', '[1, \"a\"]', 2, now()),"
            " ('a,b', 'true', 'null', NULL, now()), (NULL, 'a', '\"a\"', 3, NULL)"
        )

        def rows(sql: str) -> list[tuple[Any, ...]] | str:
            try:
                return sorted(connection.execute(sql).fetchall(), key=repr)
            except duckdb.Error as error:
                return type(error).__name__

        assert rows(shorter) == rows(made)


def test_the_sql_gets_shorter() -> None:
    text = "T | extend s = iff(isnotempty(s), s, u) | where s has 'a' | project s"
    made = str(duckdb_kql.to_sql(text, schema={"T": list(STRINGS)}))
    shorter = without_dispatch(made, text_columns(text, [STRINGS]))
    assert "typeof" in made and "typeof" not in shorter

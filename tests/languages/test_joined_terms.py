"""The trap: one expression for many terms that finds more, or less, than the terms one by one."""

from __future__ import annotations

import random
import re

import duckdb
import duckdb_kql
import pytest

from detection_pack.languages.kql.joined_terms import with_joined_terms

TERMS = [
    "curl/",
    "python-requests",
    "Search-Mailbox",
    "a",
    "a.b",
    "(x)",
    "it's",
    "x|y",
    "é",
    "\\d",
    "/wget",
    "[",
    "ſ",
]
PIECES = [
    *TERMS,
    *(term.upper() for term in TERMS),
    "",
    " ",
    ";",
    "x",
    "1",
    "/",
    "-",
    "é",
    "\n",
    "Log",
    "s",
    "'",
]
SCHEMA = {"T": ["a", "b", "n"]}


def made(query: str) -> str:
    return str(duckdb_kql.to_sql(query, schema=SCHEMA, query_now="2026-03-10T00:00:00Z", allow_write=False))


def listed(terms: list[str]) -> str:
    return ", ".join('"' + term.replace("\\", "\\\\").replace('"', '\\"') + '"' for term in terms)


@pytest.mark.parametrize("seed", range(40))
def test_every_text_gets_the_same_answer(seed: int) -> None:
    draw = random.Random(seed)
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(6))) for _ in range(300)]
    one, other = (draw.sample(TERMS, k=draw.randrange(1, 7)) for _ in range(2))
    condition = draw.choice(
        [
            "a has_any ({0})",
            "not(a has_any ({0}))",
            "a has_any ({0}) or b has_any ({1})",
            "n == 1 and a has_any ({0})",
        ]
    )
    sql = made(f"T | where {condition.format(listed(one), listed(other))} | project n")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE T(n BIGINT, a VARCHAR, b VARCHAR)")
        connection.executemany(
            "INSERT INTO T VALUES (?, ?, ?)", [(n, t, t[::-1]) for n, t in enumerate(texts)]
        )
        joined = with_joined_terms(sql)
        assert connection.execute(joined).fetchall() == connection.execute(sql).fetchall()
    assert joined.count("regexp_matches") <= sql.count("regexp_matches")


def test_terms_are_joined_by_how_they_end() -> None:
    sql = made('T | where a has_any ("curl/", "MailSniper", "wget/", "EWSEditor")')
    joined = with_joined_terms(sql)
    per_branch = re.split(" ELSE ", joined, maxsplit=1)
    assert [branch.count("regexp_matches") for branch in per_branch] == [2, 2]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT regexp_matches(a, 'x') OR regexp_matches(a, 'y')",
        r"SELECT (n AND regexp_matches(a, '(?i)(?:^|[^\pL\pN])' || regexp_escape('x')) OR"
        r" regexp_matches(a, '(?i)(?:^|[^\pL\pN])' || regexp_escape('y')))",
    ],
)
def test_what_is_no_list_of_terms_stays(sql: str) -> None:
    assert with_joined_terms(sql) == sql

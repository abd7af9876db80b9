"""The trap: a judge that nobody has judged. What Elastic's documentation shows or states is asked of the
second evaluator of ES|QL, and what it does not model must be refused, with the position."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.esql import Field, Index, Refused, VerificationFailed, evaluate
from support.esql.lucene_regex import BadExpression, matches
from support.esql.values import java_double

FIELDS = {
    "a": Field("long"),
    "b": Field("long"),
    "k": Field("keyword", 5),
    "w": Field("wildcard"),
    "ip": Field("ip"),
    "t": Field("date"),
    "f": Field("boolean"),
    "o": Field("flattened"),
}
DOCUMENTS: list[dict[str, Any]] = [
    {"a": 1, "b": [2, 1], "k": ["foo", "foo", "bar"], "t": "2026-03-10T12:34:56.789Z", "ip": "10.0.0.1"},
    {"a": 2, "b": 3, "k": "Foo", "w": "x" * 2000, "t": "2026-03-15", "ip": ["10.0.0.2", "::1"], "f": True},
    {"a": 3, "k": "longer", "f": [True, False], "ip": "::ffff:a00:1"},
]


def rows(commands: str, documents: list[dict[str, Any]] | None = None) -> list[list[Any]]:
    index = Index("mv", FIELDS, DOCUMENTS if documents is None else documents)
    found = evaluate(f"FROM mv\n{commands}", [index])
    return [list(row.values()) for row in found.rows]


def of(expression: str) -> list[Any]:
    """The values of an expression over the three documents."""
    return [row[0] for row in rows(f"| EVAL x = {expression}\n| KEEP x, a\n| SORT a")]


#: The second column: one value a document; a tuple is several.
EXPRESSIONS: list[tuple[str, list[Any]]] = [
    ("b", [(1, 2), 3, None]),
    ("b + 2", [None, 5, None]),  # esql-multivalued-fields
    ("a + b", [None, 5, None]),
    ("MV_MIN(b) + 2", [3, 5, None]),
    ("TO_STRING(b)", [("1", "2"), "3", None]),
    ("k", [("bar", "foo"), "Foo", None]),  # once each; too long for the index
    ("w IS NOT NULL", [False, True, False]),
    ("TO_LOWER(k)", [("bar", "foo"), "foo", None]),
    ('k == "Foo"', [None, True, None]),
    ('k IN ("Foo", "bar")', [None, True, None]),
    ('NOT k == "Foo"', [None, False, None]),
    ('k == "Foo" OR a == 1', [True, True, None]),
    ('k == "Foo" AND a == 3', [False, False, None]),
    ("a IN (1, NULL)", [True, None, None]),
    ("f AND true", [None, True, None]),
    ('CASE(f, "yes", a == 1, "one", "no")', ["one", "yes", "no"]),
    ("CASE(a == 1, 5)", [5, None, None]),
    ("COALESCE(b, a)", [(1, 2), 3, 3]),
    ('CONCAT(k, "!")', [None, "Foo!", None]),
    ('MV_CONCAT(MV_SORT(k, "DESC"), "+")', ["foo+bar", "Foo", None]),
    ("MV_COUNT(b)", [2, 1, None]),
    ('MV_CONTAINS(k, "foo")', [True, False, False]),
    ('CIDR_MATCH(ip, "10.0.0.1/32", "fe80::/10")', [True, None, True]),
    ('ip == "10.0.0.1"', [True, None, True]),
    ("TO_STRING(ip)", ["10.0.0.1", ("::1", "10.0.0.2"), "10.0.0.1"]),
    ("7 / 2", [3, 3, 3]),
    ("-7 / 2", [-3, -3, -3]),
    ("7 / 2.0", [3.5, 3.5, 3.5]),
    ("a / 0", [None, None, None]),
    ("9223372036854775807 + a", [None, None, None]),
    ("1 + 2 * 3 - 4", [3, 3, 3]),
    ("NOT a == 1 AND a == 2", [False, True, False]),
    ("true OR true AND false", [True, True, True]),
    ('k LIKE "F*"', [None, True, None]),
    ('k RLIKE "F.."', [None, True, None]),
    ('k NOT RLIKE "foo"', [None, True, None]),
    ('"tab\\t\\"quoted\\" \\\\"', ['tab\t"quoted" \\'] * 3),
    ('"""raw "and" \\n"""', ['raw "and" \\n'] * 3),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_expressions(expression: str, expected: list[Any]) -> None:
    assert of(expression) == expected


TRUNCATED = [
    ("1 hour", "2026-03-10T12:00:00"),
    ("30 minutes", "2026-03-10T12:30:00"),
    ("1 day", "2026-03-10T00:00:00"),
    ("7 days", "2026-03-09T00:00:00"),  # a Monday
    ("1 week", "2026-03-09T00:00:00"),
    ("168 hours", "2026-03-05T00:00:00"),
    ("2 days", "2026-03-10T00:00:00"),
    ("1 month", "2026-03-01T00:00:00"),
    ("1 quarter", "2026-01-01T00:00:00"),
]


@pytest.mark.parametrize(("span", "expected"), TRUNCATED)
def test_date_trunc(span: str, expected: str) -> None:
    moment = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert of(f"DATE_TRUNC({span}, t)")[0] == of(f"BUCKET(t, {span})")[0] == moment


def test_groups_of_null_and_of_several_values() -> None:
    """esql-stats-by: a row is in the group of each of its values."""
    counted = rows("| STATS n = COUNT(*), d = COUNT_DISTINCT(a), v = VALUES(a) BY k\n| SORT k")
    assert counted == [[1, 1, 2, "Foo"], [1, 1, 1, "bar"], [1, 1, 1, "foo"], [1, 1, 3, None]]


def test_aggregates_over_nothing() -> None:
    over = "n = COUNT(*), d = COUNT_DISTINCT(k), s = SUM(a), m = MIN(a), v = VALUES(k), x = AVG(a)"
    assert rows(f"| WHERE a > 5\n| STATS {over}") == [[0, 0, None, None, None, None]]
    assert rows(f"| WHERE a > 5\n| STATS {over} BY f") == []


def test_aggregates_take_all_values() -> None:
    over = "n = COUNT(b), s = SUM(b), x = AVG(b), m = MEDIAN(b), w = COUNT(*) WHERE a > 1"
    assert rows(f"| STATS {over}") == [[3, 6, 2.0, 2.0, 2]]


def test_columns() -> None:
    index = Index("mv", FIELDS, DOCUMENTS)
    text = "FROM mv // all\n| EVAL k = 1, a + 1 /* x */\n| RENAME a AS `x y`, b AS a\n| DROP w, ip, t, f, o"
    assert list(evaluate(text, [index]).columns) == ["x y", "a", "k", "a + 1"]
    kept = evaluate("FROM mv\n| KEEP f, a\n| LIMIT 1", [index])
    assert (list(kept.columns), kept.truncated) == (["f", "a"], True)
    assert [row[0] for row in rows("| SORT f DESC, a DESC\n| KEEP a")] == [1, 3, 2]
    assert [row[0] for row in rows("| SORT b NULLS FIRST\n| KEEP a")] == [3, 1, 2]
    assert len(rows("| MV_EXPAND b")) == 4


def test_a_thousand_rows_come_back_unless_a_limit_says_more() -> None:
    many = [{"a": n} for n in range(12_000)]
    assert len(rows("| KEEP a", many)) == 1_000
    assert len(rows("| KEEP a\n| LIMIT 20000", many)) == 10_000
    assert rows("| STATS n = COUNT(*)", many) == [[12_000]]


INVALID = [
    ("| WHERE nobody == 1", 2, 9),
    ("| KEEP nobody", 2, 8),
    ("| WHERE o == 1", 2, 9),
    ("| WHERE a", 2, 9),
    ("| WHERE k > 3", 2, 9),
    ('| WHERE ip == "ten"', 2, 9),
    ('| EVAL x = COALESCE(a, "")', 2, 12),
    ("| STATS s = SUM(k)", 2, 13),
    ("| STATS n = COUNT(*)\n| WHERE a == 1", 3, 9),
    ('| WHERE k RLIKE "("', 2, 9),
    ('| WHERE CIDR_MATCH(ip, "10.0.0.1")', 2, 9),
]


@pytest.mark.parametrize(("commands", "line", "column"), INVALID)
def test_what_elasticsearch_refuses(commands: str, line: int, column: int) -> None:
    with pytest.raises(VerificationFailed) as caught:
        rows(commands)
    assert caught.value.position == (line, column), str(caught.value)


UNKNOWN = [
    ("| DISSECT k", 2, 3),
    ("| WHERE HASH(k) == 1", 2, 9),
    ("| WHERE k = 1", 2, 11),
    ("| KEEP a*", 2, 8),
    ("| WHERE a == 1 == 2", 2, 16),
    ("| EVAL in = 1", 2, 8),
    ("| WHERE k.by IS NULL", 2, 11),
    ("| EVAL x = 1 fortnight", 2, 12),
    ("| STATS x = 1 + COUNT(*)", 2, 15),
    ("| WHERE k RLIKE TO_LOWER(k)", 2, 17),
    ('| WHERE k == "open', 2, 14),
    ("| WHERE /* open", 2, 9),
    ("| STATS n = COUNT_DISTINCT(a, 2)", 2, 13),
]


@pytest.mark.parametrize(("commands", "line", "column"), UNKNOWN)
def test_what_is_not_modelled_is_refused(commands: str, line: int, column: int) -> None:
    with pytest.raises(Refused) as caught:
        rows(commands)
    assert not isinstance(caught.value, VerificationFailed)
    assert caught.value.position == (line, column), str(caught.value)


def test_a_field_of_two_types_cannot_be_used() -> None:
    both = [Index("i-1", {"x": Field("keyword")}, []), Index("i-2", {"x": Field("long")}, [])]
    assert evaluate("FROM i-*\n| STATS n = COUNT(*)", both).rows == [{"n": 0}]
    assert evaluate("FROM i-*,-i-2\n| WHERE x IS NULL", both).rows == []
    for text in ("FROM i-*\n| WHERE x IS NULL", "FROM other-*\n| LIMIT 1"):
        with pytest.raises(VerificationFailed):
            evaluate(text, both)


LUCENE = [
    ("a.c", "a\nc", True),
    ("a", "aa", False),
    ("a{2,3}", "aaaa", False),
    ("(ab){2}", "abab", True),
    ("[^a-c]+", "xyz", True),
    ("[^a-c]+", "xbz", False),
    ("a&b|c", "c", True),
    (".*a.*&.*b.*", "xbxa", True),
    ("~(.*ab.*)", "ba", True),
    ("~(.*ab.*)", "xaby", False),
    ('"a.c"', "a.c", True),
    ('"a.c"', "abc", False),
    ("@", "anything", True),
    ("#|x", "x", True),
    ("<01-12>", "07", True),
    ("<01-12>", "7", False),
    (r"\d\w\.", "1_.", True),
    (r"\q", "q", True),
    (r"[\d\-x]", "-", True),
    ("()", "", True),
    ("(a?){3}b", "b", True),
    ("(a*)*", "aaa", True),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), LUCENE)
def test_lucene_expressions(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize("pattern", ["(", "[a", "a{2", "a{3,2}", "*a", "<x>", '"a', "a\\", "[b-a]"])
def test_what_is_no_lucene_expression(pattern: str) -> None:
    with pytest.raises(BadExpression):
        matches(pattern, "a")


PLAIN = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\.", "é"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("({0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"])).map(
            "({0[0]}){0[1]}".format
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(PLAIN, st.text("ab.é\n", max_size=6))
def test_plain_expressions_match_as_they_do_elsewhere(pattern: str, text: str) -> None:
    assert matches(pattern, text) == bool(re.fullmatch(pattern, text, re.DOTALL))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (6.0, "6.0"),
        (0.1, "0.1"),
        (1e7, "1.0E7"),
        (12345678.5, "1.23456785E7"),
        (1e-4, "1.0E-4"),
        (-2.5, "-2.5"),
    ],
)
def test_doubles_are_written_as_java_does(value: float, shown: str) -> None:
    assert java_double(value) == shown

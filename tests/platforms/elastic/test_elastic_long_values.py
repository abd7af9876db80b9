"""The trap: a command line of 40,000 characters on which the search server works for five seconds, and a
quick way round it that finds something else than the server.

What the server decides on a short value, RE2 decides alike; a long value takes no longer than a short one.
"""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import DIST
from detection_pack.languages.lucene.lucene_regex import LAST, fold, ranges, render
from detection_pack.languages.regex.regex_tree import Alt, Chars, Node, Repeat, Seq
from detection_pack.model.event import Event
from detection_pack.platforms.elastic import long_values
from detection_pack.platforms.elastic.backend import _terminated
from detection_pack.platforms.elastic.long_values import Clause, clauses, decided
from detection_pack.platforms.elastic.store import Store
from support.sources import PROCESS

FIELD = "process.command_line"
QUERY = (
    (DIST / "elastic" / "queries" / "onprem_powershell_collection.lucene").read_text(encoding="utf-8").strip()
)


def process(number: int, command: str) -> Event:
    record = {"UtcTime": "2026-01-01 00:00:00", "CommandLine": command, "Image": "C:\\x\\powershell.exe"}
    return Event(f"e{number}", PROCESS, record)


LETTERS = st.sampled_from("aAbBkK-_./\\\"#&<>~@^$|()[]{}*+?:;' \n\té\u0130\u212a\u2028\U0001f600")
FOLDED = LETTERS.map(lambda c: Chars(fold(c)))
BETWEEN = st.tuples(LETTERS, LETTERS).map(lambda two: Chars(ranges([(ord(min(two)), ord(max(two)))])))
CHARS: st.SearchStrategy[Node] = FOLDED | BETWEEN
ANY = Chars(((0, LAST),))


def nodes(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    listed = st.lists(inner, min_size=1, max_size=3).map(tuple)
    bounds = st.sampled_from([(0, 1), (0, None), (1, None), (2, 3)])
    return (
        st.builds(Seq, listed) | st.builds(Alt, listed) | st.builds(lambda i, b: Repeat(i, *b), inner, bounds)
    )


NODES: st.SearchStrategy[Node] = st.recursive(CHARS | st.just(ANY), nodes, max_leaves=8)


@pytest.mark.parametrize(
    ("pattern", "value", "found"),
    [
        ("a.*b", "a\nb", True),
        ("a.*b", "xab", False),
        ("a.*b", "abx", False),
        ("[^a]", "\n", True),
        ("()", "a", False),
        (r"a\/b", "a/b", True),
        (".", "\U0001f600", True),
        ("[k\u212a]", "\u212a", True),
        ("k", "K", False),
    ],
)
def test_edges_are_decided_as_the_server_does(pattern: str, value: str, found: bool) -> None:
    query = f"{FIELD}:/{pattern}/"
    with Store([process(0, value)]) as held:
        assert held.lucene(query) == ({"e0"} if found else set())
        [(text, _)] = decided(query, held.documents, (FIELD,))
    assert text == (long_values.EVERYTHING if found else long_values.NOTHING)


def test_a_field_that_is_absent_matches_nothing() -> None:
    record = {"UtcTime": "2026-01-01 00:00:00", "ParentCommandLine": "x" * 5000}
    with Store([Event("e0", PROCESS, record)]) as held:
        assert held.lucene(f"{FIELD}:/.*/") == frozenset()
        assert held.lucene("process.parent.command_line:/x+/") == {"e0"}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(node=NODES, values=st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=8, max_size=8))
def test_re2_decides_as_the_server_does(node: Node, values: list[str]) -> None:
    query = f"{FIELD}:/{_terminated(render(node))}/"
    events = [process(n, value) for n, value in enumerate(values)]
    with Store(events) as held:
        by_server = held.lucene(query)
        documents = dict(held.documents)
    by_re2: set[str] = set()
    for text, identifiers in decided(query, documents, (FIELD,)):
        assert text in (long_values.EVERYTHING, long_values.NOTHING), (
            "RE2 takes every expression that the pack writes"
        )
        by_re2 |= set(identifiers) if text == long_values.EVERYTHING else set()
    assert by_re2 == by_server


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        ("powershell -c New-MailboxExportRequest ", "", True),
        ("", " new-mailboxexportrequest", True),
        ("x", "New-MailboxExportRequest", False),
        ("x", "", False),
    ],
)
def test_a_long_value_is_found_as_a_short_one_is_and_as_fast(start: str, end: str, found: bool) -> None:
    hits, seconds = [], []
    for length in (10, 40_000):
        with Store([process(0, start + "x" * length + end), process(1, "whoami")]) as held:
            held.lucene("*:*")  # index first
            began = time.monotonic()
            hits.append(held.lucene(QUERY))
            seconds.append(time.monotonic() - began)
    assert hits[0] == hits[1] == ({"e0"} if found else set())
    assert seconds[1] < 2.5, seconds  # 4.6 s or more by the server


def test_long_and_short_values_stand_in_one_answer() -> None:
    texts = ["New-MailboxExportRequest", "y " * 3000 + "New-MailboxExportRequest", "z" * 3000, "z"]
    with Store([process(n, text) for n, text in enumerate(texts)]) as held:
        assert held.lucene(QUERY) == {"e0", "e1"}
        assert held.lucene(QUERY, ["nowhere-*"]) == frozenset()
        [clause] = clauses(QUERY, (FIELD,))[:1]
        assert held.lucene(f"NOT {FIELD}:/{clause.pattern}/") == {"e2", "e3"}
        assert len(held.search("*:*", ["*"], (None, None), {"size": 10})["hits"]["hits"]) == 4


def test_expressions_are_found_where_they_are() -> None:
    query = r'a:"process.command_line:/x/" AND process.command_line:/a\/b/ OR process.name:/c/ OR q:\/d/'
    pattern = r"a\/b"
    start = query.index(f"{FIELD}:/{re.escape('a')}")
    assert clauses(query, (FIELD,)) == [Clause(FIELD, pattern, start, start + len(f"{FIELD}:/{pattern}/"))]


def test_what_re2_does_not_take_is_the_servers() -> None:
    query = f"{FIELD}:/a{{2000}}/"
    [(text, identifiers)] = decided(query, {"e0": {FIELD: "a" * 2000}}, (FIELD,))
    assert (text, identifiers) == (query, ["e0"])

"""The trap: analysed text searched as if it were kept whole.

An index keeps such text as words in lower case, and no order of them is modelled: what asks about one word is
answered, everything else is refused. Real Elasticsearch says so, too: tests/agreement/test_elasticsearch.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from sigma.types import SigmaCasedString, SigmaNumber, SigmaRegularExpression, SigmaString

from detection_pack.languages.lucene.index_mapping import UnsupportedMapping, read_mapping
from detection_pack.languages.lucene.lucene_index import matches
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.languages.lucene.lucene_regex import render
from detection_pack.model.refused_value import RefusedValue
from detection_pack.platforms.elastic.conditions import wanted

TEXTS = (
    "Search-Mailbox",
    "SEARCH-MAILBOX;x",
    "Search-MailboxAuditLog",
    "[Microsoft.Exchange.WebServices.Data]",
    "Search Mailbox",
    "Sëarch-Mailbox",
    "search-mailbo\u212a",
    "",
    "()",
    ["a", "Get-Search-Mailbox_2"],
)


def mapping(pattern: str | None = r"[\W&&[^-]]+", **field: Any) -> dict[str, Any]:
    analyzer = {"type": "pattern"} | ({"pattern": pattern} if pattern else {})
    return {
        "settings": {"index": {"analysis": {"analyzer": {"words": analyzer}}}},
        "mappings": {"properties": {"t": {"type": "text", "analyzer": "words"} | field}},
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("t:/.*search-mailbox.*/", (0, 1, 2, 9)),
        ("t:/search-mailbox/", (0, 1)),
        ("t:/Search-Mailbox/", ()),
        ("t:*WebServ*", (3,)),
        ("t:Search\\-Mailbox", (0, 1)),
        ('t:"MICROSOFT"', (3,)),
        ("t:/.*arch-mailbox/", (0, 1, 5)),
        ("*:* AND NOT t:/.*mailbox.*/", (3, 6, 7, 8)),
        ("t:/mailbox/", (4,)),
        ("t:a", (9,)),
    ],
)
def test_a_clause_is_about_one_word(query: str, expected: tuple[int, ...]) -> None:
    found = matches(query, [{"t": text} for text in TEXTS], mapping())
    assert tuple(n for n, hit in enumerate(found) if hit) == expected


@pytest.mark.parametrize(
    "query", ['t:"Search Mailbox"', "t:*Exchange.Web*", "_exists_:t", "t:[a TO b]", "t:\\(\\)"]
)
def test_what_is_not_about_one_word_is_refused(query: str) -> None:
    with pytest.raises(UnsupportedLucene):
        matches(query, [{"t": "x"}], mapping())


def test_a_pattern_without_exceptions_cuts_at_hyphens() -> None:
    assert matches("t:/mailbox/", [{"t": "Search-Mailbox"}], mapping(None)) == [True]


def test_a_word_that_lucene_cannot_keep() -> None:
    documents = [{"t": "x" * n + " y"} for n in (32_766, 32_767)]
    assert matches("t:y", documents, mapping()) == [True, False]


@pytest.mark.parametrize(
    "body", [mapping(r"\s+"), mapping(**{"type": "keyword"}), mapping(**{"analyzer": "standard"})]
)
def test_other_analyzers_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedMapping):
        read_mapping(body)


STATE = {"field_types": {"t": "text(-)", "k": "keyword"}}


def test_a_piece_of_a_word_is_an_expression_of_its_own_case() -> None:
    [found] = wanted("t", [SigmaString("*Search-Mailbox*"), SigmaString("*FindItems*")], STATE)
    assert [render(node) for node in found.nodes] == [r".*search\-mailbox.*", ".*finditems.*"]
    assert not found.folded and not found.plain


@pytest.mark.parametrize(
    "value",
    [
        SigmaString("Search-Mailbox"),
        SigmaString("Search-Mailbox*"),
        SigmaString("*Exchange.WebServices*"),
        SigmaString("*a*b*"),
        SigmaString("*a?b*"),
        SigmaString("*é*"),
        SigmaString("**"),
        SigmaString(""),
        SigmaCasedString("*Mailbox*"),
        SigmaNumber(1),
        SigmaRegularExpression("Mailbox"),
    ],
)
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(RefusedValue):
        wanted("t", [value], STATE)


def test_es_ql_compares_the_whole_text() -> None:
    [found] = wanted("t", [SigmaString("Search Mailbox")], STATE, words=False)
    assert len(found.folded) == 1

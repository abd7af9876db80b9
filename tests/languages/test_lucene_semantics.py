"""The trap: a query string that reads like a search engine's and means something else. Letter case, arrays,
absent fields, values that are too long or malformed, AND beside OR: each case states what Elasticsearch
documents, and the page that says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection_pack.languages.lucene.index_mapping import UnsupportedMapping
from detection_pack.languages.lucene.lucene_index import Indices, aggregate, as_documents, matches
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from support.lucene_evaluator import DOCUMENTS, MAPPING, holds, trees, written

STRINGS = [{"text": {"match_mapping_type": "string", "mapping": {"type": "keyword", "ignore_above": 1024}}}]
BODY: dict[str, Any] = {
    "settings": {"index": {"mapping": {"ignore_malformed": True}}},
    "mappings": {
        "date_detection": False,
        "dynamic_templates": STRINGS,
        "properties": {
            "when": {"type": "date"},
            "short": {"type": "keyword", "ignore_above": 4},
            "folded": {"type": "keyword", "normalizer": "lowercase"},
            "line": {"type": "wildcard", "fields": {"text": {"type": "match_only_text"}}},
            "ip": {"type": "ip"},
            "count": {"type": "long"},
            "small": {"type": "byte"},
            "ratio": {"type": "double"},
            "rough": {"type": "float"},
            "flag": {"type": "boolean"},
            "labels": {"type": "flattened"},
            "name": {"type": "keyword", "fields": {"folded": {"type": "keyword", "normalizer": "lowercase"}}},
        },
    },
}

Case = tuple[str, Sequence[dict[str, Any]], Sequence[dict[str, Any]]]

#: (query, documents that it finds, documents that it does not find)
CASES: dict[str, list[Case]] = {
    # "Keyword type family", "Term query"
    "keyword": [
        ("name:Ab", [{"name": "Ab"}, {"name": ["x", "Ab"]}], [{"name": "ab"}, {"name": "Ab c"}, {}]),
        ('name:"a b"', [{"name": "a b"}], [{"name": "a"}, {"name": "b a b"}]),
        (r'name:"a\"b\\c"', [{"name": 'a"b\\c'}], [{"name": "abc"}]),
        (r"name:a\*b", [{"name": "a*b"}], [{"name": "axb"}]),
        ("name:5", [{"name": 5}, {"name": "5"}], [{"name": 5.5}, {"name": "05"}]),
        ("name:true", [{"name": True}], [{"name": "True"}]),
        ("name:(a OR b)", [{"name": "b"}, {"name": ["c", "a"]}], [{"name": "c"}]),
        ("name:AB", [{"name": "AB"}], [{"name": {"folded": "AB"}}]),
    ],
    # "ignore_above": what is longer, in UTF-16 code units, is in the document but not in the index
    "ignore_above": [
        ("short:abcd", [{"short": "abcd"}], [{"short": "abcde"}]),
        ("short:/.*/", [{"short": "ab\U0001f600"}], [{"short": "abc\U0001f600"}, {"short": "abcde"}]),
        ("_exists_:short", [{"short": ["abcde", "a"]}], [{"short": "abcde"}]),
        ("NOT _exists_:short", [{"short": "abcde"}], [{"short": "a"}]),
    ],
    # "normalizer": values and what is asked for are folded alike, in expressions too
    "normalizer": [
        ("folded:aB", [{"folded": "AB"}, {"folded": "ab"}, {"folded": "Ab"}], [{"folded": "a b"}]),
        ("folded:/A.+/", [{"folded": "aBC"}], [{"folded": "A"}]),
        ("folded:A?c*", [{"folded": "aBCd"}], [{"folded": "ABD"}]),
        ("folded:\u0130", [{"folded": "i"}, {"folded": "\u0130"}], [{"folded": "\u0131"}]),
        ("name.folded:ab", [{"name": "AB"}], [{"name": "b"}]),
    ],
    # "Wildcard field type": whole values of any length, letter case counts
    "wildcard": [
        ("line:/.*x/", [{"line": "a" * 40_000 + "x"}], [{"line": "a" * 40_000 + "X"}]),
        ("line:a", [{"line": "a"}], [{"line": "A"}, {"line": "a b"}]),
    ],
    # "Query string syntax", wildcards: whole values, a line break is a character like others
    "wildcards": [
        ("line:a*c", [{"line": "ac"}, {"line": "a\nbc"}], [{"line": "acd"}, {"line": "xac"}, {"line": "AC"}]),
        ("line:?", [{"line": "\n"}, {"line": "\U0001f600"}], [{"line": "ab"}]),
        (r"line:*\?", [{"line": "a?"}], [{"line": "ab"}]),
        ("line:*", [{"line": "a"}], [{}]),
    ],
    # "Regular expression syntax": the whole value; the dot is any character; ^ and $ are themselves
    "regexp": [
        ("line:/a.c/", [{"line": "abc"}, {"line": "a\nc"}], [{"line": "xabc"}, {"line": "abcd"}]),
        ("line:/^a$/", [{"line": "^a$"}], [{"line": "a"}]),
        ("line:/[^a]/", [{"line": "\n"}, {"line": "b"}], [{"line": "a"}]),
        ("line:/[Kk]/", [{"line": "k"}, {"line": "K"}], [{"line": "\u212a"}]),
        (r"line:/a\/b/", [{"line": "a/b"}], [{"line": "a\\/b"}]),
        ("line:/a{2,3}|b{2}/", [{"line": "aaa"}, {"line": "bb"}], [{"line": "a"}, {"line": "bbb"}]),
        ("line:/a{1000}/", [{"line": "a" * 1000}], [{"line": "a" * 999}, {"line": "a" * 1001}]),
        ("line:/a{3,999}b/", [{"line": "a" * 999 + "b"}], [{"line": "a" * 1000 + "b"}, {"line": "aab"}]),
        ("line:/a{1000,}/", [{"line": "a" * 1500}], [{"line": "a" * 999}]),
        ("line:/a{0}b{2}/", [{"line": "bb"}], [{"line": "abb"}]),
        ("line:/()/", [], [{"line": "a"}]),
    ],
    # "IP field type": addresses, networks, IPv4 and IPv6; a zone is no part of an address
    "ip": [
        ('ip:"10.0.0.1"', [{"ip": "10.0.0.1"}, {"ip": "::ffff:10.0.0.1"}], [{"ip": "10.0.0.11"}, {}]),
        (r"ip:10.0.0.0\/8", [{"ip": "10.9.8.7"}, {"ip": ["::1", "10.0.0.0"]}], [{"ip": "11.0.0.0"}]),
        ('ip:"10.1.2.3/8"', [{"ip": "10.9.8.7"}], [{"ip": "11.0.0.0"}]),
        (r"ip:2001\:db8\:\:\/32", [{"ip": "2001:DB8:0::7"}], [{"ip": "2001:db9::1"}, {"ip": "10.0.0.1"}]),
        ('ip:"fe80::1"', [{"ip": "fe80::1%eth0"}, {"ip": "FE80:0::1"}], [{"ip": "fe80::2"}]),
        (r'ip:"0.0.0.0/0"', [{"ip": "1.2.3.4"}], [{"ip": "::1"}]),
        (r'ip:"::/0"', [{"ip": "1.2.3.4"}, {"ip": "::1"}], [{"ip": "none"}]),
    ],
    # "Date field type": milliseconds; a value that is not a date is left out ("ignore_malformed")
    "date": [
        (
            r"when:[2026-01-01T00\:00\:00.000Z TO 2026-01-01T01\:00\:00.000Z}",
            [
                {"when": "2026-01-01T00:00:00Z"},
                {"when": "2026-01-01T02:59:59.9999+02:00"},
                {"when": 1767225600000},
                {"when": "2026-01-01"},
            ],
            [{"when": "2026-01-01T01:00:00Z"}, {"when": "2025-12-31T23:59:59.999Z"}, {"when": "x"}, {}],
        ),
        (
            r"when:[* TO 2026-01-01T00\:00\:00.000Z]",
            [{"when": "2026"}],
            [{"when": "2026-01-01T00:00:00.001"}],
        ),
        ("when:>=1767225600000", [{"when": "2026-01-01"}], [{"when": "2025-12-31"}]),
        ("_exists_:when", [{"when": "2026-01-01T00:00"}], [{"when": "01.02.2026"}, {"when": "2026-13-01"}]),
    ],
    # "Numeric field types", "coerce": text is taken too, and the whole part of a fraction
    "numbers": [
        ("count:5", [{"count": 5}, {"count": "5"}, {"count": 5.9}, {"count": "5e0"}], [{"count": 6}]),
        ('count:"-5"', [{"count": -5}], [{"count": 5}]),
        ("count:5.5", [], [{"count": 5}, {"count": 6}]),
        ("count:>5", [{"count": 6}, {"count": [1, 9]}], [{"count": 5}, {"count": "x"}, {}]),
        ("count:>=5.5", [{"count": 6}], [{"count": 5}]),
        ("count:<5.5", [{"count": 5}], [{"count": 6}]),
        ("count:<=-5", [{"count": -5}], [{"count": -4}]),
        ("count:{1 TO 3}", [{"count": 2}], [{"count": 1}, {"count": 3}]),
        ("count:[1 TO 3]", [{"count": 1}, {"count": 3}], [{"count": 4}]),
        ("_exists_:count", [{"count": 2**63 - 1}], [{"count": 2**63}, {"count": ""}, {"count": True}]),
        ("_exists_:small", [{"small": -128}], [{"small": 128}]),
        ("ratio:0.1", [{"ratio": 0.1}, {"ratio": "1e-1"}], [{"ratio": 0.10000001}]),
        ("rough:0.1", [{"rough": 0.1}, {"rough": 0.1000000001}], [{"rough": 0.1001}]),
        ("ratio:>=2", [{"ratio": 2.5}], [{"ratio": 1.99}]),
    ],
    # "Boolean field type": true, "true", false, "false" and the empty text
    "boolean": [
        ("flag:true", [{"flag": True}, {"flag": "true"}], [{"flag": "True"}, {"flag": 1}, {"flag": False}]),
        ("flag:false", [{"flag": False}, {"flag": "false"}, {"flag": ""}], [{"flag": "no"}, {}]),
    ],
    # "Flattened field type": every value is text, under its key and under the field itself
    "flattened": [
        ("labels:7", [{"labels": {"a": {"b": 7}}}, {"labels": {"a": ["7"]}}], [{"labels": {"7": "a"}}]),
        ("labels.a.b:x", [{"labels": {"a": {"b": "x"}}}, {"labels": {"a.b": "x"}}], [{"labels": {"b": "x"}}]),
        ("_exists_:labels", [{"labels": {"a": "x"}}], [{"labels": {}}, {}]),
        (
            "_exists_:labels.a",
            [{"labels": {"a": "x"}}],
            [{"labels": {"b": "x"}}, {"labels": {"a": {"b": "x"}}}],
        ),
    ],
    # "Exists query": null and [] are no value; an object exists where a field below it does
    "exists": [
        (
            "_exists_:name",
            [{"name": ""}, {"name": "a"}],
            [{"name": None}, {"name": []}, {"name": [None]}, {}],
        ),
        ("_exists_:o", [{"o": {"p": {"q": "x"}}}, {"o.p.q": "x"}], [{"o": {"p": {}}}, {"o": None}]),
        (r"_exists_:o.a\-b", [{"o": {"a-b": "x"}}], [{"o": {"a": "x"}}]),
        ("NOT _exists_:nowhere", [{}, {"name": "a"}], []),
    ],
    # "Dynamic field mapping", "Arrays"
    "dynamic": [
        (
            "o.p:x",
            [{"o": {"p": "x"}}, {"o": [{"p": "y"}, {"p": ["z", "x"]}]}, {"o.p": "x"}],
            [{"o": {"q": "x"}}],
        ),
        ("o.p.:x", [], [{"o.p": "x"}]),
        ("dotted:x", [{"dotted.": "x"}], []),
        ("nowhere:x", [], [{"name": "x"}, {}]),
        ("number:>4", [{"number": 5}, {"number": "6"}], [{"number": 4}, {"number": "six"}]),
        ("NOT nowhere:/x/", [{}], []),
    ],
    # "Query string syntax", Boolean operators: AND makes both its sides compulsory, and then OR is optional
    "boolean operators": [
        (
            "name:a OR name:b AND count:1",
            [{"name": ["a", "b"], "count": 1}, {"name": "b", "count": 1}],
            [{"name": "a"}],
        ),
        ("name:a AND name:b OR count:1", [{"name": ["a", "b"]}], [{"name": "a"}, {"name": "b"}, {}]),
        ("name:a AND (name:b OR count:1)", [{"name": "a", "count": 1}], [{"name": "a"}]),
        ("NOT name:a", [{"name": "b"}, {}], [{"name": ["b", "a"]}]),
        ("NOT name:a AND NOT name:b", [{}, {"name": "c"}], [{"name": "b"}]),
        ("name:c OR NOT name:a", [{"name": "c"}], [{"name": "a"}, {"name": "b"}, {}]),
        ("name:c OR (NOT name:a)", [{"name": "c"}, {"name": "b"}, {}], [{"name": "a"}]),
        ("*:* AND NOT name:a", [{}], [{"name": "a"}]),
        ("*:*", [{}, {"name": "a"}], []),
    ],
}  # fmt: skip


@pytest.mark.parametrize("topic", CASES)
def test_meaning(topic: str) -> None:
    for query, hits, misses in CASES[topic]:
        found = matches(query, [*hits, *misses], BODY)
        assert found == [True] * len(hits) + [False] * len(misses), query


#: (documents in order, those that are refused, a part of the reason)
REFUSED: list[tuple[list[dict[str, Any]], set[str], str]] = [
    (
        [{"a..b": "x"}, {".a": "x"}, {"a": {" ": "x"}}, {"\u2003": "x"}, {"": "x"}, {"...": "x"}],
        set("012345"),
        "blank",
    ),
    ([{"a.": "x"}, {"a b": "x"}, {"a\u00a0": "x"}, {"labels": {"": "x", "a..b": "x"}}], set(), ""),
    ([{"a": {"b": "x"}}, {"a": "x"}, {"a.b": "y"}], {"1"}, '"a" is an object in one place and a value'),
    ([{"a": "x"}, {"a": {"b": "x"}}, {"a": "y"}, {"a": {}}], {"1", "3"}, '"a" is an object'),
    ([{"a": "x", "a.b": "y"}, {"a": "x"}], {"0"}, '"a" is an object'),
    ([{"a": "x", "b..c": "y"}, {"a": {"b": "x"}}], {"0"}, "blank"),  # a refused document maps nothing
    ([{"name": {"folded": "x"}}, {"name": "x"}], {"0"}, '"name" is an object'),
    ([{"labels": "x"}, {"labels": {"a": "x"}}], {"0"}, '"labels" is an object'),
    ([{"a": None}, {"a": {"b": "x"}}, {"a": []}], set(), ""),
]  # fmt: skip


@pytest.mark.parametrize(("documents", "refused", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_documents_that_an_index_refuses(
    documents: list[dict[str, Any]], refused: set[str], reason: str
) -> None:
    with Indices(as_documents(documents), BODY) as held:
        assert set(held.refused) == refused
        assert all(reason in told for told in held.refused.values())
        assert held.search("*:*") == {str(n) for n in range(len(documents))} - refused


def test_malformed_values_refuse_the_document_where_the_index_does_not_ignore_them() -> None:
    strict = {
        "mappings": {"properties": {"n": {"type": "long"}, "i": {"type": "ip", "ignore_malformed": True}}}
    }
    documents: list[dict[str, Any]] = [{"n": 1}, {"n": "x"}, {"i": "x"}, {"n": [1, True]}, {"n": ""}]
    assert matches("*:*", documents, strict) == [True, False, True, False, True]
    long = {"mappings": {"properties": {"k": {"type": "keyword"}, "w": {"type": "wildcard"}}}}
    values = [{"k": "é" * 16_383}, {"k": "é" * 16_384}, {"w": "é" * 16_384}]
    assert matches("*:*", values, long) == [True, False, True]


def test_groups_are_the_combinations_of_values() -> None:
    """Elasticsearch, "Composite aggregation", the example of keyword and number; a document that lacks a
    field is in no group, and a value that stands twice in a document counts once."""
    documents: list[dict[str, Any]] = [
        {"name": ["foo", "bar", "foo"], "count": [23, 65, 76], "when": "2026-01-01T00:00:01.234Z"},
        {"name": "foo", "count": 23, "line": "x", "when": "2026-01-01"},
        {"name": "foo", "count": 23, "line": ["x", "y", "Y"]},
        {"name": "foo"},
        {"count": 23},
        {"name": "foo", "count": 23, "flag": True},
    ]
    found = aggregate(
        "NOT flag:true", documents, BODY, fields=["name", "count"], counted="line", timestamp="when"
    )
    assert [(b.key, b.documents, b.distinct) for b in found] == [
        (("bar", "23"), 1, 0),
        (("bar", "65"), 1, 0),
        (("bar", "76"), 1, 0),
        (("foo", "23"), 3, 3),
        (("foo", "65"), 1, 0),
        (("foo", "76"), 1, 0),
    ]
    midnight = 1_767_225_600_000
    assert [(b.first, b.last) for b in found][3:5] == [(midnight, midnight + 1234), (midnight + 1234,) * 2]
    addresses: list[dict[str, Any]] = [
        {"ip": "2001:DB8:0::1"},
        {"ip": "::ffff:10.0.0.1"},
        {"ip": ["10.0.0.1", "fe80::1%x"]},
    ]
    shown = aggregate("*:*", addresses, BODY, fields=["ip"], timestamp="when")
    assert [(b.key, b.documents, b.first) for b in shown] == [
        (("10.0.0.1",), 2, None), (("2001:db8::1",), 1, None), (("fe80::1",), 1, None),
    ]  # fmt: skip
    assert aggregate("*:*", documents, BODY, fields=["name", "nowhere"]) == []
    assert [b.key for b in aggregate("*:*", documents, BODY, fields=["flag"])] == [("true",)]
    with pytest.raises(UnsupportedMapping, match="flattened"):
        aggregate("*:*", [{"labels": {"a": "x"}}], BODY, fields=["labels"])


@pytest.mark.parametrize(
    "body",
    [
        {"mappings": {"properties": {"a": {"type": "geo_point"}}}},
        {"mappings": {"properties": {"a": {"type": "keyword", "null_value": "x"}}}},
        {"mappings": {"properties": {"a": {"type": "keyword", "index": False}}}},
        {"mappings": {"properties": {"a": {"type": "keyword", "normalizer": "mine"}}}},
        {"mappings": {"properties": {"a": {"type": "date", "format": "yyyy"}}}},
        {"mappings": {"properties": {"a": {"type": "nested", "properties": {}}}}},
        {"mappings": {"properties": {"a": {"type": "object", "enabled": False}}}},
        {"mappings": {"dynamic": "strict"}},
        {"mappings": {"dynamic_templates": STRINGS}},
        {
            "mappings": {
                "date_detection": False,
                "dynamic_templates": [{"x": {"path_match": "a.*", "mapping": {}}}],
            }
        },
        {"mappings": {"_source": {"enabled": False}}},
    ],
)  # fmt: skip
def test_a_mapping_that_is_not_modelled_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedMapping):
        Indices([], body)


def test_text_without_a_mapping_needs_a_template() -> None:
    bare: dict[str, Any] = {"mappings": {"properties": {}}}
    assert matches("a:5", [{"a": 5}], bare) == [True]
    with pytest.raises(UnsupportedMapping, match='"a" has no mapping'):
        matches("a:5", [{"a": "5"}], bare)
    off = {"mappings": {"dynamic": False, "properties": {}}}
    assert matches("_exists_:a", [{"a": "5"}], off) == [False]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(trees(), min_size=15, max_size=25), st.lists(DOCUMENTS, min_size=10, max_size=20))
def test_any_query_means_what_the_evaluator_says(drawn: list[Any], documents: list[dict[str, Any]]) -> None:
    """Random query strings on random documents, against `support.lucene_evaluator`."""
    listed = as_documents(documents)
    with Indices(listed, MAPPING) as held:
        assert held.refused == {}
        for tree in drawn:
            expected = {d.id for d, values in zip(listed, documents, strict=True) if holds(tree, values)}
            assert held.search(written(tree)) == expected, written(tree)


#: (query, where it is refused, a part of the message)
NOT_UNDERSTOOD = [
    ("", (1, 1), "a field name expected"),
    ("  ", (1, 3), "a field name expected"),
    ("name", (1, 1), "a term without a field"),
    ("name:a b", (1, 8), "AND or OR expected"),
    ("name:a\nAND\n count:1 *:*", (3, 10), "AND or OR expected"),
    ("name:a AND", (1, 11), "the end"),
    ("name:a AND OR", (1, 12), "OR where a clause begins"),
    ("NOT NOT name:a", (1, 8), "NOT after NOT"),
    ("(name:a", (1, 1), "a parenthesis that is never closed"),
    ("name:(a OR b", (1, 6), "a parenthesis that is never closed"),
    ("name:a)", (1, 7), "AND or OR expected"),
    ("name:", (1, 6), "a value expected"),
    ("name: a", (1, 6), "a value expected"),
    ("name:AND", (1, 6), "AND where a value stands"),
    ('name:"a', (1, 6), "a quotation mark that is never closed"),
    ('name:""', (1, 6), "an empty text"),
    ("line:/a", (1, 6), "a regular expression that is never closed"),
    (r"line:/a\/", (1, 6), "a regular expression that is never closed"),
    ("line://", (1, 6), "an empty regular expression"),
    ("name:a^2", (1, 7), "'^2'"),
    ("name:a~1", (1, 7), "'~1'"),
    ('name:"a b"~2', (1, 11), "'~2'"),
    ("+name:a", (1, 1), "a field name expected"),
    ("-name:a", (1, 1), "a field name expected"),
    ("!name:a", (1, 1), "a field name expected"),
    ("name:a && name:b", (1, 8), "'&& name:b'"),
    ("name:a&b", (1, 7), "& outside of quotation marks"),
    ("name:-5", (1, 6), "a value expected"),
    (r"name:a\u0041", (1, 7), "the escape \\u"),
    ("name:a\\", (1, 7), "a backslash at the end"),
    ("n*:a", (1, 1), "a field name with a wildcard"),
    (r"n\*:a", (1, 1), "a field name with a wildcard"),
    ("_exists_:n*", (1, 10), "a field name with a wildcard"),
    ("_id:a", (1, 1), 'the metadata field "_id"'),
    ("name:[a TO b]", (1, 6), 'a range of "name", which is keyword'),
    ("name:>a", (1, 6), 'a range of "name"'),
    ("count:[1 2]", (1, 10), "a range without TO"),
    ("count:[1 TO 2", (1, 7), "a range that is never closed"),
    ("count:[* TO *]", (1, 7), "a range without bounds"),
    ("count:>", (1, 7), "> without a value"),
    (r"count:\>5", (1, 7), "a comparison with an escape"),
    ("count:x", (1, 7), '"x" is not a value of "count", which is long'),
    ("count:>1e999", (1, 7), 'a range of "count"'),
    ("count:9223372036854775808", (1, 7), "is not a value"),
    ("count:5*", (1, 7), 'an expression or a wildcard on "count"'),
    ("flag:yes", (1, 6), '"yes" is not a value of "flag"'),
    ("ip:x", (1, 4), '"x" is not a value of "ip"'),
    (r"ip:10.0.0.0\/33", (1, 4), "is not a value"),
    (r"ip:\:\:ffff\:10.0.0.0\/104", (1, 4), "is not a value"),
    ("ip:10.*", (1, 4), 'an expression or a wildcard on "ip"'),
    ("when:>2026", (1, 6), 'a range of "when"'),
    (r"when:>2026-01-01T00\:00\:00Z", (1, 6), 'a range of "when"'),
    ("line.text:a", (1, 11), "analysed text"),
    ("_exists_:line.text", (1, 10), "analysed text"),
    ("labels.a:/x/", (1, 11), "an expression or a wildcard"),
    ("name:a OR line:/a~b/", (1, 18), "the operator ~"),
    ("line:/a&b/", (1, 8), "the operator &"),
    ("line:/<1-9>/", (1, 7), "the operator <"),
    ("line:/a#/", (1, 8), "the operator #"),
    (r"line:/a\d/", (1, 8), "the escape \\d"),
    ("line:/a|/", (1, 9), "an empty branch"),
    ("line:/(a/", (1, 7), "a group that is never closed"),
    ("line:/a)/", (1, 8), ") with nothing to close"),
    ("line:/[a/", (1, 7), "a class that is empty or never closed"),
    ("line:/[]/", (1, 7), "a class that is empty or never closed"),
    ("line:/[b-a]/", (1, 7), "the wrong way round"),
    ("line:/[a-]/", (1, 7), "a range in a class without an end"),
    ("line:/[-a]/", (1, 8), "an open - in a class"),
    ("line:/a{2,1}/", (1, 8), "a repetition that is not"),
    ("line:/a{,2}/", (1, 8), "a repetition that is not"),
    ("line:/*a/", (1, 7), "* with nothing to repeat"),
    ("line:/a]/", (1, 8), "the operator ]"),
    ('line:/a"b"/', (1, 8), 'the operator "'),
    ("line:/a@b/", (1, 8), "the operator @"),
    ("line:/(a{100}){100}/", (1, 7), "more than 1,000 steps"),
    ("line:/a{1001,}/", (1, 7), "more than 1,000 steps"),
    ("line:/.*a.{30}/", (1, 7), "too large for Elasticsearch"),
    (f"line:/{'.{1000}' * 100}/", (1, 7), "more than 1,000 steps"),
    (f"line:/{'a' * 1001}/", (1, 7), "more than 1,000 characters"),
    ("nowhere:/a~b/", (1, 11), "the operator ~"),
    ("name:\ud800", (1, 6), "half of a UTF-16 pair"),
    ("(" * 70 + "name:a" + ")" * 70, (1, 61), "levels of parentheses"),
    (f"line:/{'(' * 70}a{')' * 70}/", (1, 67), "levels of groups"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "place", "reason"), NOT_UNDERSTOOD, ids=lambda v: ascii(v)[:40])
def test_what_is_not_understood_is_refused_where_it_stands(
    query: str, place: tuple[int, int], reason: str
) -> None:
    with pytest.raises(UnsupportedLucene) as refused:
        matches(query, [{"labels": {"a": "x"}}], BODY)
    assert (refused.value.line, refused.value.column) == place, refused.value
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('ab:()"/[]{}*?\\<>=~^+-!&| \nANDORTO_'), max_size=14))
def test_any_text_is_found_or_refused(text: str) -> None:
    """No query string ends in another error, and none reaches SQL."""
    from detection_pack.languages.lucene.lucene_parser import parsed

    try:
        parsed(text)
    except UnsupportedLucene as error:
        assert 1 <= error.column <= len(text) + 1


def test_no_query_reads_a_file_or_leaves_its_literal() -> None:
    values = ["x' OR 1=1 --", "'; SELECT * FROM read_text('/etc/hostname'); --", "a''b", "\0'"]
    documents = [{"name": value} for value in values]
    for number, value in enumerate(values):
        query = 'name:"' + value.replace("\\", "\\\\") + '"'
        assert matches(query, documents, BODY) == [n == number for n in range(len(values))]
    assert matches("a'b:x", [{"a'b": "x"}, {}], BODY) == [True, False]
    assert matches("line:/[']/", [{"line": "'"}, {"line": "a"}], BODY) == [True, False]

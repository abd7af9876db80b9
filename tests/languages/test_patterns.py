"""The trap: an expression that each platform reads in its own way, or that one of them never finishes.

What the check lets through is held against Python's `re` on RE2 (DuckDB), as Kusto would run it and as
Splunk's model does; what backtracks exponentially is told from what merely nests.
"""

from __future__ import annotations

import re

import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sigma.types import SigmaRegularExpression

from detection_pack.languages.regex.patterns import pattern_fault, tokens, with_exact_end
from detection_pack.languages.spl.spl_parser import UnsupportedSpl
from detection_pack.languages.spl.spl_regex import to_re2

EXPONENTIAL = (
    "(a+)+$", "(a*)*b", "(a|a)*b", "(a|b|a)*c", r"(\w|\d)*x", "(a|aa)+$", "(.*,)*x", "(a*b*)*c", "(x+x+)+y",
    "(.*a){30}", "^(([a-z])+.)+[A-Z]([a-z])+$", r"(\d+\.?)+:", "(?:a?b?)*c|(?:a|ab|b)*c",
    "(?:b?){25}b{25}", "x?" * 25 + "x{25}", "(?:(?:c|d?)e?){12}", "a*" * 11 + "b", "(?:a?){11,}b",
)  # fmt: skip
FINE = (
    "(a|b)*c", r"(\s+foo)*x", r'("[^"]*"\s*)+z', r"(?:-\w+\s)+x", "([^,]*,)*x", "x+x+y", "a*b*", "(ab)*(ab)*",
    r"\.exe\"?\s+(?:-\w+\s+)*-enc?", "(a{1,3}){1,3}", "(?:(?:ab)+c)+", r"(?i)^(?:\w+-)*\w+$", "",
    "(?:b?){5}b{5}", "a{0,30}b", r"(?:\s?-){12}", "a?b?c?d?e?f?g?h?i?j?k?l?", "(" * 90 + "a" + ")?" * 90,
)  # fmt: skip


@pytest.mark.parametrize("source", EXPONENTIAL)
def test_exponential(source: str) -> None:
    assert "Splunk gives up" in (pattern_fault(SigmaRegularExpression(source)) or "")


@pytest.mark.parametrize("source", FINE)
def test_not_exponential(source: str) -> None:
    assert pattern_fault(SigmaRegularExpression(source)) is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (r"a\vb", r"\v"), (r"\N{BULLET}", r"\N"), (r"\u0041", r"\u"), (r"\012", r"\0"),
        (r"(a)\1", r"\1"), (r"a\Z", r"\Z"), (r"[\b]", r"\b"), (r"\_", r"\_"), ("\\é", "\\é"),
        ("(?x)a", "(?x)"), ("(?a)a", "(?a)"), ("(?#b)a", "(?#"), ("a(?=b)", "(?="), ("(?<!a)b", "(?<"),
        ("(?>a)", "(?>"), ("(?P<a>b)(?P=a)", "(?P"), ("a{,5}", "{,5}"), ("[a[:digit:]]", "[:"),
        ("a++b", "possessive"), ("(?:a|(b*+))", "possessive"),
        ("a{1001}", "1,000"), ("(a{100}){20}", "1,000"),
    ],
)  # fmt: skip
def test_not_read_alike(source: str, said: str) -> None:
    assert said in (pattern_fault(SigmaRegularExpression(source)) or "")


def test_tokens_know_a_class() -> None:
    source = r"a$[]$^\]{1}(?:][$]\[$(?i:b){2}"
    found = list(tokens(source))
    assert "".join(token for token, _ in found) == source
    assert [inside for token, inside in found if token == "$"] == [False, True, True, False]


PARTS = st.sampled_from(
    [*"abA1 .-_]{},$^|",
     r"\d", r"\w", r"\S", r"\.", r"\\\\", r"\[", r"\x61", "[ab]", "[^a]", "[]a]", "[a-c$]",
     r"[\w.]", "(", "(?:", "(?i:", ")", "*", "+", "?", "*?", "{2}", "{1,2}", "{1,}", "é", "\n", '"', "/"]
)  # fmt: skip
SUBJECTS = (
    "",
    "a",
    "b",
    "ab",
    "aab",
    "A1",
    "a\n",
    "a.b",
    "[a]",
    "b-a",
    "\\",
    "é",
    "aaa bbb",
    "{a}",
    "$",
    'a"/',
    "_",
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(PARTS, min_size=1, max_size=7).map("".join))
def test_what_is_let_through_is_read_alike(source: str) -> None:
    try:
        value = SigmaRegularExpression(source)
        own = re.compile(source, re.ASCII)
    except Exception:  # pySigma refuses it at load
        assume(False)
    assume(pattern_fault(value) is None)
    # Elastic takes an anchor at the ends alone; there "\\n?\\z" may take a character where "$" takes none.
    assume(not re.search(r"\$.|.\^", re.sub(r"\\.|\[\]?[^]]*\]", "x", source), re.DOTALL))
    expected = [own.search(subject) is not None for subject in SUBJECTS]
    assert _re2(with_exact_end(value, r"\n?\z")) == expected
    try:
        translated = to_re2(with_exact_end(value, r"\x0a?\z", r"\x24"))
    except UnsupportedSpl:
        return
    assert _re2(translated) == expected


def _re2(pattern: str) -> list[bool]:
    rows = duckdb.execute(
        "SELECT regexp_matches(t, ?) FROM (SELECT unnest(CAST(? AS VARCHAR[])) AS t)",
        [pattern, list(SUBJECTS)],
    ).fetchall()
    return [bool(found) for (found,) in rows]

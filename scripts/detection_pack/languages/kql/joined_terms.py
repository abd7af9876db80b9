"""One expression for a list of terms, where duckdb-kql 1.1 asks for one term after the other.

``has_any`` of twelve terms becomes twelve `regexp_matches` of one text, joined by OR; a match of any of them
is a match of their alternation, and a text is read once instead of twelve times.
"""

from __future__ import annotations

import re
from itertools import groupby

_START = re.escape(r"'(?i)(?:^|[^\pL\pN])' || ")
_TERM = r"regexp_escape\('(?:[^']|'')*'\)"
_END = re.escape(r" || '(?:$|[^\pL\pN])'")
_CALL = rf"regexp_matches\({{text}}, (?P<start>{_START})?(?P<term>{_TERM})(?P<end>{_END})?\)"
_FIRST = re.compile(rf"regexp_matches\((?P<text>[^']+?(?:'[^']*'[^']*?)*?), (?:{_START}){_TERM}")


def with_joined_terms(sql: str) -> str:
    """The same statement with each such run of terms as one expression for each way that a term may end."""
    made, at = [], 0
    while (found := _FIRST.search(sql, at)) is not None:
        call = re.compile(_CALL.format(text=re.escape(found["text"])))
        calls: list[re.Match[str]] = []
        end = found.start()
        while (one := call.match(sql, end if not calls else end + len(" OR "))) is not None:
            calls.append(one)
            end = one.end()
            if not sql.startswith(" OR ", end):
                break
        # Without brackets of their own, something else may bind the first or the last of them more tightly.
        if len(calls) < 2 or sql[found.start() - 1 : found.start()] + sql[end : end + 1] != "()":
            made.append(sql[at : found.end()])
            at = found.end()
            continue
        made.append(sql[at : found.start()])
        made.append(_joined(found["text"], calls))
        at = end
    return "".join([*made, sql[at:]])


def _joined(text: str, calls: list[re.Match[str]]) -> str:
    ways = sorted(((c["start"] or "", c["end"] or "", c["term"]) for c in calls), key=lambda way: way[:2])
    parts = []
    for (start, end), group in groupby(ways, key=lambda way: way[:2]):
        terms = " || '|' || ".join(term for _, _, term in group)
        parts.append(f"regexp_matches({text}, {start}'(?:' || {terms} || ')'{end})")
    return " OR ".join(parts)

"""Conditions in two languages at once: a search that finds at least the events, a where that decides.

``search`` reads the index and is quick, but it has no whole terms, no comparison of two fields and no
escaped wildcard. Each part of a condition therefore carries both texts, and says whether its search text is
exact. The where text is two-valued: an absent field counts as the empty string in it, never as null,
because ``NOT`` of a null comparison keeps no event while the reference query keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from detection_pack.languages.spl.spl_literals import (
    Alternative,
    eval_field,
    pattern,
    regex_literal,
    search_field,
)


@dataclass(frozen=True)
class Predicate:
    """``search`` None means that search cannot narrow: every event. ``derived`` are fields to compute first.

    ``compound`` marks an atom whose texts hold an AND of their own.
    """

    search: str | None
    where: str
    exact: bool
    kind: Literal["atom", "and", "or"] = "atom"
    parts: tuple[Predicate, ...] = ()
    derived: frozenset[str] = frozenset()
    text: TextMatch | None = field(default=None)
    compound: bool = False


@dataclass(frozen=True)
class TextMatch:
    """A field against text: kept apart so that many values of one field become one comparison."""

    field: str
    values: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    exact: bool
    cased: bool
    derived: bool


def text_predicate(match: TextMatch) -> Predicate:
    """The comparison of one field with all its values."""
    name = search_field(match.field)
    values = tuple(dict.fromkeys(match.values))
    if match.derived:
        search = None
    elif len(values) == 1:
        search = f"{name}={values[0]}"
    else:
        search = f"{name} IN ({', '.join(values)})"
    where = matching(match.field, pattern(match.alternatives, match.cased))
    return atom(match.field, search, where, match.exact and not match.derived, match.derived, match)


def atom(
    name: str, search: str | None, where: str, exact: bool, derived: bool, text: TextMatch | None = None
) -> Predicate:
    """A condition on one field."""
    needed = frozenset({name}) if derived else frozenset()
    return Predicate(None if derived else search, where, exact and not derived, derived=needed, text=text)


def matching(name: str, regex: str) -> str:
    """True where a value of the field matches.

    `match` takes one string, so the values of an array field are filtered one by one; `mvfilter` gives null
    where none is left (Search Reference, "Multivalue eval functions").
    """
    column, written = eval_field(name), regex_literal(regex)
    if is_multivalue(name):
        return f"isnotnull(mvfilter(match({column}, {written})))"
    return f'match(coalesce({column},""), {written})'


def is_multivalue(name: str) -> bool:
    """Whether a field holds the members of a JSON array, which Splunk names ``array{}``."""
    return "{}" in name


def either(parts: Sequence[Predicate]) -> Predicate:
    """Any of the parts; text comparisons of one field are joined into one."""
    joined: list[Predicate] = []
    for part in parts:
        position = next((i for i, other in enumerate(joined) if _joinable(other, part)), None)
        if position is None:
            joined.append(part)
            continue
        a, b = joined[position].text, part.text
        assert a is not None and b is not None  # _joinable has seen to it
        joined[position] = text_predicate(
            TextMatch(
                a.field,
                a.values + b.values,
                a.alternatives + b.alternatives,
                a.exact and b.exact,
                a.cased,
                a.derived,
            )
        )
    if len(joined) == 1:
        return joined[0]
    searches = [p.search for p in joined]
    return Predicate(
        None if None in searches else " OR ".join(_search_operand(p, "or") for p in joined),
        " OR ".join(_where_operand(p, "or") for p in joined),
        all(p.exact for p in joined),
        "or",
        tuple(joined),
        frozenset().union(*(p.derived for p in joined)),
    )


def _joinable(a: Predicate, b: Predicate) -> bool:
    return (
        a.text is not None
        and b.text is not None
        and (a.text.field, a.text.cased, a.text.derived) == (b.text.field, b.text.cased, b.text.derived)
    )


def both(parts: Sequence[Predicate]) -> Predicate:
    """All of the parts, nested conjunctions flattened so that each can be searched or decided on its own."""
    flat = [q for p in parts for q in (p.parts if p.kind == "and" else (p,))]
    if len(flat) == 1:
        return flat[0]
    narrowing = [_search_operand(p, "and") for p in flat if p.search is not None]
    return Predicate(
        " ".join(narrowing) or None,
        " AND ".join(_where_operand(p, "and") for p in flat),
        all(p.exact for p in flat),
        "and",
        tuple(flat),
        frozenset().union(*(p.derived for p in flat)),
    )


def negation(part: Predicate) -> Predicate:
    """Not the part. Only an exact search may be negated: the negation of a superset would lose events."""
    wrapped = part.search if part.kind == "atom" else f"({part.search})"
    return Predicate(
        f"NOT {wrapped}" if part.exact and part.search is not None else None,
        f"NOT ({part.where})",
        part.exact,
        derived=part.derived,
    )


def _search_operand(part: Predicate, parent: str) -> str:
    # A group keeps its parentheses: search binds OR before AND, where binds AND before OR
    # (Search Manual, "Boolean expressions with logical operators").
    assert part.search is not None
    several = part.kind not in ("atom", parent) or (part.compound and parent == "or")
    return f"({part.search})" if several else part.search


def _where_operand(part: Predicate, parent: str) -> str:
    several = part.kind not in ("atom", parent) or (part.compound and parent == "or")
    return f"({part.where})" if several else part.where


def conjuncts(whole: Predicate) -> tuple[Predicate, ...]:
    """The parts that must all hold."""
    return whole.parts if whole.kind == "and" else (whole,)


def search_terms(whole: Predicate) -> str:
    """The narrowing terms of the base search; empty where search can narrow nothing."""
    return " ".join(_search_operand(p, "and") for p in conjuncts(whole) if p.search is not None)


def deciding(whole: Predicate) -> tuple[str, frozenset[str]]:
    """The where text for what the search does not settle, and the derived fields that it reads."""
    open_parts = [p for p in conjuncts(whole) if not p.exact]
    needed = frozenset[str]().union(*(p.derived for p in open_parts))
    if len(open_parts) == 1:
        return open_parts[0].where, needed
    return " AND ".join(_where_operand(p, "and") for p in open_parts), needed

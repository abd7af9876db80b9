"""Conditions in two languages at once: a search that finds at least the events, a where that decides.

``search`` reads the index and is quick, but it has no whole terms, no comparison of two fields and no
escaped wildcard. Each part of a condition therefore carries both texts, and says whether its search text is
exact. The where text is two-valued: an absent field counts as the empty string in it, never as null,
because ``NOT`` of a null comparison keeps no event while the reference query keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from detection_pack.languages.spl.spl_literals import (
    Alternative,
    eval_field,
    pattern,
    regex_literal,
    search_field,
)
from detection_pack.model.list_table import Cell, ListTable, NotMaintained, check_whole


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
    asked: frozenset[Asked] = frozenset()


@dataclass(frozen=True)
class Asked:
    """A list that is looked up first: the field that each of its columns is compared with."""

    use: str
    table: ListTable
    fields: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """The commands before the where: the fields under names of their own, then the first row with
        them."""
        pairs = [(column, eval_field(field)) for column, field in self.fields]
        keys = ", ".join(f"{column} AS {self.key(column)}" for column, _ in pairs)
        found = ", ".join(f"{column} AS {self.found(column)}" for column, _ in pairs)
        return [
            f"| eval {', '.join(f'{self.key(column)}={field}' for column, field in pairs)}",
            f"| lookup {self.table.shared_name} {keys} OUTPUT {found}",
        ]

    def where(self) -> str:
        """Whether a row has them. Whether an empty cell equals an absent value is not documented: neither
        counts."""
        names = [name for column, _ in self.fields for name in (self.key(column), self.found(column))]
        return " AND ".join(f'coalesce({name},"")!=""' for name in names)

    def key(self, column: str) -> str:
        return f"{self.use.replace('__', '_')}_{column}"

    def found(self, column: str) -> str:
        return f"{self.use.replace('__', '_')}_listed_{column}"


def asked_cell(cell: Cell, name: str, derived: bool) -> Predicate:
    """One column of a list. `both` makes one row of those that stand together."""
    if is_multivalue(name):
        raise NotMaintained(cell.use, f"{name} may have several values, and a lookup compares one")
    asked = Asked(cell.use, cell.table, ((cell.column, name),))
    needed = frozenset({name}) if derived else frozenset[str]()
    return Predicate(None, asked.where(), False, derived=needed, compound=True, asked=frozenset({asked}))


def _rows_of(parts: Sequence[Predicate]) -> list[Predicate]:
    """The parts with the cells of one use as one row, where the first of them stands."""
    made: dict[object, Predicate] = {}
    for number, part in enumerate(parts):
        if part.kind != "atom" or len(part.asked) != 1 or part.where != next(iter(part.asked)).where():
            made[number] = part
            continue
        [one] = part.asked
        if (other := made.get(one.use)) is None:
            made[one.use] = part
            continue
        one = Asked(one.use, one.table, (*next(iter(other.asked)).fields, *one.fields))
        needed = part.derived | other.derived
        made[one.use] = replace(part, where=one.where(), derived=needed, asked=frozenset({one}))
    return list(made.values())


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
        asked=_asked(joined),
    )


def _joinable(a: Predicate, b: Predicate) -> bool:
    return (
        a.text is not None
        and b.text is not None
        and (a.text.field, a.text.cased, a.text.derived) == (b.text.field, b.text.cased, b.text.derived)
    )


def both(parts: Sequence[Predicate]) -> Predicate:
    """All of the parts, nested conjunctions flattened so that each can be searched or decided on its own."""
    flat = _rows_of([q for p in parts for q in (p.parts if p.kind == "and" else (p,))])
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
        asked=_asked(flat),
    )


def negation(part: Predicate) -> Predicate:
    """Not the part. Only an exact search may be negated: the negation of a superset would lose events."""
    wrapped = part.search if part.kind == "atom" else f"({part.search})"
    return Predicate(
        f"NOT {wrapped}" if part.exact and part.search is not None else None,
        f"NOT ({part.where})",
        part.exact,
        derived=part.derived,
        asked=part.asked,
    )


def _asked(parts: Sequence[Predicate]) -> frozenset[Asked]:
    return frozenset[Asked]().union(*(part.asked for part in parts))


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


def lookups(whole: Predicate) -> list[str]:
    """The commands that ask the lists of a condition. Raises `NotMaintained` for what is not a whole row."""
    lines = []
    for one in sorted(whole.asked, key=lambda asked: (asked.use, asked.fields)):
        check_whole(one.use, one.table, [column for column, _ in one.fields])
        lines += one.lines()
    return lines


def deciding(whole: Predicate) -> tuple[str, frozenset[str]]:
    """The where text for what the search does not settle, and the derived fields that it reads."""
    open_parts = [p for p in conjuncts(whole) if not p.exact]
    needed = frozenset[str]().union(*(p.derived for p in open_parts))
    if len(open_parts) == 1:
        return open_parts[0].where, needed
    return " AND ".join(_where_operand(p, "and") for p in open_parts), needed

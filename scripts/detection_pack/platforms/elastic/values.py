"""Sigma string values as Lucene regular expressions, one for a whole list where the limits allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sigma.types import SigmaCasedString, SigmaString, SpecialChars

from detection_pack.platforms.conversion import RefusedValue
from detection_pack.platforms.elastic.lucene_regex import ANY, ANYTHING, BOUNDARY, TooLarge, literal, pack
from detection_pack.platforms.elastic.regex_tree import Alt, Node, Repeat, Seq
from detection_pack.platforms.terms import WholeTerm, whole_term


def text_of(value: SigmaString) -> str | None:
    """The plain text of a value; None where it has a wildcard."""
    return "".join(map(str, value.s)) if all(isinstance(part, str) for part in value.s) else None


def wildcard_node(parts: Sequence[Any], cased: bool) -> Node:
    """The parts of a value with its wildcards; letter case does not count unless the value is ``|cased``."""
    items: list[Node] = []
    for part in parts:
        if part == SpecialChars.WILDCARD_MULTI:
            items.append(ANYTHING)
        elif part == SpecialChars.WILDCARD_SINGLE:
            items.append(ANY)
        elif isinstance(part, str):
            items += literal(part, cased).items
        else:
            raise RefusedValue(f'the placeholder "{part.name}" has no value here', part.name)
    return Seq(tuple(items))


def expressions(field: str, values: Sequence[SigmaString], whole_terms: bool) -> list[Node]:
    """The expressions whose union is "``field`` is one of ``values``", in any letter case.

    With ``whole_terms`` a plain ``|contains`` value is looked for as whole terms. A value with a wildcard
    inside stands in an expression of its own: the automata of several would multiply.
    """
    terms: list[WholeTerm] = []
    simple: list[SigmaString] = []
    alone: list[SigmaString] = []
    for value in values:
        term = whole_term(value) if whole_terms and not isinstance(value, SigmaCasedString) else None
        if term is not None:
            terms.append(term)
        elif any(isinstance(part, SpecialChars) for part in value.s[1:-1]):
            alone.append(value)
        else:
            simple.append(value)
    try:
        found = pack(terms, _terms_node)
        found += pack(simple, _ends_node)
        return found + [node for value in alone for node in pack([value], _wildcards_node)]
    except TooLarge as error:
        longest = max(values, key=lambda v: len(str(v)))
        raise RefusedValue(
            f'a value of "{field}" is too long or has too many wildcards for an Elasticsearch expression',
            str(longest),
        ) from error


def _wildcards_node(values: Sequence[SigmaString]) -> Node:
    return Alt(tuple(wildcard_node(value.s, isinstance(value, SigmaCasedString)) for value in values))


def _ends_node(values: Sequence[SigmaString]) -> Node:
    """Values with wildcards at their ends alone, those with the same ends under one pair of them.

    ``.*(a|b).*`` has as many states as a and b have letters; ``.*a.*|.*b.*`` has some for each combination of
    what was found, so that they double with every value.
    """
    many = SpecialChars.WILDCARD_MULTI
    groups: dict[tuple[bool, bool], list[Node]] = {}
    for value in values:
        parts = list(value.s)
        ends = (parts[0] == many, len(parts) > 1 and parts[-1] == many)
        inner = parts[ends[0] : len(parts) - ends[1]]
        groups.setdefault(ends, []).append(wildcard_node(inner, isinstance(value, SigmaCasedString)))
    branches: list[Node] = []
    for (left, right), nodes in groups.items():
        inside = nodes[0] if len(nodes) == 1 else Alt(tuple(nodes))
        branches.append(Seq((*((ANYTHING,) if left else ()), inside, *((ANYTHING,) if right else ()))))
    return branches[0] if len(branches) == 1 else Alt(tuple(branches))


def _terms_node(terms: Sequence[WholeTerm]) -> Node:
    """``(.*B)?(…)(B.*)?`` with B no letter or digit; an end that is neither has no neighbour to mind."""
    sides: list[Node] = []
    for left in (True, False):
        inner: list[Node] = []
        for right in (True, False):
            chosen = [t for t in terms if (t.bounded_left, t.bounded_right) == (left, right)]
            if chosen:
                words = Alt(tuple(literal(t.text) for t in chosen))
                after = Repeat(Seq((BOUNDARY, ANYTHING)), 0, 1) if right else ANYTHING
                inner.append(Seq((words, after)))
        if inner:
            before = Repeat(Seq((ANYTHING, BOUNDARY)), 0, 1) if left else ANYTHING
            sides.append(Seq((before, Alt(tuple(inner)) if len(inner) > 1 else inner[0])))
    return Alt(tuple(sides)) if len(sides) > 1 else sides[0]

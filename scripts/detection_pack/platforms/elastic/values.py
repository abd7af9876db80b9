"""Sigma string values as Lucene regular expressions, one for a whole list where the limits allow."""

from __future__ import annotations

from collections.abc import Sequence

from sigma.types import SigmaCasedString, SigmaString, SpecialChars

from detection_pack.platforms.conversion import RefusedValue
from detection_pack.platforms.elastic.lucene_regex import ANY, ANYTHING, BOUNDARY, TooLarge, literal, pack
from detection_pack.platforms.elastic.regex_tree import Alt, Node, Repeat, Seq
from detection_pack.platforms.terms import WholeTerm, whole_term


def text_of(value: SigmaString) -> str | None:
    """The plain text of a value; None where it has a wildcard."""
    return "".join(map(str, value.s)) if all(isinstance(part, str) for part in value.s) else None


def wildcard_node(value: SigmaString) -> Node:
    """A value with its wildcards; letter case does not count unless the value is ``|cased``."""
    cased = isinstance(value, SigmaCasedString)
    items: list[Node] = []
    for part in value.s:
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
        found += pack(simple, lambda group: Alt(tuple(wildcard_node(v) for v in group)))
        return found + [node for value in alone for node in pack([value], lambda v: wildcard_node(v[0]))]
    except TooLarge as error:
        longest = max(values, key=lambda v: len(str(v)))
        raise RefusedValue(
            f'a value of "{field}" is too long or has too many wildcards for an Elasticsearch expression',
            str(longest),
        ) from error


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

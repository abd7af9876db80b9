"""Sigma string values as Lucene regular expressions: one for many values where that is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sigma.types import SigmaCasedString, SigmaString, SpecialChars

from detection_pack.languages.lucene.automaton import bytes_between
from detection_pack.languages.lucene.lucene_regex import (
    BOUNDARY,
    MAX_STATES,
    MAX_WORK,
    Packing,
    TooLarge,
    literal,
    pack,
)
from detection_pack.languages.regex.regex_tree import ANY, ANYTHING, LAST, Alt, Node, Repeat, Seq, complement
from detection_pack.model.refused_value import RefusedValue
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


def expressions(field: str, values: Sequence[SigmaString]) -> list[Node]:
    """The expressions whose union is "``field`` is one of ``values``", in any letter case.

    A value with a wildcard inside stands in an expression of its own, because the automata of several would
    multiply, and so does a piece that may be anywhere.
    """
    terms: list[WholeTerm] = []
    simple: list[SigmaString] = []
    pieces: list[SigmaString] = []
    alone: list[SigmaString] = []
    for value in values:
        term = None if isinstance(value, SigmaCasedString) else whole_term(value)
        if term is not None:
            terms.append(term)
        elif any(isinstance(part, SpecialChars) for part in value.s[1:-1]):
            alone.append(value)
        elif _open_ends(value) == (True, True):
            pieces.append(value)
        else:
            simple.append(value)
    try:
        found = pack(terms, _TERMS) + pack(simple, _ENDS)
        # Each piece of a text alone: every state of an automaton of several holds where each may begin, so
        # that the work grows with the square of their number (`scripts/bench.py elastic`).
        found += [node for value in pieces for node in pack([value], _ENDS)]
        return found + [node for value in alone for node in pack([value], _WILDCARDS)]
    except TooLarge as error:
        longest = max(values, key=lambda v: len(str(v)))
        raise RefusedValue(
            f'a value of "{field}" is too long or has too many wildcards for an Elasticsearch expression',
            str(longest),
        ) from error


def _wildcards_node(values: Sequence[SigmaString]) -> Node:
    return Alt(tuple(wildcard_node(value.s, isinstance(value, SigmaCasedString)) for value in values))


def _open_ends(value: SigmaString) -> tuple[bool, bool]:
    """Whether a value begins, and whether it ends with a wildcard; a wildcard alone begins with one."""
    many = SpecialChars.WILDCARD_MULTI
    return value.s[0] == many, len(value.s) > 1 and value.s[-1] == many


def _ends_node(values: Sequence[SigmaString]) -> Node:
    """Values with wildcards at their ends alone, those with the same ends under one pair of them.

    ``.*(a|b).*`` has as many states as a and b have letters; ``.*a.*|.*b.*`` has some for each combination of
    what was found, so that they double with every value.
    """
    groups: dict[tuple[bool, bool], list[Node]] = {}
    for value in values:
        ends = _open_ends(value)
        inner = list(value.s)[ends[0] : len(value.s) - ends[1]]
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


#: States over bytes of one state over characters that looks for ASCII text: it tells a character beyond ASCII
#: from no other, or only letters and digits from the rest.
_BYTES = 1 + bytes_between(((0x80, LAST),))
_BYTES_AT_BOUNDARY = 1 + bytes_between(BOUNDARY.ranges) + bytes_between(complement(BOUNDARY.ranges))


def _terms_fit(terms: Sequence[WholeTerm]) -> bool | None:
    """What is known of `_terms_node` without counting: there is a state for each beginning of a term, and
    another once a term has been found. Terms with different ends have states for each combination."""
    if not all(term.text.isascii() for term in terms):
        return None
    ends = {_term_ends(term) for term in terms}
    size = _beginnings([term.text for term in terms])
    each = _BYTES if ends == {(False, False)} else _BYTES_AT_BOUNDARY
    if (4 if len(ends) > 1 else 2) * size * each > MAX_STATES:
        return False
    states = 2 * size + 2 * len(terms) + 16
    work = states * 5 * (max(len(term.text) for term in terms) + 2 * len(terms))
    return True if len(ends) == 1 and states * each <= MAX_STATES and work <= MAX_WORK else None


def _ends_fit(values: Sequence[SigmaString]) -> bool | None:
    """The same of `_ends_node`, where all values have the same ends and no other wildcard."""
    texts = ["".join(part for part in value.s if isinstance(part, str)) for value in values]
    one = len({_open_ends(value) for value in values}) == 1
    plain = all(text.isascii() for text in texts) and SpecialChars.WILDCARD_SINGLE not in {
        part for value in values for part in value.s if not isinstance(part, str)
    }
    if not one or not plain:
        return None
    states = 2 * _beginnings(texts) + 4
    work = states * 2 * (max(map(len, texts)) + 2 * len(texts))
    return True if states * _BYTES <= MAX_STATES and work <= MAX_WORK else None


def _beginnings(texts: Sequence[str]) -> int:
    return len({text[:end].lower() for text in texts for end in range(1, len(text) + 1)})


def _term_ends(term: WholeTerm) -> tuple[bool, bool]:
    return term.bounded_left, term.bounded_right


_TERMS = Packing(_terms_node, _terms_fit, _term_ends)
_ENDS = Packing(_ends_node, _ends_fit, _open_ends)
#: Plain texts, whatever their letter case: an automaton of them is a tree.
FOLDED: Packing[str] = Packing(
    lambda texts: Alt(tuple(literal(text) for text in texts)),
    lambda texts: True if _beginnings(texts) * _BYTES <= MAX_STATES and "".join(texts).isascii() else None,
)
_WILDCARDS: Packing[SigmaString] = Packing(_wildcards_node)

"""Lucene regular expressions: built as trees, written as text, measured before Elasticsearch measures them.

Syntax: Lucene's ``RegExp`` class and Elasticsearch's page "Regular expression syntax". A Lucene regular
expression is anchored at both ends, ``.`` is any character (a newline too), and ``# @ & < > ~ "`` are
operators beside the usual ones, so every character that is not a letter or digit is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Generic, TypeVar

from detection_pack.languages.lucene.automaton import dfa_size
from detection_pack.languages.regex.regex_tree import (
    ANY,
    LAST,
    Alt,
    Chars,
    Node,
    Ranges,
    Repeat,
    Seq,
    class_ranges,
    complement,
    fold,
)

#: ``index.max_regex_length``: 1,000 UTF-16 code units between the slashes.
MAX_LENGTH = 1000
#: Lucene determinises an expression within 10,000 states (before 9.0) or a work limit of 100,000 visited
#: NFA states (since). The bound of `automaton` is at least 2.4 times what Lucene 8.7 counts: ten cmdlets as
#: whole terms come to 23,826 by the bound and pass.
MAX_STATES = 16_000
MAX_WORK = 50_000

T = TypeVar("T")


class TooLarge(Exception):
    """A single value that no regular expression within Elasticsearch's limits can say."""


#: Letters and digits at the ends of a whole term: ASCII, Latin, Greek, Cyrillic, kana, Chinese, Hangul. Every
#: range costs states in every place of the automaton over bytes, and all scripts' letters (`terms`) burst
#: Elasticsearch's limit. Nothing but letters and digits is here, so a term beside a letter of another script
#: is found where KQL's ``has`` would not: more is found, never less.
WORD = class_ranges("a-zA-Z0-9À-ÖØ-öø-ʯΈ-ϵЀ-ҁҊ-ԯぁ-ゖァ-ヺ一-鿿가-힣")
BOUNDARY = Chars(complement(WORD))


def literal(text: str, cased: bool = False) -> Seq:
    """``text``, in any letter case unless ``cased``."""
    return Seq(tuple(Chars(((ord(c), ord(c)),) if cased else fold(c)) for c in text))


def render(node: Node) -> str:
    """The expression as Lucene reads it."""
    match node:
        case Chars():
            return _chars(node.ranges)
        case Seq():
            items = (i for i in node.items if i != Seq(()))
            return "".join(f"({render(i)})" if isinstance(i, Alt) else render(i) for i in items) or "()"
        case Alt():
            return "|".join(render(i) for i in node.items)
        case Repeat():
            item = node.item
            while isinstance(item, Seq) and len(item.items) == 1:
                item = item.items[0]
            inner = render(item)
            return (inner if isinstance(item, Chars) else f"({inner})") + _times(node.low, node.high)


def _times(low: int, high: int | None) -> str:
    named = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    if (low, high) in named:
        return named[low, high]
    return f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"


@cache
def _chars(given: Ranges) -> str:
    if given == ANY.ranges:
        return "."
    if len(given) == 1 and given[0][0] == given[0][1]:
        return _escaped(given[0][0])
    inverse = complement(given)
    if given[-1][1] == LAST and inverse:
        return f"[^{_class(inverse)}]"
    return f"[{_class(given)}]"


def _class(given: Ranges) -> str:
    out = []
    for low, high in given:
        middle = "-" if high > low + 1 else ""
        out.append(_escaped(low) + (middle + _escaped(high) if high > low else ""))
    return "".join(out)


def _escaped(code: int) -> str:
    """A character of an expression or class; letters are never escaped: ``\\d`` would be a class."""
    char = chr(code)
    return (
        "\\" + char if code < 128 and not char.isalnum() and char.isprintable() and char not in " _" else char
    )


def utf16_length(text: str) -> int:
    """Java's ``String.length``."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@lru_cache(maxsize=4096)
def fits(node: Node) -> bool:
    """Whether Elasticsearch takes the expression. Whoever looks for what is to blame in a rule asks again."""
    if utf16_length(render(node)) > MAX_LENGTH:
        return False
    return dfa_size(node, MAX_STATES, MAX_WORK) is not None


@dataclass(frozen=True)
class Packing(Generic[T]):
    """How values become expressions.

    ``build`` writes several of them as one. ``fit`` knows without measuring whether they fit the limits, or
    gives None. ``kind`` tells apart values whose automata multiply when they stand in one expression.
    """

    build: Callable[[Sequence[T]], Node]
    fit: Callable[[Sequence[T]], bool | None] = lambda values: None
    kind: Callable[[T], object] = lambda value: None


def pack(values: Sequence[T], packing: Packing[T]) -> list[Node]:
    """``values`` in as few expressions as the limits allow. Raises `TooLarge`.

    An expression of several values is no longer than those of each with a ``|`` between them, so it is
    written only to see whether values fit whose sum does not.
    """
    packed: list[list[T]] = [[]]
    length = 0
    for value in values:
        own = utf16_length(render(packing.build([value]))) + 1
        if packed[-1] and length + own > MAX_LENGTH:
            together = utf16_length(render(packing.build([*packed[-1], value])))
            if together > MAX_LENGTH:
                packed.append([])
                length = 0
            else:
                length, own = together, 0
        packed[-1].append(value)
        length += own
    return [node for group in packed if group for node in _divided(group, packing)]


def _divided(group: Sequence[T], packing: Packing[T]) -> list[Node]:
    node = packing.build(group)
    known = packing.fit(group)
    if known is None:
        known = fits(node)
    if known and utf16_length(render(node)) <= MAX_LENGTH:
        return [node]
    if len(group) == 1:
        raise TooLarge
    kinds: dict[object, list[T]] = {}
    for value in group:
        kinds.setdefault(packing.kind(value), []).append(value)
    middle = len(group) // 2
    parts = list(kinds.values()) if len(kinds) > 1 else [group[:middle], group[middle:]]
    return [found for part in parts for found in _divided(part, packing)]

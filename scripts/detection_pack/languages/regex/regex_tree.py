"""The tree of a regular expression over code points, and the sets of characters that it is made of.

`regex_reader` reads a rule's expression into it, `lucene_regex` writes it, `automaton` measures it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

Ranges = tuple[tuple[int, int], ...]

LAST = 0x10FFFF


@dataclass(frozen=True)
class Chars:
    """One character out of ``ranges``: sorted, disjoint, inclusive code points."""

    ranges: Ranges


@dataclass(frozen=True)
class Seq:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Anchor(Seq):
    """A sequence of nothing that holds at some places alone. ``kind``: ``start``, ``end`` (before a last
    line break, too), ``boundary``, or another that only Python's parser has a name for."""

    kind: str


@dataclass(frozen=True)
class Alt:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """``item`` from ``low`` to ``high`` times; ``high`` None is without bound."""

    item: Node
    low: int
    high: int | None


Node = Chars | Seq | Alt | Repeat


def parts(node: Node) -> tuple[Node, ...]:
    """What a node is made of."""
    match node:
        case Seq() | Alt():
            return node.items
        case Repeat():
            return (node.item,)
    return ()


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted and merged."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(given: Ranges) -> Ranges:
    """Every code point that ``given`` lacks."""
    out: list[tuple[int, int]] = []
    start = 0
    for low, high in given:
        if low > start:
            out.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        out.append((start, LAST))
    return tuple(out)


def class_ranges(text: str) -> Ranges:
    """The ranges of a character class such as ``a-zA-Z0-9``."""
    pairs, at = [], 0
    while at < len(text):
        is_range = at + 2 < len(text) and text[at + 1] == "-"
        pairs.append((ord(text[at]), ord(text[at + 2] if is_range else text[at])))
        at += 3 if is_range else 1
    return ranges(pairs)


@cache
def fold(char: str) -> Ranges:
    """``char`` and its lower- and upper-case forms of one character (``ß`` has no such upper case)."""
    variants = {char, char.lower(), char.upper()}
    return ranges((ord(v), ord(v)) for v in variants if len(v) == 1)


ANY = Chars(((0, LAST),))
ANYTHING = Repeat(ANY, 0, None)
NEWLINE = class_ranges("\n")
#: Classes by name, as PCRE has them without ``(*UCP)``: ASCII alone.
DIGIT, WORD_CHARACTER, SPACE = class_ranges("0-9"), class_ranges("0-9A-Za-z_"), class_ranges(" \t\n\r\f\v")

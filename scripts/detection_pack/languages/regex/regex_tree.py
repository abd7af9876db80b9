"""The tree of a regular expression over code points; `lucene_regex` writes it, `automaton` measures it."""

from __future__ import annotations

from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Chars:
    """One character out of ``ranges``: sorted, disjoint, inclusive code points."""

    ranges: Ranges


@dataclass(frozen=True)
class Seq:
    items: tuple[Node, ...]


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

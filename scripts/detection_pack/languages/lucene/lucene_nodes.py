"""A Lucene query string as a tree, and the error for one that is not understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

#: Whether a clause of a boolean query must match, may match or must not match (``BooleanClause.Occur``).
Occur = Literal["must", "should", "must_not"]


class UnsupportedLucene(Exception):
    """A query string that is not executed; ``line`` and ``column`` count from 1."""

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(f"unsupported Lucene at {line}:{column}: {what}")
        self.line = line
        self.column = column


def refuse(text: str, at: int, what: str) -> NoReturn:
    """Raise `UnsupportedLucene` for what stands at the offset ``at`` of a query string."""
    before = text[:at]
    raise UnsupportedLucene(what, before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1)


@dataclass(frozen=True)
class Everything:
    """``*:*``"""


@dataclass(frozen=True)
class Exists:
    """``_exists_:field`` and ``field:*``"""

    field: str
    at: int


@dataclass(frozen=True)
class Term:
    """``field:text`` and ``field:"text"``, unescaped. ``at`` is where the text begins, here and below."""

    field: str
    text: str
    at: int


@dataclass(frozen=True)
class Wildcards:
    """``field:te?t*``: text, ``"*"`` and ``"?"`` as (part, whether it is an operator)."""

    field: str
    parts: tuple[tuple[str, bool], ...]
    at: int


@dataclass(frozen=True)
class Regexp:
    """``field:/pattern/``, as it stands between the slashes."""

    field: str
    pattern: str
    at: int


@dataclass(frozen=True)
class Range:
    """``field:[low TO high}`` and ``field:>=low``; a bound of None is open."""

    field: str
    low: str | None
    high: str | None
    includes_low: bool
    includes_high: bool
    at: int


@dataclass(frozen=True)
class Boolean:
    """Clauses and their occurrence, in order; never empty."""

    clauses: tuple[tuple[Occur, Query], ...]


Query = Everything | Exists | Term | Wildcards | Regexp | Range | Boolean

"""The tree of a query: commands and expressions, each with its offset in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Literal:
    """``value``: None, bool, int, float or str; a tuple of these for a list."""

    at: int
    value: object


@dataclass(frozen=True)
class Timespan:
    at: int
    amount: int
    unit: str


@dataclass(frozen=True)
class Name:
    at: int
    name: str


@dataclass(frozen=True)
class Star:
    at: int


@dataclass(frozen=True)
class Call:
    at: int
    function: str
    args: tuple[Expression, ...]


@dataclass(frozen=True)
class Unary:
    """``-`` or ``NOT``."""

    at: int
    op: str
    operand: Expression


@dataclass(frozen=True)
class Binary:
    """Arithmetic, comparison, ``AND`` and ``OR``."""

    at: int
    op: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class In:
    at: int
    value: Expression
    among: tuple[Expression, ...]


@dataclass(frozen=True)
class IsNull:
    at: int
    value: Expression


@dataclass(frozen=True)
class Like:
    """``LIKE`` or ``RLIKE`` with one pattern or a list of them."""

    at: int
    op: str
    value: Expression
    patterns: tuple[Literal, ...]


Expression = Union[Literal, Timespan, Name, Star, Call, Unary, Binary, In, IsNull, Like]  # noqa: UP007


@dataclass(frozen=True)
class Assignment:
    """``name = expression``; without a name the column is called as the expression is written."""

    at: int
    name: str
    expression: Expression
    where: Expression | None = None


@dataclass(frozen=True)
class From:
    at: int
    patterns: tuple[str, ...]
    metadata: tuple[Name, ...]


@dataclass(frozen=True)
class Where:
    at: int
    condition: Expression


@dataclass(frozen=True)
class Eval:
    at: int
    columns: tuple[Assignment, ...]


@dataclass(frozen=True)
class Stats:
    at: int
    aggregates: tuple[Assignment, ...]
    by: tuple[Assignment, ...]


@dataclass(frozen=True)
class Project:
    """``KEEP`` or ``DROP``."""

    at: int
    command: str
    names: tuple[Name, ...]


@dataclass(frozen=True)
class Rename:
    at: int
    pairs: tuple[tuple[Name, Name], ...]


@dataclass(frozen=True)
class Order:
    expression: Expression
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Sort:
    at: int
    keys: tuple[Order, ...]


@dataclass(frozen=True)
class Limit:
    at: int
    count: int


@dataclass(frozen=True)
class MvExpand:
    at: int
    name: Name


Command = Union[From, Where, Eval, Stats, Project, Rename, Sort, Limit, MvExpand]  # noqa: UP007

"""Aggregates of STATS: functions-operators/aggregation-functions. All take every value of a field with
several, and leave null out; over nothing COUNT and COUNT_DISTINCT are 0 and the others null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from support.esql.expressions import Compiler, Evaluator
from support.esql.syntax import Assignment, Call, Star
from support.esql.values import BOUNDS, NUMBERS, TEXT, Row, pack, unpack

#: esql-count_distinct: exact, but for the odds of HyperLogLog++, up to this many values.
PRECISION_THRESHOLD = 3000
MOST_PRECISION = 40_000


@dataclass(frozen=True)
class Aggregate:
    """``over`` gives the values of a group's rows one result."""

    type: str
    over: Callable[[Sequence[Row]], Any]


def aggregate(compiler: Compiler, item: Assignment) -> Aggregate:
    """Compiles ``FUNCTION(expression)``, perhaps with a WHERE of its own. Raises `Refused`."""
    node = item.expression
    if not isinstance(node, Call) or node.function not in _AGGREGATES:
        raise compiler.context.refused(node.at, "STATS is modelled with one aggregate function a column")
    made = _AGGREGATES[node.function](compiler, node)
    if item.where is None:
        return made
    condition = compiler.condition(item.where)
    return Aggregate(made.type, lambda rows: made.over([row for row in rows if condition(row)]))


def _argument(compiler: Compiler, node: Call, *types: str) -> tuple[str, Evaluator]:
    if not node.args:
        raise compiler.context.invalid(node.at, f"{node.function} takes an argument")
    compiled = compiler.compile(node.args[0])
    if types and compiled.type not in (*types, "null"):
        what = f"{node.function} takes {' or '.join(types)}, this is {compiled.type}"
        raise compiler.context.invalid(node.at, what)
    return compiled.type, compiled.of


def _arity(compiler: Compiler, node: Call, most: int) -> None:
    if len(node.args) > most:
        raise compiler.context.invalid(node.at, f"{node.function} does not take {len(node.args)} arguments")


def _values(of: Evaluator, rows: Sequence[Row]) -> list[Any]:
    return [value for row in rows for value in unpack(of(row))]


def _count(compiler: Compiler, node: Call) -> Aggregate:
    """esql-count: rows for ``*`` and for nothing, otherwise values."""
    _arity(compiler, node, 1)
    if not node.args or isinstance(node.args[0], Star):
        return Aggregate("long", len)
    _, of = _argument(compiler, node)
    return Aggregate("long", lambda rows: len(_values(of, rows)))


def _count_distinct(compiler: Compiler, node: Call) -> Aggregate:
    """esql-count_distinct. Modelled as exact; above the precision threshold counts are approximate, and the
    query is refused rather than answered."""
    _arity(compiler, node, 2)
    _, of = _argument(compiler, node, TEXT, "boolean", "ip", "date", *NUMBERS)
    precision = PRECISION_THRESHOLD
    if len(node.args) == 2:
        stated = compiler.compile(node.args[1])
        if not stated.is_constant or stated.type not in ("integer", "long"):
            raise compiler.context.invalid(node.at, "the precision is a whole number")
        precision = min(int(stated.constant), MOST_PRECISION)

    def over(rows: Sequence[Row]) -> int:
        found = len(set(_values(of, rows)))
        if found > precision:
            what = f"{found} distinct values: the count is approximate above {precision}"
            raise compiler.context.refused(node.at, what)
        return found

    return Aggregate("long", over)


def _sum(compiler: Compiler, node: Call) -> Aggregate:
    """esql-sum: a long of whole numbers, a double of doubles; null, with a warning, where it overflows."""
    _arity(compiler, node, 1)
    kind, of = _argument(compiler, node, *NUMBERS)

    def over(rows: Sequence[Row]) -> Any:
        values = _values(of, rows)
        total = sum(values) if values else None
        if isinstance(total, int) and not -BOUNDS["long"] <= total < BOUNDS["long"]:
            compiler.context.warnings["long overflow, treating result as null"] = None
            return None
        return total

    return Aggregate("double" if kind == "double" else "long", over)


def _avg(compiler: Compiler, node: Call) -> Aggregate:
    """esql-avg: a double."""
    _arity(compiler, node, 1)
    _, of = _argument(compiler, node, *NUMBERS)

    def over(rows: Sequence[Row]) -> float | None:
        values = _values(of, rows)
        return sum(values) / len(values) if values else None

    return Aggregate("double", over)


def _extreme(choose: Callable[[Sequence[Any]], Any]) -> Callable[[Compiler, Call], Aggregate]:
    """esql-min, esql-max"""

    def made(compiler: Compiler, node: Call) -> Aggregate:
        _arity(compiler, node, 1)
        kind, of = _argument(compiler, node, TEXT, "boolean", "ip", "date", *NUMBERS)

        def over(rows: Sequence[Row]) -> Any:
            values = _values(of, rows)
            return choose(values) if values else None

        return Aggregate(kind, over)

    return made


def _median(compiler: Compiler, node: Call) -> Aggregate:
    """esql-median: "usually approximate" (t-digest). Modelled as exact for up to a hundred values, which the
    digest keeps one by one; refused above."""
    _arity(compiler, node, 1)
    _, of = _argument(compiler, node, *NUMBERS)
    return Aggregate("double", lambda rows: _middle(compiler, node, sorted(_values(of, rows))))


def _middle(compiler: Compiler, node: Call, values: list[float]) -> float | None:
    if len(values) > 100 and values[0] != values[-1]:
        raise compiler.context.refused(node.at, "a median of more than 100 values is approximate")
    half = len(values) // 2
    if not values:
        return None
    return float(values[half]) if len(values) % 2 else (values[half - 1] + values[half]) / 2


def _percentile(compiler: Compiler, node: Call) -> Aggregate:
    """esql-percentile: the 0th is MIN, the 50th MEDIAN, the 100th MAX; how others are interpolated is not
    documented, so they are modelled where all values are the same, and refused elsewhere."""
    _arity(compiler, node, 2)
    _, of = _argument(compiler, node, *NUMBERS)
    stated = compiler.compile(node.args[1]) if len(node.args) == 2 else None
    if stated is None or not stated.is_constant or stated.type not in NUMBERS:
        raise compiler.context.invalid(node.at, "PERCENTILE takes a number")
    wanted = stated.constant

    def over(rows: Sequence[Row]) -> float | None:
        values = sorted(_values(of, rows))
        if wanted == 50:
            return _middle(compiler, node, values)
        if not values:
            return None
        if wanted not in (0, 100) and values[0] != values[-1]:
            raise compiler.context.refused(node.at, "this percentile is approximate")
        return float(values[0] if wanted == 0 else values[-1])

    return Aggregate("double", over)


def _distinct_values(compiler: Compiler, node: Call) -> Aggregate:
    """esql-values: each value once, in no stated order. Here in falling order, so that a query which relies
    on a rising one shows."""
    _arity(compiler, node, 1)
    kind, of = _argument(compiler, node, TEXT, "boolean", "ip", "date", *NUMBERS)
    return Aggregate(kind, lambda rows: pack(sorted(set(_values(of, rows)), reverse=True)))


_AGGREGATES: dict[str, Callable[[Compiler, Call], Aggregate]] = {
    "COUNT": _count,
    "COUNT_DISTINCT": _count_distinct,
    "SUM": _sum,
    "AVG": _avg,
    "MIN": _extreme(min),
    "MAX": _extreme(max),
    "MEDIAN": _median,
    "PERCENTILE": _percentile,
    "VALUES": _distinct_values,
}

"""Statistical functions: Search Reference, "Statistical and charting functions".

``values`` lists distinct values in lexicographical order, ``dc`` counts them, ``sum`` and ``avg`` take the
values that are numbers, ``min`` and ``max`` compare numbers if all values are some and else texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from support.spl.errors import UnsupportedSearch
from support.spl.expressions import Expression, Expressions, number
from support.spl.lexer import Reader
from support.spl.pattern import Mode
from support.spl.rows import Row, Value, from_list, text_of, values_of

Reduce = Callable[[Sequence[Row], Expression], "Value | None"]


def _all(rows: Sequence[Row], of: Expression) -> list[str]:
    return [value for row in rows for value in values_of(of(row))]


def _numbers(rows: Sequence[Row], of: Expression) -> list[float]:
    return [n for value in _all(rows, of) if (n := number(value)) is not None]


def _extreme(choose: Callable[..., float | str]) -> Reduce:
    def reduce(rows: Sequence[Row], of: Expression) -> Value | None:
        values = _all(rows, of)
        numbers = [n for value in values if (n := number(value)) is not None]
        if not values:
            return None
        return choose(numbers) if len(numbers) == len(values) else choose(values)

    return reduce


def _sum(rows: Sequence[Row], of: Expression) -> Value | None:
    numbers = _numbers(rows, of)
    return sum(numbers) if numbers else None


def _average(rows: Sequence[Row], of: Expression) -> Value | None:
    numbers = _numbers(rows, of)
    return sum(numbers) / len(numbers) if numbers else None


FUNCTIONS: dict[str, Reduce] = {
    "count": lambda rows, of: len(_all(rows, of)),
    "dc": lambda rows, of: len(set(_all(rows, of))),
    "values": lambda rows, of: from_list(sorted(set(_all(rows, of)))),
    "min": _extreme(min),
    "max": _extreme(max),
    "sum": _sum,
    "avg": _average,
}


@dataclass(frozen=True)
class Aggregate:
    """``of`` None counts the events themselves."""

    name: str
    reduce: Reduce
    of: Expression | None

    def result(self, rows: Sequence[Row]) -> Value | None:
        return len(rows) if self.of is None else self.reduce(rows, self.of)


def parse(reader: Reader, mode: Mode) -> Aggregate:
    """``function(field)`` or ``function(eval(expression))``, ``count``, each with an AS."""
    token = reader.next
    function = reader.name()
    if token.kind != "word" or function not in FUNCTIONS:
        raise UnsupportedSearch(f"the statistical function {function!r}", token.position)
    of: Expression | None = None
    shown = function
    if reader.accept("("):
        if reader.is_word("eval"):
            with reader.expression():
                reader.take()
                reader.expect("(")
                of = Expressions(reader, mode).parse()
                reader.expect(")")
        else:
            field = reader.name()
            of, shown = _field(field), f"{function}({field})"
        reader.expect(")")
    elif function != "count":
        raise reader.refused("the field of a statistical function is expected here")
    if reader.is_word("AS", "as"):
        reader.take()
        shown = reader.name()
    return Aggregate(shown, FUNCTIONS[function], of)


def _field(name: str) -> Expression:
    return lambda row: row.fields.get(name)


def groups(rows: Sequence[Row], by: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """The rows of each group. A row without a group field is in none, one with several values in several.

    Search Reference, "stats": null values of a BY field give no group; a multivalue BY field gives one for
    each of its values.
    """
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        keys: list[tuple[str, ...]] = [()]
        for name in by:
            keys = [(*key, value) for key in keys for value in dict.fromkeys(values_of(row.fields.get(name)))]
        for key in keys:
            found.setdefault(key, []).append(row)
    return found


def grouped(rows: Sequence[Row], by: Sequence[str], aggregates: Sequence[Aggregate]) -> list[Row]:
    """One row a group, in the order of the group's values; without BY one row in any case."""
    found: dict[tuple[str, ...], list[Row]] = groups(rows, by) if by else {(): list(rows)}
    results = []
    for key in sorted(found):
        fields: dict[str, Value] = dict(zip(by, map(_restored, key), strict=True))
        for aggregate in aggregates:
            value = aggregate.result(found[key])
            if value is not None:
                fields[aggregate.name] = value
        results.append(Row(fields, frozenset().union(*(row.events for row in found[key]))))
    return results


def _restored(text: str) -> Value:
    """A group's number is a number again; ``_time`` is one."""
    value = number(text)
    return text if value is None or text_of(value) != text else value

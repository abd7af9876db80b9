"""Expressions, checked against the types of the columns and compiled to functions of a row.

Sources: functions-operators/operators (comparison, logic, IN, LIKE, RLIKE, IS NULL: an operator is null where
an operand is null or has several values), esql-implicit-casting (a string literal beside a date, an ip or a
boolean is read as one), esql-time-spans, esql-multivalued-fields.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from support.esql import lucene_regex
from support.esql.errors import Refused, VerificationFailed
from support.esql.lexer import Lexer
from support.esql.syntax import (
    Binary,
    Call,
    Expression,
    In,
    IsNull,
    Like,
    Literal,
    Name,
    Star,
    Timespan,
    Unary,
)
from support.esql.values import BOUNDS, NUMBERS, TEXT, Row, as_boolean, as_date, as_ip

Evaluator = Callable[[Row], Any]
#: Canonical unit and what it is short for: esql-time-spans.
_UNITS = {
    "millisecond": ("millisecond", "milliseconds", "ms"),
    "second": ("second", "seconds", "sec", "s"),
    "minute": ("minute", "minutes", "min", "m"),
    "hour": ("hour", "hours", "h"),
    "day": ("day", "days", "d"),
    "week": ("week", "weeks", "w"),
    "month": ("month", "months", "mo"),
    "quarter": ("quarter", "quarters", "q"),
    "year": ("year", "years", "yr", "y"),
}
UNITS = {short: unit for unit, names in _UNITS.items() for short in names}
_LENGTHS = {"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000}
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: What a string literal becomes beside a value of the type.
_CASTS: Mapping[str, Callable[[Any], Any]] = {"date": as_date, "ip": as_ip, "boolean": as_boolean}


@dataclass(frozen=True)
class Span:
    """A time span. ``millis`` for a duration (up to hours), otherwise days or months of the calendar."""

    millis: int = 0
    days: int = 0
    months: int = 0

    @property
    def is_duration(self) -> bool:
        return bool(self.millis)


@dataclass(frozen=True)
class Typed:
    """A compiled expression. ``constant`` for a literal, so that functions may ask for one."""

    type: str
    of: Evaluator
    constant: Any = None
    is_constant: bool = False


@dataclass
class Context:
    """What is known while a query is compiled and run."""

    lexer: Lexer
    warnings: dict[str, None] = field(default_factory=dict)
    now: datetime | None = None

    def refused(self, at: int, what: str) -> Refused:
        return Refused(self.lexer.position(at), what)

    def invalid(self, at: int, what: str) -> VerificationFailed:
        return VerificationFailed(self.lexer.position(at), what)

    def single(self, value: Any) -> Any:
        """A value of a function that takes one: null, with a warning, where there are several."""
        if isinstance(value, tuple):
            self.warnings["single-value function encountered multi-value"] = None
            return None
        return value


def literal(value: Any, kind: str) -> Typed:
    return Typed(kind, lambda row: value, value, is_constant=True)


def constant_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return TEXT
    if isinstance(value, float):
        return "double"
    assert isinstance(value, int)
    return "integer" if -(2**31) <= value < 2**31 else "long"


class Compiler:
    """Compiles expressions over the columns of one place in the query."""

    def __init__(self, context: Context, columns: Mapping[str, str]) -> None:
        self.context = context
        self.columns = columns

    def compile(self, node: Expression) -> Typed:
        match node:
            case Literal():
                return self._literal(node)
            case Timespan():
                return literal(self._span(node), "timespan")
            case Name():
                return self._column(node)
            case Call():
                from support.esql.functions import call

                return call(self, node)
            case Unary(op="not"):
                return self._not(node)
            case Unary():
                return self._minus(node)
            case Binary(op="and" | "or"):
                return self._logic(node)
            case Binary(op=op) if op in _COMPARED:
                return self._comparison(node.at, op, node.left, node.right)
            case Binary():
                return self._arithmetic(node)
            case In():
                return self._in(node)
            case IsNull():
                inner = self.compile(node.value).of
                return Typed("boolean", lambda row: inner(row) is None)
            case Like():
                return self._like(node)
            case Star():
                raise self.context.refused(node.at, "* stands in COUNT alone")
        raise AssertionError(node)

    def condition(self, node: Expression) -> Evaluator:
        """A boolean; null and several values are not true."""
        compiled = self.compile(node)
        if compiled.type not in ("boolean", "null"):
            raise self.context.invalid(node.at, f"a condition is boolean, this is {compiled.type}")
        single, of = self.context.single, compiled.of
        return lambda row: single(of(row)) is True

    def _literal(self, node: Literal) -> Typed:
        if isinstance(node.value, tuple):
            kinds = [constant_type(value) for value in node.value]
            kind = "long" if "long" in kinds else kinds[0]
            return literal(node.value if len(node.value) > 1 else node.value[0], kind)
        return literal(node.value, constant_type(node.value))

    def _span(self, node: Timespan) -> Span:
        unit = UNITS.get(node.unit)
        if unit is None:
            raise self.context.refused(node.at, f'"{node.unit}" is no unit of time')
        if node.amount == 0:
            raise self.context.invalid(node.at, "a time span of zero")
        if unit in _LENGTHS:
            return Span(millis=node.amount * _LENGTHS[unit])
        if unit in ("day", "week"):
            return Span(days=node.amount * (7 if unit == "week" else 1))
        return Span(months=node.amount * {"month": 1, "quarter": 3, "year": 12}[unit])

    def _column(self, node: Name) -> Typed:
        kind = self.columns.get(node.name)
        if kind is None:
            raise self.context.invalid(node.at, f"unknown column [{node.name}]")
        if kind in ("unsupported", "conflicting"):
            raise self.context.invalid(node.at, f"cannot use field [{node.name}]: its type is {kind}")
        name = node.name
        return Typed(kind, lambda row: row.get(name))

    # -- logic -----------------------------------------------------------------------------------------

    def _boolean(self, node: Expression) -> Evaluator:
        compiled = self.compile(node)
        if compiled.type not in ("boolean", "null"):
            raise self.context.invalid(node.at, f"logic takes booleans, this is {compiled.type}")
        single, of = self.context.single, compiled.of
        return lambda row: single(of(row))

    def _not(self, node: Unary) -> Typed:
        inner = self._boolean(node.operand)

        def of(row: Row) -> bool | None:
            value: bool | None = inner(row)
            return None if value is None else not value

        return Typed("boolean", of)

    def _logic(self, node: Binary) -> Typed:
        """Three-valued: true OR null is true, false AND null is false, otherwise null stays null."""
        left, right = self._boolean(node.left), self._boolean(node.right)
        decisive = node.op == "or"

        def of(row: Row) -> bool | None:
            first: bool | None = left(row)
            if first is decisive:
                return decisive
            second: bool | None = right(row)
            if second is decisive:
                return decisive
            return None if first is None or second is None else not decisive

        return Typed("boolean", of)

    # -- comparisons -----------------------------------------------------------------------------------

    def _pair(self, at: int, left: Typed, right: Typed) -> tuple[Typed, Typed]:
        """Both sides in one type; string literals are cast."""
        if "null" in (left.type, right.type) or left.type == right.type:
            return left, right
        if left.type in NUMBERS and right.type in NUMBERS:
            return left, right
        for one, other in ((left, right), (right, left)):
            if one.is_constant and one.type == TEXT and other.type in _CASTS:
                try:
                    cast = literal(_CASTS[other.type](one.constant), other.type)
                except ValueError:
                    what = f"cannot convert string [{one.constant}] to [{other.type}]"
                    raise self.context.invalid(at, what) from None
                return (cast, other) if one is left else (other, cast)
        raise self.context.invalid(at, f"{left.type} is not comparable with {right.type}")

    def _comparison(self, at: int, op: str, left_node: Expression, right_node: Expression) -> Typed:
        left, right = self._pair(at, self.compile(left_node), self.compile(right_node))
        if op not in ("==", "!=") and "boolean" in (left.type, right.type):
            raise self.context.invalid(at, f"booleans have no order for {op}")
        if "timespan" in (left.type, right.type):
            raise self.context.invalid(at, "time spans are not compared")
        compare, single = _COMPARED[op], self.context.single
        first, second = left.of, right.of

        def of(row: Row) -> bool | None:
            a, b = single(first(row)), single(second(row))
            a, b = single(first(row)), single(second(row))
            return None if a is None or b is None else bool(compare(a, b))

        return Typed("boolean", of)

    def _in(self, node: In) -> Typed:
        """True where one is equal; otherwise null where anything compared was null."""
        value = self.compile(node.value)
        pairs = [self._pair(node.at, value, self.compile(item)) for item in node.among]
        single = self.context.single

        def of(row: Row) -> bool | None:
            wanted = single(value.of(row))
            if wanted is None:
                return None
            found = [single(item.of(row)) for _, item in pairs]
            if any(item is not None and item == wanted for item in found):
                return True
            return None if None in found else False

        return Typed("boolean", of)

    def _like(self, node: Like) -> Typed:
        value = self.compile(node.value)
        if value.type not in (TEXT, "null"):
            raise self.context.invalid(node.at, f"{node.op.upper()} takes a string, this is {value.type}")
        patterns = [str(pattern.value) for pattern in node.patterns]
        try:
            if node.op == "like":
                trees = [lucene_regex.wildcard(pattern) for pattern in patterns]
                tests: list[Callable[[str], bool]] = [
                    lambda text, tree=tree: lucene_regex.accepts(tree, text)  # type: ignore[misc]
                    for tree in trees
                ]
            else:
                for pattern in patterns:
                    lucene_regex.matches(pattern, "")
                tests = [
                    lambda text, pattern=pattern: lucene_regex.matches(pattern, text)  # type: ignore[misc]
                    for pattern in patterns
                ]
        except lucene_regex.BadExpression as error:
            raise self.context.invalid(node.at, f"invalid pattern: {error}") from error
        single, of_value = self.context.single, value.of

        def of(row: Row) -> bool | None:
            text = single(of_value(row))
            return None if text is None else any(test(text) for test in tests)

        return Typed("boolean", of)

    # -- arithmetic ------------------------------------------------------------------------------------

    def _minus(self, node: Unary) -> Typed:
        inner = self.compile(node.operand)
        if inner.type not in (*NUMBERS, "null"):
            raise self.context.invalid(node.at, f"- takes a number, this is {inner.type}")
        return self.computed(inner.type, lambda a: -a, inner)

    def _arithmetic(self, node: Binary) -> Typed:
        left, right = self.compile(node.left), self.compile(node.right)
        if "timespan" in (left.type, right.type) and "date" in (left.type, right.type):
            return self._shifted(node, left, right)
        if not {left.type, right.type} <= {*NUMBERS, "null"}:
            what = f"{left.type} {node.op} {right.type} is not possible"
            raise self.context.invalid(node.at, what)
        kind = max((left.type, right.type), key=("null", *NUMBERS).index)
        if node.op in "/%" and kind != "double":
            return self.computed(kind, _whole_quotient if node.op == "/" else _whole_rest, left, right)
        does = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
        if node.op not in does:
            raise self.context.refused(node.at, "% of doubles is not modelled")
        return self.computed(kind, does[node.op], left, right)

    def _shifted(self, node: Binary, left: Typed, right: Typed) -> Typed:
        span = right.constant if right.type == "timespan" else left.constant
        if node.op not in "+-" or (node.op == "-" and right.type != "timespan"):
            raise self.context.invalid(node.at, f"{left.type} {node.op} {right.type} is not possible")
        if span.months:
            raise self.context.refused(node.at, "adding months is not modelled")
        shift = timedelta(milliseconds=span.millis, days=span.days) * (1 if node.op == "+" else -1)
        return self.computed("date", lambda moment: moment + shift, left if left.type == "date" else right)

    def computed(self, kind: str, compute: Callable[..., Any], *args: Typed) -> Typed:
        """A function of single values: null where one is null, and, with a warning, where it fails."""
        single, warnings = self.context.single, self.context.warnings
        bound = BOUNDS.get(kind)
        evaluators: Sequence[Evaluator] = [arg.of for arg in args]

        def of(row: Row) -> Any:
            values = [single(evaluate(row)) for evaluate in evaluators]
            if None in values:
                return None
            try:
                found = compute(*values)
            except (ValueError, ArithmeticError) as error:
                warnings[f"evaluation failed, treating result as null: {error}"] = None
                return None
            if bound is not None and not -bound <= found < bound:
                warnings[f"evaluation failed, treating result as null: {kind} overflow"] = None
                return None
            return found

        return Typed(kind, of)


def _whole_quotient(a: int, b: int) -> int:
    """Java's: towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _whole_rest(a: int, b: int) -> int:
    return a - b * _whole_quotient(a, b)

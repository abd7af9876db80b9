"""Expressions of ``eval`` and ``where``.

Search Reference, "eval" (Operators) and "where": arithmetic, ``.`` joins texts, comparisons are of numbers
where both sides are numbers and else of texts, letter by letter; AND before OR (Search Manual, "Boolean
expressions with logical operators"). What AND, OR and NOT make of a null is not documented: such a case is
refused when it occurs.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from support.spl.errors import UnsupportedSearch
from support.spl.functions import FUNCTIONS, scalar
from support.spl.lexer import Reader
from support.spl.pattern import Mode
from support.spl.rows import Row, text_of
from support.spl.search import moment_of

#: What an expression gives: a value of a field, a Boolean, or null.
Expression = Callable[[Row], Any]
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Expressions:
    """Reads expressions; ``mode`` is how PCRE reads texts in them, ``now`` the time of the search."""

    def __init__(self, reader: Reader, mode: Mode, now: float | None = None) -> None:
        self.reader = reader
        self.mode = mode
        self.now = now

    def parse(self) -> Expression:
        return self._or()

    def _or(self) -> Expression:
        parts, position = [self._and()], self.reader.next.position
        while self.reader.accept("OR"):
            parts.append(self._and())
        if len(parts) == 1:
            return parts[0]
        return lambda row: decided((part(row) for part in parts), True, position)

    def _and(self) -> Expression:
        parts, position = [self._not()], self.reader.next.position
        while self.reader.accept("AND"):
            parts.append(self._not())
        if len(parts) == 1:
            return parts[0]
        return lambda row: decided((part(row) for part in parts), False, position)

    def _not(self) -> Expression:
        position = self.reader.next.position
        if self.reader.accept("NOT"):
            inner = self._not()
            return lambda row: not truth(inner(row), position)
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._sum()
        if not self.reader.is_operator(*_COMPARE):
            return left
        token = self.reader.take()
        right, compare = self._sum(), _COMPARE[token.text]

        def compared(row: Row) -> bool | None:
            a, b = left(row), right(row)
            if a is None or b is None:
                return None
            a, b = scalar(a, token.position), scalar(b, token.position)
            numbers = number(a), number(b)
            if None not in numbers:
                return compare(*numbers)
            return compare(text_of(a), text_of(b))

        return compared

    def _sum(self) -> Expression:
        left = self._product()
        while self.reader.is_operator("+", "-", "."):
            left = self._binary(left, self._product)
        return left

    def _product(self) -> Expression:
        left = self._unary()
        while self.reader.is_operator("*", "/", "%"):
            left = self._binary(left, self._unary)
        return left

    def _binary(self, left: Expression, operand: Callable[[], Expression]) -> Expression:
        token = self.reader.take()
        right = operand()

        def applied(row: Row) -> Any:
            a, b = left(row), right(row)
            if a is None or b is None:
                return None
            a, b = scalar(a, token.position), scalar(b, token.position)
            if token.text == ".":
                return text_of(a) + text_of(b)
            return _arithmetic(token.text, number(a), number(b), token.position)

        return applied

    def _unary(self) -> Expression:
        token = self.reader.next
        if self.reader.accept("-"):
            inner = self._unary()

            def negative(row: Row) -> Any:
                value = inner(row)
                return None if value is None else _arithmetic("-", 0, number(value), token.position)

            return negative
        return self._primary()

    def _primary(self) -> Expression:
        token = self.reader.next
        if self.reader.accept("("):
            inner = self._or()
            self.reader.expect(")")
            return inner
        self.reader.take()
        if token.kind == "number":
            literal = float(token.text) if "." in token.text else int(token.text)
            return lambda row: literal
        if token.kind == "string":
            return lambda row: token.text
        if token.kind == "word" and self.reader.is_operator("("):
            return self._call(token.text, token.position)
        if token.kind in ("quoted", "word") and token.text not in ("AND", "OR", "NOT", "XOR", "LIKE", "IN"):
            return lambda row: row.fields.get(token.text)
        raise UnsupportedSearch(f"{token.text!r} in an expression", token.position)

    def _call(self, name: str, position: int) -> Expression:
        self.reader.expect("(")
        arguments = []
        while not self.reader.is_operator(")"):
            arguments.append(self._or())
            if not self.reader.is_operator(")"):
                self.reader.expect(",")
        self.reader.expect(")")
        if name == "mvfilter":
            return self._mvfilter(arguments, position)
        if name in ("now", "relative_time") and self.now is not None:
            return self._time(name, arguments, position)
        if name not in FUNCTIONS:
            raise UnsupportedSearch(f"the function {name}", position)
        function = FUNCTIONS[name]
        if not function.least <= len(arguments) <= function.most:
            raise UnsupportedSearch(f"{name} with {len(arguments)} arguments", position)
        return lambda row: function.run([partial(a, row) for a in arguments], self.mode, position)

    def _time(self, name: str, arguments: list[Expression], position: int) -> Expression:
        """Date and time functions: "now", and "relative_time(<time>, <specifier>)"."""
        now = self.now
        if name == "now" and not arguments:
            return lambda row: now
        if name == "now" or len(arguments) != 2:
            raise UnsupportedSearch(f"{name} with {len(arguments)} arguments", position)
        time, specifier = arguments

        def moved(row: Row) -> float:
            since = number(time(row))
            if since is None:
                raise UnsupportedSearch("relative_time of what is no time", position)
            return moment_of(text_of(specifier(row)), since, position)

        return moved

    def _mvfilter(self, arguments: list[Expression], position: int) -> Expression:
        """The values for which the condition holds; null where there is none.

        Search Reference, "Multivalue eval functions": it "can reference only one field at a time".
        """
        if len(arguments) != 1:
            raise UnsupportedSearch(f"mvfilter with {len(arguments)} arguments", position)
        condition = arguments[0]

        def filtered(row: Row) -> Any:
            read = Recorder()
            condition(Row(read, row.events))
            if len(read.names) != 1:
                raise UnsupportedSearch("mvfilter of several fields", position)
            (name,) = read.names
            value = row.fields.get(name)
            members = value if isinstance(value, list) else [] if value is None else [value]
            kept = [m for m in members if condition(Row({name: m}, row.events)) is True]
            return None if not kept else kept[0] if len(kept) == 1 else kept

        return filtered


class Recorder(dict[str, Any]):
    """Fields of nothing, which remember what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return default


def number(value: Any) -> int | float | None:
    """A number, or a text that is one: fields hold texts, and are compared as numbers where they are some."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def decided(values: Iterable[Any], by: bool, position: int) -> bool:
    """OR, which one true part decides, or AND, which one false part does, whatever the others are."""
    unknown = False
    for value in values:
        if value is None:
            unknown = True
        elif truth(value, position) is by:
            return by
    return truth(None, position) if unknown else not by


def truth(value: Any, position: int) -> bool:
    if isinstance(value, bool):
        return value
    if value is None:
        raise UnsupportedSearch("AND, OR or NOT of a null", position)
    raise UnsupportedSearch("a condition that is not Boolean", position)


def _arithmetic(sign: str, a: float | None, b: float | None, position: int) -> Any:
    if a is None or b is None:
        raise UnsupportedSearch(f"{sign} of what is not a number", position)
    if sign in ("/", "%") and b == 0:
        return None
    found: float = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
        "%": operator.mod,
    }[sign](a, b)
    return found

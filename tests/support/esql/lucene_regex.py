"""Lucene's regular expressions, matched by derivatives of the expression (Brzozowski), whole strings only.

Source: Elasticsearch's page "Regular expression syntax" and the grammar in the documentation of Lucene's
class RegExp with all flags, which ES|QL's RLIKE uses: ``| & ~ ? * + {n,m} [] . # @ "" <n-m> ()`` and the
classes of d, s and w behind a backslash. Any other escaped character stands for itself. ``.`` is any
character, a line break too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

_LAST = 0x10FFFF
_DIGIT = ((0x30, 0x39),)
_SPACE = ((0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x20))
_WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))

Ranges = tuple[tuple[int, int], ...]


class BadExpression(ValueError):
    """No expression of Lucene's."""


@dataclass(frozen=True)
class Regex:
    """A node; equal expressions are one object after `_made`."""

    kind: str
    parts: tuple[Regex, ...] = ()
    ranges: Ranges = ()
    low: int = 0
    high: int | None = None

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


_KNOWN: dict[tuple[object, ...], Regex] = {}


def _made(
    kind: str, parts: tuple[Regex, ...] = (), ranges: Ranges = (), low: int = 0, high: int | None = None
) -> Regex:
    key = (kind, tuple(map(id, parts)), ranges, low, high)
    return _KNOWN.setdefault(key, Regex(kind, parts, ranges, low, high))


NOTHING = _made("nothing")
EMPTY = _made("empty")
ANY = _made("chars", ranges=((0, _LAST),))


def chars(ranges: Ranges) -> Regex:
    return _made("chars", ranges=ranges) if ranges else NOTHING


def text(literal: str) -> Regex:
    found = EMPTY
    for char in reversed(literal):
        found = concat(chars(((ord(char), ord(char)),)), found)
    return found


def concat(left: Regex, right: Regex) -> Regex:
    if NOTHING in (left, right):
        return NOTHING
    if left is EMPTY:
        return right
    if right is EMPTY:
        return left
    if left.kind == "concat":
        return concat(left.parts[0], concat(left.parts[1], right))
    return _made("concat", (left, right))


def either(options: list[Regex]) -> Regex:
    found: dict[Regex, None] = {}
    for option in options:
        for part in option.parts if option.kind == "either" else (option,):
            if part is not NOTHING:
                found[part] = None
    if not found:
        return NOTHING
    parts = tuple(sorted(found, key=id))
    return parts[0] if len(parts) == 1 else _made("either", parts)


def both(left: Regex, right: Regex) -> Regex:
    if NOTHING in (left, right):
        return NOTHING
    return left if left is right else _made("both", (left, right))


def negated(inner: Regex) -> Regex:
    return inner.parts[0] if inner.kind == "not" else _made("not", (inner,))


def repeat(inner: Regex, low: int, high: int | None) -> Regex:
    if high == 0:
        return EMPTY
    if inner is NOTHING:
        return EMPTY if low == 0 else NOTHING
    if inner is EMPTY or (low, high) == (1, 1):
        return inner
    return _made("repeat", (inner,), low=low, high=high)


@cache
def nullable(node: Regex) -> bool:
    """Whether it matches the empty string."""
    match node.kind:
        case "empty":
            return True
        case "concat" | "both":
            return all(nullable(part) for part in node.parts)
        case "either":
            return any(nullable(part) for part in node.parts)
        case "not":
            return not nullable(node.parts[0])
        case "repeat":
            return node.low == 0 or nullable(node.parts[0])
    return False


@cache
def derivative(node: Regex, code: int) -> Regex:
    """What has to follow once the character has been read."""
    match node.kind:
        case "chars":
            return EMPTY if any(low <= code <= high for low, high in node.ranges) else NOTHING
        case "concat":
            first, rest = node.parts
            options = [concat(derivative(first, code), rest)]
            if nullable(first):
                options.append(derivative(rest, code))
            return either(options)
        case "either":
            return either([derivative(part, code) for part in node.parts])
        case "both":
            return both(derivative(node.parts[0], code), derivative(node.parts[1], code))
        case "not":
            return negated(derivative(node.parts[0], code))
        case "repeat":
            inner = node.parts[0]
            fewer = None if node.high is None else node.high - 1
            return concat(derivative(inner, code), repeat(inner, max(node.low - 1, 0), fewer))
    return NOTHING


@cache
def _of(pattern: str) -> Regex:
    return _Reader(pattern).read()


@cache
def matches(pattern: str, value: str) -> bool:
    """Whether the whole of ``value`` matches. Raises `BadExpression`."""
    return accepts(_of(pattern), value)


def accepts(node: Regex, value: str) -> bool:
    for char in value:
        node = derivative(node, ord(char))
        if node is NOTHING:
            return False
    return nullable(node)


@cache
def wildcard(pattern: str) -> Regex:
    """LIKE's pattern: ``*`` any text, ``?`` any character, ``\\`` takes the next one as it stands."""
    parts, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
            if at == len(pattern):
                raise BadExpression("a backslash at the end")
            parts.append(text(pattern[at]))
        else:
            parts.append(repeat(ANY, 0, None) if char == "*" else ANY if char == "?" else text(char))
        at += 1
    found = EMPTY
    for part in reversed(parts):
        found = concat(part, found)
    return found


class _Reader:
    """Recursive descent by the grammar in RegExp's documentation."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def read(self) -> Regex:
        if not self.pattern:
            return EMPTY
        found = self._union()
        if self.at < len(self.pattern):
            raise BadExpression(f"what stands at {self.at + 1}")
        return found

    def _sees(self, options: str) -> bool:
        return self.at < len(self.pattern) and self.pattern[self.at] in options

    def _takes(self, char: str) -> bool:
        if self._sees(char):
            self.at += 1
            return True
        return False

    def _next(self) -> str:
        if self.at >= len(self.pattern):
            raise BadExpression("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def _union(self) -> Regex:
        options = [self._intersection()]
        while self._takes("|"):
            options.append(self._intersection())
        return either(options)

    def _intersection(self) -> Regex:
        found = self._concatenation()
        return both(found, self._intersection()) if self._takes("&") else found

    def _concatenation(self) -> Regex:
        parts = [self._repetition()]
        while self.at < len(self.pattern) and not self._sees(")|&"):
            parts.append(self._repetition())
        found = EMPTY
        for part in reversed(parts):
            found = concat(part, found)
        return found

    def _repetition(self) -> Regex:
        found = self._complement()
        while self._sees("?*+{"):
            match self._next():
                case "?":
                    found = repeat(found, 0, 1)
                case "*":
                    found = repeat(found, 0, None)
                case "+":
                    found = repeat(found, 1, None)
                case _:
                    found = repeat(found, *self._bounds())
        return found

    def _bounds(self) -> tuple[int, int | None]:
        low = self._number()
        high: int | None = low
        if self._takes(","):
            high = self._number() if self._sees("0123456789") else None
        if not self._takes("}") or (high is not None and high < low):
            raise BadExpression("the bounds of a repetition")
        return low, high

    def _number(self) -> int:
        start = self.at
        while self._sees("0123456789"):
            self.at += 1
        if start == self.at:
            raise BadExpression("a number is missing")
        return int(self.pattern[start : self.at])

    def _complement(self) -> Regex:
        return negated(self._complement()) if self._takes("~") else self._class()

    def _class(self) -> Regex:
        if not self._takes("["):
            return self._simple()
        inverse = self._takes("^")
        ranges: list[tuple[int, int]] = list(self._class_item())
        while self.at < len(self.pattern) and not self._sees("]"):
            ranges += self._class_item()
        if not self._takes("]"):
            raise BadExpression("a class has no end")
        return chars(_complement(ranges) if inverse else tuple(sorted(ranges)))

    def _class_item(self) -> Ranges:
        if self._sees("\\") and (named := _named(self.pattern[self.at + 1 : self.at + 2])):
            self.at += 2
            return named
        low = ord(self._character())
        if self._takes("-"):
            high = ord(self._character())
            if high < low:
                raise BadExpression("a range runs backwards")
            return ((low, high),)
        return ((low, low),)

    def _character(self) -> str:
        self._takes("\\")
        return self._next()

    def _simple(self) -> Regex:
        char = self._next()
        match char:
            case ".":
                return ANY
            case "#":
                return NOTHING
            case "@":
                return repeat(ANY, 0, None)
            case '"':
                end = self.pattern.find('"', self.at)
                if end < 0:
                    raise BadExpression("a quotation has no end")
                start, self.at = self.at, end + 1
                return text(self.pattern[start:end])
            case "(":
                if self._takes(")"):
                    return EMPTY
                found = self._union()
                if not self._takes(")"):
                    raise BadExpression("a parenthesis has no end")
                return found
            case "<":
                return self._interval()
            case "\\":
                escaped = self._next()
                named = _named(escaped)
                return chars(named) if named else text(escaped)
        if char in "?*+{)|&":
            raise BadExpression(f"{char} at {self.at}")
        return text(char)

    def _interval(self) -> Regex:
        """``<n-m>``: the numbers between, with leading zeros where both ends have as many digits."""
        end = self.pattern.find(">", self.at)
        low, dash, high = self.pattern[self.at : end].partition("-") if end > 0 else ("", "", "")
        if not (dash and low.isdigit() and high.isdigit()):
            raise BadExpression("no interval (named automata do not exist)")
        self.at = end + 1
        least, most = sorted((int(low), int(high)))
        if most - least > 1000 or len(low) != len(high):
            raise BadExpression("an interval that is not modelled")
        return either([text(str(n).zfill(len(low))) for n in range(least, most + 1)])


def _named(char: str) -> Ranges:
    known = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
    if char.lower() not in known or not char:
        return ()
    ranges = known[char.lower()]
    return ranges if char.islower() else _complement(list(ranges))


def _complement(ranges: list[tuple[int, int]]) -> Ranges:
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return (*found, (start, _LAST)) if start <= _LAST else tuple(found)

r"""Lucene's regular expressions as trees and in RE2's syntax, which DuckDB's ``regexp_full_match`` takes.

Syntax and meaning: Lucene's ``RegExp``; Elasticsearch, "Regular expression syntax". An expression is for the
whole value, ``.`` is any character (a line break too), ``^`` and ``$`` are themselves, letter case counts.
``query_string`` turns on every optional operator; the pack writes none, so ``~ & < > # @ "`` are refused, and
so is what has another meaning from version to version (``\d`` is a class since Lucene 8.6) or looks like a
slip (``]`` or ``}`` alone, an open ``-`` in a class).

To be matched with the option ``s`` and never with ``(?i)``: without ``s`` RE2's dot leaves out line breaks,
and ``(?i)k`` matches the Kelvin sign too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NoReturn

from detection_pack.languages.lucene.lucene_regex import MAX_LENGTH, fits, utf16_length
from detection_pack.languages.regex.regex_tree import (
    ANY,
    LAST,
    Alt,
    Chars,
    Node,
    Repeat,
    Seq,
    complement,
    ranges,
)

#: RE2's limit on a counted repetition and on the product of nested ones, and Lucene's on the states in a row:
#: Elasticsearch 8.18 refuses ``a{1001,}`` ("input automaton is too large", ``Operations.isFinite``).
MAX_STEPS = 1000
#: Levels of groups in an expression.
MAX_DEPTH = 60
_REFUSED = '~&<>#@"]}'


class Inexact(Exception):
    """An expression that is not translated; ``at`` is the offset in it."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.at = at


@lru_cache(maxsize=1000)
def re2_of(pattern: str) -> str:
    """A Lucene regular expression of a query string in RE2's syntax. Raises `Inexact`.

    Also for one that may be beyond Elasticsearch's limits: a query string is read leniently where it names no
    default field, and a clause that cannot be determinised then finds nothing, without a word.
    """
    if utf16_length(pattern) > MAX_LENGTH:
        raise Inexact(f"a regular expression of more than {MAX_LENGTH:,} characters", 0)
    node = tree(pattern)
    if _steps(node) > MAX_STEPS:
        raise Inexact(f"a regular expression of more than {MAX_STEPS:,} steps", 0)
    if not fits(node):
        raise Inexact("a regular expression that may be too large for Elasticsearch", 0)
    return re2(node)


def tree(pattern: str) -> Node:
    """The tree of a Lucene regular expression. Raises `Inexact`."""
    reader = _Reader(pattern)
    node = reader.union()
    if reader.at < len(pattern):
        raise Inexact(f"{pattern[reader.at]} with nothing to close", reader.at)
    return node


class _Reader:
    """Recursive descent, method for method as ``RegExp.parseUnionExp`` and those below it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0
        self._depth = 0

    def union(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} levels of groups")
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._depth -= 1
        return branches[0] if len(branches) == 1 else Alt(tuple(branches))

    def _sequence(self) -> Node:
        items: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._repeated())
        if not items:
            self._refuse("an empty branch")
        return items[0] if len(items) == 1 else Seq(tuple(items))

    def _repeated(self) -> Node:
        node = self._single()
        while operator := self._peek():
            if operator in "*+?":
                self.at += 1
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[operator]
                node = Repeat(node, low, high)
            elif operator == "{":
                node = self._counted(node)
            else:
                break
        return node

    def _counted(self, node: Node) -> Node:
        start = self.at
        self.at += 1
        low = self._integer()
        high: int | None = low
        if self._take(","):
            high = self._integer() if self._peek().isdigit() else None
        if not self._take("}") or low is None or (high is not None and high < low):
            raise Inexact("a repetition that is not {n}, {n,} or {n,m}", start)
        return Repeat(node, low, high)

    def _integer(self) -> int | None:
        start = self.at
        while self._peek() and self._peek() in "0123456789":
            self.at += 1
        digits = self._pattern[start : self.at]
        return int(digits) if 0 < len(digits) <= 9 else None

    def _single(self) -> Node:
        char = self._peek()
        match char:
            case ".":
                self.at += 1
                return ANY
            case "[":
                return self._class()
            case "(":
                return self._group()
        if char in _REFUSED:
            self._refuse(f"the operator {char}")
        if char in "*+?{":
            self._refuse(f"{char} with nothing to repeat")
        return Chars(((self._char(),) * 2,))

    def _group(self) -> Node:
        start = self.at
        self.at += 1
        if self._take(")"):
            return Seq(())
        node = self.union()
        if not self._take(")"):
            raise Inexact("a group that is never closed", start)
        return node

    def _class(self) -> Node:
        start = self.at
        self.at += 1
        negated = self._take("^")
        pairs: list[tuple[int, int]] = []
        while self._peek() not in ("", "]"):
            low = high = self._member()
            if self._take("-"):
                high = self._member() if self._peek() not in ("", "]") else -1
            if high < low:
                raise Inexact("a range in a class without an end, or the wrong way round", start)
            pairs.append((low, high))
        if not self._take("]") or not pairs:
            raise Inexact("a class that is empty or never closed", start)
        found = ranges(pairs)
        return Chars(complement(found) if negated else found)

    def _member(self) -> int:
        if self._peek() == "-":
            self._refuse("an open - in a class")
        return self._char()

    def _char(self) -> int:
        if self._take("\\"):
            char = self._peek()
            if not char or (char.isascii() and char.isalnum()):
                self.at -= 1
                self._refuse(f"the escape \\{char}" if char else "a backslash at the end")
        self.at += 1
        return ord(self._pattern[self.at - 1])

    def _peek(self) -> str:
        return self._pattern[self.at : self.at + 1]

    def _take(self, char: str) -> bool:
        if self._peek() != char:
            return False
        self.at += 1
        return True

    def _refuse(self, what: str) -> NoReturn:
        raise Inexact(what, self.at)


def re2(node: Node) -> str:
    """A tree in RE2's syntax, in characters that need no escape in SQL either. Raises `Inexact`."""
    match node:
        case Chars():
            return _chars(node)
        case Seq():
            return "".join(f"(?:{re2(i)})" if isinstance(i, Alt) else re2(i) for i in node.items) or "(?:)"
        case Alt():
            return "|".join(re2(i) for i in node.items)
        case Repeat():
            if _steps(node) > MAX_STEPS:
                raise Inexact(f"repetitions of more than {MAX_STEPS:,} steps", 0)
            inner = re2(node.item)
            unit = inner if isinstance(node.item, Chars) else f"(?:{inner})"
            return unit + _times(node.low, node.high)


def _steps(node: Node) -> int:
    """The longest way through an expression, its loops taken as often as they must be."""
    match node:
        case Seq():
            return sum(_steps(item) for item in node.items)
        case Alt():
            return max(_steps(item) for item in node.items)
        case Repeat():
            return max(_steps(node.item), 1) * max(node.low, node.high or 0, 1)
    return 1


def _times(low: int, high: int | None) -> str:
    named = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return named.get((low, high)) or f"{{{low},{'' if high is None else high}}}"


def _chars(node: Chars) -> str:
    given = node.ranges
    if given == ANY.ranges:
        return "."
    if len(given) == 1 and given[0][0] == given[0][1]:
        return _code(given[0][0])
    inverse = complement(given)
    if inverse and given[-1][1] == LAST:
        return f"[^{''.join(map(_span, inverse))}]"
    return f"[{''.join(map(_span, given))}]"


def _span(pair: tuple[int, int]) -> str:
    return _code(pair[0]) if pair[0] == pair[1] else f"{_code(pair[0])}-{_code(pair[1])}"


def _code(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:x}}}"

"""Sigma's ``|re`` as a Lucene regular expression, where Lucene can say exactly the same; refused elsewhere.

A Sigma regular expression is PCRE and searches (``re.search``); Lucene's is anchored. Python's own parser
reads it. Classes are ASCII (``\\d`` is 0-9), as in PCRE without ``(*UCP)``; a lazy quantifier matches what
the greedy one does when only "found or not" counts.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from sigma.types import SigmaRegularExpression, SigmaRegularExpressionFlag

from detection_pack.languages.lucene.lucene_regex import (
    ANYTHING,
    LAST,
    class_ranges,
    complement,
    fold,
    ranges,
)
from detection_pack.languages.regex.regex_tree import Alt, Chars, Node, Ranges, Repeat, Seq
from detection_pack.platforms.conversion import RefusedValue

parser: Any = __import__("re._parser", fromlist=["parse"])

_DIGIT = class_ranges("0-9")
_WORD = class_ranges("0-9A-Za-z_")
_SPACE = ranges((ord(c), ord(c)) for c in " \t\n\r\f\v")
_NEWLINE = ranges([(10, 10)])
_CATEGORIES = {
    "CATEGORY_DIGIT": _DIGIT,
    "CATEGORY_NOT_DIGIT": complement(_DIGIT),
    "CATEGORY_WORD": _WORD,
    "CATEGORY_NOT_WORD": complement(_WORD),
    "CATEGORY_SPACE": _SPACE,
    "CATEGORY_NOT_SPACE": complement(_SPACE),
}
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: re.IGNORECASE,
    SigmaRegularExpressionFlag.MULTILINE: re.MULTILINE,
    SigmaRegularExpressionFlag.DOTALL: re.DOTALL,
}
#: Folding a class walks it character by character; a larger one is left to its complement.
_MAX_FOLDED = 70_000


class _Inexact(Exception):
    """Something that Lucene cannot say."""


def expression(field: str, value: SigmaRegularExpression) -> Node:
    """The anchored Lucene expression that finds what ``value`` finds. Raises `RefusedValue`."""
    pattern = value.regexp.to_plain_regex()
    flags = 0
    for flag in value.flags:
        flags |= _FLAGS[flag]
    try:
        parsed = parser.parse(pattern, flags)
        return _top(list(parsed), parsed.state.flags)
    except (_Inexact, re.error, RecursionError, OverflowError) as error:
        what = f'the regular expression of "{field}" cannot be said exactly in Lucene ({error})'
        what += "; write it without that"
        raise RefusedValue(what, pattern) from error


def _top(items: list[Any], flags: int) -> Node:
    """A whole pattern or one branch of it: anchors at its ends say what may stand around it."""
    if len(items) == 1 and str(items[0][0]) == "BRANCH":
        return Alt(tuple(_top(list(branch), flags) for branch in items[0][1][1]))
    if len(items) == 1 and str(items[0][0]) == "SUBPATTERN":
        _, add, remove, inner = items[0][1]
        return _top(list(inner), (flags | add) & ~remove)
    before: Node = ANYTHING
    after: Node = ANYTHING
    if items and str(items[0][0]) == "AT":
        before, items = _start(str(items[0][1]), items[1:], flags), items[1:]
    if items and str(items[-1][0]) == "AT":
        after, items = _end(str(items[-1][1]), items[:-1], flags), items[:-1]
    return Seq((before, *_sequence(items, flags), after))


def _start(kind: str, rest: list[Any], flags: int) -> Node:
    if kind == "AT_BEGINNING_STRING" or (kind == "AT_BEGINNING" and not flags & re.MULTILINE):
        return Seq(())
    if kind == "AT_BOUNDARY" and rest and _is_word(rest[0], flags):
        return Repeat(Seq((ANYTHING, Chars(complement(_WORD)))), 0, 1)
    raise _Inexact("an anchor or \\b inside it, or the m flag")


def _end(kind: str, rest: list[Any], flags: int) -> Node:
    if kind == "AT_END" and not flags & re.MULTILINE:
        return Repeat(Chars(_NEWLINE), 0, 1)
    if kind == "AT_BOUNDARY" and rest and _is_word(rest[-1], flags):
        return Repeat(Seq((Chars(complement(_WORD)), ANYTHING)), 0, 1)
    raise _Inexact("an anchor or \\b inside it, or \\Z")


def _is_word(item: Any, flags: int) -> bool:
    """Whether what stands at a ``\\b`` is surely a word character."""
    if str(item[0]) not in ("LITERAL", "IN"):
        return False
    node = _node(item, flags & ~re.IGNORECASE)
    inside = ranges([*_WORD, *node.ranges]) if isinstance(node, Chars) else ()
    return inside == _WORD


def _sequence(items: list[Any], flags: int) -> tuple[Node, ...]:
    return tuple(_node(item, flags) for item in items)


def _node(item: Any, flags: int) -> Node:
    kind, argument = str(item[0]), item[1]
    match kind:
        case "LITERAL":
            return _folded(((argument, argument),), flags)
        case "NOT_LITERAL":
            return Chars(complement(_folded(((argument, argument),), flags).ranges))
        case "ANY":
            return Chars(((0, LAST),) if flags & re.DOTALL else complement(_NEWLINE))
        case "IN":
            return _set(argument, flags)
        case "BRANCH":
            return Alt(tuple(Seq(_sequence(list(branch), flags)) for branch in argument[1]))
        case "SUBPATTERN":
            _, add, remove, inner = argument
            return Seq(_sequence(list(inner), (flags | add) & ~remove))
        case "MAX_REPEAT" | "MIN_REPEAT":
            low, high, inner = argument
            most = None if str(high) == "MAXREPEAT" else int(high)
            return Repeat(Seq(_sequence(list(inner), flags)), int(low), most)
    raise _Inexact(kind.lower().replace("_", " "))


def _set(members: list[Any], flags: int) -> Chars:
    pairs: list[tuple[int, int]] = []
    negated = False
    for kind, argument in members:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                pairs += _folded(((argument, argument),), flags).ranges
            case "RANGE":
                pairs += _folded((argument,), flags).ranges
            case "CATEGORY":
                pairs += _CATEGORIES[str(argument)]
    found = ranges(pairs)
    return Chars(complement(found) if negated else found)


def _folded(given: Ranges, flags: int) -> Chars:
    return _any_case(tuple(given)) if flags & re.IGNORECASE else Chars(ranges(given))


@cache
def _any_case(given: Ranges) -> Chars:
    """Kept, because a large class takes a tenth of a second and may stand in an expression many times."""
    if sum(high - low for low, high in given) > _MAX_FOLDED:
        raise _Inexact("a very large class without regard to case")
    return Chars(ranges(r for low, high in given for code in range(low, high + 1) for r in fold(chr(code))))

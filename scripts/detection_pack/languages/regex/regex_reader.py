"""The one place where a rule author's regular expression is read.

Python's own parser reads it: it knows PCRE's syntax but for what `patterns` refuses, and is the only one in
the standard library. It has no documented interface, so no other module may know it. Classes are ASCII (a
digit is 0-9), as in PCRE without ``(*UCP)``; a lazy repetition is not told from a greedy one, because a rule
only asks whether a text matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from sigma.types import SigmaRegularExpressionFlag

from detection_pack.languages.regex.regex_tree import (
    ANY,
    DIGIT,
    LAST,
    NEWLINE,
    SPACE,
    WORD_CHARACTER,
    Alt,
    Anchor,
    Chars,
    Node,
    Ranges,
    Repeat,
    Seq,
    complement,
    fold,
    ranges,
)

# Python's own is an internal module, which the stubs leave out.
_parser: Any = __import__("re._parser", fromlist=["parse"])

_CATEGORIES = {
    "CATEGORY_DIGIT": DIGIT,
    "CATEGORY_NOT_DIGIT": complement(DIGIT),
    "CATEGORY_WORD": WORD_CHARACTER,
    "CATEGORY_NOT_WORD": complement(WORD_CHARACTER),
    "CATEGORY_SPACE": SPACE,
    "CATEGORY_NOT_SPACE": complement(SPACE),
}
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: re.IGNORECASE,
    SigmaRegularExpressionFlag.MULTILINE: re.MULTILINE,
    SigmaRegularExpressionFlag.DOTALL: re.DOTALL,
}
_ANCHORS = {
    "AT_BEGINNING": "start",
    "AT_BEGINNING_STRING": "start",
    "AT_END": "end",
    "AT_BOUNDARY": "boundary",
}
#: A larger class is not walked character by character to fold it: that takes a tenth of a second.
_LARGE = 70_000


class RegexFault(ValueError):
    """An expression that cannot be read. ``part``: the kind of part that the tree lacks, if that is why."""

    def __init__(self, what: str, part: str = "") -> None:
        super().__init__(what)
        self.part = part


def read(source: str, stated: Iterable[SigmaRegularExpressionFlag] = ()) -> Seq:
    """The expression as a tree, letter case folded where its flags say so.

    Anchors stand in it as `Anchor`, groups as a `Seq`. Raises `RegexFault` for what is no expression, for
    look-around, back references, possessive repetitions and atomic groups.
    """
    flags = 0
    for flag in stated:
        flags |= _FLAGS[flag]
    try:
        parsed = _parser.parse(source, flags)
        return _sequence(parsed, parsed.state.flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise RegexFault(str(error)) from error


def _sequence(items: Any, flags: int) -> Seq:
    return Seq(tuple([_node(str(kind), argument, flags) for kind, argument in items]))


def _node(kind: str, argument: Any, flags: int) -> Node:
    match kind:
        case "LITERAL":
            return Chars(_folded(((argument, argument),), flags))
        case "NOT_LITERAL":
            return Chars(complement(_folded(((argument, argument),), flags)))
        case "ANY":
            return ANY if flags & re.DOTALL else Chars(complement(NEWLINE))
        case "IN":
            return _set(argument, flags)
        case "AT":
            by_line = flags & re.MULTILINE and str(argument) in ("AT_BEGINNING", "AT_END")
            return Anchor((), str(argument) if by_line else _ANCHORS.get(str(argument), str(argument)))
        case "BRANCH":
            return Alt(tuple([_sequence(branch, flags) for branch in argument[1]]))
        case "SUBPATTERN":
            _, add, remove, inner = argument
            return _sequence(inner, (flags | add) & ~remove)
        case "MAX_REPEAT" | "MIN_REPEAT":
            low, high, inner = argument
            most = None if str(high) == "MAXREPEAT" else int(high)
            return Repeat(_sequence(inner, flags), int(low), most)
    part = kind.lower().replace("_", " ")
    raise RegexFault(part, part)


def _set(members: Any, flags: int) -> Chars:
    pairs: list[tuple[int, int]] = []
    negated = False
    for kind, argument in members:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                pairs += _folded(((argument, argument),), flags)
            case "RANGE":
                pairs += _folded((argument,), flags)
            case "CATEGORY":
                pairs += _CATEGORIES[str(argument)]
    found = ranges(pairs)
    return Chars(complement(found) if negated else found)


def _folded(given: Ranges, flags: int) -> Ranges:
    return _any_case(tuple(given)) if flags & re.IGNORECASE else ranges(given)


@cache
def _any_case(given: Ranges) -> Ranges:
    """Kept, because a large class takes a tenth of a second and may stand in an expression many times."""
    large = sum(high - low for low, high in given) > _LARGE
    return ranges(
        [
            *given,
            *(
                pair
                for low, high in given
                for code in (_with_cases() if large else range(low, high + 1))
                if low <= code <= high
                for pair in fold(chr(code))
            ),
        ]
    )


@cache
def _with_cases() -> tuple[int, ...]:
    """Every code point that has a form in another letter case; half a second, once."""
    forms = ((code, chr(code)) for code in range(LAST + 1))
    return tuple(code for code, char in forms if char.lower() != char or char.upper() != char)

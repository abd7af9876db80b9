"""What pySigma says of a rule, in words that its author can use."""

from __future__ import annotations

import re

#: Messages of pySigma that speak of its own parts, and what they mean for the author of a rule.
_TRANSLATED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"Modifier Sigma(\w+)Modifier incompatible to value type of '(.*)'$", re.DOTALL),
        r'the modifier for "\1" cannot take the value "\2"; text stands in quotes, a number does not',
    ),
    (
        re.compile(r"Unknown modifier '(.*)'$", re.DOTALL),
        r"Sigma has no modifier '\1'; see its specification of modifiers",
    ),
    (
        re.compile(r"(?:Expected |Unbalanced parentheses).*\(at char \d+\).*", re.DOTALL),
        "the condition cannot be read; write selections with and, or, not, brackets, 1 of … and all of …",
    ),
    (
        re.compile(r"Detection '(.*)' not defined in detections$", re.DOTALL),
        r"the condition names '\1', which the rule does not define; write the name of a selection",
    ),
)


def translated(message: str) -> str:
    """pySigma's message for the author of a rule: ``what; what to do`` where there is more to say."""
    message = re.sub(r" \(while converting rule .*\)$", "", message)
    # A value that has no text of its own, with the address at which it is in memory.
    message = re.sub(r"<sigma\.types\.Sigma(\w+) object at 0x[0-9a-f]+>", r"\1", message)
    for pattern, replacement in _TRANSLATED:
        if pattern.match(message):
            return pattern.sub(replacement, message)
    return message


def said_of(error: Exception) -> tuple[str, str]:
    """What an error of pySigma's says is wrong, on one line and without the path of a file, and what to do:
    the empty text where it says nothing of that."""
    first = str(error).split("\n")[0] or type(error).__name__
    what, _, todo = translated(re.sub(r" in (?:/|[A-Za-z]:\\).*$", "", first)).partition("; ")
    return what, todo

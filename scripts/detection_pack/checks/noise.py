"""Values that make a search slow or its alerts many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sigma.rule import SigmaDetectionItem
from sigma.types import SigmaExpansion, SigmaRegularExpression, SigmaString, SpecialChars

from detection_pack.languages.regex.patterns import parser
from detection_pack.model.detections import Keys, Leaf, leaves
from detection_pack.model.findings import Finding
from detection_pack.model.reading import Reading

#: How many characters in a row a search needs to narrow a wildcard.
LITERAL = 3
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


def noise(reading: Reading) -> Iterator[Finding]:
    """Weak wildcards, and regular expressions that are slow or find nearly everything."""
    for document in reading.documents:
        for leaf in leaves(document):
            for keys, value in leaf.values:
                yield from _of_value(reading, leaf, keys, value)


def _of_value(reading: Reading, leaf: Leaf, keys: Keys, value: Any) -> Iterator[Finding]:
    try:
        said = SigmaDetectionItem.from_mapping(leaf.key, value).value
    except Exception:  # reported as a fault of Sigma
        return
    strings = [s for v in said for s in (v.values if isinstance(v, SigmaExpansion) else [v])]
    weak = [s for s in strings if isinstance(s, SigmaString) and _is_weak(s)]
    if weak:
        what = f'"{value}" is a wildcard without {LITERAL} literal characters in a row'
        todo = "write more of the text, or |exists: true" if _is_any(weak[0]) else "write more of the text"
        yield reading.at("weak-wildcard", leaf.document, keys, what, todo)
    for found in strings:
        if isinstance(found, SigmaRegularExpression) and isinstance(value, str):
            yield from _of_expression(reading, leaf, keys, found)


def _is_weak(value: SigmaString) -> bool:
    wild = any(isinstance(part, SpecialChars) for part in value.s)
    return wild and max((len(p) for p in value.s if isinstance(p, str)), default=0) < LITERAL


def _is_any(value: SigmaString) -> bool:
    return all(part == SpecialChars.WILDCARD_MULTI for part in value.s)


def _of_expression(
    reading: Reading, leaf: Leaf, keys: Keys, value: SigmaRegularExpression
) -> Iterator[Finding]:
    pattern = value.regexp.to_plain_regex()
    try:
        parsed = list(parser.parse(pattern))
    except (re.error, RecursionError, OverflowError):
        return  # what Python cannot read is refused by the platforms
    slow = [what for what, applies in _SLOW if applies(parsed)]
    for what in slow:
        todo = "leave that part out, or say it with |contains"
        yield reading.at("slow-regex", leaf.document, keys, f"the regular expression {what}", todo)


def _starts_with_anything(items: list[Any]) -> bool:
    if not items or str(items[0][0]) not in _REPEATS:
        return False
    _, high, inner = items[0][1]
    return str(high) == "MAXREPEAT" and [str(i[0]) for i in inner] == ["ANY"]


def _parts(kind: str, argument: Any) -> list[Any]:
    match kind:
        case "SUBPATTERN":
            return [argument[3]]
        case "BRANCH":
            return list(argument[1])
        case "ATOMIC_GROUP":
            return [argument]
        case "ASSERT" | "ASSERT_NOT":
            return [argument[1]]
    return []


def _longest_literal(items: list[Any]) -> int:
    """The longest run of literal characters that every match has; the shortest of alternatives counts."""
    longest = run = 0
    for kind, argument in items:
        name = str(kind)
        if name == "LITERAL":
            run += 1
            longest = max(longest, run)
            continue
        if name == "AT":
            continue
        run = 0
        if name in ("BRANCH", "SUBPATTERN", "ATOMIC_GROUP"):
            longest = max(longest, min(_longest_literal(list(p)) for p in _parts(name, argument)))
        elif name in _REPEATS and argument[0] > 0:
            longest = max(longest, _longest_literal(list(argument[2])))
            only = list(argument[2])
            if len(only) == 1 and str(only[0][0]) == "LITERAL":
                longest = max(longest, argument[0])
    return longest


_SLOW = (
    ("starts with .*, although it searches anywhere anyway", _starts_with_anything),
    (f"has no {LITERAL} literal characters in a row", lambda items: _longest_literal(items) < LITERAL),
)

"""Values that make a search slow or its alerts many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sigma.rule import SigmaDetectionItem
from sigma.types import SigmaExpansion, SigmaRegularExpression, SigmaString, SpecialChars

from detection_pack.languages.regex.regex_reader import RegexFault, read
from detection_pack.languages.regex.regex_tree import (
    ANY,
    NEWLINE,
    Alt,
    Anchor,
    Chars,
    Node,
    Repeat,
    Seq,
    complement,
    fold,
    parts,
)
from detection_pack.model.detections import Keys, Leaf, leaves
from detection_pack.model.findings import Finding
from detection_pack.model.reading import Reading

#: How many characters in a row a search needs to narrow a wildcard.
LITERAL = 3
#: What a dot is, alone in a group, without and with the flag s.
_ANYTHING = ((Chars(complement(NEWLINE)),), (ANY,))


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
        if _is_any(weak[0]) and len(leaf.values) > 1 and "all" not in leaf.modifiers:
            what = f'"{value}" matches whatever the field holds, so that the values beside it say nothing'
            todo = "leave it out"
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
        parsed = read(pattern)
    except RegexFault:
        return  # what cannot be read is refused by the platforms
    slow = [what for what, applies in _SLOW if applies(parsed)]
    for what in slow:
        todo = "leave that part out, or say it with |contains"
        yield reading.at("slow-regex", leaf.document, keys, f"the regular expression {what}", todo)


def _starts_with_anything(expression: Seq) -> bool:
    first = expression.items[0] if expression.items else expression
    return isinstance(first, Repeat) and first.high is None and parts(first.item) in _ANYTHING


def _longest_literal(node: Node) -> int:
    """The longest run of literal characters that every match has; the shortest of alternatives counts."""
    if isinstance(node, Alt):
        return min(map(_longest_literal, node.items))
    if isinstance(node, Repeat):
        only = parts(node.item)
        alone = len(only) == 1 and _is_literal(only[0])
        return 0 if node.low == 0 else max(_longest_literal(node.item), node.low if alone else 0)
    longest = run = 0
    for item in parts(node):
        if not isinstance(item, Anchor):
            run = run + 1 if _is_literal(item) else 0
            longest = max(longest, run or _longest_literal(item))
    return longest


def _is_literal(node: Node) -> bool:
    """Whether it is one character, in any letter case."""
    return isinstance(node, Chars) and any(
        node.ranges in (fold(chr(low)), ((low, low),)) for low, _ in node.ranges[:3]
    )


_SLOW = (
    ("starts with .*, although it searches anywhere anyway", _starts_with_anything),
    (
        f"has no {LITERAL} literal characters in a row",
        lambda read: _longest_literal(read) < LITERAL,
    ),
)

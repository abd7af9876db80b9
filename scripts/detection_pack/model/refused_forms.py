"""Forms of Sigma that no platform of the pack can say, found before any conversion.

Each is told in the words of the rule's author, with what to write instead.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sigma.modifiers import (
    SigmaBase64Modifier,
    SigmaBase64OffsetModifier,
    SigmaUTF16BEModifier,
    SigmaUTF16Modifier,
    SigmaWideModifier,
)
from sigma.rule import SigmaDetectionItem, SigmaRule
from sigma.types import SigmaString

from detection_pack.model.documents import Document, Key
from detection_pack.model.users import items_of

Place = tuple[Key, ...]

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
        r"the condition names '\1', which is no selection; write the name of a selection",
    ),
)


def translated(message: str) -> str:
    """pySigma's message for the author of a rule: ``what; what to do`` where there is more to say."""
    message = re.sub(r" \(while converting rule .*\)$", "", message)
    for pattern, replacement in _TRANSLATED:
        if pattern.match(message):
            return pattern.sub(replacement, message)
    return message


def old_forms(document: Document) -> Iterator[tuple[Place, str, str]]:
    """``(place, what is wrong, what to do)`` of every form that Sigma has given up."""
    if not isinstance(document.data, dict):
        return
    if "action" in document.data:
        what = '"action:" is the old form of several rules in one file'
        yield ("action",), what, "write one rule a file"
    detection = document.data.get("detection")
    if not isinstance(detection, dict):
        return
    if "timeframe" in detection:
        place: Place = ("detection", "timeframe")
        yield place, '"timeframe:" is the old form of a correlation', "write a correlation, or leave it out"
    for place, condition in _conditions(detection):
        if isinstance(condition, str) and "|" in condition:
            yield place, 'a condition with "|" is the old form of a correlation', "write a correlation"
        elif isinstance(condition, str):
            for pattern in _patterns(condition):
                if not any(_is_like(str(name), pattern) for name in detection if name != "condition"):
                    yield place, f'no selection has a name like "{pattern}"', "name selections that there are"
    yield from ((place, "is a list without a value", "write a value") for place in _empty(detection))


def _patterns(condition: str) -> Iterator[str]:
    """What stands after each ``of`` of a condition, where it has a wildcard."""
    words = re.findall(r"[^\s()]+", condition)
    for word, after in itertools.pairwise(words):
        if word.lower() == "of" and "*" in after:
            yield after


def _is_like(name: str, pattern: str) -> bool:
    """Whether a name has the beginning, the end and the middle parts of a pattern, in their order."""
    first, *middle = pattern.split("*")
    last = middle.pop()
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    rest = name[len(first) : len(name) - len(last)]
    for part in middle:
        _, found, rest = rest.partition(part) if part else ("", "*", rest)
        if not found:
            return False
    return True


def _conditions(detection: Mapping[Any, Any]) -> Iterator[tuple[Place, Any]]:
    condition = detection.get("condition")
    if isinstance(condition, list):
        yield from ((("detection", "condition", n), text) for n, text in enumerate(condition))
    else:
        yield ("detection", "condition"), condition


def _empty(value: Any, place: Place = ("detection",)) -> Iterator[Place]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _empty(inner, (*place, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            yield place
        for number, inner in enumerate(value):
            yield from _empty(inner, (*place, number))


def refused_values(rule: SigmaRule) -> Iterator[tuple[str, str, str]]:
    """``(field, what is wrong, what to do)`` of every value that no log could hold."""
    for item in items_of(rule):
        for what, todo in _refused(item):
            yield item.field or "", what, todo


def _refused(item: SigmaDetectionItem) -> Iterator[tuple[str, str]]:
    encoded = any(m in (SigmaBase64Modifier, SigmaBase64OffsetModifier) for m in item.modifiers)
    if SigmaUTF16Modifier in item.modifiers:
        # pySigma writes the mark in UTF-8 before text in UTF-16: no encoder does.
        yield "|utf16 puts a byte order mark before the text, which no encoded command has", "write |wide"
    elif not encoded and any(m in (SigmaWideModifier, SigmaUTF16BEModifier) for m in item.modifiers):
        yield "|wide alone asks for text with a NUL beside each character", "add |base64offset and |contains"
    for value in item.value:
        if isinstance(value, SigmaString) and value.contains_placeholder():
            yield f'the placeholder in "{value}" stands for a list that is not here', "write the values"

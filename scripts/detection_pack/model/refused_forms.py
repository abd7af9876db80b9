"""Forms of Sigma that no platform of the pack can say, found before any conversion.

Each is told in the words of the rule's author, with what to write instead.
"""

from __future__ import annotations

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

from detection_pack.model.detections import Keys
from detection_pack.model.documents import Document
from detection_pack.model.users import items_of


def old_forms(document: Document) -> Iterator[tuple[Keys, str, str]]:
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
        place: Keys = ("detection", "timeframe")
        yield place, '"timeframe:" is the old form of a correlation', "write a correlation, or leave it out"
    for place, condition in _conditions(detection):
        if isinstance(condition, str) and "|" in condition:
            yield place, 'a condition with "|" is the old form of a correlation', "write a correlation"
    yield from ((place, "is a list without a value", "write a value") for place in _empty(detection))


def _conditions(detection: Mapping[Any, Any]) -> Iterator[tuple[Keys, Any]]:
    condition = detection.get("condition")
    if isinstance(condition, list):
        yield from ((("detection", "condition", n), text) for n, text in enumerate(condition))
    else:
        yield ("detection", "condition"), condition


def _empty(value: Any, place: Keys = ("detection",)) -> Iterator[Keys]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _empty(inner, (*place, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            yield place
        for number, inner in enumerate(value):
            yield from _empty(inner, (*place, number))


def refused_values(rule: SigmaRule) -> Iterator[tuple[str, str]]:
    """``(what is wrong, what to do)`` of every value that no log could hold."""
    return (fault for item in items_of(rule) for fault in refused_values_of(item))


def refused_values_of(item: SigmaDetectionItem) -> Iterator[tuple[str, str]]:
    """The same of one item."""
    encoded = any(m in (SigmaBase64Modifier, SigmaBase64OffsetModifier) for m in item.modifiers)
    if SigmaUTF16Modifier in item.modifiers:
        # pySigma writes the mark in UTF-8 before text in UTF-16: no encoder does.
        yield "|utf16 puts a byte order mark before the text, which no encoded command has", "write |wide"
    elif not encoded and any(m in (SigmaWideModifier, SigmaUTF16BEModifier) for m in item.modifiers):
        yield "|wide alone asks for text with a NUL beside each character", "add |base64offset and |contains"
    for value in item.value:
        if isinstance(value, SigmaString) and value.contains_placeholder():
            yield f'the placeholder in "{value}" stands for a list that is not here', "write the values"

"""The ``User`` of a process creation: ``DOMAIN\\name``, whose two parts every platform keeps apart.

A ``|contains`` value without a backslash stands in one of the parts, so it is looked for in both: its field
becomes `USER_OR_DOMAIN`, which each pipeline maps to the fields of the parts. That is how SigmaHQ's rules
name the system's own accounts (``User|contains: [AUTHORI, AUTORI]``, in most languages of Windows).
"""

from __future__ import annotations

from collections.abc import Iterator

from sigma.conditions import ConditionAND
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaRule
from sigma.types import SigmaString, SpecialChars

USER, USER_OR_DOMAIN = "User", "UserOrDomain"


def open_users(rule: SigmaRule) -> None:
    """Rename the field of every item that asks for pieces of ``User``."""
    if (rule.logsource.product, rule.logsource.category) != ("windows", "process_creation"):
        return
    for item in items_of(rule):
        # All of several pieces may be divided among the parts, and |neq asks for what neither part has:
        # asking each part alone says neither.
        divided = (item.value_linking is ConditionAND and len(item.value) > 1) or item.negated
        if item.field == USER and item.value and not divided and all(map(_is_piece, item.value)):
            item.field = USER_OR_DOMAIN


def items_of(rule: SigmaRule) -> Iterator[SigmaDetectionItem]:
    """Every detection item of a rule, whatever it stands in."""

    def inside(detection: SigmaDetection) -> Iterator[SigmaDetectionItem]:
        for item in detection.detection_items:
            if isinstance(item, SigmaDetection):
                yield from inside(item)
            else:
                yield item

    for detection in rule.detection.detections.values():
        yield from inside(detection)


def _is_piece(value: object) -> bool:
    if not isinstance(value, SigmaString) or len(value.s) != 3:
        return False
    first, text, last = value.s
    anywhere = first == SpecialChars.WILDCARD_MULTI and last == SpecialChars.WILDCARD_MULTI
    return anywhere and isinstance(text, str) and "\\" not in text

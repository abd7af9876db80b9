"""A field that holds ``DOMAIN\\name``, whose two parts a platform keeps apart.

A ``|contains`` value without a backslash stands in one of the parts, so it is looked for in both: its field
becomes another one, which the pipeline maps to the fields of the parts (its state ``domain_users``, from the
one to the other). That is how SigmaHQ's rules name the system's own accounts (``User|contains: [AUTHORI,
AUTORI]``, in most languages of Windows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sigma.conditions import ConditionAND
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaRule
from sigma.types import SigmaString, SpecialChars


def open_users(rule: SigmaRule, domain_users: Mapping[str, str]) -> None:
    """Rename the field of every item that asks for pieces of such a field. ``domain_users``: field -> the
    field of its parts."""
    for item in items_of(rule):
        # All of several pieces may be divided among the parts, and |neq asks for what neither part has:
        # asking each part alone says neither.
        divided = (item.value_linking is ConditionAND and len(item.value) > 1) or item.negated
        parts = domain_users.get(item.field or "")
        if parts and item.value and not divided and all(map(_is_piece, item.value)):
            item.field = parts


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

"""Canonical fields that a platform keeps in several of its own, and what can be asked of them.

A pipeline maps such a field to a list, and pySigma asks for the value in any of them. That says what the rule
says as long as one value stands in one field. What would come out otherwise is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sigma.conditions import ConditionAND
from sigma.rule import SigmaDetectionItem, SigmaRule
from sigma.types import (
    SigmaCasedString,
    SigmaExists,
    SigmaFieldReference,
    SigmaNull,
    SigmaRegularExpression,
    SigmaString,
)

from detection_pack.model.source_mapping import SourceMapping
from detection_pack.model.users import items_of

#: One text of all digests, as Sysmon writes it: ``SHA1=…,MD5=…,SHA256=…,IMPHASH=…``.
_DIGITS = {"MD5": 32, "SHA1": 40, "SHA256": 64, "IMPHASH": 32}
_DIGEST = re.compile(
    r"\*(?:" + "|".join(f"{kind}=[0-9A-F]{{{n}}}" for kind, n in _DIGITS.items()) + r")\*", re.IGNORECASE
)


def refusals(rule: SigmaRule, mapping: SourceMapping) -> Iterator[tuple[str, str]]:
    """``(field, what is wrong; what to do)`` of every question that several fields cannot answer."""
    for item in items_of(rule):
        if item.field is not None and item.field in (mapping.split | mapping.domain_users.keys()):
            for message in _refused(item, mapping):
                yield item.field, message


def _refused(item: SigmaDetectionItem, mapping: SourceMapping) -> Iterator[str]:
    if item.field in mapping.domain_users and item.field not in mapping.split:
        if any(isinstance(value, SigmaRegularExpression) for value in item.value):
            yield "no field here has the account and its domain as one text; compare it with plain values"
        return
    if item.value_linking is ConditionAND and len(item.value) > 1:
        yield "several fields hold it here, and each would be asked for all values; leave |all out"
    elif item.negated:
        yield "several fields hold it here, and |neq would be asked of each; write not in the condition"
    elif any(_asks_for_nothing(value) for value in item.value):
        yield "several fields hold it here, some of them always empty; compare it with a value"
    elif any(isinstance(value, SigmaFieldReference) for value in item.value):
        yield "several fields hold it here; compare it with a value"
    elif item.field not in mapping.domain_users.values() and any(
        isinstance(value, SigmaCasedString | SigmaRegularExpression) for value in item.value
    ):
        yield "each source writes it in its own letter case; compare it with plain values"
    elif item.field in mapping.digests and not all(_DIGEST.fullmatch(str(value)) for value in item.value):
        yield "each kind of digest has its own field here; write |contains with whole ones, such as 'MD5=…'"


def _asks_for_nothing(value: object) -> bool:
    if isinstance(value, SigmaExists):
        return not value.exists
    return isinstance(value, SigmaNull) or (isinstance(value, SigmaString) and not any(value.s))

"""The cases of a correlation with the values of a new rule: what they count, and when, stays the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.new.items import Item, as_text
from detection_pack.new.templates import Case, Correlated, Template
from detection_pack.new.values import Value


def carried_over(template: Template, old: Correlated, values: Sequence[Value]) -> dict[str, list[Case]]:
    """The cases under ``match`` and ``no_match``, with the new values in place of the old.

    A case is left out if one of its records would now come out otherwise: what was another operation may be
    a value of the new rule.
    """
    return {
        side: [_with_values(template, case, values) for case in listed if _same(template, old, case, values)]
        for side, listed in old.cases.items()
    }


def renamed(
    item: Item, record: Mapping[str, Any], values: Sequence[Value], meant: bool = False
) -> dict[str, Any]:
    """A record with the old values in the item's field replaced, each in its letter case."""
    text = record.get(item.field)
    if not isinstance(text, str):
        return dict(record)
    numbers = {value.casefold(): number for number, value in enumerate(item.values)}

    def replaced(found: re.Match[str]) -> str:
        old = found[0]
        value = values[numbers.get(old.casefold(), 0) % len(values)]
        forms = value.meant if meant else value.written
        if old in item.values:
            return forms["value"]
        return forms["lower" if old.islower() else "upper" if old.isupper() else "mixed"]

    pattern = "|".join(map(re.escape, sorted(item.values, key=len, reverse=True)))
    if not item.operator:
        pattern = rf"\A(?:{pattern})\Z"
    return {**record, item.field: re.sub(pattern, replaced, text, flags=re.IGNORECASE)}


def _with_values(template: Template, case: Mapping[str, Any], values: Sequence[Value]) -> Case:
    changed: Case = dict(case)
    if "record" in case:
        changed["record"] = renamed(template.item, case["record"], values)
    if "each" in case:
        changed["each"] = [renamed(template.item, record, values) for record in case["each"]]
    return changed


def _same(template: Template, old: Correlated, case: Mapping[str, Any], values: Sequence[Value]) -> bool:
    """Whether the new item finds in every record of the case what the old one found there."""
    item = template.item
    new = Item(item.field, item.operator, tuple(value.meant["value"] for value in values))
    base = {k: v for k, v in old.defaults.items() if k not in (case.get("absent") or ())}
    base |= case.get("record") or {}
    for own in case.get("each") or [{}]:
        record = {**base, **own}
        before = as_text(item.field, record, template.log_source)
        after = as_text(item.field, renamed(item, record, values, meant=True), template.log_source)
        if item.finds(before, template.whole_terms) != new.finds(after, template.whole_terms):
            return False
    return True

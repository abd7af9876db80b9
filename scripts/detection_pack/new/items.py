"""Items of a detection in plain Python: enough to tell what a new rule's first events must come out as.

Only what can be told for certain: an item with another modifier, a wildcard, a number or a null is left to
the engines, which execute every case anyway.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource

_PLAIN = re.compile(r"(?:[^\\*?]|\\.|\\$)*", re.DOTALL)

#: Sigma's text operators; no modifier is equality.
OPERATORS = ("", "contains", "startswith", "endswith")


@dataclass(frozen=True)
class Item:
    """``field|operator: values``, any of the plain texts in ``values``, letter case aside."""

    field: str
    operator: str
    values: tuple[str, ...]

    def finds(self, text: str, whole_terms: bool) -> bool:
        """Whether a field that holds ``text`` satisfies the item; ``whole_terms`` is how it contains."""
        return any(
            _found(self.operator, value.casefold(), text.casefold(), whole_terms) for value in self.values
        )


def _found(operator: str, value: str, text: str, whole_terms: bool) -> bool:
    match operator:
        case "contains":
            return contains_term(text, value) if whole_terms else value in text
        case "startswith":
            return text.startswith(value)
        case "endswith":
            return text.endswith(value)
        case _:
            return text == value


def contains_term(text: str, value: str) -> bool:
    """What KQL's ``has`` answers: no letter or digit touches an end of the value that is one itself."""
    at = text.find(value)
    while at >= 0:
        before, after = text[at - 1 : at] if at else "", text[at + len(value) : at + len(value) + 1]
        joined = (before.isalnum() and value[0].isalnum()) or (after.isalnum() and value[-1].isalnum())
        if not joined:
            return True
        at = text.find(value, at + 1)
    return False


def item_of(key: object, values: object) -> Item | None:
    """The item that a selection's ``key: values`` states; None for one that this module cannot judge."""
    field, _, operator = str(key).partition("|")
    listed = values if isinstance(values, list) else [values]
    if not field or operator not in OPERATORS or not listed:
        return None
    texts = [plain_text(value) for value in listed]
    return None if None in texts else Item(field, operator, tuple(text for text in texts if text is not None))


def plain_text(value: object) -> str | None:
    """The text that a Sigma value stands for; None for a wildcard, an empty text and what is no text."""
    if not isinstance(value, str) or not value or not _PLAIN.fullmatch(value):
        return None
    return re.sub(r"\\([\\*?])", r"\1", value)


def sigma_value(text: str) -> str:
    """The Sigma value that stands for a text without wildcards."""
    return re.sub(r"\\(?=\\|\Z)", r"\\\\", text)


def as_text(field: str, record: Mapping[str, Any], source: LogSource) -> str:
    """What a record holds in a field, as a rule compares it: enumerations as the API's integers."""
    value = json.loads(Event("", source, {field: record.get(field)}).json())[field]
    return "" if value is None else str(value)


def conjuncts(condition: object, names: list[str]) -> tuple[list[str], list[str]] | None:
    """The selections that a condition requires and those that it excludes.

    None for a condition that is not one conjunction: what it needs cannot be told from its parts.
    """
    required: list[str] = []
    excluded: list[str] = []
    for part in re.split(r"\s+and\s+", str(condition).strip(), flags=re.IGNORECASE):
        found = re.fullmatch(r"(not\s+)?(?:(all|1|any)\s+of\s+)?([\w*]+)", part.strip(), re.IGNORECASE)
        if found is None:
            return None
        negated, quantity, pattern = found[1], (found[2] or "").lower(), found[3]
        if quantity and bool(negated) == (quantity == "all"):
            return None
        listed = names if quantity and pattern == "them" else fnmatch.filter(names, pattern)
        if not listed:
            return None
        (excluded if negated else required).extend(listed)
    return required, excluded

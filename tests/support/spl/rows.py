"""Events and results: fields with one value or several.

A field's value is a text, a number, or a list of texts for a field of several values; an absent field is not
in the dictionary (Search Manual, "About fields"; Knowledge Manager Manual, "Configure multivalue fields").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: What a field holds. A list has two values or more: a list of one is its value, an empty one is absent.
Value = str | int | float | list[str]


@dataclass(frozen=True)
class Row:
    """One event or result. ``events`` are the identities of the events that it was made of."""

    fields: Mapping[str, Value]
    events: frozenset[str]

    def having(self, fields: Mapping[str, Value]) -> Row:
        return Row(fields, self.events)


def values_of(value: Value | None) -> list[str]:
    """The values of a field as texts."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [text_of(value)]


def text_of(value: str | int | float) -> str:
    """A number is shown without a fraction that is zero (Search Reference, "eval", Usage)."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def from_list(members: list[str]) -> Value | None:
    if not members:
        return None
    return members[0] if len(members) == 1 else members

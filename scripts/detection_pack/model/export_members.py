"""A list of objects that an export spreads out, made one again: an origin of a field (`ExportForm.fields`).

``each`` says of what a member is made, from its key to a name in the export, in one of three ways::

    {of: [resources, changes], each: {Name: title, Value: new}}
    {numbered: 5, each: {Name: "Change{n}Title", Value: "Change{n}New"}}
    {named: {Colour: doc.changes.colour}, each: {Value: new}}

``of``: lists below lists, the first of which may be its JSON text. ``numbered``: columns with numbers from 1.
``named``: from a member's Name to the object that has its values; a member without any is left out.

A value of ``of`` and ``numbered`` that is the JSON text of a text, in quotation marks of its own, is that
text; null is the empty text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.model.record_time import value_at

OF, NUMBERED, NAMED, EACH = "of", "numbered", "named", "each"
#: What stands for the number in the name of a column.
NUMBER = "{n}"
_NAME = "Name"


def is_members(stated: Any) -> bool:
    """Whether this is one of the three ways, whole."""
    if not isinstance(stated, Mapping) or len(stated) != 2 or not _names(stated.get(EACH)):
        return False
    return (
        _paths(stated.get(OF))
        or (type(stated.get(NUMBERED)) is int and 0 < stated[NUMBERED] <= 100)
        or _names(stated.get(NAMED))
    )


def member_columns(stated: Mapping[str, Any]) -> list[str]:
    """The names in the export that the list is made from."""
    if OF in stated:
        return [stated[OF][0]]
    if NUMBERED in stated:
        numbers = range(1, stated[NUMBERED] + 1)
        return [name.replace(NUMBER, str(n)) for n in numbers for name in stated[EACH].values()]
    return list(stated[NAMED].values())


def members(entry: Mapping[str, Any], stated: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """The list; None where the entry has nothing of it."""
    if OF in stated:
        first, *below = stated[OF]
        return [_member(one, stated[EACH]) for one in _below(value_at(entry, first), below)] or None
    if NUMBERED in stated:
        made = []
        for n in range(1, stated[NUMBERED] + 1):
            numbered = {key: name.replace(NUMBER, str(n)) for key, name in stated[EACH].items()}
            if any(value_at(entry, name) not in (None, "") for name in numbered.values()):
                made.append(_member(entry, numbered))
        return made or None
    made = []
    for name, path in stated[NAMED].items():
        held = {key: value_at(entry, f"{path}.{part}") for key, part in stated[EACH].items()}
        if any(value not in (None, "") for value in held.values()):
            made.append({_NAME: name, **{key: _text(value) for key, value in held.items()}})
    return made or None


def within(entry: Mapping[str, Any], path: str, inner: str, before: str = "") -> str | None:
    """What stands under ``inner`` in an object, or in the JSON text of one, behind ``before``."""
    held = _parsed(value_at(entry, path))
    found = value_at(held, inner) if isinstance(held, Mapping) else None
    return before + found if isinstance(found, str) and found else None


def _below(held: Any, below: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, or of the lists that each of them has below a path."""
    listed = _parsed(held)
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping):
            if below:
                yield from _below(value_at(one, below[0]), below[1:])
            else:
                yield one


def _member(one: Mapping[str, Any], each: Mapping[str, str]) -> dict[str, str]:
    return {key: _plain(value_at(one, name)) for key, name in each.items()}


def _plain(value: Any) -> str:
    """A value without the quotation marks that make it JSON."""
    if isinstance(value, str) and value.startswith('"'):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if isinstance(found, str) else value
    return _text(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _parsed(held: Any) -> Any:
    if not isinstance(held, str) or not held.lstrip().startswith(("[", "{")):
        return held
    try:
        return json.loads(held)
    except (ValueError, RecursionError):
        return None


def _names(stated: Any) -> bool:
    return (
        isinstance(stated, Mapping)
        and bool(stated)
        and all(isinstance(k, str) and isinstance(v, str) and v for k, v in stated.items())
    )


def _paths(stated: Any) -> bool:
    return isinstance(stated, list) and bool(stated) and all(isinstance(one, str) and one for one in stated)

"""The data of a Windows event: values with names, and values by their place, as XML or as JSON made of it.

A value without a name is called by its place, ``param1`` being the first: the name that collectors give it.
Source: the event schema (learn.microsoft.com, "Event Schema": EventData has Data with an optional Name).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: JSON made of XML writes an element's text under one of these, and its name under one of those.
_TEXTS, _NAMES = ("#text", "text", "content"), ("@Name", "Name")
_ATTRIBUTES = "#attributes"
#: What `Get-WinEvent | ConvertTo-Json` has of a value, all of them by their places.
_PLACED = "Value"
_ELEMENT = re.compile(r"<(Data|Param)(?:\s+Name=[\"']([^\"'<>]*)[\"'])?\s*(?:/>|>([^<]*)</\1>)")


def of_xml(text: str) -> dict[str, str]:
    """The values of a piece of XML; of two with one name the first.

    It is read by its marks alone: no document type, no entity but the five of XML and numbers.
    """
    found: dict[str, str] = {}
    places = 0
    for _, name, value in _ELEMENT.findall(text):
        if not name:
            places += 1
        found.setdefault(html.unescape(name) if name else _place(places), html.unescape(value))
    return found


def of_json(held: Any) -> Iterator[tuple[str, Any]]:
    """The values that JSON holds: a list of elements, or one object for elements that have no names."""
    if isinstance(held, Mapping):
        texts: list[Any] = next((held[key] for key in _TEXTS if isinstance(held.get(key), list)), [])
        yield from ((_place(n), text) for n, text in enumerate(texts, 1))
    elif isinstance(held, list):
        yield from _elements(held)


def _elements(listed: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    places = 0
    for one in listed:
        about = one.get(_ATTRIBUTES) if isinstance(one, Mapping) else None
        stated = {**one, **(about if isinstance(about, Mapping) else {})} if isinstance(one, Mapping) else {}
        name = next((stated[key] for key in _NAMES if key in stated), None)
        value = next((stated[key] for key in _TEXTS if key in stated), None)
        if isinstance(name, str):
            if value is not None:
                yield name, value
            continue
        places += 1
        if not isinstance(one, Mapping):
            yield _place(places), one
        elif set(one) == {_PLACED}:
            yield _place(places), one[_PLACED]
        elif value is not None:
            yield _place(places), value


def _place(number: int) -> str:
    return f"param{number}"

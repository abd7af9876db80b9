"""The shapes of what a pipeline states: pySigma takes any value while it loads one and stumbles over a wrong
one when it applies it; of the states that only our backends read it knows nothing at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import PackError

Shape = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _any(_: Any) -> bool:
    return True


def _mapping_to(shape: Shape) -> Shape:
    def matches(value: Any) -> bool:
        return isinstance(value, dict) and all(map(_text, value)) and all(map(shape, value.values()))

    return matches


def _prerequisite(value: Any) -> bool:
    needed = {"from", "setting", "licence", "silent"}
    more = {"connector", "data_type", "package", "integration", "version"}
    if not _mapping_to(_text)(value) or not needed <= set(value) <= needed | more:
        return False
    return ("connector" in value) == ("data_type" in value)


def _record(shapes: Mapping[str, Shape]) -> Shape:
    """A mapping of exactly these keys."""

    def matches(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and set(value) == set(shapes)
            and all(s(value[k]) for k, s in shapes.items())
        )

    return matches


def _span(value: Any) -> bool:
    return _text(value) and re.fullmatch(r"[1-9][0-9]{0,4}[smhd]", value) is not None


def _data_set(value: Any) -> bool:
    return _text(value) and re.fullmatch(r"\w+\.\w+", value) is not None


_TEXT = (_text, "a text")
_TEXTS = (_texts, "a list of texts")
_NAMES = (_mapping_to(_text), "a mapping of texts to texts")
_LISTS = (_mapping_to(_texts), "a mapping of texts to lists of texts")

#: State -> its shape, and how to say it.
STATES: Mapping[str, tuple[Shape, str]] = {
    "query_table": _TEXT,
    "source_macro": _TEXT,
    "event_fields": _TEXTS,
    "evidence_fields": _TEXTS,
    "exact_fields": _TEXTS,
    "identity_fields": _TEXTS,
    "index": _TEXTS,
    "vendor_fields": _TEXTS,
    "absent_fields": _NAMES,
    "corrected_fields": _NAMES,
    "counted_fields": _NAMES,
    "derived_fields": _NAMES,
    "field_types": _NAMES,
    "file_name_fields": _NAMES,
    "data_set": (_record({"name": _data_set, "options": _text}), "name, MODEL.DATASET, and options, a macro"),
    "domain_users": _NAMES,
    "entities": (
        _mapping_to(_record({"type": _text, "identifiers": _mapping_to(_text)})),
        "a mapping of columns to type and identifiers",
    ),
    "host_fields": _NAMES,
    "macros": (
        _mapping_to(_record({"definition": _text, "description": _text})),
        "a mapping of macros to definition and description",
    ),
    "named_values": (
        _mapping_to(_record({"list": _text, "name": _text, "value": _text})),
        "a mapping of beginnings of names to list, name and value",
    ),
    "unpaired_values": (
        _mapping_to(_record({"name": _text, "value": _text})),
        "a mapping of beginnings of names to name and value, two fields",
    ),
    "raw_events": (
        _record(
            {"macro": _text, "fields": _mapping_to(_texts), "first_values": _texts, "last_parts": _texts}
        ),
        "macro, fields (a mapping of texts to lists of texts), first_values and last_parts, lists of texts",
    ),
    "security_domain": _TEXT,
    "undecided_fields": _NAMES,
    "shown_fields": _LISTS,
    "schedule": (_mapping_to(_span), "a mapping of texts to time spans such as 15m"),
    "prerequisites": (
        _mapping_to(_prerequisite),
        "a mapping of tables, indices or macros to from, setting, licence and silent; and connector and "
        "data_type, or package, integration and version",
    ),
}


def check_shapes(document: Document) -> None:
    """Raise `PackError`, with the line, for the first value of a pipeline that has another shape."""
    for index, item in enumerate(document.data.get("transformations") or ()):
        for keys, what, todo in _wrong(item):
            raise PackError.at(document.path, document.line("transformations", index, *keys), what, todo)


def _wrong(item: Mapping[str, Any]) -> Iterator[tuple[tuple[Key, ...], str, str]]:
    if not _text(item.get("id") or ""):
        yield ("id",), "is not a name", "write a text"
    conditions = item.get("field_name_conditions")
    named = conditions.items() if isinstance(conditions, dict) else enumerate(conditions or ())
    for key, condition in named:
        if isinstance(condition, dict) and "fields" in condition and not _texts(condition["fields"]):
            yield (
                ("field_name_conditions", key, "fields"),
                "is not a list of texts",
                "write the fields' names",
            )
    if item.get("type") in ("field_name_mapping", "map_string"):
        mapping = item.get("mapping")
        if not isinstance(mapping, dict) or not all(_text(v) or _texts(v) for v in mapping.values()):
            yield ("mapping",), "does not map to texts", "write a name, or a list of names, for each"
    if item.get("type") == "set_state":
        if not _text(item.get("key")):
            yield ("key",), "is not a name", "write a text"
        shape, said = STATES.get(str(item.get("key")), (_any, ""))
        if not shape(item.get("val")):
            yield ("val",), f'the state "{item["key"]}" is not {said}', "see the pipelines of the pack"

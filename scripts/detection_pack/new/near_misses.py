"""The first events of a new rule: its values as an attacker varies them, and what is nearly one of them.

The texts are data (``data/near_misses.yml`` and the log source's file). Whether the rule must match is
worked out from its items; a case on which the platforms could differ, or that cannot be told, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from detection_pack.checks.events_file import LEAST_CASES
from detection_pack.model.documents import load_documents
from detection_pack.new.items import Item, as_text
from detection_pack.new.templates import DATA, Case, Template
from detection_pack.new.values import CUT, Value


@dataclass(frozen=True)
class _Candidate:
    """A record that may become a case.

    ``text`` is what the rule's field holds, as it is written and as it is meant; None for a record without
    the field. ``record`` and ``absent`` are what else differs from the template's record. ``silent`` says
    that the case is worth having only if the rule does not match.
    """

    title: str
    text: tuple[str, str] | None
    record: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    silent: bool = False


def cases_of(template: Template, values: Sequence[Value]) -> dict[str, list[Case]]:
    """The cases of a new rule under ``match`` and ``no_match``, as an events file states them.

    While a value is a placeholder, texts that are cut out of it are left out unless a side would have too few
    cases.
    """
    found = _judged(template, values, cut=not values[0].placeholder)
    if min(map(len, found.values())) < LEAST_CASES:
        found = _judged(template, values, cut=True)
    return found


def _judged(template: Template, values: Sequence[Value], cut: bool) -> dict[str, list[Case]]:
    sides: dict[str, list[Case]] = {"match": [], "no_match": []}
    item = Item(template.item.field, template.item.operator, tuple(v.meant["value"] for v in values))
    seen: list[dict[str, Any]] = []
    never = re.compile(template.source.never.get(item.field, r"(?!)"))
    for candidate in (*_texts(template, values, cut), *_circumstances(template, values[0])):
        record = {k: v for k, v in template.record.items() if k not in candidate.absent}
        record |= candidate.record
        if candidate.text is not None:
            record[item.field] = candidate.text[0]
        verdict = _verdict(template, item, candidate, record)
        impossible = candidate.text is not None and never.search(candidate.text[1])
        if record in seen or impossible or verdict is None or (verdict and candidate.silent):
            continue
        seen.append(record)
        own = {k: v for k, v in record.items() if k not in template.record or template.record[k] != v}
        case: Case = {"title": candidate.title}
        if candidate.absent:
            case["absent"] = list(candidate.absent)
        case["record"] = {k: own[k] for k in sorted(own, key=lambda name: name != item.field)}
        sides["match" if verdict else "no_match"].append(case)
    return sides


def _verdict(template: Template, item: Item, candidate: _Candidate, record: Mapping[str, Any]) -> bool | None:
    """Whether the rule matches; None where that cannot be told."""
    changed = {*candidate.record, *candidate.absent, item.field}
    meant = {**record, item.field: candidate.text[1] if candidate.text is not None else None}
    found = item.finds(str(meant[item.field] or ""), template.whole_terms)
    if not found or not all(_finds(template, o, meant) for o in template.others if o.field in changed):
        # A required item that fails settles it, whatever an item that cannot be judged would say.
        return False
    for fields, items in template.excluded:
        if changed & fields and all(_finds(template, one, meant) for one in items):
            return None
    return None if changed & template.unjudged else True


def _finds(template: Template, item: Item, record: Mapping[str, Any]) -> bool:
    """What an item says of a record; enumerations as the source's integers."""
    source = template.log_source
    values = (as_text(item.field, {item.field: value}, source) for value in item.values)
    same = Item(item.field, item.operator, tuple(values))
    return same.finds(as_text(item.field, record, source), template.whole_terms)


def _texts(template: Template, values: Sequence[Value], cut: bool) -> Iterator[_Candidate]:
    """Every value as it is, then the texts around the values in turn."""
    first, *rest = _around()
    for value in values:
        title = first["title"] if value.placeholder else f"{value.written['value']}, {first['title']}"
        yield _Candidate(title, _carried(template, first["text"], value))
    for number, stated in enumerate(rest):
        if cut or not any(f"{{{form}}}" in stated["text"] for form in CUT):
            value = values[number % len(values)]
            yield _Candidate(stated["title"], _carried(template, stated["text"], value))
    usual = _usual(template)
    for text in usual:
        yield _Candidate(f"an everyday {template.item.field}, {text}", (text, text))
    yield _Candidate(f"an empty {template.item.field}", ("", ""))
    yield _Candidate(f"no {template.item.field}", None)


def _circumstances(template: Template, value: Value) -> Iterator[_Candidate]:
    """The value in other circumstances, in other fields, and in records of other kinds."""
    source, record, name = template.source, template.record, template.item.field
    plain = _carried(template, _around()[0]["text"], value)
    for stated in source.surroundings:
        if all(record.get(key) == wanted for key, wanted in (stated.get("where") or {}).items()):
            absent = tuple(key for key in stated.get("absent") or () if key in record)
            yield _Candidate(stated["title"], plain, _changed(record, stated), absent)
    everyday = _usual(template)[0]
    for stated in source.elsewhere:
        if stated["field"] in record:
            text = stated["text"].replace("{text}", value.written["value"])
            yield _Candidate(stated["title"], (everyday, everyday), {stated["field"]: text})
    for stated in source.records:
        if name in stated["holds"]:
            own = {key: v for key, v in stated["record"].items() if key != name}
            absent = tuple(key for key in record if key not in own and key not in source.common)
            yield _Candidate(stated["title"], plain, own, absent, silent=True)


def _changed(record: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a circumstance changes in a record; it adds no field that the record does not have."""
    changed = {key: value for key, value in (stated.get("record") or {}).items() if key in record}
    changed |= {key: str(record[key]).upper() for key in stated.get("upper") or () if key in record}
    changed |= {key: str(record[key]).lower() for key in stated.get("lower") or () if key in record}
    return changed


def _usual(template: Template) -> Sequence[str]:
    return template.source.others.get(template.item.field) or ("something else", "nothing of the kind")


def _carried(template: Template, pattern: str, value: Value) -> tuple[str, str]:
    """A text around a value inside what the field usually holds, as it is written and as it is meant."""
    item, carriers = template.item, template.source.carriers
    carrier = carriers.get(item.field, "{text}") if item.operator == "contains" else "{text}"
    carrier = carriers.get(f"{item.field}|{item.operator}", carrier)
    written, meant = (
        carrier.replace("{text}", re.sub(r"\{(\w+)\}", lambda found: forms[found[1]], pattern))  # noqa: B023
        for forms in (value.written, value.meant)
    )
    return written, meant


@cache
def _around() -> tuple[dict[str, str], ...]:
    """The texts around a value, the value as it is written first."""
    return tuple(load_documents(DATA / "near_misses.yml")[0].data["texts"])

"""A rule drafted from records that were seen: what all of them share, in the fields that rules are about.

The fields are those that the log source's ``new`` names. What comes of it is a start: it says of the records
what they have in common, and not which of it is the attack.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack
from detection_pack.model.record_time import value_at
from detection_pack.new.items import OPERATORS, sigma_value
from detection_pack.new.templates import Case, Surroundings, Template, log_sources, of_document
from detection_pack.new.values import Value, unusable, values_of
from detection_pack.replay.reading import read

#: More values than this are not listed: only what they have in common is.
FEW = 5
#: Records that one draft is made of at most, and that become events of the rule.
MOST_RECORDS, KEPT = 10_000, 3
#: Characters of a piece of a text, and letters and digits that one of many values must have at least.
_LONGEST, _LEAST = 200, 6
#: What ends a piece: wildcards, and what cannot be printed.
_ENDS = re.compile(r"[*?\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Observed:
    """What a draft starts from: the template, the values of its slot, and events of the records seen."""

    template: Template
    values: tuple[Value, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class _Found:
    """What the records hold in a field: ``values`` as a rule states them, ``held`` what the first holds."""

    key: str
    values: tuple[str | int, ...]
    held: object

    @property
    def field(self) -> str:
        return self.key.partition("|")[0]

    @property
    def usable(self) -> bool:
        """Whether it can be what the rule is about: plain texts."""
        return all(isinstance(value, str) and unusable(value) is None for value in self.values)


def observed(pack: Pack, paths: Sequence[Path], alone: bool = False) -> Observed:
    """What the records of these files share; ``alone``: in the field that the rule is about and in those that
    every new rule of the source compares, and in no other. Raises `PackError`."""
    source, records = _records(pack, paths)
    known = next(one for one in log_sources(pack) if one.logsource == source.new["logsource"])
    document = {**copy.deepcopy(dict(known.rule)), "logsource": dict(known.logsource)}
    base = dict(document.pop("record"))
    detection = document["detection"]
    name = next(key for key, stated in detection.items() if isinstance(stated, dict))
    found = [one for key in _keys(known, detection[name]) if (one := _found(source, key, records))]
    slot = next((one for one in found if one.usable and one.key.partition("|")[2] in OPERATORS), None)
    if slot is None:
        fields = ", ".join(key.partition("|")[0] for key in _keys(known, detection[name]))
        what = f"holds records that share no text in {fields}"
        raise PackError.at(paths[0], 1, what, "give fewer records, or use --logsource and --value")
    if alone:
        found = [one for one in found if one is slot or one.field in _fields(detection[name])]
    document["detection"] = {name: {one.key: _stated(one) for one in found}, "condition": name}
    base |= {one.field: one.held for one in found}
    del base[slot.field]
    template = of_document(pack, document, (name, slot.key), base, known)
    cases = tuple(_case(template, record, number) for number, record in enumerate(records[:KEPT], start=1))
    return Observed(template, values_of([str(value) for value in slot.values]), cases)


def _records(pack: Pack, paths: Sequence[Path]) -> tuple[LogSource, list[Mapping[str, Any]]]:
    """The records of the one log source that the files hold."""
    with read(paths, pack.sources) as reading:
        counts: dict[str, int] = {}
        for (name, _), number in reading.counts.items():
            counts[name] = counts.get(name, 0) + number
        if len(counts) > 1:
            said = " and ".join(f"{number} of {name}" for name, number in sorted(counts.items()))
            raise PackError.at(paths[0], 1, f"holds records of several sources: {said}", "give those of one")
        if sum(counts.values()) > MOST_RECORDS:
            what = f"holds {sum(counts.values())} records, must be at most {MOST_RECORDS}"
            raise PackError.at(paths[0], 1, what, "give those that the rule is to find")
        events = reading.events()
    source = events[0].source
    if not source.new:
        what = f"holds records of {source.name}, of which `new` knows nothing"
        raise PackError.at(paths[0], 1, what, "use --like a rule of it")
    return source, [source.as_written(event.record) for event in events]


def _fields(selection: Mapping[str, Any]) -> set[str]:
    return {str(key).partition("|")[0] for key in selection}


def _keys(known: Surroundings, selection: Mapping[str, Any]) -> list[str]:
    """The fields, with the operator to compare each by, those of a new rule first."""
    keys = {key.partition("|")[0]: key for key in map(str, selection)}
    for key in (*known.carriers, *known.others):
        field = key.partition("|")[0]
        # A source that says how the end of a field looks has fields that are told by their end.
        ended = f"{field}|endswith" in known.carriers
        keys.setdefault(
            field, f"{field}|endswith" if ended else f"{field}|contains" if key in known.carriers else key
        )
    return list(keys.values())


def _found(source: LogSource, key: str, records: Sequence[Mapping[str, Any]]) -> _Found | None:
    """What all records hold in a field; None where one lacks it, or where they have nothing in common."""
    field, _, operator = key.partition("|")
    held = [value_at(record, field) for record in records]
    about = source.fields.get(field)
    names = source.enumerations.get(about.enumeration or "", {}) if about is not None else {}
    if all(isinstance(value, int) and not isinstance(value, bool) for value in held):
        numbers = sorted(set(held))
        if len(numbers) > FEW:
            return None
        return _Found(field, tuple(names.get(number, number) for number in numbers), held[0])
    if not all(isinstance(value, str) and value.strip() for value in held):
        return None
    texts = _folded(_part(str(value), operator) for value in held)
    if len(texts) > FEW:
        common = _common(texts) if operator == "contains" else ""
        texts = [common] if sum(map(str.isalnum, common)) >= _LEAST else []
    if not texts or any(unusable(text) is not None for text in texts):
        return None
    # A value without a folder is told by the whole of it.
    whole = operator == "endswith" and not all(text.startswith("\\") for text in texts)
    return _Found(field if whole else key, tuple(texts), held[0])


def _part(text: str, operator: str) -> str:
    """What a rule states of a text: its name at the end of a path, or the longest piece without wildcards."""
    if operator == "endswith":
        return text[max(text.rfind("\\"), 0) :]
    if operator == "contains":
        pieces = [piece.strip()[:_LONGEST].strip() for piece in _ENDS.split(text)]
        return max(pieces, key=len)
    return text


def _folded(texts: Iterable[str]) -> list[str]:
    """Each text once, whatever its letter case, in the order of the alphabet."""
    spelt: dict[str, str] = {}
    for text in texts:
        spelt.setdefault(text.casefold(), text)
    return [spelt[key] for key in sorted(spelt)]


def _common(texts: Sequence[str]) -> str:
    """The longest piece that stands in every text, letter case aside."""
    shortest = min(texts, key=len)
    folded = [text.casefold() for text in texts]

    def of_length(length: int) -> str:
        pieces = (shortest[start : start + length] for start in range(len(shortest) - length + 1))
        return next((p for p in pieces if all(p.casefold() in text for text in folded)), "")

    # If a piece is common, so is each part of it.
    low, high = 0, len(shortest)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if of_length(middle) else (low, middle - 1)
    return of_length(low).strip() if low else ""


def _stated(found: _Found) -> Any:
    values = [sigma_value(value) if isinstance(value, str) else value for value in found.values]
    return values if len(values) > 1 or found.usable else values[0]


def _case(template: Template, record: Mapping[str, Any], number: int) -> Case:
    """A record that was seen as an event that the rule must find."""
    absent = sorted(key for key in template.record if key not in record)
    own = {key: value for key, value in record.items() if template.record.get(key) != value}
    case: Case = {"title": f"as it was seen, {number}"}
    return {**case, **({"absent": absent} if absent else {}), "record": own}

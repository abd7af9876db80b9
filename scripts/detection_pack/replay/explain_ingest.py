"""What a platform's ingest makes of one record, found by asking it.

Each key of the record is altered, and removed, in a copy of its own; the platform stores all copies, and what
then differs in them comes from that key. So nothing is guessed from equal values: two keys may well hold the
same address. A field whose new value holds the mark of an altered key has its value from there; what a key
merely decides (which other key a field is filled from) is not told of it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.platform import Platform, Stored

Became = Literal["dropped", "kept", "renamed", "retyped", "rewritten"]
_MARK = "zq7"
#: Characters of all copies of a record.
_MOST = 50_000_000
#: An address of documentation (RFC 5737), and one for where it stands already.
_ADDRESSES = ("192.0.2.77", "192.0.2.78")
_ADDRESS = re.compile(r"\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|\d{1,3}(?:\.\d{1,3}){3}")


@dataclass(frozen=True)
class StoredField:
    """A field of a stored event. ``became`` is what the value of the record's key is in it."""

    place: str
    name: str
    value: Any
    became: Became = "kept"


@dataclass(frozen=True)
class IngestedKey:
    """A key of the record, and the fields that have their values from it. None of them: it is dropped."""

    key: str
    value: Any
    fields: tuple[StoredField, ...]


@dataclass(frozen=True)
class IngestedRecord:
    """A record on one platform: ``stored`` as it stands there, ``keys`` of the record, and ``added``: what
    comes from no key of it. ``reason`` says why it is not there at all."""

    stored: tuple[Stored, ...]
    keys: tuple[IngestedKey, ...]
    added: tuple[StoredField, ...]
    reason: str | None = None


def ingested_record(platform: Platform, event: Event, sources: Sequence[LogSource]) -> IngestedRecord:
    """What the ingest model of the event's log source makes of it on a platform."""
    record = event.source.as_written(event.record)
    if len(record) * len(event.json()) > _MOST:
        what = f"holds {len(record)} keys and {len(event.json())} characters, too many to try one by one"
        raise PackError.at(event.id, 1, what, "leave out of the record what the rule does not read")
    copies = [replace(event, id="0", record=record), replace(event, id="1", record=record)]
    tried: dict[str, tuple[str, str]] = {}
    for key in record:
        altered = {**record, key: _altered(event.source, key, record)}
        gone = {name: value for name, value in record.items() if name != key}
        tried[key] = (str(len(copies)), str(len(copies) + 1))
        copies += [replace(event, id=tried[key][0], record=altered)]
        copies += [replace(event, id=tried[key][1], record=gone)]
    held = _by_event(platform.stored(copies, sources))
    own = held.get("0", [])
    stored = tuple(one for one in platform.stored([event], sources) if one.event == event.id)
    if not own:
        return IngestedRecord(stored, _all_dropped(record), (), "its ingest leaves this record out")
    counted = _changed(own, held.get("1", []))
    marked, changed = {}, {}
    for key, (altered_id, gone_id) in tried.items():
        after = held.get(altered_id, [])
        marked[key] = _holding_mark(own, after)
        changed[key] = (_changed(own, after) | _changed(own, held.get(gone_id, []))) - counted
    return _told(record, stored, marked, changed, own)


Place = tuple[str, str]


def _told(
    record: Mapping[str, Any],
    stored: tuple[Stored, ...],
    marked: Mapping[str, set[Place]],
    changed: Mapping[str, set[Place]],
    own: Sequence[Stored],
) -> IngestedRecord:
    fed = set().union(*marked.values()) if marked else set()
    values = {(one.place, name): value for one in own for name, value in one.fields.items()}
    keys = []
    for key, value in record.items():
        places = sorted((marked[key] | (changed[key] - fed)) & values.keys())
        fields = tuple(StoredField(*at, values[at], _became(key, value, at[1], values[at])) for at in places)
        keys.append(IngestedKey(key, value, fields))
    from_keys = {(f.place, f.name) for key in keys for f in key.fields}
    added = [StoredField(*at, values[at]) for at in sorted(values) if at not in from_keys]
    refused = next((one.refused for one in stored if one.refused), None)
    return IngestedRecord(stored, tuple(keys), tuple(added), refused)


def _all_dropped(record: Mapping[str, Any]) -> tuple[IngestedKey, ...]:
    return tuple(IngestedKey(key, value, ()) for key, value in record.items())


def _by_event(stored: Sequence[Stored]) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    for one in stored:
        found.setdefault(one.event, []).append(one)
    return found


def _values(stored: Sequence[Stored]) -> dict[Place, Any]:
    return {(one.place, name): value for one in stored for name, value in one.fields.items()}


def _changed(before: Sequence[Stored], after: Sequence[Stored]) -> set[Place]:
    """The fields that hold something else, or something no more."""
    new = _values(after)
    # An event that is not stored at all any more says nothing of any one field.
    return {at for at, value in _values(before).items() if after and new.get(at) != value}


def _holding_mark(before: Sequence[Stored], after: Sequence[Stored]) -> set[Place]:
    """The fields that held no mark and now do."""
    old, new = _values(before), _values(after)
    marks = (_MARK, *_ADDRESSES)
    return {
        at
        for at, held in new.items()
        if at in old
        and any(mark in as_text(held).lower() and mark not in as_text(old[at]).lower() for mark in marks)
    }


def _altered(source: LogSource, key: str, record: Mapping[str, Any]) -> Any:
    if key == source.time.field and (moment := source.time.of(record)) is not None:
        return source.time.written(moment + timedelta(seconds=1))
    return _other(record[key])


def _other(value: Any) -> Any:
    """Another value of the same shape."""
    if isinstance(value, dict):
        return {key: _other(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_other(inner) for inner in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return _other_text(value)
    return _MARK


def _other_text(text: str) -> str:
    found = _ADDRESS.match(text)
    if found and is_address(found[0].strip("[]")):
        return next(one for one in _ADDRESSES if one not in text) + text[found.end() :]
    return text + _MARK


def is_address(text: str) -> bool:
    """Whether a text is an IP address and nothing else."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _became(key: str, value: Any, name: str, stored: Any) -> Became:
    if _content(value) != _content(stored):
        return "rewritten"
    if _kind(value) != _kind(stored):
        return "retyped"
    return "kept" if name == key else "renamed"


def _content(value: Any) -> Any:
    """What a value says, however it is written: a list as JSON text is the list."""
    text = as_text(value)
    try:
        return json.loads(text) if text[:1] in ("[", "{") else text
    except (ValueError, RecursionError):
        return text


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "list or object" if isinstance(value, list | dict) else "text"


def as_text(value: Any) -> str:
    """A value as people read it: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return json.dumps(value, ensure_ascii=False, default=str)

"""Events: raw records as their source writes them, and the verdicts that platforms reach on them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["m365", "process"]


_TIMES: dict[str, tuple[str, ...]] = {"m365": ("CreationTime",), "process": ("UtcTime",)}
#: Fields of an audit record that the API writes as integers, and their enumerations.
_ENUMERATIONS = {"RecordType": "AuditLogRecordType", "LogonType": "LogonType", "UserType": "UserType"}
_ENUMS = Path(__file__).with_name("enums.csv")


@dataclass(frozen=True)
class Event:
    """One raw record.

    ``kind`` "m365": an Office 365 Management Activity record, ``CreationTime`` in UTC without an offset.
    ``kind`` "process": a process creation in Sigma's taxonomy (Image, CommandLine, ParentImage, User,
    Computer), ``UtcTime`` in UTC. ``id`` is unique among the events of one run.
    """

    id: str
    kind: Kind
    record: Mapping[str, Any]

    @property
    def time(self) -> datetime | None:
        """The record's own time, aware and in UTC; None where the record has none that can be read."""
        return parse_time(self.record.get("CreationTime" if self.kind == "m365" else "UtcTime"))

    def json(self) -> str:
        """The record as the ingest models read it: times in UTC without an offset, enumerations as the API's
        integers, no key that is empty, no half of a surrogate pair."""
        plain = {key: value for key, value in self.record.items() if key}
        for field in _TIMES[self.kind]:
            if isinstance(plain.get(field), str) and (moment := parse_time(plain[field])):
                plain[field] = moment.replace(tzinfo=None).isoformat()
        for field, enum in _ENUMERATIONS.items():
            if self.kind == "m365" and isinstance(plain.get(field), str):
                plain[field] = _enumerated(enum, plain[field])
        return json.dumps(plain, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Hit:
    """What one artefact of one rule found.

    A plain rule gives one hit that lists the ids of the events. A correlation gives one hit for each group
    and window: ``group`` from canonical field to value, ``window`` the start of the window, ``value`` what
    was counted. ``rows`` are the result rows as the platform returned them, by column name.
    """

    platform: str
    rule: str
    artefact: str
    events: frozenset[str] = frozenset()
    group: tuple[tuple[str, str], ...] | None = None
    window: datetime | None = None
    value: float | None = None
    rows: tuple[Mapping[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that ``replay --format json`` prints for this hit."""
        common: dict[str, Any] = {"platform": self.platform, "rule": self.rule}
        if self.group is None:
            return common | {"events": sorted(self.events)}
        window = None if self.window is None else self.window.strftime("%Y-%m-%dT%H:%M:%SZ")
        return common | {"group": dict(self.group), "window": window, "value": _plain_number(self.value)}


def _plain_number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


@dataclass(frozen=True)
class Clock:
    """When a replay happens and how far back it looks. ``lookback`` None leaves the artefact's own knob."""

    now: datetime
    lookback: str | None = None


#: Levels of a record. No source nests a tenth as deep; what reads JSON further on overflows at some depth.
MAX_LEVELS = 100


def plain_record(record: Mapping[Any, Any]) -> dict[str, Any]:
    """The record as JSON can hold it: keys are text, and a number that is none (YAML's ``.inf``, JSON's
    ``1e999``) is null. Raises `ValueError` where it is nested too deeply."""
    plain: dict[str, Any] = _plain(record, 1)
    return plain


def _plain(value: Any, level: int) -> Any:
    if level > MAX_LEVELS:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, level + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, level + 1) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_time(text: object) -> datetime | None:
    """ISO 8601 with ``T`` or a blank, with or without an offset (UTC then), to microseconds."""
    if not isinstance(text, str):
        return None
    body, dot, rest = text.strip().replace(" ", "T", 1).partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        body += "." + rest[:digits][:6].ljust(6, "0") + rest[digits:]
    try:
        moment = datetime.fromisoformat(body.replace("Z", "+00:00"))
    except ValueError:
        return None
    if not 1970 < moment.year < 2200:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _enumerated(enum: str, text: str) -> int | str:
    """The integer of a name or of digits; any other text as it is."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return _names(enum).get(text.lower(), text)


@cache
def _names(enum: str) -> dict[str, int]:
    with _ENUMS.open(encoding="utf-8", newline="") as file:
        return {row["name"].lower(): int(row["value"]) for row in csv.DictReader(file) if row["enum"] == enum}


def raw_rows(events: Iterable[Event]) -> list[tuple[str, str, str]]:
    """``(id, kind, record as JSON)``: the rows of the table ``raw`` that every ingest model reads."""
    return [(event.id, event.kind, event.json()) for event in events]


@dataclass(frozen=True)
class RuleEntry:
    """What an engine must know of a rule besides its artefacts; read from dist/manifest.json.

    ``group_by`` holds a correlation's canonical group fields and ``window`` its length in seconds; a plain
    rule has neither. ``artefacts`` are the rule's own files, relative to dist/.
    """

    name: str
    group_by: tuple[str, ...] = ()
    window: int | None = None
    artefacts: tuple[str, ...] = ()

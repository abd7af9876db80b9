"""How a raw record says when it happened: ISO 8601, a number since 1970, or a pattern of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

#: Formats by name; any other is a pattern of `datetime.strptime`, which has a percent sign in it.
ISO8601, EPOCH_SECONDS, EPOCH_MILLISECONDS = "iso8601", "epoch_s", "epoch_ms"
_UNITS = {EPOCH_SECONDS: timedelta(seconds=1), EPOCH_MILLISECONDS: timedelta(milliseconds=1)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_POWERSHELL = re.compile(r"/Date\((-?[0-9]{1,14})\)/")
_NUMBER = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?")
#: A time whose parts all differ, by which a pattern shows whether it says them all.
_PROBE = datetime(2026, 3, 10, 21, 45, 58, tzinfo=UTC)


@dataclass(frozen=True)
class RecordTime:
    """The field that holds a record's own time, a path with dots where it is nested, and how it is written.

    ``format``: "iso8601", "epoch_s", "epoch_ms", or a pattern of `datetime.strptime`.
    """

    field: str
    format: str

    def of(self, record: Mapping[str, Any]) -> datetime | None:
        """The record's own time, aware and in UTC; None where the record has none that can be read."""
        return self.read(value_at(record, self.field))

    def read(self, value: object) -> datetime | None:
        """What the field's value says; a time without an offset is in UTC."""
        if self.format == ISO8601:
            return parse_time(value)
        if self.format in _UNITS:
            return _since_epoch(value, _UNITS[self.format])
        try:
            return _plausible(datetime.strptime(str(value), self.format)) if value is not None else None
        except ValueError:
            return None

    def written(self, moment: datetime) -> str | int | float:
        """The value that says ``moment``, which is aware; what a coarse pattern leaves out is lost."""
        utc = moment.astimezone(UTC)
        if self.format == ISO8601:
            return utc.replace(tzinfo=None).isoformat()
        if self.format in _UNITS:
            units = (utc - _EPOCH) / _UNITS[self.format]
            return int(units) if units == int(units) else units
        return utc.strftime(self.format)


def format_fault(stated: object) -> str | None:
    """Why ``stated`` is no format of a time; None for one."""
    if not isinstance(stated, str):
        return "is not a text"
    if stated in (ISO8601, *_UNITS):
        return None
    if "%" not in stated:
        return f"is neither {ISO8601}, {EPOCH_SECONDS}, {EPOCH_MILLISECONDS} nor a pattern"
    try:
        same = datetime.strptime(_PROBE.strftime(stated), stated)
    except ValueError as error:
        return f"is not a pattern that can be read ({str(error).splitlines()[0]})"
    aware = same if same.tzinfo else same.replace(tzinfo=UTC)
    return None if aware == _PROBE else "does not say the whole time, from the year to the second"


def value_at(record: Mapping[str, Any], path: str) -> Any:
    """What a record holds under a name, or below nested objects under a path with dots; None where nothing.

    A key that is the whole path comes first: flat records write ``actor.email`` as one name.
    """
    if path in record:
        return record[path]
    head, dot, rest = path.partition(".")
    inner = record.get(head) if dot else None
    return value_at(inner, rest) if isinstance(inner, Mapping) else None


def parse_time(text: object) -> datetime | None:
    """ISO 8601 with ``T`` or a blank, with or without an offset (UTC then), to microseconds; or milliseconds
    since 1970 as Windows PowerShell's ConvertTo-Json writes them, ``/Date(…)/``."""
    if not isinstance(text, str):
        return None
    if found := _OF_POWERSHELL.fullmatch(text):
        return _plausible(_EPOCH + timedelta(milliseconds=int(found[1])))
    body, dot, rest = text.strip().replace(" ", "T", 1).partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        body += "." + rest[:digits][:6].ljust(6, "0") + rest[digits:]
    try:
        return _plausible(datetime.fromisoformat(body.replace("Z", "+00:00")))
    except ValueError:
        return None


def _since_epoch(value: object, unit: timedelta) -> datetime | None:
    if isinstance(value, bool) or not _NUMBER.fullmatch(str(value)):
        return None
    whole, _, part = str(value).partition(".")
    try:
        moment = _EPOCH + int(whole) * unit
        return _plausible(moment + float(f"0.{part}") * unit if part else moment)
    except OverflowError:
        return None


def _plausible(moment: datetime) -> datetime | None:
    if not 1970 < moment.year < 2200:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

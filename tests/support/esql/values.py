"""Types and values: what a document holds, by the mapping, and how it is shown.

A value is None, a scalar, or a tuple of two or more scalars (a multivalued field). Scalars: keyword str,
boolean bool, integer and long int, double float, ip IPv6Address (IPv4 is mapped into it, as Lucene keeps it),
date an aware datetime of whole milliseconds.

Sources: limitations (field types), esql-multivalued-fields (keywords are kept once and in order, null in a
list is not kept), and the mapping reference: keyword (ignore_above), ip, date, boolean, long;
ignore_malformed drops a value that does not fit and keeps the document.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

Row = dict[str, Any]
TEXT = "keyword"
#: How a mapping type is seen in ES|QL; any other type cannot be used.
SEEN_AS = {
    "keyword": TEXT,
    "wildcard": TEXT,
    "constant_keyword": TEXT,
    "text": TEXT,
    "match_only_text": TEXT,
    "ip": "ip",
    "date": "date",
    "boolean": "boolean",
    "long": "long",
    "integer": "integer",
    "double": "double",
}
NUMBERS = ("integer", "long", "double")
BOUNDS = {"integer": 2**31, "long": 2**63}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?")


@dataclass(frozen=True)
class Field:
    """A mapped field: its mapping type, and how long a keyword may be (UTF-16 units) to be in the index."""

    type: str
    ignore_above: int | None = None

    @property
    def seen_as(self) -> str:
        return SEEN_AS.get(self.type, "unsupported")


@dataclass
class Index:
    """An index with its mapping and its documents: flat, dotted names, values as in their JSON."""

    name: str
    fields: Mapping[str, Field]
    documents: Sequence[Mapping[str, Any]]
    _rows: list[Row] | None = field(default=None, repr=False)

    def rows(self) -> list[Row]:
        """The values of the mapped fields of each document; a field without a value is left out."""
        if self._rows is None:
            self._rows = [self._row(document) for document in self.documents]
        return self._rows

    def _row(self, document: Mapping[str, Any]) -> Row:
        row: Row = {}
        for name, value in document.items():
            mapped = self.fields.get(name)
            if mapped is not None and mapped.seen_as != "unsupported":
                loaded = load(value, mapped)
                if loaded is not None:
                    row[name] = loaded
        return row


def load(value: Any, mapped: Field) -> Any:
    """A JSON value as the index holds it."""
    found = []
    for item in value if isinstance(value, list) else [value]:
        if item is None:
            continue
        try:
            found.append(_LOADERS[mapped.seen_as](item))
        except ValueError:
            continue
    if mapped.ignore_above is not None:
        found = [text for text in found if len(text.encode("utf-16-le")) // 2 <= mapped.ignore_above]
    if mapped.seen_as == TEXT:
        found = sorted(set(found))
    elif mapped.seen_as in ("ip", "boolean"):
        found = sorted(set(found), key=int)
    else:
        found.sort()
    return pack(found)


def pack(values: Sequence[Any]) -> Any:
    """None, the only value, or all of them."""
    return None if not values else values[0] if len(values) == 1 else tuple(values)


def unpack(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def as_ip(text: Any) -> ipaddress.IPv6Address:
    """A zone is ignored (Elasticsearch, InetAddresses)."""
    address = ipaddress.ip_address(str(text))
    if isinstance(address, ipaddress.IPv4Address):
        return ipaddress.IPv6Address(f"::ffff:{address}")
    return ipaddress.IPv6Address(int(address))


def as_date(text: Any) -> datetime:
    """``strict_date_optional_time||epoch_millis``, in milliseconds."""
    if isinstance(text, int) and not isinstance(text, bool):
        return EPOCH + timedelta(milliseconds=text)
    found = _DATE.fullmatch(str(text))
    if not found:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(found[n] or 0) for n in range(1, 7))
    fraction = int((found[7] or "0").ljust(3, "0")[:3]) * 1000
    moment = datetime(year, month, day, hour, minute, second, fraction, tzinfo=UTC)
    if found[8] and found[8] != "Z":
        sign = -1 if found[8][0] == "-" else 1
        hours, minutes = found[8][1:].split(":")
        moment -= sign * timedelta(hours=int(hours), minutes=int(minutes))
    return moment


def as_boolean(value: Any) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false", ""):
        return False
    raise ValueError(value)


def _whole(value: Any, bound: int) -> int:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(value) from None
    if isinstance(value, bool) or not number.is_finite() or not -bound <= number < bound:
        raise ValueError(value)
    return int(number)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


_LOADERS: dict[str, Callable[[Any], Any]] = {
    TEXT: _text,
    "ip": as_ip,
    "date": as_date,
    "boolean": as_boolean,
    "long": lambda value: _whole(value, 2**63),
    "integer": lambda value: _whole(value, 2**31),
    "double": float,
}


def show(value: Any) -> str:
    """TO_STRING of a scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ipaddress.IPv6Address):
        return str(value.ipv4_mapped or value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return java_double(value) if isinstance(value, float) else str(value)


def java_double(value: float) -> str:
    """Java's ``Double.toString``: scientific from 10⁷ on and below 10⁻³."""
    if not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    rest = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{rest}E{exponent + len(digits) - 1}"

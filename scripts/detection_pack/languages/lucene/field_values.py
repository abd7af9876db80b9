"""Values of typed fields: what a document's value becomes in the index, and what a query's value asks for.

Every function takes text as it stands in JSON or in a query and raises `ValueError` for what the type does
not take. Sources: Elasticsearch, "Boolean field type", "Numeric field types", "coerce", "IP field type",
"Date field type" (default format ``strict_date_optional_time||epoch_millis``) and "format".
"""

from __future__ import annotations

import ipaddress
import math
import re
import struct
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache

from detection_pack.languages.lucene.index_mapping import INTEGERS, REALS

#: Digits of every script, as Java's Long and BigDecimal read them.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(?:(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?)?)?)?)?",
    re.ASCII,
)
#: How a query writes an instant: shorter forms stand for a span of time.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_EPOCH = datetime.fromtimestamp(0, UTC)

#: A value in the index: text (keywords; 32 hexadecimal digits for an address), a whole number (numbers, true
#: and false as 1 and 0, milliseconds since 1970) or a real one.
Indexed = tuple[str | None, int | None, float | None]
NOTHING: Indexed = (None, None, None)
#: As many decimal digits as a long can have.
_DIGITS_OF_A_LONG = 19


def indexed(kind: str, json_type: str, text: str) -> Indexed:
    """What a field of type ``kind`` keeps of a value; `NOTHING` for one that is like none at all.

    ``json_type`` is DuckDB's name (VARCHAR, BOOLEAN, UBIGINT, BIGINT, DOUBLE, HUGEINT).
    """
    is_text = json_type == "VARCHAR"
    if kind == "boolean":
        if json_type not in ("BOOLEAN", "VARCHAR") or text not in ("true", "false", ""):
            raise ValueError(text)
        return None, int(text == "true"), None
    if json_type == "BOOLEAN":
        raise ValueError(text)
    if kind == "ip":
        if not is_text:
            raise ValueError(text)
        return address(text), None, None
    if kind == "date":
        return None, date(text) if is_text or json_type != "DOUBLE" else _refused(text), None
    if text == "":
        return NOTHING
    if kind in INTEGERS:
        return None, _whole(kind, text), None
    return None, None, _real(kind, text)


def _refused(text: str) -> int:
    raise ValueError(text)


@lru_cache(maxsize=100_000)
def address(text: str) -> str:
    """An address as 32 hexadecimal digits; IPv4 is ``::ffff:a.b.c.d``. A zone (``%eth0``) is left out; an
    address of IPv4 has none."""
    bare, percent, zone = text.partition("%")
    if percent and (not zone or ":" not in bare):
        raise ValueError(text)
    if ":" in bare:
        # Elasticsearch minds the value of a group of digits, not how many zeros it starts with
        # (InetAddresses).
        bare = re.sub(r"(?<![\w.])0+([0-9A-Fa-f]{4})(?![\w.])", r"\1", bare)
    return _hex(int(_in_six(ipaddress.ip_address(bare))))


@lru_cache(maxsize=100_000)
def shown_address(digits: str) -> str:
    """The usual form of an address in the index."""
    found = ipaddress.IPv6Address(int(digits, 16))
    return str(found.ipv4_mapped or found)


def network(text: str) -> tuple[str, str]:
    """The first and the last address of ``address/bits``, as in the index."""
    bare, _, bits = text.partition("/")
    found = ipaddress.ip_address(bare)
    if not re.fullmatch("[0-9]{1,3}", bits) or int(bits) > found.max_prefixlen:
        raise ValueError(text)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(text)  # an IPv4 address there, whose prefix has at most 32 bits
    free = (1 << (found.max_prefixlen - int(bits))) - 1
    start = int(_in_six(found)) & ~free
    return _hex(start), _hex(start | free)


def _in_six(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(0xFFFF << 32 | int(found)) if found.version == 4 else found


def _hex(number: int) -> str:
    return f"{number:032x}"


def date(text: str) -> int:
    """Milliseconds since 1970 of a document's date, in UTC where it names no offset. Not modelled: years
    that do not have four digits, and year 0."""
    if found := _DATE.fullmatch(text):
        year, month, day, hour, minute, second, fraction, offset = found.groups()
        moment = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        clock = timedelta(hours=int(hour or 0), minutes=int(minute or 0), seconds=int(second or 0))
        if int(hour or 0) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
            raise ValueError(text)
        seconds = int((moment + clock - _EPOCH).total_seconds()) - _offset(offset)
        return seconds * 1000 + int((fraction or "")[:3].ljust(3, "0"))
    if re.fullmatch("-?[0-9]{1,18}", text):
        return int(text)
    raise ValueError(text)


def _offset(text: str | None) -> int:
    if text in (None, "Z"):
        return 0
    assert text is not None
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 18 or minutes > 59:
        raise ValueError(text)
    return (hours * 3600 + minutes * 60) * (-1 if text[0] == "-" else 1)


def queried_date(text: str) -> int:
    """The instant that a query names, to the millisecond. Shorter forms, which Elasticsearch rounds up or
    down by where they stand, and date mathematics are not modelled."""
    if _INSTANT.fullmatch(text) or re.fullmatch("-?[0-9]{5,18}|[0-9]{1,3}|-[0-9]{1,4}", text):
        return date(text)
    raise ValueError(text)


def _decimal(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    number = Decimal(text)
    if number and abs(number.adjusted()) > 400:
        raise ValueError(text)
    return number


def _whole(kind: str, text: str) -> int:
    """With `coerce`, which is the default: numbers as text too, and the whole part of others.

    A number written with more than 19 zeros behind its digits is none, and one with more than 19 decimals is
    0 (Elasticsearch's Numbers.toLong looks at the scale of Java's BigDecimal).
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    read = Decimal(text)
    exponent = read.as_tuple().exponent
    assert isinstance(exponent, int)  # _NUMBER has neither infinity nor NaN
    if exponent > _DIGITS_OF_A_LONG or read.adjusted() > 2 * _DIGITS_OF_A_LONG:
        raise ValueError(text)
    number = 0 if exponent < -_DIGITS_OF_A_LONG and abs(read) < 2**63 else int(read)
    limit = 2 ** INTEGERS[kind]
    if not -limit <= number < limit:
        raise ValueError(text)
    return number


def _real(kind: str, text: str) -> float:
    number = float(_decimal(text))
    if kind == "float":
        try:
            (number,) = struct.unpack("f", struct.pack("f", number))
        except OverflowError:
            raise ValueError(text) from None
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def queried(kind: str, text: str) -> int | float | None:
    """The number that a term asks for; None where no value can be it (5.5 in a field of whole numbers)."""
    if kind == "boolean":
        if text not in ("true", "false"):
            raise ValueError(text)
        return int(text == "true")
    if kind == "date":
        return queried_date(text)
    if kind in REALS:
        return _real(kind, text)
    number = _decimal(text)
    return _whole(kind, text) if number == number.to_integral_value() else None


def lower_bound(kind: str, text: str, included: bool) -> tuple[str, int | float]:
    """The operator and the number that say ``> text`` or ``>= text`` in a numeric field."""
    return _bound(kind, text, ">=" if included else ">", ROUND_FLOOR)


def upper_bound(kind: str, text: str, included: bool) -> tuple[str, int | float]:
    """The operator and the number that say ``< text`` or ``<= text`` in a numeric field."""
    return _bound(kind, text, "<=" if included else "<", ROUND_CEILING)


def _bound(kind: str, text: str, operator: str, rounding: str) -> tuple[str, int | float]:
    if kind == "date":
        return operator, queried_date(text)
    if kind not in (*INTEGERS, *REALS):
        raise ValueError(text)
    if kind in REALS:
        return operator, _real(kind, text)
    number = _decimal(text)
    if number != number.to_integral_value():  # > 5.5 is > 5, >= 5.5 is > 5 too
        return operator[0], int(number.to_integral_value(rounding))
    return operator, int(number)


def lowered(text: str) -> str:
    """``text`` as the lowercase filter leaves it: one character for one, as Java's ``Character.toLowerCase``
    and DuckDB's ``lower`` do."""
    return "".join(low if len(low := c.lower()) == 1 else low[0] for c in text)

"""Functions of ``eval``: Search Reference, "Evaluation functions", each by the page that is named with it.

A function gets its arguments unevaluated, because ``if``, ``case`` and ``coalesce`` read only what they need.
A text function given several values is refused when that occurs: the pages say what it makes of one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from support.spl.errors import UnsupportedSearch
from support.spl.pattern import Mode
from support.spl.rows import from_list, text_of, values_of

Lazy = Callable[[], Any]
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_MANY = 10_000


@dataclass(frozen=True)
class Function:
    """``run`` takes ``least`` to ``most`` arguments, the mode of PCRE and the call's position."""

    least: int
    most: int
    run: Callable[[Sequence[Lazy], Mode, int], Any]


def scalar(value: Any, position: int) -> Any:
    if isinstance(value, list):
        raise UnsupportedSearch("several values where one is expected", position)
    return value


def strict(body: Callable[..., Any], least: int, most: int | None = None) -> Function:
    """A function of texts that is null where an argument is."""

    def run(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
        values = [scalar(argument(), position) for argument in arguments]
        if any(value is None for value in values):
            return None
        if any(isinstance(value, bool) for value in values):
            raise UnsupportedSearch("a Boolean as the argument of a function", position)
        return body(mode, position, *values)

    return Function(least, least if most is None else most, run)


# Comparison and conditional functions ---------------------------------------------------------------------


def _if(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    condition = arguments[0]()
    if not isinstance(condition, bool):
        raise UnsupportedSearch("if of what is neither true nor false", position)
    return arguments[1]() if condition else arguments[2]()


def _case(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    """The value after the first condition that is true; null if none is."""
    if len(arguments) % 2:
        raise UnsupportedSearch("case with a condition that has no value", position)
    for condition, value in zip(arguments[::2], arguments[1::2], strict=True):
        if condition() is True:
            return value()
    return None


def _coalesce(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    return next((value for a in arguments if (value := a()) is not None), None)


def _match(mode: Mode, position: int, subject: Any, regex: str) -> bool:
    """Comparison functions, "match": true if the expression is found in any part of the text."""
    return mode.matches(str(regex), text_of(subject))


def _cidrmatch(mode: Mode, position: int, network: str, address: Any) -> bool:
    """Comparison functions, "cidrmatch": IPv4 and IPv6; what is no address is in no network."""
    try:
        return ipaddress.ip_address(text_of(address)) in ipaddress.ip_network(network)
    except ValueError:
        return False


# Conversion and text functions ----------------------------------------------------------------------------


def _tonumber(mode: Mode, position: int, value: Any) -> Any:
    """Conversion functions, "tonumber": null where the text is no number."""
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value):
        return None
    return int(value) if re.fullmatch(r"[-+]?\d+", value, re.ASCII) else float(value)


def _substr(mode: Mode, position: int, text: Any, start: Any, length: Any = None) -> str:
    """Text functions, "substr": the first character is 1, a negative start counts from the end."""
    whole, first = text_of(text), int(start)
    if first == 0 or abs(first) > len(whole) + (first > 0):
        raise UnsupportedSearch("substr from outside of its text", position)
    begin = first - 1 if first > 0 else len(whole) + first
    return whole[begin:] if length is None else whole[begin : begin + int(length)]


def _replace(mode: Mode, position: int, text: Any, regex: str, replacement: str) -> str:
    """Text functions, "replace": every match; the replacement may name groups."""
    return mode.replaced(str(regex), str(replacement), text_of(text))


def _urldecode(mode: Mode, position: int, text: Any) -> str:
    return urllib.parse.unquote(text_of(text), errors="strict")


# Multivalue functions -------------------------------------------------------------------------------------


def _mvjoin(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    values = values_of(arguments[0]())
    return str(arguments[1]()).join(values) if values else None


def _mvcount(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    return len(values_of(arguments[0]())) or None


def _mvappend(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    return from_list([value for argument in arguments for value in values_of(argument())])


def _mvrange(mode: Mode, position: int, start: Any, end: Any, step: Any = 1) -> Any:
    """Multivalue functions, "mvrange": from the start up to, not with, the end."""
    low, high, by = (float(text_of(v)) for v in (start, end, step))
    if by <= 0 or (high - low) / by > _MANY:
        raise UnsupportedSearch("mvrange of no step, or of very many", position)
    return from_list([text_of(low + i * by) for i in range(math.ceil((high - low) / by))])


def _split(mode: Mode, position: int, text: Any, delimiter: str) -> Any:
    return from_list(text_of(text).split(delimiter)) if delimiter else None


def _mvindex(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    """Multivalue functions, "mvindex": the first value is 0; null beyond the last."""
    values, place = values_of(arguments[0]()), arguments[1]()
    if place is None:
        return None
    if place < 0:
        raise UnsupportedSearch("mvindex with a negative place", position)
    return values[int(place)] if int(place) < len(values) else None


def _mvfind(arguments: Sequence[Lazy], mode: Mode, position: int) -> Any:
    """Multivalue functions, "mvfind": the place of the first value that matches, or null."""
    regex = str(arguments[1]())
    places = (n for n, value in enumerate(values_of(arguments[0]())) if mode.matches(regex, value))
    return next(places, None)


def _spath(mode: Mode, position: int, text: Any, path: str) -> Any:
    """JSON functions, "spath": a value by its path, in which ``{}`` stands for every member of an array."""
    try:
        found = [json.loads(text_of(text))]
    except ValueError:
        return None
    for step in str(path).split("."):
        key, every, rest = step.partition("{}")
        if not key or rest:
            raise UnsupportedSearch(f"the path {path!r}", position)
        found = [one[key] for one in found if isinstance(one, dict) and key in one]
        if every:
            found = [member for one in found if isinstance(one, list) for member in one]
    return from_list([_json_text(one) for one in found if one is not None])


def _json_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _rounded(how: Callable[[float], int]) -> Function:
    def body(mode: Mode, position: int, value: Any) -> int:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            raise UnsupportedSearch("rounding of what is not a number", position)
        return how(float(value))

    return strict(body, 1)


FUNCTIONS = {
    "if": Function(3, 3, _if),
    "case": Function(2, 1000, _case),
    "coalesce": Function(1, 1000, _coalesce),
    "match": strict(_match, 2),
    "cidrmatch": strict(_cidrmatch, 2),
    "isnull": Function(1, 1, lambda a, mode, position: a[0]() is None),
    "isnotnull": Function(1, 1, lambda a, mode, position: a[0]() is not None),
    "null": Function(0, 0, lambda a, mode, position: None),
    "true": Function(0, 0, lambda a, mode, position: True),
    "false": Function(0, 0, lambda a, mode, position: False),
    "tonumber": strict(_tonumber, 1),
    "lower": strict(lambda mode, position, text: text_of(text).lower(), 1),
    "upper": strict(lambda mode, position, text: text_of(text).upper(), 1),
    # Cryptographic functions, "md5(<str>)": the hash of a string as hexadecimal digits.
    "md5": strict(lambda mode, position, text: hashlib.md5(text_of(text).encode()).hexdigest(), 1),
    # Text functions, "len": "a count of the UTF-8 code points in a string".
    "len": strict(lambda mode, position, text: len(text_of(text)), 1),
    "substr": strict(_substr, 2, 3),
    "replace": strict(_replace, 3),
    "urldecode": strict(_urldecode, 1),
    "split": strict(_split, 2),
    "spath": strict(_spath, 2),
    "mvjoin": Function(2, 2, _mvjoin),
    "mvindex": Function(2, 2, _mvindex),
    "mvfind": Function(2, 2, _mvfind),
    "mvcount": Function(1, 1, _mvcount),
    "mvappend": Function(1, 1000, _mvappend),
    "mvrange": strict(_mvrange, 2, 3),
    "floor": _rounded(math.floor),
    "ceiling": _rounded(math.ceil),
}

"""The ``search`` command: terms and comparisons, without regard to letter case.

Search Reference, "search": ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=`` and ``IN`` compare a field with a
literal; ``*`` in a value is a wildcard and cannot be escaped (Search Manual, "Backslashes"). AND is implied
and is decided after OR (Search Manual, "Boolean expressions with logical operators"). ``!=`` finds no event
that lacks the field, NOT does (Search Manual, "Difference between != and NOT"). Which letters beyond
ASCII are one without regard to case is not documented: here they are compared as they stand.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from support.spl.errors import UnsupportedSearch
from support.spl.lexer import Reader
from support.spl.rows import Row, values_of

Test = Callable[[Row], bool]
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
#: Relative times (Search Reference, "Time modifiers"); a week and longer units are not needed.
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Scope:
    """What the times of a search are relative to, and the range that it is dispatched with, in seconds."""

    now: float
    dispatched: tuple[float, float] | None = None


def parse(reader: Reader, scope: Scope, until: tuple[str, ...] = (), first: bool = False) -> Test:
    """The conditions up to the end of the command, or to a word of ``until``.

    ``earliest`` and ``latest`` bound the whole of them, in place of the range that the search is dispatched
    with (Search Manual, "Specify time modifiers in your search"), which bounds a ``first`` search without.
    """
    window: dict[str, float] = {}
    position = reader.next.position
    test = _conjunction(reader, scope, window, until)
    if len(window) == 1:
        raise UnsupportedSearch("a time range with one end", position)
    if not window and not first:
        return test
    low, high = scope.dispatched or (float("-inf"), float("inf"))
    low, high = window.get("earliest", low), window.get("latest", high)

    def bounded(row: Row) -> bool:
        # "earliest" is inclusive, "latest" is exclusive. An event without a time is in no range.
        time = row.fields.get("_time")
        return isinstance(time, (int, float)) and low <= time < high and test(row)

    return bounded


def _conjunction(
    reader: Reader, scope: Scope, window: dict[str, float] | None = None, until: tuple[str, ...] = ()
) -> Test:
    """``window`` takes the time range, which only the outermost conditions may hold."""
    tests: list[Test] = []
    while not (reader.ends() or reader.is_operator(")") or reader.is_word(*until)):
        if tests:
            reader.accept("AND")
        if window is not None and reader.is_word("earliest", "latest"):
            name = reader.take().text
            reader.expect("=")
            window[name] = _moment(reader, scope)
            continue
        tests.append(_disjunction(reader, scope))
    return lambda row: all(test(row) for test in tests)


def _disjunction(reader: Reader, scope: Scope) -> Test:
    tests = [_negation(reader, scope)]
    while reader.accept("OR"):
        tests.append(_negation(reader, scope))
    return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)


def _negation(reader: Reader, scope: Scope) -> Test:
    if reader.accept("NOT"):
        inner = _negation(reader, scope)
        return lambda row: not inner(row)
    if reader.accept("("):
        test = _conjunction(reader, scope)
        reader.expect(")")
        return test
    return _term(reader)


def _term(reader: Reader) -> Test:
    if reader.next.kind not in ("word", "string") or reader.is_word("AND", "OR", "IN"):
        raise reader.refused("a term is expected here")
    compared = reader.following
    if compared.kind == "operator" and compared.text in ("=", "!=", *_ORDER):
        return _comparison(reader)
    if compared.kind == "word" and compared.text == "IN":
        name = reader.take().text
        reader.take()
        reader.expect("(")
        found = [_equality(reader)]
        while reader.accept(","):
            found.append(_equality(reader))
        reader.expect(")")
        return lambda row: any(equal(v) for v in values_of(row.fields.get(name)) for equal in found)
    return _text(reader)


def _comparison(reader: Reader) -> Test:
    name, position = reader.take().text, reader.next.position
    sign = reader.take().text
    if name in ("earliest", "latest"):
        raise UnsupportedSearch("a time range within other conditions", position)
    if sign in _ORDER:
        return _ordered(reader, name, sign)
    equal = _equality(reader)
    if sign == "=":
        return lambda row: any(map(equal, values_of(row.fields.get(name))))

    def unequal(row: Row) -> bool:
        values = values_of(row.fields.get(name))
        if len(values) > 1:
            raise UnsupportedSearch("!= of a field with several values is not documented", position)
        return bool(values) and not equal(values[0])

    return unequal


def _ordered(reader: Reader, name: str, sign: str) -> Test:
    """Numbers by their size, where both are; else texts in lexicographical order."""
    value, compare = _value(reader), _ORDER[sign]

    def test(row: Row) -> bool:
        return any(
            compare(float(v), float(value))
            if _NUMBER.fullmatch(v) and _NUMBER.fullmatch(value)
            else compare(v, value)
            for v in values_of(row.fields.get(name))
        )

    return test


def _value(reader: Reader) -> str:
    if reader.next.kind not in ("word", "string"):
        raise reader.refused("a value is expected here")
    return reader.take().text


def _equality(reader: Reader) -> Callable[[str], bool]:
    value = _value(reader)
    if _NUMBER.fullmatch(value):
        number = float(value)
        return lambda text: text == value or (bool(_NUMBER.fullmatch(text)) and float(text) == number)
    wild = _wildcard(value)
    return lambda text: wild.fullmatch(_folded(text)) is not None


def _wildcard(value: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(_folded(part)) for part in value.split("*")), re.DOTALL)


def _folded(text: str) -> str:
    return text.translate(_ASCII_LOWER)


def _text(reader: Reader) -> Test:
    """A term without a field: ``*`` alone, or letters and digits anywhere in the raw event.

    Other terms follow the segmenters of the index, which is not modelled.
    """
    position, text = reader.next.position, reader.take().text
    if text == "*":
        return lambda row: True
    if not re.fullmatch(r"\*[A-Za-z0-9]+\*", text):
        raise UnsupportedSearch("a term that is not *letters and digits*", position)
    wanted = _folded(text[1:-1])
    return lambda row: any(wanted in _folded(raw) for raw in values_of(row.fields.get("_raw")))


def _moment(reader: Reader, scope: Scope) -> float:
    position, text = reader.next.position, _value(reader)
    return moment_of(text, scope.now, position)


def moment_of(text: str, now: float, position: int = 0) -> float:
    """A time such as ``-24h@h``, ``now`` or seconds since 1970, in seconds."""
    if text == "now":
        return now
    if found := re.fullmatch(r"-(\d+)([smhd])(?:@([smhd]))?", text, re.ASCII):
        moment = now - int(found[1]) * _SECONDS[found[2]]
        # After the offset it snaps back to the beginning of the unit, of the user's time zone: here UTC.
        return moment - moment % _SECONDS[found[3]] if found[3] else moment
    if re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII):
        return float(text)
    raise UnsupportedSearch(f"the time {text!r}", position)

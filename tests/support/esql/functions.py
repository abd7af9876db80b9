"""Scalar and multivalue functions. Each docstring names its page; what is not here is refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from support.esql.expressions import Compiler, Span, Typed
from support.esql.syntax import Call, Star
from support.esql.values import EPOCH, NUMBERS, TEXT, Row, as_date, as_ip, pack, show, unpack

Made = Callable[[Compiler, Call, list[Typed]], Typed]
_FUNCTIONS: dict[str, tuple[Made, int, int | None]] = {}


def _function(name: str, least: int, most: int | None) -> Callable[[Made], Made]:
    def register(made: Made) -> Made:
        _FUNCTIONS[name] = (made, least, most)
        return made

    return register


def call(compiler: Compiler, node: Call) -> Typed:
    """A call, compiled. Raises `Refused` for a function that is not modelled."""
    known = _FUNCTIONS.get(node.function)
    if known is None:
        raise compiler.context.refused(node.at, f"the function {node.function} is not modelled here")
    made, least, most = known
    if len(node.args) < least or (most is not None and len(node.args) > most):
        raise compiler.context.invalid(node.at, f"{node.function} does not take {len(node.args)} arguments")
    if any(isinstance(arg, Star) for arg in node.args):
        raise compiler.context.refused(node.at, "* stands in COUNT alone")
    return made(compiler, node, [compiler.compile(arg) for arg in node.args])


def _demand(compiler: Compiler, node: Call, arg: Typed, *types: str) -> None:
    if arg.type not in (*types, "null"):
        what = f"{node.function} takes {' or '.join(types)}, this is {arg.type}"
        raise compiler.context.invalid(node.at, what)


def _each(kind: str, convert: Callable[[Any], Any], compiler: Compiler, arg: Typed) -> Typed:
    """Conversion functions work on every value; one that cannot be converted is null, with a warning."""
    of, warnings = arg.of, compiler.context.warnings

    def evaluate(row: Row) -> Any:
        found = []
        for value in unpack(of(row)):
            try:
                found.append(convert(value))
            except (ValueError, OverflowError) as error:
                warnings[f"evaluation failed, treating result as null: {error}"] = None
        return pack(found)

    return Typed(kind, evaluate)


# -- functions-operators/string-functions -------------------------------------------------------------------


@_function("TO_LOWER", 1, 1)
def _to_lower(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-to_lower: every value since 8.19 and 9.1; before, a field with several values gave null. Java's
    ``String.toLowerCase(Locale.ROOT)``, which Python's ``str.lower`` is too (full mapping, final sigma)."""
    _demand(compiler, node, args[0], TEXT)
    return _each(TEXT, str.lower, compiler, args[0])


@_function("TO_UPPER", 1, 1)
def _to_upper(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-to_upper"""
    _demand(compiler, node, args[0], TEXT)
    return _each(TEXT, str.upper, compiler, args[0])


@_function("CONCAT", 2, None)
def _concat(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-concat: null where any is null."""
    for arg in args:
        _demand(compiler, node, arg, TEXT)
    return compiler.computed(TEXT, lambda *texts: "".join(texts), *args)


@_function("LENGTH", 1, 1)
def _length(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-length: code points."""
    _demand(compiler, node, args[0], TEXT)
    return compiler.computed("integer", len, args[0])


@_function("STARTS_WITH", 2, 2)
def _starts_with(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-starts_with"""
    for arg in args:
        _demand(compiler, node, arg, TEXT)
    return compiler.computed("boolean", str.startswith, *args)


@_function("ENDS_WITH", 2, 2)
def _ends_with(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-ends_with"""
    for arg in args:
        _demand(compiler, node, arg, TEXT)
    return compiler.computed("boolean", str.endswith, *args)


# -- functions-operators/type-conversion-functions ----------------------------------------------------------


@_function("TO_STRING", 1, 1)
def _to_string(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-to_string: every value of a field with several."""
    _demand(compiler, node, args[0], TEXT, "boolean", "ip", "date", *NUMBERS)
    return _each(TEXT, show, compiler, args[0])


@_function("TO_LONG", 1, 1)
def _to_long(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-to_long: a date is its milliseconds since the epoch; a double is rounded."""
    _demand(compiler, node, args[0], TEXT, "boolean", "date", *NUMBERS)

    def convert(value: Any) -> int:
        if isinstance(value, datetime):
            return millis(value)
        number = round(float(value)) if isinstance(value, str | float) and not _digits(value) else int(value)
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"{value} is out of range")
        return number

    return _each("long", convert, compiler, args[0])


@_function("TO_DATETIME", 1, 1)
def _to_datetime(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-to_datetime: a number is milliseconds since the epoch."""
    _demand(compiler, node, args[0], TEXT, "date", "integer", "long")
    return _each("date", lambda v: v if isinstance(v, datetime) else as_date(v), compiler, args[0])


@_function("TO_IP", 1, 1)
def _to_ip(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-to_ip"""
    _demand(compiler, node, args[0], TEXT, "ip")
    return _each("ip", lambda v: v if isinstance(v, ipaddress.IPv6Address) else as_ip(v), compiler, args[0])


def _digits(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip("-").isdigit()


# -- functions-operators/conditional-functions-and-expressions ----------------------------------------------


def _common(compiler: Compiler, node: Call, args: list[Typed]) -> str:
    kinds = {arg.type for arg in args} - {"null"}
    if len(kinds) > 1:
        what = f"{node.function} takes values of one type, these are {', '.join(sorted(kinds))}"
        raise compiler.context.invalid(node.at, what)
    return kinds.pop() if kinds else "null"


@_function("COALESCE", 1, None)
def _coalesce(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-coalesce: the first that is not null, as it is."""
    kind = _common(compiler, node, args)
    evaluators = [arg.of for arg in args]

    def of(row: Row) -> Any:
        return next((value for evaluate in evaluators if (value := evaluate(row)) is not None), None)

    return Typed(kind, of)


@_function("CASE", 2, None)
def _case(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-case: pairs of condition and value, then perhaps a default, else null. A condition that is null or
    has several values is not true."""
    conditions = args[0 : len(args) - 1 : 2]
    values = args[1::2]
    default = args[-1] if len(args) % 2 else None
    for condition in conditions:
        _demand(compiler, node, condition, "boolean")
    kind = _common(compiler, node, [*values, *([default] if default else [])])
    single = compiler.context.single
    pairs = [(condition.of, value.of) for condition, value in zip(conditions, values, strict=True)]

    def of(row: Row) -> Any:
        for condition, value in pairs:
            if single(condition(row)) is True:
                return value(row)
        return default.of(row) if default else None

    return Typed(kind, of)


# -- functions-operators/ip-functions -----------------------------------------------------------------------


@_function("CIDR_MATCH", 2, None)
def _cidr_match(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-cidr_match: whether the address lies in one of the blocks; here they are literals."""
    _demand(compiler, node, args[0], "ip")
    blocks = []
    for arg in args[1:]:
        if not arg.is_constant or arg.type != TEXT:
            raise compiler.context.refused(node.at, "CIDR_MATCH is modelled with literals alone")
        blocks.append(_block(compiler, node, str(arg.constant)))

    def inside(address: ipaddress.IPv6Address) -> bool:
        return any(int(address) >> (128 - bits) == prefix for prefix, bits in blocks)

    return compiler.computed("boolean", inside, args[0])


def _block(compiler: Compiler, node: Call, text: str) -> tuple[int, int]:
    """The leading bits and how many they are; an IPv4 block is mapped into IPv6."""
    address, slash, length = text.partition("/")
    try:
        whole = 32 if "." in address and ":" not in address else 128
        bits = int(length)
        if not slash or not length.isdigit() or bits > whole:
            raise ValueError(text)
        bits += 128 - whole
        return int(as_ip(address)) >> (128 - bits), bits
    except ValueError:
        raise compiler.context.invalid(node.at, f"[{text}] is not a CIDR block") from None


# -- functions-operators/date-time-functions and grouping-functions -----------------------------------------


def millis(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


@_function("NOW", 0, 0)
def _now(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-now: the time of the query, one for all rows."""
    now = compiler.context.now
    if now is None:
        raise compiler.context.refused(node.at, "a query that asks NOW() needs a time")
    return Typed("date", lambda row: now)


@_function("DATE_TRUNC", 2, 2)
def _date_trunc(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-date_trunc: the beginning of the interval. Durations (to hours) and other numbers of days count
    from the epoch, one day is the calendar's, seven days are its weeks, from Monday on (Elasticsearch,
    DateTrunc.createRounding), 1 and 3 months and a year the calendar's."""
    if args[0].type != "timespan":
        raise compiler.context.invalid(node.at, f"DATE_TRUNC takes a time span first, not {args[0].type}")
    _demand(compiler, node, args[1], "date")
    span: Span = args[0].constant
    if span.months not in (0, 1, 3, 12):
        raise compiler.context.refused(node.at, "this interval is not modelled")
    return compiler.computed("date", lambda moment: truncated(moment, span), args[1])


@_function("BUCKET", 2, 2)
def _bucket(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-bucket with a date and a time span, which is DATE_TRUNC; other forms are refused."""
    if args[0].type != "date" or args[1].type != "timespan":
        raise compiler.context.refused(node.at, "BUCKET is modelled with a date and a time span alone")
    return _date_trunc(compiler, node, [args[1], args[0]])


def truncated(moment: datetime, span: Span) -> datetime:
    if span.months:
        month = {1: moment.month, 3: (moment.month - 1) // 3 * 3 + 1, 12: 1}[span.months]
        return moment.replace(month=month, day=1, hour=0, minute=0, second=0, microsecond=0)
    if span.days == 7:
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=midnight.weekday())
    length = span.millis or span.days * 86_400_000
    return EPOCH + timedelta(milliseconds=millis(moment) // length * length)


# -- functions-operators/mv-functions -----------------------------------------------------------------------


@_function("MV_CONCAT", 2, 2)
def _mv_concat(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-mv_concat: all values with the delimiter between them."""
    for arg in args:
        _demand(compiler, node, arg, TEXT)
    texts, delimiter = args[0].of, args[1].of

    def of(row: Row) -> str | None:
        values, between = texts(row), compiler.context.single(delimiter(row))
        return None if values is None or between is None else str(between).join(unpack(values))

    return Typed(TEXT, of)


@_function("MV_SORT", 1, 2)
def _mv_sort(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-mv_sort: ascending unless "DESC"; duplicates stay."""
    order = "ASC"
    if len(args) == 2:
        order = str(args[1].constant).upper()
        if not args[1].is_constant or order not in ("ASC", "DESC"):
            raise compiler.context.invalid(node.at, 'the order is "ASC" or "DESC"')
    of = args[0].of
    return Typed(args[0].type, lambda row: pack(sorted(unpack(of(row)), reverse=order == "DESC")))


@_function("MV_DEDUPE", 1, 1)
def _mv_dedupe(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-mv_dedupe"""
    of = args[0].of
    return Typed(args[0].type, lambda row: pack(list(dict.fromkeys(unpack(of(row))))))


@_function("MV_COUNT", 1, 1)
def _mv_count(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-mv_count: null of null."""
    of = args[0].of

    def count(row: Row) -> int | None:
        value = of(row)
        return None if value is None else len(list(unpack(value)))

    return Typed("integer", count)


def _extreme(name: str, choose: Callable[[Any], Any]) -> None:
    @_function(name, 1, 1)
    def made(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
        """esql-mv_min, esql-mv_max"""
        of = args[0].of

        def evaluate(row: Row) -> Any:
            value = of(row)
            return None if value is None else choose(unpack(value))

        return Typed(args[0].type, evaluate)


_extreme("MV_MIN", min)
_extreme("MV_MAX", max)


@_function("MV_APPEND", 2, 2)
def _mv_append(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-mv_append: null where either is null."""
    kind = _common(compiler, node, args)
    first, second = args[0].of, args[1].of

    def of(row: Row) -> Any:
        a, b = first(row), second(row)
        return None if a is None or b is None else (*unpack(a), *unpack(b))

    return Typed(kind, of)


@_function("MV_CONTAINS", 2, 2)
def _mv_contains(compiler: Compiler, node: Call, args: list[Typed]) -> Typed:
    """esql-mv_contains: whether every value of the second is in the first; null is the empty set."""
    _common(compiler, node, args)
    first, second = args[0].of, args[1].of
    return Typed("boolean", lambda row: set(unpack(second(row))) <= set(unpack(first(row))))


SUPPORTED: Mapping[str, tuple[Made, int, int | None]] = _FUNCTIONS

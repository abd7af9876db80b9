"""Watchlists in KQL: ``_GetWatchlist()`` and what is asked of one, which duckdb-kql 1.1 does not translate.

A watchlist is a table here, whose columns are those of its items and ``SearchKey``. One without items has
``SearchKey`` alone, because the service unpacks the columns from the items; ``column_ifexists()`` gives the
other value then. Source of the semantics: Microsoft Sentinel, "Build queries or detection rules with
watchlists"; Kusto, "column_ifexists()", "make_bag()", "ipv4_is_in_any_range()", "ipv6_is_in_any_range()".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duckdb_kql.errors import KqlUnsupportedError
from duckdb_kql.translate.functions import AGGREGATE_FUNCTIONS, SCALAR_FUNCTIONS, AggregateSpec, FunctionSpec

FUNCTION, SEARCH_KEY = "_GetWatchlist", "SearchKey"
#: For connections that have the macros of `address_ranges`: whether an address is in one of several ranges.
#: What is no range holds nothing; what is no address gives null.
WATCHLIST_MACROS = """
CREATE OR REPLACE TEMP MACRO kql_prefix(n, bits) AS
    CASE WHEN contains(n, '/') THEN TRY_CAST(split_part(n, '/', 2) AS INTEGER) ELSE bits END;
CREATE OR REPLACE TEMP MACRO kql_in_ipv4(a, n) AS
    (a >> (32 - kql_prefix(n, 32))) = (kql_ipv4(split_part(n, '/', 1)) >> (32 - kql_prefix(n, 32)));
CREATE OR REPLACE TEMP MACRO kql_bits(a) AS
    array_to_string(list_transform(string_split(a, ''), lambda c:
        lpad(bin(instr('0123456789abcdef', c) - 1), 4, '0')), '');
CREATE OR REPLACE TEMP MACRO kql_in_ipv6(a, n) AS
    left(kql_bits(a), kql_prefix(n, 128))
        = left(kql_bits(kql_ipv6(split_part(n, '/', 1))), kql_prefix(n, 128));
CREATE OR REPLACE TEMP MACRO kql_in_any_ipv4(a, ranges) AS
    CASE WHEN kql_ipv4(a) IS NOT NULL AND ranges IS NOT NULL
         THEN len(list_filter(ranges,
              lambda wanted: coalesce(kql_in_ipv4(kql_ipv4(a), wanted), false))) > 0 END;
CREATE OR REPLACE TEMP MACRO kql_in_any_ipv6(a, ranges) AS
    CASE WHEN kql_ipv6(a) IS NOT NULL AND ranges IS NOT NULL
         THEN len(list_filter(ranges,
              lambda wanted: coalesce(kql_in_ipv6(kql_ipv6(a), wanted), false))) > 0 END;
"""
#: What a bag holds under a key, and what has the bag.
_VALUE, _SCALAR = "watchlist_value", "toscalar("
_CALL = re.compile(rf'{FUNCTION}\("([A-Za-z0-9_-]+)"\)')
_IF_EXISTS = re.compile(r'column_ifexists\("(\w+)", ("(?:[^"\\]|\\.)*")\)')
_STRING = re.compile(r'@"(?:[^"]|"")*"|"(?:[^"\\\n]|\\.)*"')


@dataclass(frozen=True)
class _InAnyRange(FunctionSpec):
    """One of both functions, with an array of ranges."""

    def render(self, args: list[str]) -> str:
        if len(args) != 2:
            raise KqlUnsupportedError(self.name, hint="expects an array of ranges")
        return self.template.format(args[0], f"TRY_CAST(CAST({args[1]} AS VARCHAR) AS VARCHAR[])")


def register_watchlists() -> None:
    """Let duckdb-kql translate them, for connections with `WATCHLIST_MACROS`."""
    for version in ("ipv4", "ipv6"):
        name = f"{version}_is_in_any_range"
        SCALAR_FUNCTIONS.setdefault(
            name, _InAnyRange(name, "template", f"kql_in_any_{version}({{0}}, {{1}})")
        )
    value = "map_extract(TRY_CAST({0} AS MAP(VARCHAR, VARCHAR[])), {1})[1]"
    SCALAR_FUNCTIONS.setdefault(_VALUE, FunctionSpec(_VALUE, "template", value, (2,)))
    inside = "substr(CAST({0} AS VARCHAR), 2, length(CAST({0} AS VARCHAR)) - 2)"
    # Of a key that stands in several bags any value may be taken.
    bag = f"CAST('{{{{' || coalesce(string_agg({inside}, ','), '') || '}}}}' AS JSON)"
    AGGREGATE_FUNCTIONS.setdefault("make_bag", AggregateSpec("make_bag", bag, (1,), name_prefix="bag"))


def watchlist_table(alias: str) -> str:
    """What the table of a watchlist is called."""
    return f"Watchlist_{alias}"


def with_watchlists(text: str, columns: Mapping[str, Sequence[str]]) -> str:
    """A query with its watchlists as tables. ``columns``: of each watchlist by alias. Raises
    `KqlUnsupportedError` for one that is not there, as the service refuses such a query."""
    made, at = [], 0
    while (found := _next_call(text, at)) is not None:
        alias, end = found[1], _end(text, found.end())
        if alias not in columns:
            raise KqlUnsupportedError(FUNCTION, hint=f"no watchlist has the alias {alias}")
        known = {*columns[alias], SEARCH_KEY}
        start = found.start()
        rest = _IF_EXISTS.sub(lambda m, known=known: m[1] if m[1] in known else m[2], text[found.end() : end])  # type: ignore[misc]
        before = text[at:start]
        if before.endswith(_SCALAR) and text[end : end + 1] == "[":
            # duckdb-kql takes a key that is worked out for a place in an array.
            close = _end(text, end + 1, "[]")
            before = f"{before.removesuffix(_SCALAR)}{_VALUE}({_SCALAR}"
            rest += f", {text[end + 1 : close - 1]})"
            end = close
        made += [before, watchlist_table(alias), rest]
        at = end
    return "".join([*made, text[at:]])


def _next_call(text: str, at: int) -> re.Match[str] | None:
    """The next call that does not stand in a string."""
    while (found := _CALL.search(text, at)) is not None:
        inside = next((s for s in _STRING.finditer(text, at) if s.start() < found.start() < s.end()), None)
        if inside is None:
            return found
        at = inside.end()
    return None


def _end(text: str, at: int, brackets: str = "()") -> int:
    """Where the brackets end in which a place stands."""
    depth = 0
    while at < len(text) and depth >= 0:
        if (string := _STRING.match(text, at)) is not None:
            at = string.end()
            continue
        depth += {brackets[0]: 1, brackets[1]: -1}.get(text[at], 0)
        at += 1
    return at

"""``ipv4_is_in_range()`` and ``ipv6_is_in_range()``, which duckdb-kql 1.1 does not translate.

The range is a literal: what is known of it is worked out here, and the address is compared bit for bit. What
is no address gives null, and an IPv4 address is an IPv6 address below ::ffff:0:0/96. An address with a prefix
of its own, which Kusto would take, is an error: no record has one. Source of the semantics: Kusto,
"ipv4_is_in_range()", "ipv6_is_in_range()".
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from duckdb_kql.errors import KqlUnsupportedError
from duckdb_kql.translate.functions import SCALAR_FUNCTIONS, FunctionSpec

_QUAD = r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
#: Functions of every connection that runs translated KQL: an address as a number, and as 32 digits. A lambda
#: over a list of one gives a value a name: what a macro says twice is worked out twice.
RANGE_MACROS = rf"""
CREATE OR REPLACE TEMP MACRO kql_number(s) AS
    list_sum(list_transform(string_split(s, '.'), lambda p, i: CAST(p AS BIGINT) << (8 * (4 - i))));
CREATE OR REPLACE TEMP MACRO kql_ipv4(s) AS
    CASE WHEN contains(s, '/') THEN error('unsupported KQL: an address with a prefix')
         WHEN regexp_full_match(s, '{_QUAD}') THEN CAST(kql_number(s) AS BIGINT) END;
CREATE OR REPLACE TEMP MACRO kql_without_quad(s) AS
    CASE WHEN regexp_full_match(s, '.*:{_QUAD}')
         THEN list_transform([CAST(kql_number(regexp_extract(s, '[0-9.]+$')) AS BIGINT)],
              lambda n: regexp_replace(s, '[0-9.]+$', printf('%x:%x', n >> 16, n & 65535)))[1]
         WHEN regexp_full_match(s, '{_QUAD}')
         THEN list_transform([CAST(kql_number(s) AS BIGINT)],
              lambda n: printf('::ffff:%x:%x', n >> 16, n & 65535))[1]
         ELSE s END;
CREATE OR REPLACE TEMP MACRO kql_groups(s) AS
    CASE WHEN NOT contains(s, '::') THEN string_split(s, ':')
         ELSE list_transform([[
                list_filter(string_split(split_part(s, '::', 1), ':'), lambda p: p <> ''),
                list_filter(string_split(split_part(s, '::', 2), ':'), lambda p: p <> '')]],
              lambda e: list_concat(
                  e[1], list_transform(range(8 - len(e[1]) - len(e[2])), lambda p: '0'), e[2]))[1] END;
CREATE OR REPLACE TEMP MACRO kql_ipv6(s) AS
    CASE WHEN contains(s, '/') THEN error('unsupported KQL: an address with a prefix')
         ELSE list_transform([kql_without_quad(s)], lambda t:
            CASE WHEN regexp_full_match(t, '[0-9a-fA-F:]+') AND contains(t, ':') AND NOT contains(t, ':::')
                      AND len(string_split(t, '::')) <= 2
                 THEN list_transform([kql_groups(t)], lambda g:
                    CASE WHEN len(g) = 8 AND len(list_filter(g, lambda p: p = '' OR length(p) > 4)) = 0
                         THEN lower(array_to_string(list_transform(g, lambda p: lpad(p, 4, '0')), '')) END)[1]
            END)[1] END;
"""
_LITERAL = re.compile(r"'([0-9a-fA-F:./]+)'")


@dataclass(frozen=True)
class _InRange(FunctionSpec):
    """One of both functions. ``mapped``: IPv4 is a part of IPv6."""

    mapped: bool = False

    def render(self, args: list[str]) -> str:
        literal = _LITERAL.fullmatch(args[1].strip()) if len(args) == 2 else None
        try:
            network = ipaddress.ip_network(literal[1] if literal else "", strict=False)
        except ValueError as error:
            raise KqlUnsupportedError(self.name, hint="expects a literal range") from error
        if isinstance(network, ipaddress.IPv4Network) and not self.mapped:
            shift = 32 - network.prefixlen
            return f"((kql_ipv4({args[0]}) >> {shift}) = {int(network.network_address) >> shift})"
        if isinstance(network, ipaddress.IPv4Network):
            network = ipaddress.ip_network(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
        elif not self.mapped:
            return "CAST(NULL AS BOOLEAN)"
        digits, rest = divmod(network.prefixlen, 4)
        text = f"{int(network.network_address):032x}"
        checks = [f"left(a, {digits}) = '{text[:digits]}'"]
        if rest:
            # A digit of the address is one of those that begin with the same bits.
            first = int(text[digits], 16)
            same = "".join(f"{digit:x}" for digit in range(first, first + (1 << (4 - rest))))
            checks.append(f"contains('{same}', substr(a, {digits + 1}, 1))")
        return f"(list_transform([kql_ipv6({args[0]})], lambda a: {' AND '.join(checks)})[1])"


def register() -> None:
    """Let duckdb-kql translate both functions, for connections with `RANGE_MACROS`."""
    for version, mapped in (("ipv4", False), ("ipv6", True)):
        name = f"{version}_is_in_range"
        SCALAR_FUNCTIONS.setdefault(name, _InRange(name, "template", "", (2,), mapped=mapped))

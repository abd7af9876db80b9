"""The trap: a network that holds another address than Kusto says it does."""

from __future__ import annotations

import ipaddress

import duckdb
import duckdb_kql
import pytest
from duckdb_kql.errors import KqlError
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_pack.languages.kql.address_ranges import RANGE_MACROS, register

register()
CONNECTION = duckdb.connect()
CONNECTION.execute(RANGE_MACROS + "CREATE TABLE T(a VARCHAR)")


def answers(address: str, network: str) -> tuple[bool | None, bool | None]:
    query = f'T | project four = ipv4_is_in_range(a, "{network}"), six = ipv6_is_in_range(a, "{network}")'
    CONNECTION.execute("DELETE FROM T")
    CONNECTION.execute("INSERT INTO T VALUES (?)", [address])
    [found] = CONNECTION.sql(str(duckdb_kql.to_sql(query, schema={"T": ["a"]}))).fetchall()
    return found[0], found[1]


@settings(max_examples=120, deadline=None)
@given(st.ip_addresses(v=4), st.integers(0, 32), st.integers(0, 2**32 - 1), st.booleans())
def test_ipv4(network: ipaddress.IPv4Address, prefix: int, other: int, near: bool) -> None:
    net = ipaddress.ip_network(f"{network}/{prefix}", strict=False)
    held = int(net.network_address) | (other & (2 ** (32 - prefix) - 1)) if near else other
    address = ipaddress.IPv4Address(held)
    assert answers(str(address), str(net)) == (address in net,) * 2


@settings(max_examples=120, deadline=None)
@given(st.ip_addresses(v=6), st.integers(0, 128), st.integers(0, 2**128 - 1), st.sampled_from("ceu"))
def test_ipv6(network: ipaddress.IPv6Address, prefix: int, other: int, form: str) -> None:
    net = ipaddress.ip_network(f"{network}/{prefix}", strict=False)
    for held in (other, int(net.network_address) | (other & (2 ** (128 - prefix) - 1))):
        address = ipaddress.IPv6Address(held)
        text = {"c": str(address), "e": address.exploded, "u": str(address).upper()}[form]
        assert answers(text, str(net))[1] == (address in net)


@pytest.mark.parametrize(
    ("address", "network", "four", "six"),
    [
        # Examples of Kusto's documentation.
        ("192.168.1.6", "192.168.1.1/24", True, True),
        ("192.168.1.1", "192.168.1.1", True, True),
        ("192.168.1.1", "192.168.1.255/24", True, True),
        ("a5e:f127:8a9d:146d:e102:b5d3:c755:abcd", "a5e:f127:8a9d:146d:e102:b5d3:c755:0000/112", None, True),
        ("0:0:0:0:0:ffff:c0a8:ac", "0:0:0:0:0:ffff:c0a8:ac/60", None, True),
        # An IPv4 address stands below ::ffff:0:0/96.
        ("198.51.100.7", "::ffff:0:0/96", None, True),
        ("::ffff:198.51.100.7", "198.51.100.0/24", None, True),
        ("198.51.100.7", "2001:db8::/32", None, False),
        # No addresses.
        ("", "198.51.100.0/24", None, None),
        ("198.51.100.7:443", "198.51.100.0/24", None, None),
        ("198.51.100.256", "198.51.100.0/24", None, None),
        ("1:2:3", "2001:db8::/32", None, None),
        ("2001:db8::1%3", "2001:db8::/32", None, None),
        ("1::2::3", "::/0", None, None),
    ],
)
def test_what_is_written(address: str, network: str, four: bool | None, six: bool | None) -> None:
    assert answers(address, network) == (four, six)


def test_what_is_not_said_is_refused() -> None:
    with pytest.raises(duckdb.Error, match="an address with a prefix"):
        answers("198.51.100.7/16", "198.51.100.0/24")
    with pytest.raises(KqlError, match="ipv4_is_in_range"):
        duckdb_kql.to_sql("T | where ipv4_is_in_range(a, a)", schema={"T": ["a"]})

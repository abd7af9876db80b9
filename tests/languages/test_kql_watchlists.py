"""The trap: a watchlist that the engine here reads in another way than Sentinel."""

from __future__ import annotations

import ipaddress
from functools import cache

import duckdb
import duckdb_kql
import pytest
from duckdb_kql.errors import KqlError
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_pack.languages.kql.address_ranges import RANGE_MACROS
from detection_pack.languages.kql.watchlists import (
    WATCHLIST_MACROS,
    register_watchlists,
    with_watchlists,
)

register_watchlists()
CONNECTION = duckdb.connect()
CONNECTION.execute(RANGE_MACROS + WATCHLIST_MACROS + "CREATE TABLE T(a VARCHAR, n VARCHAR)")
CONNECTION.execute("CREATE TABLE Watchlist_vips(SearchKey VARCHAR, account VARCHAR)")
SCHEMA = {"T": ["a", "n"], "Watchlist_vips": ["SearchKey", "account"]}


def rows(query: str) -> list[tuple[object, ...]]:
    text = with_watchlists(query, {"vips": ["account"]})
    return CONNECTION.sql(str(duckdb_kql.to_sql(text, schema=SCHEMA))).fetchall()


@cache
def in_any_sql() -> str:
    listed = "toscalar(T | summarize make_list(n))"
    asked = f"T | project four = ipv4_is_in_any_range(a, {listed}), six = ipv6_is_in_any_range(a, {listed})"
    return str(duckdb_kql.to_sql(asked, schema=SCHEMA))


def in_any(address: str, networks: list[str]) -> tuple[bool | None, bool | None]:
    CONNECTION.execute("DELETE FROM T")
    CONNECTION.executemany("INSERT INTO T VALUES (?, ?)", [[address, network] for network in networks])
    [found, *_] = CONNECTION.sql(in_any_sql()).fetchall()
    return found[0], found[1]


@pytest.mark.parametrize(
    ("address", "networks", "four", "six"),
    [
        # The examples of Kusto's documentation.
        ("192.168.1.6", ["192.168.1.1/24", "10.0.0.1/8", "127.1.0.1/16"], True, True),
        (
            "a5e:f127:8a9d:146d:e102:b5d3:c755:f6cd",
            ["a5e:f127:8a9d:146d:e102:b5d3:c755:f6cd/112"],
            None,
            True,
        ),
        ("0:0:0:0:0:ffff:c0a8:ac", ["0:0:0:0:0:ffff:c0a8:ac/60"], None, True),
        ("192.168.1.6", ["10.0.0.0/8"], False, False),
        ("192.168.1.6", ["192.168.1.6"], True, True),
        ("192.168.1.6", ["nothing", "192.168.1.999", "192.168.1.6/33x"], False, False),
        ("nothing", ["10.0.0.0/8"], None, None),
    ],
)
def test_any_of_several_ranges(
    address: str, networks: list[str], four: bool | None, six: bool | None
) -> None:
    found = in_any(address, networks)
    assert found[0] == four
    if ":" in address or ":" in "".join(networks):
        assert found[1] == six


@settings(max_examples=15, deadline=None)
@given(st.ip_addresses(v=6), st.integers(0, 128), st.integers(0, 2**128 - 1), st.booleans())
def test_ipv6(network: ipaddress.IPv6Address, prefix: int, other: int, near: bool) -> None:
    net = ipaddress.ip_network(f"{network}/{prefix}", strict=False)
    held = int(net.network_address) | (other & (2 ** (128 - prefix) - 1)) if near else other
    address = ipaddress.IPv6Address(held)
    assert in_any(str(address), [str(net)])[1] == (address in net)


@settings(max_examples=15, deadline=None)
@given(st.ip_addresses(v=4), st.integers(0, 32), st.integers(0, 2**32 - 1), st.booleans())
def test_ipv4(network: ipaddress.IPv4Address, prefix: int, other: int, near: bool) -> None:
    net = ipaddress.ip_network(f"{network}/{prefix}", strict=False)
    held = int(net.network_address) | (other & (2 ** (32 - prefix) - 1)) if near else other
    address = ipaddress.IPv4Address(held)
    assert in_any(str(address), ["203.0.113.1/32", str(net)])[0] == (
        address in net or str(address) == "203.0.113.1"
    )


def test_bags_become_one() -> None:
    """Kusto, "make_bag()": the keys of all; none of no rows. A key may hold what paths are written with."""
    CONNECTION.execute("DELETE FROM Watchlist_vips")
    bag = 'toscalar(_GetWatchlist("vips") | summarize N = make_list(SearchKey) by account'
    bag += " | summarize make_bag(bag_pack(account, N)))"
    assert rows(f"print b = tostring({bag})") == [("{}",)]
    CONNECTION.execute("""INSERT INTO Watchlist_vips VALUES ('1', 'a.b@x"y'), ('2', '$[0]'), ('3', '$[0]')""")
    for key, wanted in (('a.b@x\\"y', "1"), ("$[0]", "2, 3"), ("a", ""), ("", ""), ("0", "")):
        [found] = rows(f'print f = strcat_array({bag}[tolower(strcat("{key}", ""))], ", ")')
        assert (found[0] or "") == wanted


def test_a_watchlist_is_its_items() -> None:
    CONNECTION.execute("DELETE FROM Watchlist_vips")
    CONNECTION.execute("INSERT INTO Watchlist_vips VALUES ('ann', 'ann'), ('bob', 'bob')")
    asked = '_GetWatchlist("vips") | project r = column_ifexists("account", ""), k = SearchKey'
    assert sorted(rows(asked)) == [("ann", "ann"), ("bob", "bob")]
    missing = '_GetWatchlist("vips") | project r = column_ifexists("host", "none")'
    assert rows(missing) == [("none",), ("none",)]


def test_a_watchlist_that_is_missing_is_an_error() -> None:
    with pytest.raises(KqlError, match="others"):
        with_watchlists('T | where a in ((_GetWatchlist("others")))', {"vips": ["account"]})


def test_a_string_stays_as_it_is() -> None:
    for text in ('T | where a == "_GetWatchlist(\\"x\\")"', 'T | where a == @"_GetWatchlist(""x"")"'):
        assert with_watchlists(text, {}) == text
    text = 'T | where a == "_GetWatchlist" and n in ((_GetWatchlist("vips") | project x = ")"))'
    assert with_watchlists(text, {"vips": []}) == text.replace('_GetWatchlist("vips")', "Watchlist_vips")

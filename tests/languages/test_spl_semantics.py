"""The trap: SPL looks like SQL and is not. An engine that gets one of these wrong makes every replay lie.

Each case is a search, the events it is run on and the ids that Splunk returns, with the page that says so.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from detection_pack.languages.spl.spl_characters import (
    ANY_CHARACTER,
    ASCII_FOLLOWS,
    BEYOND_ASCII,
    TERM_END,
    TERM_START,
)
from detection_pack.languages.spl.spl_parser import UnsupportedSpl
from detection_pack.model.event import Clock, Event
from detection_pack.platforms.splunk.run import Workspace
from support.engines import execute
from support.sources import M365, PROCESS

NOW = Clock(datetime(2024, 2, 1, 18, 0, tzinfo=UTC))


def event(name: str, time: str = "2024-02-01T12:30:00", **record: Any) -> Event:
    return Event(name, M365, {"CreationTime": time, **record})


EVENTS = (
    event("absent"),
    event("empty", UserId=""),
    event("lower", UserId="ann@x.com", RecordType=1),
    event("upper", UserId="ANN@X.COM", RecordType=2),
    event("star", UserId="a*n@x.com", RecordType=50),
    event("back", UserId='dom\\ann "x"', RecordType=18),
)
ALL = {e.id for e in EVENTS}

SEARCHES = {
    # Search Manual, "Difference between NOT and !=": an absent field is not unequal, but it is NOT equal.
    'UserId!="ann@x.com"': {"empty", "star", "back"},
    'NOT UserId="ann@x.com"': {"absent", "empty", "star", "back"},
    'NOT UserId!="ann@x.com"': {"absent", "lower", "upper"},
    'UserId!=""': ALL - {"absent", "empty"},
    'NOT UserId!=""': {"absent", "empty"},
    'UserId=""': {"empty"},
    # Search Reference, "search": letter case is ignored, * is a wildcard, in quotes too, without an escape.
    'UserId="Ann@x.com"': {"lower", "upper"},
    "UserId=ann*": {"lower", "upper"},
    'UserId="a*n@x.com"': {"lower", "upper", "star"},
    'UserId="a\\\\*n@x.com"': set(),
    'UserId IN ("ann@*", "dom*")': {"lower", "upper", "back"},
    'UserId="dom\\\\ann \\"x\\""': {"back"},
    # Field names are case-sensitive.
    'userid="ann@x.com"': set(),
    # Numbers compare as numbers.
    "RecordType=1": {"lower"},
    'RecordType="01"': {"lower"},
    "RecordType>2": {"star", "back"},
    "RecordType IN (2, 50)": {"upper", "star"},
    # Search Manual, "Boolean expressions with logical operators": search binds OR before AND ...
    'RecordType=1 OR RecordType=2 UserId="ANN*"': {"lower", "upper"},
    'UserId="x" RecordType=1 OR RecordType=2': set(),
    "NOT RecordType=1 RecordType=2": {"upper"},
    # ... and where binds AND before OR.
    '* | where UserId="x" AND RecordType="1" OR RecordType="2"': {"upper"},
    # Search Reference, "where": text compares case-sensitively, null is not true and neither is its NOT.
    '* | where UserId="ann@x.com"': {"lower"},
    '* | where lower(UserId)="ann@x.com"': {"lower", "upper"},
    '* | where UserId!="ann@x.com"': ALL - {"absent", "lower"},
    '* | where NOT UserId="ann@x.com"': ALL - {"absent", "lower"},
    '* | where NOT match(UserId, "zzz")': ALL - {"absent"},
    '* | where NOT coalesce(UserId,"")="ann@x.com"': ALL - {"lower"},
    "* | where isnull(UserId)": {"absent"},
    '* | where UserId="a*n@x.com"': {"star"},
    # A field in single quotes, a string in double quotes.
    "* | where 'UserId'=\"ann@x.com\"": {"lower"},
    '* | where "UserId"="UserId" AND RecordType="1"': {"lower"},
    # Search Reference, "Comparison and conditional functions": match finds a part; \x5c is a backslash.
    '* | where match(UserId, "nn")': {"lower", "back"},
    '* | where match(UserId, "(?i)NN")': {"lower", "upper", "back"},
    '* | where match(UserId, "dom\\x5cann")': {"back"},
    '* | where match(UserId, "\\x22")': {"back"},
    '* | where UserId="dom\\\\ann \\"x\\""': {"back"},
    # Conversion functions: tonumber of text is null, and a null never compares.
    "* | where tonumber(RecordType)>=18": {"star", "back"},
    "* | where coalesce(tonumber(UserId),7)=7": ALL,
    # mvfilter of a field that is absent, and a wildcard search for whatever is there.
    "* | where isnotnull(mvfilter('Parameters{}.Name'=\"x\"))": set(),
    'UserId="*"': ALL - {"absent"},
}


@pytest.mark.parametrize("spl", SEARCHES)
def test_a_search_finds_what_splunk_documents(spl: str) -> None:
    assert {row.event for row in execute(spl, EVENTS, NOW)} == SEARCHES[spl]


def test_one_value_of_several_is_enough() -> None:
    several = event("s", Parameters=[{"Name": "A", "Value": "one"}, {"Name": "B", "Value": "two"}])
    for spl, found in {
        '"Parameters{}.Value"="TWO"': True,
        '"Parameters{}.Value" IN ("x", "t*")': True,
        'NOT "Parameters{}.Value"="two"': False,
        "* | where isnotnull(mvfilter(match('Parameters{}.Value', \"^tw\")))": True,
        '* | where mvjoin(\'Parameters{}.Value\', "+")="one+two"': True,
        'A="one"': True,
    }.items():
        assert bool(execute(spl, [several], NOW)) is found, spl


def test_a_part_of_a_json_text() -> None:
    """spath finds by a path, mvfind the place of a name, mvindex what stands there."""
    named = event(
        "n",
        Parameters=[
            {"Name": "A", "Values": ["one", "two"]},
            {"Name": "AB", "Value": "three"},
            {"Name": "B", "Value": 'f "o\\u"\nr'},
            {"Name": "C", "Value": False},
        ],
    )
    objects, names = 'spath(_raw,"Parameters{}")', 'spath(_raw,"Parameters{}.Name")'
    for name, path, found in (
        ("A", "Values{}", "one+two"),
        ("AB", "Value", "three"),
        ("B", "Value", 'f \\"o\\\\u\\"\nr'),
        ("C", "Value", "false"),
        ("A", "Value", None),
        ("D", "Value", None),
    ):
        at = f'spath(mvindex({objects},mvfind({names},"^{name}\\z")),"{path}")'
        wanted = f"isnull({at})" if found is None else f'mvjoin({at},"+")="{found}"'
        assert execute(f"* | where {wanted}", [named], NOW), (name, path)
    # The lists of names and of values do not go together.
    assert execute('* | where mvindex(spath(_raw,"Parameters{}.Value"),0)="three"', [named], NOW)
    # An object as its text, what is not there, and what is no JSON.
    assert execute('* | where match(mvindex(spath(_raw,"Parameters{}"),1),"^\x7b")', [named], NOW)
    assert execute('* | where isnull(spath(_raw,"Parameters{}.Value.More"))', [named], NOW)
    assert execute('* | where isnull(spath(Id,"a"))', [event("x", Id="no JSON")], NOW)
    assert execute('* | where isnull(mvindex(spath(_raw,"Parameters{}"),4))', [named], NOW)


@pytest.mark.parametrize("expression", ['spath(_raw,"a{0}")', 'spath(_raw,"a..b")', "mvindex(_raw,-1)"])
def test_what_is_not_modelled_of_json_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedSpl):
        execute(f"* | where isnull({expression})", [event("x")], NOW)


def test_an_event_stays_as_it_was_written() -> None:
    """What spath finds in _raw is looked up by the keys of the record, so nothing may change _raw before."""
    with pytest.raises(UnsupportedSpl, match="eval of _raw"):
        execute('* | eval _raw="x" | where isnull(spath(_raw,"a"))', [event("x")], NOW)


def test_several_values_where_one_is_needed_are_refused() -> None:
    several = event("s", Folders=[{"Path": "a"}, {"Path": "b"}])
    with pytest.raises(UnsupportedSpl, match="several values"):
        execute("* | where match('Folders{}.Path', \"a\")", [several], NOW)
    with pytest.raises(UnsupportedSpl, match="several values"):
        execute('"Folders{}.Path"!="a"', [several], NOW)


@pytest.mark.parametrize(
    ("earliest", "found"),
    [
        ("-2h", {"12:30"}),
        ("-2h@h", {"12:00", "12:30"}),
        ("-90m@m", {"12:30"}),
        ("-1h@d", {"00:00", "11:59", "12:00", "12:30"}),
    ],
)
def test_a_look_back_is_rounded_down_to_its_unit(earliest: str, found: set[str]) -> None:
    times = ["00:00", "11:59", "12:00", "12:30"]
    listed = [event(time, f"2024-02-01T{time}:00") for time in times]
    now = Clock(datetime(2024, 2, 1, 14, 20, tzinfo=UTC))
    now = Clock(datetime(2024, 2, 1, 14, 0, 30, tzinfo=UTC)) if earliest == "-90m@m" else now
    assert {row.event for row in execute(f"earliest={earliest} latest=now", listed, now)} == found


def test_md5_is_in_hexadecimal() -> None:
    (row,) = execute('* | eval x=md5(UserId."é")', [event("e", UserId="a")], NOW)
    assert row.values["x"] == hashlib.md5("aé".encode(), usedforsecurity=False).hexdigest()


def test_earliest_is_inclusive_and_latest_is_not() -> None:
    edges = [
        event("first", "2024-02-01T17:00:00"),
        event("before", "2024-02-01T16:59:59"),
        event("now", "2024-02-01T18:00:00"),
        event("last", "2024-02-01T17:59:59.999Z"),
        event("offset", "2024-02-01T19:30:00+02:00"),
        event("unreadable", "yesterday"),
    ]
    found = execute("earliest=-60m latest=now", edges, NOW)
    assert {row.event for row in found} == {"first", "last", "offset"}


STATS = (
    event("a", "2024-02-01T12:00:00", UserId="u", ClientIP="i", MailboxOwnerUPN="m1"),
    event("b", "2024-02-01T12:59:59.999", UserId="u", ClientIP="i", MailboxOwnerUPN="m2"),
    event("c", "2024-02-01T13:00:00", UserId="u", ClientIP="i", MailboxOwnerUPN="m3"),
    event("d", "2024-02-01T12:10:00", UserId="u", ClientIP="i", MailboxOwnerUPN="M1"),
    event("e", "2024-02-01T12:20:00", UserId="u", ClientIP="i"),
    event("f", "2024-02-01T12:20:00", UserId="u", MailboxOwnerUPN="m4"),
    event("g", "2024-02-01T12:20:00", UserId="u", ClientIP="", MailboxOwnerUPN="m5"),
)


def test_stats_drops_null_groups_and_dc_ignores_null_and_sees_case() -> None:
    # Search Reference, "stats" and "Aggregate functions".
    spl = "* | bin _time span=1h | stats dc(MailboxOwnerUPN) AS n, count AS c BY _time, UserId, ClientIP"
    rows = {
        (row.values["_time"].hour, row.group): (row.value, row.values["c"])
        for row in execute(spl, STATS, NOW)
    }
    assert rows == {
        (12, ("u", "i")): (3.0, 4.0),
        (12, ("u", "")): (1.0, 1.0),
        (13, ("u", "i")): (1.0, 1.0),
    }


def test_fillnull_and_coalesce_keep_the_group() -> None:
    for kept in ('fillnull value="" ClientIP', 'eval ClientIP=coalesce(ClientIP,"")'):
        rows = execute(f"* | {kept} | stats count AS c BY ClientIP", STATS, NOW)
        assert {row.group: row.value for row in rows} == {("i",): 5.0, ("",): 2.0}


def test_values_are_distinct_and_sorted_and_a_group_knows_its_window() -> None:
    spl = (
        "* | eval seen=_time | bin _time span=1h | stats count AS c, min(seen) AS seen,"
        ' values(MailboxOwnerUPN) AS m BY _time, UserId | eval all=mvjoin(m, ","), _time=seen'
        " | table _time, all, c"
    )
    rows = sorted(execute(spl, STATS, NOW), key=lambda r: str(r.window))
    assert [row.values["all"] for row in rows] == ["M1,m1,m2,m4,m5", "m3"]
    assert [row.window for row in rows] == [datetime(2024, 2, 1, h, tzinfo=UTC) for h in (12, 13)]
    assert rows[0].values["_time"] == datetime(2024, 2, 1, 12, 0, tzinfo=UTC)
    assert all(row.event is None for row in rows)


def test_a_list_of_numbers_is_expanded() -> None:
    """Search Reference, "mvrange" (the end is not in it), "mvexpand", "fields", and "eval" (Operators)."""
    spl = (
        "* | eval seen=_time | fields UserId, seen | fields - _raw | eval back=mvrange(0, 3) | mvexpand back"
        " | eval _time=(floor(_time/3600)-back)*3600 | stats count AS c BY _time"
    )
    rows = sorted(execute(spl, STATS, NOW), key=lambda r: str(r.window))
    at = [datetime(2024, 2, 1, h, tzinfo=UTC) for h in (10, 11, 12, 13)]
    assert [row.window for row in rows] == at
    assert sum(row.value or 0 for row in rows) == 3 * len(STATS)


def test_arithmetic_binds_as_usual_and_a_time_is_relative_to_now() -> None:
    spl = (
        'RecordType=2 | eval a=2+3*4-6/2, b=1/0, since=relative_time(now(), "-2h@h")'
        " | where _time<since | table a, b"
    )
    (row,) = execute(spl, EVENTS, NOW)
    assert row.values == {"a": 11.0, "b": None}
    assert execute(spl.replace("<since", ">=since"), EVENTS, NOW) == []


RUNNING = "* | stats count AS c BY UserId, RecordType | eval n=tonumber(RecordType) | sort 0 n"


def test_rows_before_a_row_are_those_of_its_group_in_the_order_of_the_sort() -> None:
    listed = [event(f"{n}", RecordType=n, UserId="ab"[n % 2]) for n in range(1, 7)]
    spl = (
        f"{RUNNING} | streamstats current=f max(n) AS before BY UserId"
        " | streamstats sum(n) AS total BY UserId | eventstats max(n) AS most BY UserId"
        " | table UserId, n, before, total, most"
    )
    names = ("UserId", "n", "before", "total", "most")
    rows = [tuple(row.values[name] for name in names) for row in execute(spl, listed, NOW)]
    after = [("a", 4, 2, 6, 6), ("a", 6, 4, 12, 6), ("b", 3, 1, 4, 5), ("b", 5, 3, 9, 5)]
    assert sorted(row for row in rows if row[2] is not None) == after
    assert {(row[0], row[3]) for row in rows if row[2] is None} == {("a", 2), ("b", 1)}


def test_streamstats_without_groups_runs_over_all_rows() -> None:
    listed = [event(f"{n}", RecordType=n, UserId="a") for n in (1, 2, 3)]
    rows = execute(f"{RUNNING} | streamstats sum(n) AS total | table total", listed, NOW)
    assert sorted(row.values["total"] for row in rows) == [1, 3, 6]


def test_a_search_knows_until_when_it_looks_and_when_an_event_was_indexed() -> None:
    listed = [event("old"), event("new")]
    indexed = {"old": NOW.now - timedelta(hours=2), "new": NOW.now - timedelta(minutes=6)}
    spl = '* earliest=-1d latest=now | addinfo | where _indextime<relative_time(info_max_time,"{}")'

    def found(workspace: Workspace, text: str, *more: Any) -> set[str | None]:
        return {row.event for row in workspace.search(text, {}, NOW.now, *more)}

    known = Workspace(listed, indexed=indexed)
    assert found(known, spl.format("-65m@m")) == {"old"}
    assert found(known, spl.format("-5m@m")) == {"old", "new"}
    arrived = (NOW.now - timedelta(minutes=65), NOW.now - timedelta(minutes=5))
    assert found(known, "* earliest=-1d latest=now", None, None, arrived) == {"new"}
    # Of what nobody says when it was indexed, it is as if it had just come.
    unknown = Workspace(listed)
    assert found(unknown, spl.format("-65m@m")) == set()
    assert found(unknown, spl.format("-5m@m")) == {"old", "new"}


def test_split_undoes_a_join() -> None:
    (row,) = execute('* | eval u=split(UserId, ", ") | table u', [event("e", UserId="a, b")], NOW)
    assert row.values["u"] == ["a", "b"]


@pytest.mark.parametrize(
    "spl",
    [
        "* | mvexpand UserId",
        "* | fields - UserId",
        "* | eval a=mvrange(0, RecordType)",
        '* | eval a=relative_time(UserId, "-1h")',
        "* | eval a=UserId | stats count AS c BY a | streamstats sum(c) AS s",
        "* | stats count AS c BY UserId | sort 0 c | sort 0 -c",
        "* | addinfo",
        "* | eval a=UserId+1",
    ],
)
def test_lists_and_times_that_are_not_modelled_are_refused(spl: str) -> None:
    with pytest.raises(UnsupportedSpl):
        execute(spl, EVENTS, NOW)


def test_eval_assigns_from_left_to_right_and_joins_numbers_as_integers() -> None:
    (row,) = execute('RecordType=2 | eval a=lower(UserId), b=a."!".len(a) | table b', EVENTS, NOW)
    (other,) = execute('UserId="ann@x.com" RecordType=1 | table _time, UserId, Nope', EVENTS, NOW)[:1]
    assert row.values == {"b": "ann@x.com!9"}
    assert other.values["Nope"] is None
    assert other.event == "lower"


def test_rows_of_a_union_keep_their_event_and_sort_newest_first() -> None:
    spl = (
        "| union maxtime=60 [ search RecordType=1 | table _time, UserId ]"
        " [ search RecordType=2 | eval UserId=lower(UserId) | table _time, UserId ] | sort 0 -_time"
    )
    early = event("early", "2024-02-01T11:00:00", RecordType=2, UserId="Z")
    rows = execute(spl, [early, *EVENTS], NOW)
    assert [row.event for row in rows][-1] == "early"
    assert {row.event for row in rows} == {"lower", "upper", "early"}
    assert rows[-1].values["UserId"] == "z"


CIDR = {
    ("10.0.0.0/8", "10.255.0.1"): True,
    ("10.0.0.0/8", "11.0.0.1"): False,
    ("10.0.0.0/8", "10.0.0.1:80"): False,
    ("10.0.0.0/8", "310.0.0.1"): False,
    ("0.0.0.0/0", "1.2.3.4"): True,
    ("0.0.0.0/0", ""): False,
    ("192.168.1.128/25", "192.168.1.127"): False,
    ("192.168.1.128/25", "192.168.1.128"): True,
    ("2603:1026::/31", "2603:1027:207:5D::5"): True,
    ("2603:1026::/31", "2603:1028::5"): False,
    ("::1/128", "::1"): True,
    ("::1/128", "0:0:0:0:0:0:0:1"): True,
    ("::1/128", "::2"): False,
    ("::/0", "1:2:3"): False,
    ("fe80::/10", "fe80::"): True,
    ("10.0.0.0/8", "::10"): False,
}


@pytest.mark.parametrize(("network", "address"), CIDR)
def test_cidrmatch(network: str, address: str) -> None:
    found = execute(
        f'* | where cidrmatch("{network}", coalesce(ClientIP,""))', [event("e", ClientIP=address)], NOW
    )
    assert bool(found) is CIDR[network, address]


PATTERNS = {
    # PCRE's $ matches before a last line break, \z does not.
    ("abc$", "abc\n"): True,
    (r"abc\z", "abc\n"): False,
    ("abc$", "abc\n\n"): False,
    ("(?m)abc$", "abc\nx"): True,
    ("a.c", "a\nc"): False,
    ("(?s)a.c", "a\nc"): True,
    (r"a\sc", "a\x0bc"): True,
    (f"(?i){TERM_START}curl/", "Xcurl/"): False,
    (f"(?i){TERM_START}curl/", "-CURL/7"): True,
    (f"{TERM_START}(?:ab|cd){TERM_END}", "abé cd"): True,
    (f"{TERM_START}(?:ab|cd){TERM_END}", "abé cd٣"): False,
    (f"(?:{TERM_START}ab{TERM_END}|cd$)", "xab cd"): True,
    (r"\x{1F600}", "😀"): True,
    ("(?i)(?-i:[Ss])e", "SE"): True,
    ("(?i)(?-i:[Ss])e", "ſe"): False,
    (f"^a{ANY_CHARACTER}b$", "aéb"): True,
    (f"^a{ANY_CHARACTER}b$", "aééb"): False,
    (f"^a(?:{ASCII_FOLLOWS}[^x]|{BEYOND_ASCII})b$", "a中b"): True,
    (f"^a(?:{ASCII_FOLLOWS}[^x]|{BEYOND_ASCII})b$", "axb"): False,
}


@pytest.mark.parametrize(("regex", "text"), PATTERNS)
def test_patterns_mean_what_pcre_says(regex: str, text: str) -> None:
    found = execute(f'* | where match(UserId, "{regex}")', [event("e", UserId=text)], NOW)
    assert bool(found) is PATTERNS[regex, text]


REFUSED = {
    "* | transaction UserId": "1:5",
    "* | eval a=1 | stats count AS c": "end",
    "* |\n  rex field=UserId x": "2:3",
    '* | where like(UserId, "a%")': "1:11",
    '* | where sha256(UserId)="x"': "1:11",
    "error": "1:1",
    "* | where UserId": "1:5",
    "* | eval x=isnull(UserId)": "1:5",
    "* | sort UserId": "1:10",
    "* | where RecordType>5": "1:11",
    'UserId="`x`"': "1:8",
    "`nope` UserId=1": "1:1",
    "earliest=-1d@w0": "1:1",
    "(earliest=-1d OR UserId=x)": "1:2",
    "UserId=x OR earliest=-1d": "1:13",
    '* | where match(UserId, "(?=a)b")': "1:11",
    f'* | where match(UserId, "a{TERM_START}b")': "1:11",
    "* | where match(UserId, UserType)": "1:11",
    '* | where match(UserId, "(?:a$)b")': "1:11",
    '* | where match(UserId, "(a)\\1")': "1:11",
    '* | where match(UserId, "a++")': "1:11",
    '* | where replace(UserId, "a$", "b")="x"': "1:11",
    "| multisearch [ search UserId=1 ] [ search UserId=2 | stats count AS c BY UserId ]": "1:",
    '* | where UserId="a': "1:18",
}


@pytest.mark.parametrize("spl", REFUSED)
def test_what_is_not_executed_exactly_is_refused_with_its_place(spl: str) -> None:
    with pytest.raises(UnsupportedSpl) as refused:
        execute(spl, EVENTS, NOW)
    assert str(refused.value).startswith("unsupported SPL: ")
    assert REFUSED[spl] in str(refused.value)


def test_the_place_is_that_of_the_text_before_macros_are_expanded() -> None:
    with pytest.raises(UnsupportedSpl, match="at 1:18"):
        execute("`src` UserId=* | rex x", EVENTS, NOW, {"src": 'sourcetype="o365:management:activity"'})


def test_record_types_by_name_or_number_are_the_integer_that_splunk_holds() -> None:
    shapes = [
        event("name", RecordType="ExchangeItem"),
        event("int", RecordType=2),
        event("text", RecordType="2"),
    ]
    assert {row.event for row in execute("RecordType=2", shapes, NOW)} == {"name", "int", "text"}
    assert not execute("RecordType=ExchangeItem", shapes, NOW)


def test_json_null_is_no_field_and_a_users_domain_is_not_in_user() -> None:
    host = Event(
        "p", PROCESS, {"UtcTime": "2024-02-01 12:00:00", "User": "CORP\\bob", "Image": "C:\\W\\X.exe"}
    )
    assert execute('user="bob" process_name="x.exe" dest=*', [host], NOW) == []
    assert len(execute('user="bob" process_name="x.exe" tag=process tag=report', [host], NOW)) == 1
    assert len(execute("NOT UserId=*", [event("n", UserId=None)], NOW)) == 1

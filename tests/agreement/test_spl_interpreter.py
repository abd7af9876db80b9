"""The trap: a judge that is wrong itself, or that answers where the documentation does not.

What Splunk's documentation states of each command and function, with the page, on events of a few fields; and
what the interpreter of `support.spl` refuses, with its position.
"""

from __future__ import annotations

from typing import Any

import pytest

from support.spl import BYTES, MODES, UTF, Index, Row, Table, UnsupportedSearch, run, stanzas
from support.spl.rows import text_of

NOW = 1_000_000.0


def rows(*events: dict[str, Any]) -> list[Row]:
    return [
        Row({"_time": NOW - 10 + n / 10, "id": f"e{n}", **event}, frozenset({f"e{n}"}))
        for n, event in enumerate(events)
    ]


EVENTS = rows(
    {},
    {"name": ""},
    {"name": "Lyra", "size": "9"},
    {"name": "lyra bay", "size": "10"},
    {"name": 'a*"b\\c', "size": "x"},
    {"name": ["Dash", "Roan"], "size": "010"},
)
INDEX = Index(EVENTS, {"Model.Set": EVENTS})


def found(spl: str, index: Index = INDEX, **more: Any) -> list[dict[str, Any]]:
    return [dict(row.fields) for row in run(spl, index, more.pop("macros", {}), NOW, UTF, **more)]


SEARCHES = {
    # Search Manual, "Difference between != and NOT"; Search Reference, "search".
    'name="lyra"': "e2",
    'name="lyra*"': "e2 e3",
    "name=*": "e1 e2 e3 e4 e5",
    'NOT name="lyra*"': "e0 e1 e4 e5",
    'id=e3 name!="lyra"': "e3",
    'id=e0 name!="lyra"': "",
    "name IN (dash, *BAY)": "e3 e5",
    'name="a*\\"b\\\\c"': "e4",
    # A value that is a number is compared as one.
    "size=10": "e3 e5",
    "size>9": "e3 e4 e5",
    "size<=9": "e2",
    # Search Manual, "Boolean expressions": NOT, then OR, then AND; in where AND before OR.
    "id=e2 OR id=e3 size=10": "e3",
    "(id=e3 size=10) OR id=e2": "e2 e3",
    "NOT id=e2 OR id=e2 size=9": "e2",
    'earliest=-10s latest=now id="e*"': "e0 e1 e2 e3 e4 e5",
    "earliest=-9s latest=now": "",
    "earliest=-9s@m latest=now": "e0 e1 e2 e3 e4 e5",
    "earliest=-1d@d latest=-0s@m": "",
    "earliest=999990 latest=999990.2": "e0 e1",
}


@pytest.mark.parametrize("spl", SEARCHES)
def test_search(spl: str) -> None:
    assert " ".join(row["id"] for row in found(spl)) == SEARCHES[spl]


EXPRESSIONS = {
    # Search Reference, "eval", Operators; numbers where both sides are numbers, else texts.
    '1 ."a". 2': "1a2",
    "2+3*4-1": "13",
    "7/2": "3.5",
    "7%4": "3",
    "1/0": "null",
    'if("9"<"10","number","text")': "number",
    'if("9"<"10x","number","text")': "text",
    'if("a"="A","same","other")': "other",
    'if(1=1 OR 1=2 AND 1=2,"and first","or first")': "and first",
    'if(NOT 1=2,"y","n")': "y",
    # Comparison and conditional functions.
    'if(match("xabcx","a.c"),"y","n")': "y",
    'if(cidrmatch("192.0.2.0/24","192.0.2.9"),"y","n")': "y",
    'if(cidrmatch("2001:db8::/32","2001:DB8::1"),"y","n")': "y",
    'if(cidrmatch("192.0.2.0/24","none"),"y","n")': "n",
    'case(1=2,"a",1=1,"b")': "b",
    'case(1=2,"a")': "null",
    "coalesce(null(),absent,7)": "7",
    'if(isnull(absent) AND isnotnull("x"),"y","n")': "y",
    # Conversion and text functions.
    'tonumber("12")+1': "13",
    'tonumber("x")': "null",
    'lower("AbÉ")': "abé",
    'len("é中")': "2",
    'substr("string",1,3)': "str",
    'substr("string",-3)': "ing",
    r'replace("1/14/2023","^(\d{1,2})/(\d{1,2})/","\2/\1/")': "14/1/2023",
    'urldecode("%E2%80%8B%5C")': "\u200b\\",
    r'"a\"b\\c\d"': r'a"b\c\d',
    # Multivalue functions.
    'mvjoin(many,", ")': "a, b, b",
    "mvcount(many)": "3",
    'mvjoin(mvfilter(match(many,"b")),"+")': "b+b",
    'mvfilter(match(many,"z"))': "null",
    'mvjoin(mvrange(1,11,2)," ")': "1 3 5 7 9",
    'mvjoin(split("x-y","-"),"|")': "x|y",
    'mvjoin(mvappend(many,"c"),"")': "abbc",
    "mvindex(many,1)": "b",
    "mvindex(many,3)": "null",
    'mvfind(many,"^b")': "1",
    'mvfind(many,"z")': "null",
    'mvindex(many,mvfind(many,"z"))': "null",
    # JSON functions.
    r'mvjoin(spath("{\"a\":[{\"b\":1},{\"c\":2},{\"b\":\"x\"}]}","a{}.b"),"+")': "1+x",
    r'spath("{\"a\":{\"b\":[1,2]}}","a")': '{"b":[1,2]}',
    r'spath("{\"a\":1}","b")': "null",
    'spath("no JSON","a")': "null",
    "floor(1.9)+ceiling(1.1)": "3",
    'absent."x"': "null",
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_eval(expression: str) -> None:
    index = Index(rows({"many": ["a", "b", "b"]}))
    [row] = found(f"* | eval x={expression}", index)
    value = row.get("x", "null")
    assert text_of(value) == EXPRESSIONS[expression]


def shown(spl: str, index: Index = INDEX, **more: Any) -> list[dict[str, str]]:
    return [
        {name: "|".join(value) if isinstance(value, list) else text_of(value) for name, value in row.items()}
        for row in found(spl, index, **more)
    ]


GROUPS = Index(
    rows({"g": "a", "v": "1"}, {"g": "a", "v": "2"}, {"g": ["a", "b"], "v": "x"}, {"v": "9"}, {"g": "b"})
)

COMMANDS = {
    # Search Reference, each command's page.
    "* | stats count AS n, dc(v) AS d, values(v) AS l BY g": [
        {"g": "a", "n": "3", "d": "3", "l": "1|2|x"},
        {"g": "b", "n": "2", "d": "1", "l": "x"},
    ],
    "* | stats sum(v) AS s, avg(v) AS a, min(v) AS low, max(v) AS high": [
        {"s": "12", "a": "4", "low": "1", "high": "x"}
    ],
    'v=1 OR v=2 | stats max(eval(if(g="a",v,null()))) AS m BY id | search m=*': [
        {"id": "e0", "m": "1"},
        {"id": "e1", "m": "2"},
    ],
    "v=9 | eval _time=7199 | bin _time span=1h | table _time": [{"_time": "3600"}],
    "* | sort 2 -v | table v": [{"v": "x"}, {}],
    "* | search v=* | sort 0 v | table v": [{"v": "1"}, {"v": "2"}, {"v": "9"}, {"v": "x"}],
    "* | dedup v | table v": [{"v": "1"}, {"v": "2"}, {"v": "x"}, {"v": "9"}],
    "v=x | mvexpand g | table g": [{"g": "a"}, {"g": "b"}],
    "v=9 | rename v AS w | table v w": [{"w": "9"}],
    "v=1 OR v=2 | streamstats count AS n BY g | table n": [{"n": "1"}, {"n": "2"}],
    "v=1 OR v=2 OR v=9 | eval g=1 | streamstats current=f max(v) AS n BY g | table n": [
        {},
        {"n": "1"},
        {"n": "2"},
    ],
    "v=1 OR v=2 OR v=9 | eval g=if(v=9,2,1) | eventstats max(v) AS n BY g | table n": [
        {"n": "2"},
        {"n": "2"},
        {"n": "9"},
    ],
    "v=9 | eval v=null(), w=1 | table v w": [{"w": "1"}],
    "v=9 | where absent=1 | table v": [],
    "| union [ search v=1 | table v ] [ search v=9 | table v ]": [{"v": "1"}, {"v": "9"}],
    "v=1 | lookup t g OUTPUT note AS n | table n": [{"n": "first"}],
    "v=9 | eval n=1 | lookup t g OUTPUT note AS n | table n": [{}],
    "v=1 | eval k=g | lookup t g AS k OUTPUT g AS f, note AS n | table f, n": [{"f": "A", "n": "first"}],
}


@pytest.mark.parametrize("spl", COMMANDS)
def test_commands(spl: str) -> None:
    table = Table([{"g": "A", "note": "first"}, {"g": "a", "note": "second"}], cased=False)
    assert shown(spl, GROUPS, tables={"t": table}) == COMMANDS[spl]


def test_a_result_knows_the_events_that_it_was_made_of() -> None:
    results = run("* | stats count AS n BY g", GROUPS, {}, NOW, UTF)
    assert [row.events for row in results] == [{"e0", "e1", "e2"}, {"e2", "e4"}]


def test_tstats_drops_a_group_without_its_field_unless_it_is_filled() -> None:
    text = "| tstats {}count AS count FROM datamodel=Model.Set WHERE size=* BY id name"
    assert [row["id"] for row in found(text.format(""))] == ["e2", "e3", "e4", "e5", "e5"]
    filled = found("| tstats fillnull_value=none count AS count FROM datamodel=Model.Set BY id size")
    assert [row["size"] for row in filled if row["id"] in ("e0", "e1")] == ["none", "none"]


def test_tstats_takes_the_second_of_the_time() -> None:
    rows = found("| tstats count AS count FROM datamodel=Model.Set BY _time span=1s id")
    assert rows and all(float(str(row["_time"])).is_integer() for row in rows)
    with pytest.raises(UnsupportedSearch, match="another span"):
        found("| tstats count AS count FROM datamodel=Model.Set BY _time span=1h id")


def test_macros_and_the_range_of_the_dispatch() -> None:
    macros = {"outer": "(`inner`)", "inner": 'id="e2"'}
    assert [row["id"] for row in found("`outer`", macros=macros)] == ["e2"]
    assert found('name="`x`"') == []
    assert [row["id"] for row in found("id=*", dispatched=(NOW - 9.95, NOW - 9.8))] == ["e1"]
    # The search's own range stands in its place.
    assert [row["id"] for row in found("id=e0 earliest=-1h latest=now", dispatched=(NOW, NOW))] == ["e0"]


def test_the_two_modes_of_pcre_differ_where_it_says_so() -> None:
    """pcre2pattern(3): a dot is one code unit without PCRE2_UTF, and only ASCII is folded."""
    cases = {("^.$", "é"): (True, False), ("(?i)é", "É"): (True, False), ("(?i)k", "\u212a"): (True, False)}
    cases |= {(r"\p{L}", "“"): (False, True), (r"\w", "é"): (False, False), (r"\x{e9}", "é"): (True, False)}
    for (regex, text), expected in cases.items():
        assert tuple(mode.matches(regex, text) for mode in MODES) == expected, regex
    assert UTF.replaced("(a)(b)?", r"<\1\2>", "xaby a") == "x<ab>y <a>"
    assert BYTES.replaced("(é)", r"<\1>", "xéy") == "x<é>y"


def test_conf() -> None:
    text = "# about\n[a]\ndefinition = x \\\n| y\nz = 1=2\n\n[b c]\n"
    assert stanzas(text) == {"a": {"definition": "x \n| y", "z": "1=2"}, "b c": {}}


REFUSED = {
    "* | transaction id": 4,
    '* | where like(name,"a")': 10,
    "* | where name": 10,
    "* | eval x=isnull(name)": 9,
    "* | eval x=1 y=2": 13,
    "error": 0,
    '"two words"': 0,
    "id=e5 name!=x": 10,
    "(earliest=-1h OR id=1)": 9,
    "earliest=-1d@w latest=now": 9,
    "earliest=-1h": 0,
    '* | where NOT name="x"': 10,
    "* | where lower(name)=1": 10,
    "* | bin _time span=1mon": 19,
    "* | table n*": 10,
    "* | head 5": 4,
    "* | stats perc95(size) AS p": 10,
    "* | lookup nowhere id OUTPUT x": 11,
    "| tstats count FROM datamodel=Other.Set": 30,
    "| tstats summariesonly=true count FROM datamodel=Model.Set": 9,
    "`nope`": 0,
    '* | where name="a': 15,
    "* | where mvfilter(name=id)=1": 10,
    '* | where match(name,"(")': None,
    "* ] | table id": 2,
}


@pytest.mark.parametrize("spl", REFUSED)
def test_what_is_not_documented_or_not_known_is_refused_with_its_position(spl: str) -> None:
    with pytest.raises(UnsupportedSearch) as refused:
        found(spl)
    if REFUSED[spl] is not None:
        assert refused.value.position == REFUSED[spl], str(refused.value)

"""The trap: on keyword fields Lucene sees letter case, substrings and no word ends; a value can break out of
a query string; an expression can be larger than Elasticsearch takes. Measured: the stock output found 62 % of
what the reference query finds once attackers vary letter case. So every case here is executed."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_pack.languages.lucene.lucene_regex import MAX_LENGTH, WORD, fits, utf16_length
from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.platforms.elastic.backend import queries
from detection_pack.platforms.elastic.store import Store
from detection_pack.platforms.elastic.values import expressions
from judges import lucene_judge
from support.elastic_rules import AUDIT, PROCESS, converted, matching, rule
from support.reference_model import contains_whole_term
from support.sources import M365

REGEX = re.compile(r":/((?:\\.|[^/])*)/")

# (detection, records that match, records that do not)
AUDIT_CASES: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        {"Operation": "Create"},
        [{"Operation": "cReAtE"}],
        [{"Operation": "Created"}, {"Operation": "Creat"}, {}],
    ),
    ({"UserId|contains": "min"}, [{"UserId": "adMINs@x"}], [{"UserId": "m-in"}, {}]),
    ({"UserId|startswith": "adm"}, [{"UserId": "ADMin"}], [{"UserId": "xadm"}]),
    (
        {"UserId|endswith": "@X.com"},
        [{"UserId": "a@x.COM"}],
        [{"UserId": "a@xacom"}, {"UserId": "a@x.com.y"}],
    ),
    ({"UserId": "a?c*e"}, [{"UserId": "AbCe"}, {"UserId": "a.c\nde"}], [{"UserId": "ace"}]),
    ({"UserId": 'a"b\\\\c/d'}, [{"UserId": 'A"b\\c/D'}], [{"UserId": "a b c d"}]),
    ({"UserId": "x\\\\"}, [{"UserId": "X\\"}], [{"UserId": "x"}]),
    ({"UserId": ["x\\\\", "a/b"]}, [{"UserId": "x\\"}, {"UserId": "A/b"}], [{"UserId": "a"}]),
    ({"UserId": "a\nb"}, [{"UserId": "A\nB"}], [{"UserId": "a b"}]),
    ({"UserId": ["AND", "OR", "NOT", "TO"]}, [{"UserId": "and"}, {"UserId": "Not"}], [{"UserId": "andor"}]),
    ({"UserId|cased": "AND"}, [{"UserId": "AND"}], [{"UserId": "and"}]),
    ({"UserId|contains|cased": "aB"}, [{"UserId": "xaBx"}], [{"UserId": "xabx"}]),
    ({"UserId": "a) OR *:*"}, [{"UserId": "A) or *:*"}], [{"UserId": "a"}, {"UserId": "b"}]),
    ({"UserId": '#@&<1-9>~".^$-[]{}()|+!='}, [{"UserId": '#@&<1-9>~".^$-[]{}()|+!='}], [{"UserId": "5"}]),
    ({"UserId": "ÄÖ"}, [{"UserId": "äÖ"}], [{"UserId": "ao"}]),
    ({"UserId": ""}, [{}, {"UserId": ""}], [{"UserId": "a"}]),
    ({"UserId": None}, [{}], [{"UserId": "a"}]),
    ({"UserId|exists": True}, [{"UserId": "a"}], [{}, {"UserId": ""}, {"UserId": None}]),
    ({"UserId|exists": False}, [{}], [{"UserId": "a"}]),
    ({"UserId": 15}, [{"UserId": "15"}], [{"UserId": "150"}]),
    (
        {"UserId|re": r"^s-1-5-\d+$"},
        [{"UserId": "s-1-5-18"}],
        [{"UserId": "S-1-5-18"}, {"UserId": "xs-1-5-1"}],
    ),
    ({"UserId|re|i": r"adm.n|ro+t$"}, [{"UserId": "xADMINx"}, {"UserId": "rooT"}], [{"UserId": "roots"}]),
    ({"UserId|re": r"\bcurl\b"}, [{"UserId": "a curl b"}, {"UserId": "curl"}], [{"UserId": "curly"}]),
    ({"UserId|re": "a.c"}, [{"UserId": "abc"}], [{"UserId": "a\nc"}]),
    ({"UserId|re": r"a[^b]{2}\\/"}, [{"UserId": "xacc\\/"}], [{"UserId": "abc\\/"}]),
    ({"ClientIP": "10.0.0.1"}, [{"ClientIP": "10.0.0.1:5"}], [{"ClientIP": "10.0.0.11"}, {}]),
    ({"ClientIP": "2001:db8::1"}, [{"ClientIP": "[2001:DB8:0::1]:25"}], [{"ClientIP": "2001:db8::2"}]),
    ({"ClientIP|cidr": "10.0.0.0/8"}, [{"ClientIPAddress": "10.9.8.7"}], [{"ClientIP": "11.0.0.1"}]),
    ({"ClientIP|cidr": "2001:db8::/32"}, [{"ClientIP": "2001:db8::7"}], [{"ClientIP": "2001:db9::1"}]),
    ({"OperationCount|gte": 5}, [{"OperationCount": 5}], [{"OperationCount": 4}, {}]),
    ({"ExternalAccess": True}, [{"ExternalAccess": True}], [{"ExternalAccess": False}, {}]),
    (
        {"RecordType": 2},
        [{"RecordType": 2}, {"RecordType": "2"}, {"RecordType": "ExchangeItem"}],
        [{"RecordType": 3}],
    ),
    ({"LogonType": "Delegated"}, [{"LogonType": 2}], [{"LogonType": 0}, {}]),
    (
        {"a": {"Operation": "x"}, "b": {"UserId": "u"}, "condition": "a and not b"},
        [{"Operation": "X"}, {"Operation": "x", "UserId": "v"}],
        [{"Operation": "x", "UserId": "U"}],
    ),
    ({"a": {"UserId": "u"}, "condition": "not a"}, [{"UserId": "v"}, {}], [{"UserId": "U"}]),
    (
        {"a": {"UserId": "u"}, "b": {"Operation": "x"}, "condition": "not a or not not b"},
        [{"UserId": "v"}, {"UserId": "u", "Operation": "x"}],
        [{"UserId": "u"}, {"UserId": "u", "Operation": "y"}],
    ),
    (
        {"a": {"UserId": "u"}, "b": {"Operation": "x"}, "condition": "not (a or b) and not not not a"},
        [{"UserId": "v"}, {}],
        [{"UserId": "u"}, {"Operation": "x"}],
    ),
]


@pytest.mark.parametrize("case", AUDIT_CASES, ids=lambda case: str(case[0])[:60])
def test_audit_values(case: tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    detection, hits, misses = case
    lucene = converted(detection).lucene
    assert lucene is not None
    assert matching(lucene, [*hits, *misses]) == [True] * len(hits) + [False] * len(misses), lucene


PROCESS_CASES: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        {"Image|endswith": ["\\powershell.exe", "\\pwsh.exe"]},
        [{"Image": "C:\\a\\PowerShell.EXE"}, {"Image": "pwsh.exe"}],
        [{"Image": "C:\\a\\xpwsh.exe"}, {"Image": "C:\\pwsh.exe\\b.exe"}, {}],
    ),
    (
        {"Image|endswith": "\\v1.0\\powershell.exe"},
        [{"Image": "C:\\V1.0\\powershell.exe"}],
        [{"Image": "powershell.exe"}],
    ),
    ({"CommandLine|contains": " -enc "}, [{"CommandLine": "x -ENC y"}], [{"CommandLine": "x -encode y"}]),
    (
        {"CommandLine|contains": "EWSEditor"},
        [{"CommandLine": "myEWSEditors"}],
        [{"CommandLine": "EWS Editor"}],
    ),
    ({"User": "bob"}, [{"User": "DOM\\Bob"}], [{"User": "DOM\\bobby"}]),
    ({"ProcessId": 4}, [{"ProcessId": 4}], [{"ProcessId": 44}]),
]


@pytest.mark.parametrize("case", PROCESS_CASES, ids=lambda case: str(case[0])[:60])
def test_process_values(case: tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    detection, hits, misses = case
    lucene = converted(detection, PROCESS).lucene
    assert lucene is not None
    assert matching(lucene, [*hits, *misses], "process") == [True] * len(hits) + [False] * len(misses), lucene


#: A detection, what it finds in a rule that says ``whole_terms: true``, what the same rule without the key
#: finds besides, and what neither finds.
Record = dict[str, Any]
WHOLE_TERMS: list[tuple[dict[str, Any], list[Record], list[Record], list[Record]]] = [
    (
        {"Operation|contains": ["Search-Mailbox", "New-MailboxSearch"]},
        [{"Operation": "x search-MAILBOX"}, {"Operation": "New-MailboxSearch"}],
        [
            {"Operation": "Search-MailboxAuditLog"},
            {"Operation": "2Search-Mailbox"},
            {"Operation": "éSearch-Mailbox"},
        ],
        [{"Operation": "Search"}, {}],
    ),
    (
        {"ClientInfoString|contains": ["curl/", "MailSniper"]},
        [
            {"ClientInfoString": "a CURL/7.68.0"},
            {"ClientInfoString": "curl/"},
            {"ClientInfoString": "a;mailsniper;"},
        ],
        [{"ClientInfoString": "xcurl/7"}, {"ClientInfoString": "MailSniperж"}],
        [{"ClientInfoString": "curl 7"}, {}],
    ),
    (
        {"Operation|contains|all": ["a-b", "c"]},
        [{"Operation": "c A-B"}],
        [{"Operation": "a-bc"}],
        [{"Operation": "a-b"}],
    ),
    (
        {"UserId|contains": "min"},
        [{"UserId": "a.MIN@x"}],
        [{"UserId": "adMINs@x"}],
        [{"UserId": "m-in"}, {}],
    ),
    ({"UserId": "*min*"}, [{"UserId": "adMINs@x"}], [], [{"UserId": "m-in"}]),
    ({"UserId|contains|cased": "aB"}, [{"UserId": "xaBx"}], [], [{"UserId": "xabx"}]),
]
SAID = [{"whole_terms": True}, {"whole_terms": False}, {}]


@pytest.mark.parametrize("said", SAID, ids=["yes", "no", "nothing"])
@pytest.mark.parametrize("case", WHOLE_TERMS, ids=lambda case: str(case[0])[:60])
def test_whole_terms_where_a_rule_says_so(case: Any, said: dict[str, Any]) -> None:
    detection, whole, pieces, neither = case
    lucene = converted(detection, **said).lucene
    assert lucene is not None
    expected = [True] * len(whole) + [not said.get("whole_terms")] * len(pieces) + [False] * len(neither)
    assert matching(lucene, [*whole, *pieces, *neither]) == expected, lucene


@pytest.mark.parametrize("said", SAID, ids=["yes", "no", "nothing"])
def test_whole_terms_of_processes_where_a_rule_says_so(said: dict[str, Any]) -> None:
    lucene = converted({"CommandLine|contains": "EWSEditor"}, PROCESS, **said).lucene
    assert lucene is not None
    records = [{"CommandLine": 'a\n"ewseditor.exe"'}, {"CommandLine": "myEWSEditor"}, {}]
    assert matching(lucene, records, "process") == [True, not said.get("whole_terms"), False], lucene


REFUSED = [
    ({"Operatoin": "x"}, "unknown"),
    ({"RecordType": "ExchangeItme"}, "RecordType"),
    ({"RecordType": "Exchange*"}, "RecordType"),
    ({"RecordType": "PowerAppsResource"}, "RecordType"),
    ({"LogonType": "Someone"}, "LogonType"),
    ({"UserId|re": "a(?=b)"}, "not every platform"),
    ({"UserId|re": "a$b"}, "Lucene"),
    ({"UserKey|cased": "a" * 1025}, "not in the index"),
    ({"UserId|re": r"(a)\1"}, "not every platform"),
    ({"UserId|re": r"a\bb"}, "Lucene"),
    ({"UserId|re": "(?m)^a"}, "Lucene"),
    ({"UserId|re": "a{900}b{900}"}, "limit of 10,000 states"),
    ({"UserId|re": ".*a.{30}"}, "limit of 10,000 states"),
    ({"UserId": "a" * 600}, "too long"),
    ({"UserId|contains": "a" + "?" * 20 + "b"}, "too"),
    ({"UserId|fieldref": "UserKey"}, "compare two fields"),
    ({"ClientIP": "10.*"}, "address"),
    ({"ClientIP|re": "10.*"}, "address"),
    ({"ExternalAccess": "maybe"}, "true or false"),
    ({"Parameters|contains": "x"}, "no text holds them all"),
    ({"UserId|gt": 5}, "no number"),
    ({"MailboxOwnerUPN": "a@x"}, "split the rule"),
    ({"RecordType": ["ExchangeItem", "ExchangeItemGroup"], "MailboxOwnerUPN": "a"}, "split the rule"),
    ({"keywords": ["x"], "condition": "keywords"}, ""),
]


@pytest.mark.parametrize(("detection", "reason"), REFUSED, ids=lambda v: str(v)[:50])
def test_refused(detection: dict[str, Any], reason: str) -> None:
    with pytest.raises(PackError) as caught:
        converted(detection)
    assert reason in str(caught.value)


def test_owner_field_follows_the_record_type() -> None:
    item = converted({"RecordType": "ExchangeItem", "MailboxOwnerUPN": "5"}).lucene
    other = converted({"RecordType": ["ExchangeItemGroup", 50], "MailboxOwnerUPN": "5"}).lucene
    assert item is not None and "user.email:5" in item
    assert other is not None and "o365.audit.MailboxOwnerUPN:5" in other


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.text("aB1-/. é", min_size=1, max_size=5), min_size=1, max_size=4),
    st.lists(st.text("aAbB1-/. éx", max_size=9), min_size=1, max_size=8),
)
def test_whole_terms_are_kql_has(terms: list[str], texts: list[str]) -> None:
    def whole(text: str) -> bool:
        return any(contains_whole_term(text, t) if any(c.isalnum() for c in t) else t in text for t in terms)

    def piece(text: str) -> bool:
        return any(t.lower() in text.lower() for t in terms)

    events = [Event(str(n), M365, {"Operation": text}) for n, text in enumerate(texts)]
    with Store(events) as store:
        for said, wanted in ((True, whole), (False, piece)):
            query = converted({"Operation|contains": terms}, whole_terms=said).lucene
            assert query is not None
            expected = {str(n) for n, text in enumerate(texts) if text != "" and wanted(text)}
            assert store.lucene(query) == expected, query


def built_for_elastic(pack: Pack) -> list[Rule]:
    return [rule for rule in pack.rules if pack.pipelines["elastic"].absence(rule) is None]


def test_every_expression_is_within_the_limits(pack: Pack) -> None:
    for entry in built_for_elastic(pack):
        found = queries(entry, pack.pipelines["elastic"])
        for text in REGEX.findall(found.lucene or ""):
            assert utf16_length(text) <= MAX_LENGTH


@pytest.mark.parametrize("whole_terms", [True, False])
def test_a_long_list_is_split_and_still_found(whole_terms: bool) -> None:
    names = [f"Cmdlet{n:03d}-LongEnoughName" for n in range(60)]
    query = converted({"Operation|contains": names}, whole_terms=whole_terms).lucene
    assert query is not None
    assert len(REGEX.findall(query)) > 1
    assert all(utf16_length(text) <= MAX_LENGTH for text in REGEX.findall(query))
    assert all(matching(query, [{"Operation": name.upper()} for name in names]))


def test_a_word_boundary_never_hides_a_term() -> None:
    held = (chr(code) for low, high in WORD for code in range(low, high + 1))
    assert [c for c in held if not c.isalnum() and unicodedata.category(c) != "Cn"] == []


def test_the_automaton_is_counted() -> None:
    from sigma.types import SigmaString

    nodes = expressions("f", [SigmaString("*a?????b*")])
    assert all(fits(node) for node in nodes)


@pytest.mark.skipif(lucene_judge.available() is not None, reason=str(lucene_judge.available()))
def test_lucene_itself_says_the_same() -> None:
    """Every case of the table above on string fields, in Lucene's own parser and index."""
    cases = {}
    for number, (detection, hits, misses) in enumerate(AUDIT_CASES):
        if not {re.sub(r"\|.*", "", key) for key in detection} & {"UserId"}:
            continue
        if all(set(record) <= {"UserId"} for record in [*hits, *misses]):
            query = converted(detection).lucene
            cases[str(number)] = (query or "", hits, misses)
    documents = {
        f"{number}/{'hit' if record in hits else 'miss'}/{n}": {
            "user.id": [record["UserId"]] if record.get("UserId") else []
        }
        for number, (_, hits, misses) in cases.items()
        for n, record in enumerate([*hits, *misses])
    }
    answers = lucene_judge.execute({n: query for n, (query, _, _) in cases.items()}, documents)
    for name, found in answers.items():
        own = {identifier for identifier in documents if identifier.startswith(f"{name}/")}
        assert found & own == {identifier for identifier in own if "/hit/" in identifier}, cases[name][0]


@pytest.mark.parametrize(
    "words",
    [("Командлет-",), pytest.param(("Cmdlet-", "Командлет-", "命令-", "x"), marks=pytest.mark.campaign)],
    ids=len,
)
@pytest.mark.skipif(lucene_judge.available() is not None, reason=str(lucene_judge.available()))
def test_lucene_parses_what_ships(words: tuple[str, ...], pack: Pack) -> None:
    """And lists that fill expressions to their limit: in ASCII, in Cyrillic, with wildcards."""
    pipeline = pack.pipelines["elastic"]
    shipped = {r.name: queries(r, pipeline).lucene or "*:*" for r in built_for_elastic(pack)}
    for number, word in enumerate(words):
        for field, modifier in (("Operation", "|contains"), ("UserId", "|contains"), ("UserId", "|endswith")):
            values = [f"{word}{n:03d}{word}Long" for n in range(50)]
            for whole in (True, False):
                query = converted({field + modifier: values}, whole_terms=whole).lucene
                shipped[f"{number}{field}{modifier}{whole}"] = query or ""
        shipped[f"{number}?"] = (
            converted({"UserId": [f"{word}*a?{word}*b*{word}" for _ in range(5)]}).lucene or ""
        )
    assert {name: message for name, message in lucene_judge.parse(shipped).items() if message} == {}


def test_a_plain_rule_reads_its_index_only() -> None:
    assert rule({"UserId": "a"}, AUDIT).correlation is None
    assert converted({"UserId": "a"}).index == ("logs-o365.audit-*",)

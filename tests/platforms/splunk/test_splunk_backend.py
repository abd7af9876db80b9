"""The trap: a search that reads well and finds the wrong events. Stock pySigma's SPL matches substrings for
whole terms, widens ``?`` and a literal ``*``, compares two fields case-sensitively, and loses events that
lack a group field.

Every conversion here is executed: each case lists records that must match and records that must not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.languages.spl.spl_parser import macros_of
from detection_pack.model.event import Clock, Event, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.pipeline import Pipeline, load_pipelines
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.splunk.query import COLUMNS, SplunkQuery, queries
from detection_pack.platforms.splunk.run import Row
from support.engines import execute, macros_conf, of_platform, run_spl, spl_union
from support.reference_model import contains_whole_term
from support.sources import BY_KIND, SOURCES

NOW = Clock(datetime(2024, 2, 1, 18, 0, tzinfo=UTC))
M365 = {"product": "m365", "service": "exchange"}
PROCESS = {"product": "windows", "category": "process_creation"}


@functools.cache
def pipeline() -> Pipeline:
    return load_pipelines(ROOT)["splunk"]


def converted(documents: Sequence[dict[str, Any]], folder: Path) -> SplunkQuery:
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    return queries(load_rule(path, "other", named_by_stem=True), pipeline())


def rule(detection: dict[str, Any], source: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return {"title": "Case", "logsource": source or M365, "detection": detection, **more}


def found(query: SplunkQuery, events: Sequence[Event]) -> list[Row]:
    return execute(query.text, events, NOW, macros_of(macros_conf(query)))


def m365(name: str, **record: Any) -> Event:
    return Event(name, BY_KIND["m365"], {"CreationTime": "2024-02-01T12:30:00", **record})


def process(name: str, **record: Any) -> Event:
    return Event(name, BY_KIND["process"], {"UtcTime": "2024-02-01 12:30:00.000", **record})


#: (name, detection, records that match, records that do not)
CASES: list[tuple[str, str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "substrings",
        "sel: {ObjectId|contains: box}\ncondition: sel",
        [{"ObjectId": "MailBoxes"}],
        [{"ObjectId": "bo x"}, {}],
    ),
    (
        "one field against another",
        "own: {UserId|fieldref: MailboxOwnerUPN}\ncondition: own",
        [{"UserId": "A@x", "MailboxOwnerUPN": "a@X"}],
        [{"UserId": "a@x"}, {"MailboxOwnerUPN": "a@x"}, {}, {"UserId": "", "MailboxOwnerUPN": ""}],
    ),
    (
        "not one field against another is true where a field is absent",
        "own: {UserId|fieldref: MailboxOwnerUPN}\ncondition: not own",
        [{"UserId": "a@x"}, {"MailboxOwnerUPN": "a@x"}, {}, {"UserId": "b@x", "MailboxOwnerUPN": "a@x"}],
        [{"UserId": "A@x", "MailboxOwnerUPN": "a@X"}],
    ),
    (
        "one field against another under OR",
        "own: {UserId|fieldref: MailboxOwnerUPN}\nsys: {UserId: S-1-5-18}\ncondition: own or sys",
        [{"UserId": "a", "MailboxOwnerUPN": "A"}, {"UserId": "s-1-5-18"}],
        [{"UserId": "a", "MailboxOwnerUPN": "b"}, {}],
    ),
    (
        "a field starts with another",
        "sel: {UserId|fieldref|startswith: SessionId}\ncondition: sel",
        [{"UserId": "Abc", "SessionId": "aB"}, {"UserId": "ab", "SessionId": "AB"}],
        [{"UserId": "ab", "SessionId": "abc"}, {"UserId": "ab", "SessionId": ""}, {"UserId": "ab"}],
    ),
    (
        "a field ends with another",
        "sel: {UserId|fieldref|endswith: SessionId}\ncondition: sel",
        [{"UserId": "xAb", "SessionId": "aB"}, {"UserId": "ab", "SessionId": "AB"}],
        [
            {"UserId": "ab", "SessionId": "xab"},
            {"UserId": "ab", "SessionId": ""},
            {"UserId": "ba", "SessionId": "ab"},
        ],
    ),
    (
        "exists is present and not empty",
        "sel: {MailboxOwnerUPN|exists: true}\ncondition: sel",
        [{"MailboxOwnerUPN": "x"}],
        [{"MailboxOwnerUPN": ""}, {}, {"MailboxOwnerUPN": None}],
    ),
    (
        "not exists",
        "sel: {MailboxOwnerUPN|exists: false}\ncondition: sel",
        [{"MailboxOwnerUPN": ""}, {}],
        [{"MailboxOwnerUPN": "x"}],
    ),
    ("null", "sel: {AppId: null}\ncondition: sel", [{}, {"AppId": None}], [{"AppId": "x"}]),
    ("empty text", "sel: {AppId: ''}\ncondition: sel", [{"AppId": ""}, {}], [{"AppId": "x"}]),
    ("any text", "sel: {AppId: '*'}\ncondition: sel", [{"AppId": "x"}], [{}, {"AppId": ""}]),
    (
        "one character is one character",
        "sel: {ObjectId: 'a?c'}\ncondition: sel",
        [{"ObjectId": "aXc"}, {"ObjectId": "A*C"}, {"ObjectId": "a\nc"}],
        [{"ObjectId": "ac"}, {"ObjectId": "aXXc"}, {}],
    ),
    (
        "a literal asterisk is no wildcard",
        r"sel: {ObjectId: 'a\*c'}" + "\ncondition: sel",
        [{"ObjectId": "A*c"}],
        [{"ObjectId": "abc"}, {"ObjectId": "ac"}],
    ),
    (
        "a wildcard inside",
        "sel: {ObjectId: 'a*c'}\ncondition: sel",
        [{"ObjectId": "ac"}, {"ObjectId": "A--C"}],
        [{"ObjectId": "acd"}],
    ),
    (
        "digits as text are text",
        "sel: {UserKey: '007'}\ncondition: sel",
        [{"UserKey": "007"}],
        [{"UserKey": "7"}, {"UserKey": "7.0"}],
    ),
    (
        "cased",
        "sel: {ObjectId|contains|cased: 'Ab'}\ncondition: sel",
        [{"ObjectId": "xAbx"}],
        [{"ObjectId": "xabx"}, {}],
    ),
    (
        "regular expressions see case unless told otherwise",
        "sel: {ObjectId|re: '^A\\d+\\\\x\"$'}\ncondition: sel",
        [{"ObjectId": 'A12\\x"'}],
        [{"ObjectId": 'a12\\x"'}, {}],
    ),
    (
        "regular expressions with flags, under OR and NOT",
        "a: {ObjectId|re|i: '^ab'}\nb: {UserId: x}\ncondition: not (a or b)",
        [{"ObjectId": "xab"}, {}],
        [{"ObjectId": "ABc"}, {"UserId": "X"}],
    ),
    (
        "a regular expression that matches nothing does not match an absent field",
        "sel: {ObjectId|re: '.*'}\ncondition: sel",
        [{"ObjectId": "x"}, {"ObjectId": ""}],
        [{}],
    ),
    (
        "networks, on the address without its port",
        "sel: {ClientIP|cidr: 10.0.0.0/8}\ncondition: sel",
        [
            {"ClientIP": "10.1.2.3:99"},
            {"ClientIPAddress": "10.9.9.9"},
            {"ClientIP": "", "ClientIPAddress": "10.0.0.1"},
        ],
        [
            {"ClientIP": "11.1.2.3"},
            {},
            {"ClientIP": "::1"},
            {"ClientIP": "1.1.1.1", "ClientIPAddress": "10.0.0.1"},
        ],
    ),
    (
        "not a network",
        "sel: {ClientIP|cidr: '2603:1026::/32'}\ncondition: not sel",
        [{"ClientIP": "[2603:1027::1]:5"}, {}],
        [{"ClientIP": "[2603:1026:207:5d::5]:47254"}],
    ),
    (
        "an address without its port",
        "sel: {ClientIP: ['::1', 1.2.3.4]}\ncondition: sel",
        [{"ClientIP": "::1"}, {"ClientIP": "[::1]:25"}, {"ClientIP": "1.2.3.4:1"}],
        [{"ClientIP": "::1:1"}, {"ClientIP": "1.2.3.45"}],
    ),
    (
        "symbolic names are integers",
        "sel: {RecordType: [ExchangeItem, ExchangeItemAggregated], LogonType: Delegated}\ncondition: sel",
        [
            {"RecordType": 2, "LogonType": 2},
            {"RecordType": "ExchangeItemAggregated", "LogonType": "Delegated"},
        ],
        [{"RecordType": 3, "LogonType": 2}, {"RecordType": 2, "LogonType": 0}, {"LogonType": 2}],
    ),
    (
        "numbers in order",
        "sel: {OperationCount|gte: 5}\ncondition: sel",
        [{"OperationCount": 5}, {"OperationCount": "10"}],
        [{"OperationCount": 4}, {"OperationCount": "x"}, {}],
    ),
    (
        "numbers under NOT",
        "sel: {OperationCount|lt: 5}\nb: {OperationCount: 7}\ncondition: not sel and not b",
        [{"OperationCount": 5}, {}, {"OperationCount": "x"}],
        [{"OperationCount": 4}, {"OperationCount": 7}],
    ),
    (
        "truth values",
        "sel: {ExternalAccess: true}\ncondition: sel",
        [{"ExternalAccess": True}, {"ExternalAccess": "True"}],
        [{"ExternalAccess": False}, {}],
    ),
    (
        "any member of an array",
        "sel: {Parameters: 'a@x'}\ncondition: sel",
        [{"Parameters": [{"Name": "Identity", "Value": "A@x"}, {"Name": "User", "Value": "b"}]}],
        [{"Parameters": [{"Name": "a@x", "Value": "b"}]}, {}],
    ),
    (
        "any member of an array, decided by where",
        "a: {Parameters: 'a?x'}\nb: {Operation|contains: Foo}\ncondition: not (a or b)",
        [{"Parameters": [{"Name": "a", "Value": "ax"}]}, {}],
        [{"Parameters": [{"Name": "n", "Value": "q"}, {"Name": "m", "Value": "A@X"}]}, {"Operation": "foo"}],
    ),
    (
        "a keyword anywhere",
        "sel: [mailsniper, 'evil tool']\ncondition: sel",
        [{"ObjectId": "xMailSniperx"}, {"Item": {"Subject": "an EVIL tool"}}],
        [{"ObjectId": "mail sniper"}, {"ObjectId": "evil", "UserId": "tool"}],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[c[0] for c in CASES])
def test_a_converted_rule_finds_what_sigma_says(case: Any, tmp_path: Path) -> None:
    _, detection, matching, others = case
    events = [m365(f"+{i} {r}", **r) for i, r in enumerate(matching)]
    events += [m365(f"-{i} {r}", **r) for i, r in enumerate(others)]
    query = converted([rule(yaml.safe_load(detection))], tmp_path)
    hits = {row.event for row in found(query, events)}
    assert hits == {e.id for e in events if e.id.startswith("+")}, query.text


#: What a rule that says ``whole_terms: true`` finds and what the same rule without the key finds: by name,
#: the detection, records that both find, that the first finds alone, that the second finds alone, and that
#: neither finds.
Records = list[dict[str, Any]]
WHOLE_TERMS: dict[str, tuple[str, Records, Records, Records, Records]] = {
    "ends that are no letters need no boundary": (
        "sel: {Operation|contains: [Search-Mailbox, curl/]}\ncondition: sel",
        [{"Operation": "SEARCH-MAILBOX"}, {"Operation": "x Search-Mailbox."}, {"Operation": "-curl/7"}],
        [],
        [{"Operation": "Search-MailboxAuditLog"}, {"Operation": "XSearch-Mailbox"}, {"Operation": "xcurl/7"}],
        [{"Operation": "curl"}, {}],
    ),
    "under NOT they keep events without the field": (
        "sel: {UserId: a}\nother: {Operation|contains: Search-Mailbox}\ncondition: sel and not other",
        [{"UserId": "a"}],
        [{"UserId": "A", "Operation": "Search-MailboxAuditLog"}],
        [],
        [{"UserId": "a", "Operation": "search-mailbox"}, {"UserId": "b"}],
    ),
    "under OR they do not narrow the other branch": (
        "a: {Operation|contains: Search-Mailbox}\nb: {UserId: b, RecordType: ExchangeItem}\n"
        "condition: a or b",
        [{"Operation": "Search-Mailbox"}, {"UserId": "B", "RecordType": 2}],
        [],
        [{"Operation": "Search-MailboxAuditLog"}],
        [{"UserId": "b", "RecordType": 3}],
    ),
    "all of several": (
        "sel: {ClientInfoString|contains|all: [python, requests/2]}\ncondition: sel",
        [{"ClientInfoString": "Python;requests/2.1"}],
        [],
        [{"ClientInfoString": "python3;requests/2"}],
        [{"ClientInfoString": "python"}],
    ),
    "any field": (
        "sel: {ObjectId|contains: box}\ncondition: sel",
        [{"ObjectId": "Mail-Box"}],
        [],
        [{"ObjectId": "MailBoxes"}],
        [{"ObjectId": "bo x"}, {}],
    ),
    "any member of an array": (
        "sel: {Parameters|contains: box}\ncondition: sel",
        [{"Parameters": [{"Name": "n", "Value": "x"}, {"Name": "m", "Value": "my Box"}]}],
        [],
        [{"Parameters": [{"Name": "n", "Value": "x"}, {"Name": "m", "Value": "Boxes"}]}],
        [{"Parameters": [{"Name": "box", "Value": "b"}]}, {}],
    ),
    "cased values are none, as on the other platforms": (
        "sel: {Operation|contains|cased: 'Ab'}\ncondition: sel",
        [{"Operation": "x Ab"}, {"Operation": "xAb"}],
        [],
        [],
        [{"Operation": "xab"}, {"Operation": "ab"}],
    ),
}


@pytest.mark.parametrize(
    "said", [{"whole_terms": True}, {"whole_terms": False}, {}], ids=["yes", "no", "nothing"]
)
@pytest.mark.parametrize("name", WHOLE_TERMS)
def test_whole_terms_where_a_rule_says_so(name: str, said: dict[str, Any], tmp_path: Path) -> None:
    detection, both, whole, pieces, neither = WHOLE_TERMS[name]
    matching = [*both, *(whole if said.get("whole_terms") else pieces)]
    others = [*neither, *(pieces if said.get("whole_terms") else whole)]
    events = [m365(f"+{i} {r}", **r) for i, r in enumerate(matching)]
    events += [m365(f"-{i} {r}", **r) for i, r in enumerate(others)]
    query = converted([rule(yaml.safe_load(detection), **said)], tmp_path)
    hits = {row.event for row in found(query, events)}
    assert hits == {e.id for e in events if e.id.startswith("+")}, query.text


PROCESS_CASES: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "sel: {Image|endswith: ['\\powershell.exe', '\\pwsh.exe'], CommandLine|contains: MailSniper}\n"
        "condition: sel",
        [
            {"Image": "C:\\A\\PowerShell.exe", "CommandLine": "x.ps1;mailsniper"},
            {"Image": "C:\\A\\pwsh.exe", "CommandLine": "mailsnipers"},
        ],
        [
            {"Image": "C:\\A\\xpowershell.exe", "CommandLine": "mailsniper"},
            {"Image": "C:\\A\\pwsh.exe", "CommandLine": "mail sniper"},
            {"Image": "C:\\A\\pwsh.exe"},
        ],
    ),
    (
        "sel: {ParentImage|endswith: '\\b\\c.exe', User: bob, Computer|startswith: EX}\ncondition: sel",
        [{"ParentImage": "C:\\B\\c.exe", "User": "CORP\\Bob", "Computer": "ex01"}],
        [{"ParentImage": "C:\\xb\\c.exe", "User": "bob", "Computer": "ex01"}],
    ),
]


@pytest.mark.parametrize("case", PROCESS_CASES, ids=range(len(PROCESS_CASES)))
def test_processes_are_searched_by_cim_fields(case: Any, tmp_path: Path) -> None:
    detection, matching, others = case
    events = [process(f"+{i}", **r) for i, r in enumerate(matching)]
    events += [process(f"-{i}", **r) for i, r in enumerate(others)]
    query = converted([rule(yaml.safe_load(detection), PROCESS)], tmp_path)
    assert {row.event for row in found(query, events)} == {e.id for e in events if e.id[0] == "+"}, query.text


@pytest.mark.parametrize("whole_terms", [True, False])
def test_processes_hold_whole_terms_where_a_rule_says_so(whole_terms: bool, tmp_path: Path) -> None:
    detection = {
        "sel": {"Image|endswith": ["\\powershell.exe", "\\pwsh.exe"], "CommandLine|contains": "MailSniper"},
        "condition": "sel",
    }
    events = [
        process("term", Image="C:\\A\\PowerShell.exe", CommandLine="x.ps1;mailsniper"),
        process("piece", Image="C:\\A\\pwsh.exe", CommandLine="mailsnipers"),
        process("shell", Image="C:\\A\\xpowershell.exe", CommandLine="mailsniper"),
        process("nothing", Image="C:\\A\\pwsh.exe"),
    ]
    query = converted([rule(detection, PROCESS, whole_terms=whole_terms)], tmp_path)
    expected = {"term"} if whole_terms else {"term", "piece"}
    assert {row.event for row in found(query, events)} == expected, query.text


REFUSED = {
    "sel: {RecordType: ExchangeItems}\ncondition: sel": "ExchangeItems",
    "sel: {RecordType: 'Exchange*'}\ncondition: sel": "Exchange",
    "sel: {Operatoin: x}\ncondition: sel": 'did you mean "Operation"',
    "sel: {UserId|fieldref: Parameters}\ncondition: sel": "several values",
    "sel: {UserId|fieldref|contains: SessionId}\ncondition: sel": "text of another",
    "sel: ['a\"b']\ncondition: sel": "keyword",
    "sel: {UserId|expand: '%admins%'}\ncondition: sel": "laceholder",
    "sel: {CreationTime|hour: 3}\ncondition: sel": "time zone",
    "sel: {UserId: x}\ncondition: [sel, not sel]": "one condition",
}


@pytest.mark.parametrize("detection", REFUSED)
def test_what_spl_cannot_say_is_refused_and_never_weakened(detection: str, tmp_path: Path) -> None:
    with pytest.raises(PackError) as refused:
        converted([rule(yaml.safe_load(detection))], tmp_path)
    assert REFUSED[detection] in str(refused.value)
    assert str(refused.value).count("\n") == 0


NASTY = st.text(st.sampled_from(list("aB1*?\\\"'`$|[]()%_.^{}\n\t ,=é😀K")), min_size=1, max_size=10)


def sigma_text(text: str) -> str:
    """``text`` as a Sigma value without wildcards."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


@pytest.mark.parametrize("examples", [12, pytest.param(80, marks=pytest.mark.campaign)])
def test_whole_terms_are_what_has_finds(examples: int, tmp_path: Path) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(NASTY, NASTY)
    def found_by(term: str, around: str) -> None:
        assume(any(c.isalnum() for c in term))
        detection = {"sel": {"Operation|contains": sigma_text(term)}, "condition": "sel"}
        query = converted([rule(detection, whole_terms=True)], tmp_path)
        texts = [term, around + term, term + around, around + term + around, term[1:] + around]
        texts.append(f"{term}1 {term}")
        events = [m365(str(i), Operation=text) for i, text in enumerate(texts)]
        expected = {str(i) for i, text in enumerate(texts) if contains_whole_term(text, term)}
        assert {row.event for row in found(query, events)} == expected, query.text
        pieces = converted([rule(detection)], tmp_path)
        expected = {str(i) for i, text in enumerate(texts) if term.casefold() in text.casefold()}
        assert {row.event for row in found(pieces, events)} == expected, pieces.text

    found_by()


#: Detections that search settles, that where settles, and that neither narrows; with their meaning.
LEAVES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "user": ({"UserId": "Ann"}, lambda e: e.get("UserId", "").lower() == "ann"),
    "users": ({"UserId": ["ann", "b*"]}, lambda e: e.get("UserId", "").lower()[:1] == "b"
              or e.get("UserId", "").lower() == "ann"),
    "piece": ({"Operation|contains": ["ab", "c/"]}, lambda e: any(v in e.get("Operation", "").lower()
              for v in ("ab", "c/"))),
    "own": ({"UserId|fieldref": "MailboxOwnerUPN"}, lambda e: e.get("UserId", "") != ""
            and e.get("UserId", "").lower() == e.get("MailboxOwnerUPN", "").lower()),
    "owner": ({"MailboxOwnerUPN|exists": True}, lambda e: e.get("MailboxOwnerUPN", "") != ""),
    "many": ({"OperationCount|gte": 2}, lambda e: e.get("OperationCount", 0) >= 2),
    "one": ({"ObjectId": "a?c"}, lambda e: len(e.get("ObjectId", "")) == 3
            and e["ObjectId"][0].lower() + e["ObjectId"][2].lower() == "ac"),
    "none": ({"AppId": None}, lambda e: e.get("AppId", "") == ""),
    "regex": ({"ObjectId|re": "^A"}, lambda e: e.get("ObjectId", "").startswith("A")),
    "net": ({"ClientIP|cidr": "10.0.0.0/8"}, lambda e: e.get("ClientIP", "").startswith("10.")),
    "array": ({"Folders": "x"}, lambda e: any(f["Path"].lower() == "x" for f in e.get("Folders", []))),
}  # fmt: skip
#: The same, where a rule says ``whole_terms: true``.
TERM_LEAVES = LEAVES | {"piece": (LEAVES["piece"][0], lambda e: any(
    contains_whole_term(e.get("Operation", ""), v) for v in ("ab", "c/")))}  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "UserId": [None, "", "ANN", "bob", "z"],
    "Operation": [None, "AB", "xab", "x c/1", "-ab."],
    "MailboxOwnerUPN": [None, "", "ann", "BOB"],
    "OperationCount": [None, 1, 2, 30],
    "ObjectId": [None, "Abc", "ac", "axxc"],
    "AppId": [None, "", "a"],
    "ClientIP": [None, "10.1.1.1:5", "11.1.1.1"],
    "Folders": [None, [{"Path": "X"}, {"Path": "y"}], [{"Path": "y"}]],
}
CONDITIONS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner) | st.tuples(st.just("not"), inner),
    max_leaves=6,
)


def written(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    return (
        f"not ({written(tree[1])})"
        if len(tree) == 2
        else f"({written(tree[1])}) {tree[0]} ({written(tree[2])})"
    )


def holds(tree: Any, record: dict[str, Any], whole_terms: bool) -> bool:
    if isinstance(tree, str):
        return (TERM_LEAVES if whole_terms else LEAVES)[tree][1](record)
    parts = [holds(part, record, whole_terms) for part in tree[1:]]
    return not parts[0] if tree[0] == "not" else all(parts) if tree[0] == "and" else any(parts)


def leaves(tree: Any) -> set[str]:
    return {tree} if isinstance(tree, str) else set().union(*(leaves(part) for part in tree[1:]))


@pytest.mark.parametrize("examples", [20, pytest.param(150, marks=pytest.mark.campaign)])
def test_any_condition_holds_where_its_parts_say(examples: int, tmp_path: Path) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(CONDITIONS, st.booleans(), st.randoms(use_true_random=False))
    def agree(tree: Any, whole_terms: bool, random: Any) -> None:
        detection = {name: LEAVES[name][0] for name in sorted(leaves(tree))} | {"condition": written(tree)}
        query = converted([rule(detection, whole_terms=whole_terms)], tmp_path)
        records = [{f: v for f in VALUES if (v := random.choice(VALUES[f])) is not None} for _ in range(60)]
        expected = {str(i) for i, record in enumerate(records) if holds(tree, record, whole_terms)}
        events = [m365(str(i), **r) for i, r in enumerate(records)]
        assert {row.event for row in found(query, events)} == expected, query.text

    agree()


def test_no_value_can_leave_its_string(tmp_path: Path) -> None:
    evil = 'x"`o365_management_activity`$token$ | outputlookup a [ search b ] \\'
    detection = {
        "sel": {"ObjectId|contains": sigma_text(evil)},
        "own": {"UserId|re": 'a`"$'},
        "condition": "sel or own",
    }
    alert = {"type": evil, "detail": evil + "{UserId}"}
    query = converted([rule(detection, alert=alert)], tmp_path)
    assert query.text.count("`") == 8  # the source macro, the look-back, the exclusions and the filter
    assert "$token$" not in query.text
    (row,) = found(query, [m365("e", ObjectId=evil, UserId="u"), m365("n", ObjectId="x")])
    assert (row.values["DetectionType"], row.values["DetectionDetail"]) == (evil, evil + "u")


# --- the alert view ------------------------------------------------------------------------------------


def test_the_alert_view_has_seven_columns_and_never_a_null(tmp_path: Path) -> None:
    alert = {
        "type": "T",
        "detail": "op {Operation} {SessionId}",
        "user": "UserId",
        "source": "ClientIP",
        "agent": "UserAgent",
        "extra": "Parameters",
    }
    query = converted(
        [rule({"sel": {"RecordType": "ExchangeAdmin"}, "condition": "sel"}, alert=alert)], tmp_path
    )
    parameters = [{"Name": "A", "Value": "1"}, {"Name": "B", "Value": "2"}]
    (row,) = found(
        query, [m365("e", RecordType=1, Operation="Op", ClientIP="[::1]:5", Parameters=parameters)]
    )
    assert tuple(row.values) == COLUMNS
    assert [row.values[c] for c in COLUMNS[1:]] == ["", "::1", "", "T", "op Op ", "1, 2"]


# --- the bulk rule -------------------------------------------------------------------------------------


def access(name: str, owner: str | None, **record: Any) -> Event:
    base = {"RecordType": 2, "Operation": "Create", "UserId": "eve@x.com", "ClientIP": "1.2.3.4"}
    return m365(name, **base | {"MailboxOwnerUPN": owner} | record)


def five(**record: Any) -> list[Event]:
    return [access(f"m{i}", f"m{i}@x.com", **record) for i in range(5)]


def bulk(events: Sequence[Event]) -> list[Row]:
    pack_rule = load_rule(ROOT / "sigma" / "core" / "bulk_cross_mailbox_access.yml", "core")
    return found(queries(pack_rule, pipeline()), events)


BULK: dict[str, tuple[list[Event], list[tuple[str, str, float]]]] = {
    "five mailboxes": (five(), [("eve@x.com", "1.2.3.4", 5)]),
    "four mailboxes": (five()[:4], []),
    "letter case makes no mailbox": ([*five()[:4], access("x", "M1@X.COM")], []),
    "letter case makes no second account": (
        [*five()[:3], access("x", "m3@x.com", UserId="EVE@x.com"), access("y", "m4@x", UserId="Eve@X.com")],
        [("eve@x.com", "1.2.3.4", 5)],
    ),
    "one's own mailbox does not count": ([*five()[:4], access("x", "Eve@X.com")], []),
    "an account without a name is an account": (five(UserId=None), [("", "1.2.3.4", 5)]),
    "no address is an address": (five(ClientIP=None), [("eve@x.com", "", 5)]),
    "a port makes no second address": (
        [*five()[:2], *(access(f"p{i}", f"p{i}@x", ClientIP=f"1.2.3.4:{i}") for i in range(3))],
        [("eve@x.com", "1.2.3.4", 5)],
    ),
    "ClientIPAddress stands in": (
        five(ClientIP=None, ClientIPAddress="9.9.9.9"),
        [("eve@x.com", "9.9.9.9", 5)],
    ),
    "two addresses are two groups": ([*five()[:4], access("x", "m4@x.com", ClientIP="9.9.9.9")], []),
    "the end of the hour": ([*five()[:4], access("x", "m4@x.com", CreationTime="2024-02-01T12:59:59")],
                            [("eve@x.com", "1.2.3.4", 5)]),
    "the next hour": ([*five()[:4], access("x", "m4@x.com", CreationTime="2024-02-01T13:00:00")], []),
    "no owner is no mailbox": ([*five()[:4], access("x", None), access("y", "")], []),
    "other operations": (five(Operation="MailItemsAccessed"), []),
    "other record types": (five(RecordType=3), []),
}  # fmt: skip


@pytest.mark.parametrize("name", BULK)
def test_the_bulk_rule_counts_as_the_reference_does(name: str) -> None:
    events, expected = BULK[name]
    rows = bulk(events)
    assert [(*row.group, row.value) for row in rows] == expected
    for row in rows:
        assert row.window == datetime(2024, 2, 1, 12, 0, tzinfo=UTC)
        assert row.values["_time"] == datetime(2024, 2, 1, 12, 30, tzinfo=UTC)
        assert row.values["DetectionDetail"] == "Single account accessed 5 distinct mailboxes in 1h window"
        assert row.values["ExtraInfo"] == "Create"


# --- other correlations --------------------------------------------------------------------------------


def correlation(
    kind: str, condition: dict[str, Any] | None, rules: int = 1, **more: Any
) -> list[dict[str, Any]]:
    names = ["one", "two", "three"][:rules]
    base = [
        rule({"sel": {"Operation": name}, "condition": "sel"}, name=name) | {"title": name} for name in names
    ]
    body = {"type": kind, "rules": names, "group-by": ["UserId"], "timespan": "1h", **more}
    if condition is not None:
        body["condition"] = condition
    return [*base, {"title": "C", "name": "case", "correlation": body}]


def did(name: str, operation: str, minute: int, **record: Any) -> Event:
    return m365(name, Operation=operation, CreationTime=f"2024-02-01T12:{minute:02}:00", UserId="u", **record)


GROUP: dict[str, Any] = {"group-by": ["Item.Id", "UserId"]}
CORRELATIONS = [
    (correlation("event_count", {"gte": 2}), [did("a", "one", 1), did("b", "ONE", 2)], 2.0),
    (correlation("event_count", {"gt": 2}), [did("a", "one", 1), did("b", "ONE", 2)], None),
    (correlation("value_sum", {"gte": 7, "field": "OperationCount"}),
     [did("a", "one", 1, OperationCount=3), did("b", "one", 2, OperationCount=4), did("c", "one", 3)], 7.0),
    (correlation("value_avg", {"lt": 4, "field": "OperationCount"}),
     [did("a", "one", 1, OperationCount=3), did("b", "one", 2, OperationCount=4), did("c", "one", 3)], 3.5),
    (correlation("value_count", {"gte": 2, "field": "ObjectId"}, rules=2),
     [did("a", "one", 1, ObjectId="x"), did("b", "two", 2, ObjectId="y")], 2.0),
    (correlation("value_count", {"gte": 2, "field": "Item.Subject"}, 1, **GROUP),
     [did(f"{i}", "one", i, Item={"Subject": s, "Id": "i"}) for i, s in enumerate("xyx")], 2.0),
    (correlation("temporal", None, rules=2), [did("a", "two", 1), did("b", "one", 2)], 2.0),
    (correlation("temporal", None, rules=2), [did("a", "two", 1), did("b", "two", 2)], None),
    (correlation("temporal", None, rules=3), [did("a", "two", 1), did("b", "one", 2)], None),
    (correlation("temporal_ordered", None, rules=2), [did("a", "one", 1), did("b", "two", 2)], 2.0),
    (correlation("temporal_ordered", None, rules=2), [did("a", "two", 1), did("b", "one", 2)], None),
    (correlation("temporal_ordered", None, rules=2), [did("a", "two", 1), did("b", "one", 1)], 2.0),
    (correlation("temporal_ordered", None, rules=2),
     [did("a", "two", 1), did("b", "one", 2), did("c", "two", 3)], 2.0),
]  # fmt: skip


@pytest.mark.parametrize("case", CORRELATIONS, ids=range(len(CORRELATIONS)))
def test_correlations_count_in_windows(case: Any, tmp_path: Path) -> None:
    documents, events, value = case
    query = converted(documents, tmp_path)
    assert [row.value for row in found(query, events)] == ([] if value is None else [value]), query.text


REFUSED_CORRELATIONS = {
    "median": (correlation("value_median", {"gte": 1, "field": "OperationCount"}), "perc_method"),
    "percentile": (
        correlation("value_percentile", {"gte": 1, "field": "OperationCount", "percentile": 95}),
        "perc_method",
    ),
    "order of three": (correlation("temporal_ordered", None, rules=3), "order of two"),
    "weeks": (correlation("event_count", {"gte": 1}, timespan="1w"), "longer than the look-back"),
    "arrays": (correlation("value_count", {"gte": 1, "field": "Parameters"}), "several values"),
}


@pytest.mark.parametrize("name", REFUSED_CORRELATIONS)
def test_correlations_that_spl_cannot_say_are_refused(name: str, tmp_path: Path) -> None:
    documents, reason = REFUSED_CORRELATIONS[name]
    with pytest.raises(PackError, match=reason):
        converted(documents, tmp_path)


# --- the files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def core() -> Pack:
    pack = load_pack(ROOT, findings=[])
    rules: tuple[Rule, ...] = tuple(r for r in pack.rules if r.tier == "core")
    return Pack(pack.root, pack.version, rules, pack.pipelines)


def test_the_files_are_the_same_twice_and_the_union_is_the_sum_of_its_rules(
    core: Pack, tmp_path: Path
) -> None:
    made = of_platform(core, "splunk")
    assert made == of_platform(core, "splunk")
    for artefact in made:
        path = tmp_path / artefact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(artefact.content)
        if path.suffix != ".tgz":
            assert artefact.content.endswith(b"\n") and not artefact.content.endswith(b"\n\n")
    events = [
        *five(),
        m365("admin", RecordType=1, Operation="Search-Mailbox", CreationTime="2024-02-01T13:30:00"),
        m365("ews", RecordType=50, ClientInfoString="Client=WebServices;python-requests/2"),
        process("host", Image="C:\\x\\pwsh.exe", CommandLine="Get-GlobalAddressList"),
    ]
    entries = [
        RuleEntry(r.name, *(() if r.correlation is None else (r.correlation.group_by, r.correlation.window)))
        for r in core.rules
    ]
    hits = run_spl(tmp_path, entries, events, NOW)
    assert {h.rule: h.events for h in hits if h.group is None} == {
        "exchange_admin_cmdlet": {"admin"},
        "suspicious_ews_client": {"ews"},
        "onprem_powershell_collection": {"host"},
    }
    (counted,) = (h for h in hits if h.group is not None)
    assert counted.as_json()["group"] == {"UserId": "eve@x.com", "ClientIP": "1.2.3.4"}
    rows = spl_union(tmp_path, events, NOW)
    assert rows[0]["_time"] == datetime(2024, 2, 1, 13, 30, tzinfo=UTC)
    assert sorted(map(str, rows)) == sorted(str(row) for h in hits for row in h.rows)
    short = Clock(NOW.now, "1h")
    assert spl_union(tmp_path, events, short) == []
    assert all(h.events == frozenset() for h in run_spl(tmp_path, entries, [], short, SOURCES.values()))
    (tmp_path / "splunk/queries/suspicious_ews_client.spl").write_text("*\n| transaction UserId\n")
    with pytest.raises(PackError, match=r"suspicious_ews_client\.spl:2: unsupported SPL: 'transaction'"):
        run_spl(tmp_path, entries, events, NOW)


def test_plain_pysigma_refuses_a_field_that_the_pipeline_does_not_map() -> None:
    from sigma.backends.splunk.splunk import SplunkBackend
    from sigma.collection import SigmaCollection
    from sigma.exceptions import SigmaTransformationError

    for source in ("product: m365\n  service: exchange", "product: windows\n  category: process_creation"):
        text = f"title: x\nlogsource:\n  {source}\ndetection:\n  sel:\n    Nope: x\n  condition: sel\n"
        with pytest.raises(SigmaTransformationError, match="unknown to pipelines"):
            SplunkBackend(pipeline().processing()).convert(SigmaCollection.from_yaml(text))

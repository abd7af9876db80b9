"""The trap: KQL that looks right and answers otherwise.

`contains` where the rule means whole terms, `in~` over numbers, a null that makes a `not` false, a quote that
ends its literal. Every conversion here is executed, on a row that must match and on rows that must not.
"""

from __future__ import annotations

import shutil
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.model.event import Clock, Event, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source_reader import load_log_source
from detection_pack.model.pipeline import Pipeline, load_pipelines
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.kusto.query import query_of
from detection_pack.platforms.kusto.run import Workspace, verdicts
from support.sources import M365, PROCESS

NOW = Clock(datetime(2026, 3, 10, 13, 0, tzinfo=UTC))
PIPELINE: Pipeline = load_pipelines(ROOT)["sentinel"]


def rule_from(folder: Path, detection: str, logsource: str = "product: m365") -> Rule:
    path = folder / "probe.yml"
    head = f"title: Probe\nlogsource: {{{logsource}}}\ndetection:\n"
    path.write_text(head + textwrap.indent(textwrap.dedent(detection), "  "), encoding="utf-8")
    return load_rule(path, "other", named_by_stem=True)


def rule_of(folder: Path, selection: dict[str, Any], condition: str = "selection", **more: Any) -> Rule:
    """A rule whose values cannot be distorted on their way: YAML writes them, escapes and all. ``more`` are
    further keys at its top level."""
    path = folder / "probe.yml"
    document = {
        "title": "Probe",
        "logsource": {"product": "m365"},
        "detection": {"selection": selection, "condition": condition},
        **more,
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load_rule(path, "other", named_by_stem=True)


def matched(rule: Rule, *records: dict[str, Any]) -> list[bool]:
    """For each record, whether the rule's KQL finds it."""
    source = PROCESS if rule.logsource.get("category") else M365
    base = {"Workload": "Exchange", "RecordType": 2, source.time.field: "2026-03-10T12:00:00"}
    events = [Event(str(i), source, {**base, **record}) for i, record in enumerate(records)]
    text = query_of(rule, PIPELINE).text()
    [hit] = verdicts(Workspace(events), text, RuleEntry(rule.name), NOW, "probe.kql")
    return [event.id in hit.events for event in events]


CASES: list[tuple[str, dict[str, Any], str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "substrings",
        {"UserId|contains": "dmi"},
        "selection",
        [{"UserId": "ADMIN@contoso.example"}],
        [{"UserId": "user@contoso.example"}, {}],
    ),
    (
        "starts, ends, an inner wildcard and a single character",
        {"UserId": ["svc-*", "*@fabrikam.example", "a*z", "b?d"]},
        "selection",
        [{"UserId": u} for u in ("SVC-1", "x@Fabrikam.example", "a..z", "AZ", "bad")],
        [{"UserId": u} for u in ("xsvc-", "@fabrikam.example.org", "azb", "bd", "baad", "")],
    ),
    (
        "record types by name and by digits",
        {"RecordType": ["ExchangeItemAggregated", "ExchangeAdmin"]},
        "selection",
        [{"RecordType": 50}, {"RecordType": 1}],
        [{"RecordType": 2}, {"RecordType": 3}, {"RecordType": 500}],
    ),
    (
        "a number in the rule is a record type too",
        {"RecordType": 3},
        "selection",
        [{"RecordType": 3}],
        [{"RecordType": 2}, {"RecordType": 50}],
    ),
    (
        "field against field, without regard to case, absent being different",
        {"UserId|fieldref": "MailboxOwnerUPN"},
        "not selection",
        [{"UserId": "a@x", "MailboxOwnerUPN": "b@x"}, {"MailboxOwnerUPN": "b@x"}],
        [{"UserId": "a@x", "MailboxOwnerUPN": "A@X"}],
    ),
    (
        "exists means not empty",
        {"MailboxOwnerUPN|exists": True},
        "selection",
        [{"MailboxOwnerUPN": "a@x"}],
        [{"MailboxOwnerUPN": ""}, {}],
    ),
    (
        "not, over an absent field",
        {"UserId": "a@x"},
        "not selection",
        [{"UserId": "b@x"}, {}, {"UserId": ""}],
        [{"UserId": "A@x"}],
    ),
    (
        "cased",
        {"Operation|cased": "Send"},
        "selection",
        [{"Operation": "Send"}],
        [{"Operation": "send"}, {"Operation": "SendAs"}],
    ),
    (
        "truth values in a text column, an integer in a number column",
        {"ExternalAccess": True, "InternalLogonType": 1},
        "selection",
        [{"ExternalAccess": True, "InternalLogonType": 1}],
        [{"ExternalAccess": False, "InternalLogonType": 1}, {"ExternalAccess": True}],
    ),
    (
        "a regular expression",
        {"ClientInfoString|re|i": r"python[-/]\d"},
        "selection",
        [{"ClientInfoString": "x Python/3"}],
        [{"ClientInfoString": "python/x"}, {}],
    ),
]


@pytest.mark.parametrize(
    ("selection", "condition", "must", "must_not"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_executed(
    tmp_path: Path,
    selection: dict[str, Any],
    condition: str,
    must: list[dict[str, Any]],
    must_not: list[dict[str, Any]],
) -> None:
    rule = rule_of(tmp_path, selection, condition)
    assert matched(rule, *must, *must_not) == [True] * len(must) + [False] * len(must_not)


#: What a rule that says ``whole_terms: true`` finds, what the same rule without the key finds besides, and
#: what neither finds.
Record = dict[str, Any]
WHOLE_TERMS: dict[str, tuple[dict[str, Any], list[Record], list[Record], list[Record]]] = {
    "no letter or digit touches the value": (
        {"Operation|contains": ["Search-Mailbox", "New-MailboxSearch"]},
        [
            {"Operation": o}
            for o in ("Search-Mailbox", "SEARCH-MAILBOX", "x_Search-Mailbox_y", "a Search-Mailbox")
        ],
        [{"Operation": o} for o in ("Search-MailboxAuditLog", "xSearch-Mailbox", "Search-Mailbox2")],
        [{"Operation": o} for o in ("", "Search")],
    ),
    "an end that is no letter has no neighbour to mind": (
        {"ClientInfoString|contains": "curl/"},
        [{"ClientInfoString": c} for c in ("curl/7.68.0", "Client=REST;CURL/8;", "curl/")],
        [{"ClientInfoString": c} for c in ("xcurl/7", "libcurl/7")],
        [{"ClientInfoString": "curl"}],
    ),
    "all of a list": (
        {"ClientInfoString|contains|all": ["python", "EWS"]},
        [{"ClientInfoString": "ews by Python/3"}],
        [{"ClientInfoString": "pythonEWS"}],
        [{"ClientInfoString": "python"}],
    ),
    "any field": (
        {"UserId|contains": "dmi"},
        [{"UserId": "a.DMI@contoso.example"}],
        [{"UserId": "ADMIN@contoso.example"}],
        [{"UserId": "user@contoso.example"}, {}],
    ),
    "a value with wildcards of its own is none": (
        {"Operation": "*Search-Mailbox*"},
        [{"Operation": "Search-MailboxAuditLog"}],
        [],
        [{"Operation": "Search"}],
    ),
}


@pytest.mark.parametrize("name", WHOLE_TERMS)
@pytest.mark.parametrize(
    "said", [{"whole_terms": True}, {"whole_terms": False}, {}], ids=["yes", "no", "nothing"]
)
def test_whole_terms_where_a_rule_says_so(tmp_path: Path, name: str, said: dict[str, Any]) -> None:
    selection, whole, pieces, neither = WHOLE_TERMS[name]
    expected = [True] * len(whole) + [not said.get("whole_terms")] * len(pieces) + [False] * len(neither)
    assert matched(rule_of(tmp_path, selection, **said), *whole, *pieces, *neither) == expected


def test_address_ranges(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, {"ClientIP|cidr": ["198.51.100.0/24", "2001:db8::/32"]})
    body = query_of(rule, PIPELINE).body
    assert 'coalesce(ipv4_is_in_range(ClientIP, "198.51.100.0/24"), false)' in body
    assert 'coalesce(ipv6_is_in_range(ClientIP, "2001:db8::/32"), false)' in body
    assert body.index("| extend ClientIP = ") < body.index("ipv4_is_in_range")
    addresses = ("198.51.100.7", "198.51.100.7:443", "[2001:db8::7]:443", "198.51.101.7", "2001:db9::7", "")
    assert matched(rule, *({"ClientIP": one} for one in addresses)) == [True] * 3 + [False] * 3


def test_file_name_is_an_equality(tmp_path: Path) -> None:
    rule = rule_from(
        tmp_path,
        r"""
        selection:
          Image|endswith: ['\powershell.exe', '\pwsh.exe']
        condition: selection
        """,
        "product: windows, category: process_creation",
    )
    assert 'FileName in~ ("powershell.exe", "pwsh.exe")' in query_of(rule, PIPELINE).body
    images = (r"C:\a\POWERSHELL.exe", "pwsh.exe", r"C:\a\xpowershell.exe", r"C:\powershell.exe\a.exe")
    assert matched(rule, *({"Image": image} for image in images)) == [True, True, False, False]


@pytest.mark.parametrize(
    ("selection", "line", "said"),
    [
        (
            {"Operatoin": "Send"},
            1,
            'field "Operatoin" is unknown to pipelines/m365/sentinel.yml; did you mean "Operation"?',
        ),
        ({"RecordType": "ExchangeItme"}, 1, '"ExchangeItme"'),
        ({"RecordType": "Discovery"}, 1, "never reach OfficeActivity"),
        ({"CreationTime|contains": "2026"}, 1, "holds a time"),
        ({"InternalLogonType": "Ownre"}, 1, '"Ownre" is no InternalLogonType'),
        ({"ClientInfoString|re": "a(?=b)"}, 1, 'has "(?="'),
    ],
)
def test_refused_with_one_line(tmp_path: Path, selection: dict[str, Any], line: int, said: str) -> None:
    with pytest.raises(PackError) as refusal:
        query_of(rule_of(tmp_path, selection), PIPELINE)
    [finding] = refusal.value.findings
    assert said in str(finding) and finding.line >= line and "\n" not in str(finding)


def test_keywords_are_refused(tmp_path: Path) -> None:
    rule = rule_from(tmp_path, "selection: [mimikatz]\ncondition: selection\n")
    with pytest.raises(PackError, match="name the field"):
        query_of(rule, PIPELINE)


def test_a_derived_field_needs_no_column(tmp_path: Path) -> None:
    """What a pipeline takes out of a dynamic column is text, under a name that no column of the table has."""
    shutil.copytree(ROOT / "tests" / "data" / "made_up_source" / "pipelines", tmp_path / "pipelines")
    file = tmp_path / "pipelines" / "door_access" / "sentinel.yml"
    text = file.read_text(encoding="utf-8").replace("site: Site", "site: Wing")
    wing = "{Wing: 'tostring(split(Site, \"-\")[1])'}"
    derived = f"\n  - {{id: wing, type: set_state, key: derived_fields, val: {wing}}}\n"
    file.write_text(text + derived, encoding="utf-8")
    source = load_log_source(file.with_name("source.yml"))
    rule = rule_from(tmp_path, "selection: {site: WEST}\ncondition: selection", "product: doorguard")
    text = query_of(rule, load_pipelines(tmp_path)["sentinel"]).text()
    records = [
        {"site": site, "serial": 1, "seen.at": "10.03.2026 12:00:00"} for site in ("a-west", "west-a", "west")
    ]
    events = [Event(str(record["site"]), source, record) for record in records]
    [hit] = verdicts(Workspace(events), text, RuleEntry(rule.name), NOW, "probe.kql")
    assert hit.events == {"a-west"}

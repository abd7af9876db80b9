"""The trap: a judge that approves of everything.

The other tests trust two outside judges, Microsoft's KQL parser and Lucene itself. A judge that is called in
the wrong way (a schema left open, a regular expression read as a term) finds no fault with any query, and
every test that asks it passes. So each judge is shown faults of every kind that it is there to find, and must
find them.

A second trap: a judge that is not installed. A skip says why, and where CI=true it is a failure.
"""

import pytest

from judges import kql_judge, lucene_judge, require

TABLES = {
    "OfficeActivity": {
        "TimeGenerated": "datetime",
        "UserId": "string",
        "RecordType": "string",
        "MailboxOwnerUPN": "string",
        "Operation": "string",
        "ClientIP": "string",
    },
    "DeviceProcessEvents": {
        "TimeGenerated": "datetime",
        "AccountName": "string",
        "ProcessCommandLine": "string",
        "ProcessId": "long",
        "AdditionalFields": "dynamic",
    },
}

GOOD_KQL = """
let lookback = 24h;
let cmdlets = dynamic(["New-MailboxExportRequest", "Search-Mailbox"]);
let mailboxes = OfficeActivity
    | where TimeGenerated > ago(lookback) and RecordType in~ ("ExchangeItem", "2")
    | where UserId !~ MailboxOwnerUPN
    | summarize Mailboxes = dcount(MailboxOwnerUPN) by UserId, TimeGenerated = bin(TimeGenerated, 1h)
    | where Mailboxes >= 5
    | extend Detail = strcat("mailboxes: ", Mailboxes);
let processes = DeviceProcessEvents
    | where ProcessCommandLine has_any (cmdlets) and AdditionalFields.Elevated == "yes"
    | extend UserId = AccountName, Detail = ProcessCommandLine;
union mailboxes, processes
| project TimeGenerated, UserId, Detail, Mailboxes
| sort by TimeGenerated desc
"""

# What is wrong: (query, the code that must be among the diagnostics, the line that it must point at).
BAD_KQL = {
    "unknown column": ("OfficeActivity\n| where Operatoin == 'x'", "KS142", 2),
    "unknown table": ("OfficeActivities | count", "KS204", 1),
    "unknown function": ("OfficeActivity\n| where begins(UserId, 'a')", "KS211", 2),
    "column lost by summarize": ("OfficeActivity | summarize by UserId\n| project Operation", "KS142", 2),
    "column not in a let": ("let a = OfficeActivity\n| where Nope == 'x';\na", "KS142", 2),
    "string == number": ("OfficeActivity\n| where RecordType == 50", "PACK001", 2),
    "number == string": ("DeviceProcessEvents | where ProcessId == '4'", "PACK001", 1),
    "datetime == string": ("OfficeActivity | where TimeGenerated == '2026-01-01'", "PACK001", 1),
    "string in (number)": ("OfficeActivity | where RecordType in ('2', 50)", "PACK001", 1),
    "string in~ (table of number)": (
        "OfficeActivity | where UserId in~ ((DeviceProcessEvents | project ProcessId))",
        "PACK001",
        1,
    ),
    "dynamic == dynamic": (
        "DeviceProcessEvents | where AdditionalFields.a == AdditionalFields.b",
        "PACK001",
        1,
    ),
    "string > number": ("OfficeActivity | where RecordType > 5", "KS106", 1),
    "number has string": ("DeviceProcessEvents | where ProcessId has '4'", "KS106", 1),
    "filter that is no bool": ("OfficeActivity | where UserId", "KS141", 1),
    "too few arguments": ("OfficeActivity | extend x = strcat()", "KS120", 1),
    "open bracket": ("OfficeActivity | where (UserId == 'x'", "KS005", 1),
    "unknown operator": ("OfficeActivity\n| wher UserId == 'x'", "KS176", 2),
}


@pytest.fixture(scope="module")
def kql() -> dict[str, kql_judge.Analysis]:
    require(kql_judge.available())
    queries = {name: query for name, (query, _, _) in BAD_KQL.items()}
    return kql_judge.analyze(TABLES, {"good": GOOD_KQL, **queries})


def test_kql_good_query_has_no_diagnostics_and_its_columns(kql: dict[str, kql_judge.Analysis]) -> None:
    assert kql["good"].diagnostics == ()
    assert [(column.name, column.type) for column in kql["good"].columns] == [
        ("TimeGenerated", "datetime"),
        ("UserId", "string"),
        ("Detail", "string"),
        ("Mailboxes", "long"),
    ]


@pytest.mark.parametrize("name", BAD_KQL)
def test_kql_fault_is_found(name: str, kql: dict[str, kql_judge.Analysis]) -> None:
    _, code, line = BAD_KQL[name]
    found = [(diagnostic.code, diagnostic.line) for diagnostic in kql[name].diagnostics]
    assert (code, line) in found
    assert all(diagnostic.severity == "Error" for diagnostic in kql[name].diagnostics)


@pytest.mark.usefixtures("kql")
def test_kql_table_that_is_not_declared_is_unknown() -> None:
    only_processes = {"DeviceProcessEvents": TABLES["DeviceProcessEvents"]}
    (diagnostic,) = kql_judge.analyze(only_processes, {"query": "OfficeActivity | count"})[
        "query"
    ].diagnostics
    assert "OfficeActivity" in diagnostic.message


@pytest.mark.usefixtures("kql")
def test_kql_saved_function() -> None:
    query = {"query": "OfficeActivity | where UserId !in ((_GetWatchlist('vip')))"}
    watchlist = {"_GetWatchlist": "(alias: string) { datatable(SearchKey: string)[] }"}
    assert kql_judge.analyze(TABLES, query)["query"].diagnostics != ()
    assert kql_judge.analyze(TABLES, query, watchlist)["query"].diagnostics == ()
    with pytest.raises(ValueError, match="Nope"):
        kql_judge.analyze(TABLES, {}, {"broken": "() { OfficeActivity | where Nope == 1 }"})


@pytest.mark.usefixtures("kql")
def test_kql_type_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r'table "T", column "a": unknown type "text"'):
        kql_judge.analyze({"T": {"a": "text"}}, {})


# One case-folded whole-term regular expression, as the Elastic backend writes it for a list of cmdlets.
WHOLE_TERM = (
    "event.action:/(.*[^a-zA-Z0-9])?([nN][eE][wW]-[mM][aA][iI][lL][bB][oO][xX][eE][xX][pP][oO][rR][tT]"
    "[rR][eE][qQ][uU][eE][sS][tT]|[sS][eE][aA][rR][cC][hH]-[mM][aA][iI][lL][bB][oO][xX])([^a-zA-Z0-9].*)?/"
)

DOCUMENTS = {
    "exact": {"event.action": ["New-MailboxExportRequest"], "user.id": ["a@x.org"]},
    "folded": {"event.action": ["NEW-mailboxexportREQUEST"]},
    "inside": {
        "event.action": ["-Command Search-Mailbox -Identity b"],
        "client.ip": ["192.0.2.1", "2001:db8::1"],
    },
    "second": {"event.action": ["Send", "Search-Mailbox"]},
    "longer": {"event.action": ["Search-MailboxAuditLog"]},
    "prefixed": {"event.action": ["xSearch-Mailbox"]},
    "empty": {},
}

# What is asked: (query, the documents that must be found).
LUCENE = {
    "whole-term regular expression": (WHOLE_TERM, {"exact", "folded", "inside", "second"}),
    "regular expression is anchored": ("event.action:/Search-Mailbox/", {"second"}),
    "negated whole-term": (f"NOT {WHOLE_TERM}", {"longer", "prefixed", "empty"}),
    "nested negation": ("_exists_:user.id AND (NOT event.action:Send)", {"exact"}),
    "term": ("event.action:Send", {"second"}),
    "term keeps its case": ("event.action:send", set()),
    "quoted term": ('event.action:"New-MailboxExportRequest"', {"exact"}),
    "escaped hyphen": (r"event.action:New\-MailboxExportRequest", {"exact"}),
    "phrase is one term": ('event.action:"-Command Search-Mailbox"', set()),
    "group": ("event.action:(Send OR Search-MailboxAuditLog)", {"second", "longer"}),
    "words in a group are one term": ("event.action:(Send Search-Mailbox)", set()),
    "wildcard": ("event.action:*Search-Mailbox*", {"inside", "second", "longer", "prefixed"}),
    "wildcard keeps its case": ("event.action:*search-mailbox*", set()),
    "prefix": ("event.action:Search*", {"second", "longer"}),
    "escaped colons": (r"client.ip:2001\:db8\:\:1", {"inside"}),
    "exists": ("_exists_:user.id", {"exact"}),
    "exists, an object": ("_exists_:client", {"inside"}),
    "exists as a wildcard": ("user.id:*", {"exact"}),
    "does not exist": ("NOT _exists_:event.action", {"empty"}),
    "everything": ("*:*", set(DOCUMENTS)),
    "everything, bare": ("*", set(DOCUMENTS)),
    "nothing": ("  ", set()),
    "field pattern": (r"client.\*:192.0.2.1", {"inside"}),
    "bare term": ("Send", {"second"}),
    "and, not": (
        "event.action:*Mailbox* AND NOT event.action:*AuditLog",
        set(DOCUMENTS) - {"folded", "longer", "empty"},
    ),
}

# What is wrong: (query, a part of the message).
BAD_LUCENE = {
    "open bracket": ("(event.action:a", "Cannot parse"),
    "open quote": ('event.action:"a', "Cannot parse"),
    "open regular expression": ("event.action:/a", "Cannot parse"),
    "unescaped colon": ("client.ip:2001:db8::1", "Cannot parse"),
    "operator without operand": ("event.action:a AND", "Cannot parse"),
    "malformed regular expression": ("event.action:/(a/", "expected ')'"),
    "regular expression of 1001 characters": (f"event.action:/{'a' * 1001}/", "1001 characters"),
    # Twenty characters after an `a`, anywhere: a deterministic automaton must remember the last twenty.
    "regular expression of 2^20 states": ("event.action:/.*a.{20}/", "10000 states"),
}


@pytest.fixture(scope="module")
def parsed() -> dict[str, str | None]:
    require(lucene_judge.available())
    return lucene_judge.parse(
        {name: query for name, (query, _) in (LUCENE | BAD_LUCENE).items()}
        | {
            "1000 characters": f"event.action:/{'a' * 1000}/",
            "range": "process.pid:>=5 AND process.pid:[1 TO 5}",
        }
    )


@pytest.fixture(scope="module")
def executed() -> dict[str, frozenset[str]]:
    require(lucene_judge.available())
    return lucene_judge.execute({name: query for name, (query, _) in LUCENE.items()}, DOCUMENTS)


@pytest.mark.parametrize("name", [*LUCENE, "1000 characters", "range"])
def test_lucene_good_query_parses(name: str, parsed: dict[str, str | None]) -> None:
    assert parsed[name] is None


@pytest.mark.parametrize("name", BAD_LUCENE)
def test_lucene_fault_is_found(name: str, parsed: dict[str, str | None]) -> None:
    assert BAD_LUCENE[name][1] in str(parsed[name])


@pytest.mark.parametrize("name", LUCENE)
def test_lucene_finds_exactly(name: str, executed: dict[str, frozenset[str]]) -> None:
    assert executed[name] == LUCENE[name][1]


@pytest.mark.parametrize("query", ["event.action:(", "process.pid:>=5"])
@pytest.mark.usefixtures("parsed")
def test_lucene_no_answer_rather_than_a_wrong_one(query: str) -> None:
    with pytest.raises(ValueError, match=r"^asked: "):
        lucene_judge.execute({"asked": query}, DOCUMENTS)


def test_missing_judge_skips_with_its_reason_and_fails_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert kql_judge.available() == "node is not installed"
    assert lucene_judge.available() == "a JDK is not installed"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="node is not installed"):
        require(kql_judge.available())
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="node is not installed"):
        require(kql_judge.available())

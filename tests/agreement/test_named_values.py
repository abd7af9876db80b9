r"""The trap: the value of a name in a list of names and values, taken for the value of another name.

`Parameters.Role` is the value of the parameter Role and of no other, whatever the values hold: quotes and
backslashes, JSON that imitates a parameter, the names themselves. Rules over such fields and records with
hostile lists run on every platform; each must give what Python reads out of the list.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.build.dist import make, make_folder
from detection_pack.languages.kql.named_value import named_value
from detection_pack.languages.spl.spl_parser import macros_of
from detection_pack.model.event import Clock, Event, RuleEntry
from detection_pack.model.pack import Pack
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.elastic.store import Store
from detection_pack.platforms.kusto import run as sentinel
from detection_pack.platforms.splunk import run as splunk
from support.sources import M365

NOW = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)
NAMES = ("Role", "User", "RecipientRole", "Role2", "ro")
VALUES = (
    *("Role", "Mailbox Import Export", "mailbox import export", "MAILBOX", r"contoso.example\ann", r"a\\b"),
    *('"Name":"Role","Value":"Mailbox"', '","Name":"Role","Value":"Mailbox', 'a"b', "it's", "{x}", "[y]"),
    *(r"\", Mailbox", "Kiosk Ünïcode", "tab\tline\n", "True", "", "10", "\\", '{"Name":"Role"}'),
)
#: Condition -> what it asks of the parameters, by name.
CONDITIONS: Mapping[str, Any] = {
    "Parameters.Role: 'Mailbox Import Export'": lambda p: p("Role") == "mailbox import export",
    "Parameters.Role|contains: mailbox": lambda p: "mailbox" in p("Role"),
    "Parameters.Role|endswith: '\\ann'": lambda p: p("Role").endswith("\\ann"),
    "Parameters.Role|contains: '\"'": lambda p: '"' in p("Role"),
    "Parameters.User|startswith: a": lambda p: p("User").startswith("a"),
    "Parameters.User|exists: true": lambda p: p("User") != "",
    "Parameters.Role2: [Role, 'True']": lambda p: p("Role2") in ("role", "true"),
    "Parameters.RecipientRole|contains: '}'": lambda p: "}" in p("RecipientRole"),
}


def records(seed: int, count: int) -> list[dict[str, Any]]:
    """Cmdlet records whose parameters have each name once, in any order, with any value."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        names = rng.sample(NAMES, rng.randrange(len(NAMES) + 1))
        listed = [{"Name": name, "Value": rng.choice(VALUES)} for name in names]
        made.append({"Parameters": listed} if rng.random() < 0.95 else {})
    return made


def asked(record: Mapping[str, Any]) -> Any:
    """What a condition is given: the value of a name in lower case, empty where there is none."""
    listed = {entry["Name"]: str(entry["Value"]).lower() for entry in record.get("Parameters", ())}
    return lambda name: listed.get(name, "")


@pytest.fixture(scope="module")
def given() -> list[dict[str, Any]]:
    return records(seed=11, count=600)


@pytest.fixture(scope="module")
def found(
    given: list[dict[str, Any]], pack: Pack, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Mapping[str, set[str]]]:
    """Platform -> condition -> the numbers of the records that its query finds."""
    folder = tmp_path_factory.mktemp("named")
    rules = {}
    for number, condition in enumerate(CONDITIONS):
        path = folder / f"probe_{number}.yml"
        source = "logsource: {product: m365, service: exchange}\nlevel: low\n"
        detection = f"detection:\n  s:\n    {condition}\n  condition: s\n"
        path.write_text(f"title: Probe\n{source}{detection}", encoding="utf-8")
        rules[condition] = load_rule(path, "other", named_by_stem=True)
    files = make(Pack(ROOT, pack.version, tuple(rules.values()), pack.pipelines)).files
    base = {
        "CreationTime": "2026-03-10T09:15:00",
        "RecordType": 1,
        "Operation": "New-X",
        "Workload": "Exchange",
    }
    events = [Event(str(n), M365, {"Id": str(n), **base, **record}) for n, record in enumerate(given)]
    macros = macros_of(files["splunk/macros.conf"].decode())
    workspace, search = sentinel.Workspace(events), splunk.Workspace(events)
    defender = sentinel.Workspace(events, schema="defender")
    out: dict[str, dict[str, set[str]]] = {name: {} for name in ("sentinel", "defender", "splunk", "elastic")}
    with Store(events) as store:
        for condition, rule in rules.items():
            for name, space in (("sentinel", workspace), ("defender", defender)):
                kql = files[f"{name}/queries/{rule.name}.kql"].decode()
                (hit,) = sentinel.verdicts(space, kql, RuleEntry(rule.name), Clock(NOW), rule.name)
                out[name][condition] = set(hit.events)
            rows = search.search(files[f"splunk/queries/{rule.name}.spl"].decode(), macros, NOW)
            out["splunk"][condition] = {event for row in rows for event in row.events}
            lucene = files[f"elastic/queries/{rule.name}.lucene"].decode()
            out["elastic"][condition] = set(store.lucene(lucene))
    return out


@pytest.mark.parametrize("platform", ["sentinel", "defender", "splunk", "elastic"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_it_is_the_value_of_that_name(
    condition: str,
    platform: str,
    given: list[dict[str, Any]],
    found: Mapping[str, Mapping[str, set[str]]],
) -> None:
    meant = {str(n) for n, record in enumerate(given) if CONDITIONS[condition](asked(record))}
    assert meant and len(meant) < len(given)
    assert found[platform][condition] == meant


def test_spacing_and_scalars_of_the_text_do_not_matter() -> None:
    import duckdb
    import duckdb_kql

    texts = ('[ {"Name" : "X" , "Value" : "a\\u0027b"} ]', '[{"Name":"X","Value":true}]', "", "[]", "no json")
    values = ("a'b", "true", "", "", "")
    connection = duckdb.connect()
    connection.execute("CREATE TABLE T (Listed VARCHAR)")
    connection.executemany("INSERT INTO T VALUES (?)", [(text,) for text in texts])
    sql = duckdb_kql.to_sql(f"T | project V = {named_value('Listed', 'X')}")
    assert [row[0] or "" for row in connection.execute(sql).fetchall()] == list(values)


UNPAIRED = {"Name": "MailAccessType", "Value": "Bind"}, {"Name": "IsThrottled", "Value": "False"}


def rule_text(detection: str) -> str:
    return (
        "title: Probe\nlogsource: {product: m365, service: exchange}\nlevel: low\n"
        f"detection:\n  s:\n    RecordType: ExchangeItemAggregated\n    {detection}\n  condition: s\n"
    )


def test_two_parallel_lists_find_the_name_and_the_value(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "probe.yml").write_text(
        rule_text("OperationProperties.IsThrottled: 'True'"), encoding="utf-8"
    )
    files = make_folder(ROOT, tmp_path).files
    query = files["elastic/queries/probe.lucene"].decode()
    assert "OperationProperties.Name:IsThrottled AND " in query
    told = {
        "yes": [UNPAIRED[0], {"Name": "IsThrottled", "Value": "True"}],
        "no": list(UNPAIRED),
        "other": [{"Name": "Other", "Value": "True"}],
        "absent": None,
    }
    events = [
        Event(
            name,
            M365,
            {
                "Id": name,
                "CreationTime": "2026-03-10T09:15:00",
                "RecordType": 50,
                "OperationProperties": listed,
            },
        )
        for name, listed in told.items()
    ]
    with Store(events) as store:
        assert set(store.lucene(query)) == {"yes"}
    kql = files["sentinel/queries/probe.kql"].decode()
    (hit,) = sentinel.verdicts(sentinel.Workspace(events), kql, RuleEntry("probe"), Clock(NOW), "probe")
    assert set(hit.events) == {"yes"}


@pytest.mark.parametrize(
    ("detection", "platform", "said"),
    [
        ("Parameters.UserId: x", "Splunk", "own field"),
        ("Parameters.: x", "", "unknown"),
        ("'Parameters.a\"b': x", "", "cannot be the name of a value in a list"),
        ("OperationProperties.IsThrottled: ''", "Elastic", "cannot be told from an absent one"),
    ],
)
def test_what_cannot_be_said_is_refused(detection: str, platform: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "probe.yml").write_text(rule_text(detection), encoding="utf-8")
    refused = make_folder(ROOT, tmp_path, keep_going=True).refused
    assert any(said in finding.what for finding in refused), [json.dumps(str(f)) for f in refused]

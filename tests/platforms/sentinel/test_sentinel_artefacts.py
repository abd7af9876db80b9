"""The trap: a file that a portal takes and that then alerts twice, never, or on something else.

What is imported is executed, out of the shipped files: the analytics rules, the ARM template and the custom
detections reach the verdicts of the plain queries. Successive scheduled runs over late events alert on each
of them once. A rule's text is text in a template, whatever it looks like, and what a portal would refuse is
refused by the build.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agreement.test_kql_judged import complaints
from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, pack_version
from detection_pack.model.pipeline import load_pipelines
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.defender.backend import defender_query
from detection_pack.platforms.kusto.attack import service_attack
from detection_pack.platforms.kusto.run import Workspace, correlated_hit
from detection_pack.platforms.sentinel.alerting_query import SETTLE
from detection_pack.platforms.sentinel.analytics import (
    PLACEHOLDER,
    ScheduledRule,
    analytics_yaml,
    scheduled_rule,
)
from detection_pack.platforms.sentinel.arm import escaped, iso_duration, resource, templates, unescaped
from detection_pack.platforms.sentinel.imports import analytics_rule, deployed_rules
from detection_pack.platforms.sentinel.schedule import Behaviour, alerts
from detection_pack.replay.verdict import all_cases, clock_for
from judges import kql_judge, require
from platforms.sentinel.test_sentinel_backend import CASES, PIPELINE, rule_of
from platforms.sentinel.test_sentinel_correlations import CORRELATIONS, EXECUTED, NOW, correlation_file, sent
from support.engines import run_analytics, run_kql
from support.rules import given as rules_given
from support.sources import DEFENDER_TABLES, M365, SENTINEL_TABLES, SOURCES

HUNTING_SCHEMA = load_pipelines(ROOT)["defender"]
NAMES = (
    "exchange_admin_cmdlet",
    "bulk_cross_mailbox_access",
    "suspicious_ews_client",
    "onprem_powershell_collection",
)


def imported() -> dict[str, dict[str, Any]]:
    return {path.stem: analytics_rule(path) for path in sorted(DIST.glob("sentinel/analytics/*.yaml"))}


def scheduled(rule: Rule) -> ScheduledRule:
    return scheduled_rule(rule, PIPELINE, "1.0.0")


# ---- the same verdicts ------------------------------------------------------------------------------------


def facts(hits: Sequence[Hit]) -> list[tuple[str, ...]]:
    return sorted((str(h.group), str(h.window), str(h.value), str(sorted(h.events))) for h in hits)


@pytest.mark.parametrize("name", NAMES)
def test_imports_reach_the_verdicts_of_the_plain_query(name: str, pack: Pack) -> None:
    cases = all_cases(ROOT, [pack.rule(name)], pack.sources)[name]
    events = [event for case in cases for event in case.events]
    clock = clock_for(events)
    entries = [entry for entry in rule_entries(DIST) if entry.name == name]
    plain = run_kql(DIST, entries, events, clock)
    assert any(hit.events or hit.group for hit in plain)
    hits = run_analytics(DIST, entries, events, clock)
    files = sorted({hit.artefact for hit in hits})
    assert files[0] == f"sentinel/analytics/{name}.yaml" and len(files) == 2
    assert files[1] in {f"sentinel/azuredeploy/{c}.json" for c in ("Office365", "MicrosoftThreatProtection")}
    for file in files:
        assert facts([hit for hit in hits if hit.artefact == file]) == facts(plain), file


@pytest.mark.parametrize(("kind", "records", "expected"), EXECUTED)
def test_every_correlation_is_scheduled_and_hunted_alike(
    tmp_path: Path, kind: str, records: list[dict[str, Any]], expected: set[str]
) -> None:
    rule = load_rule(correlation_file(tmp_path, kind), "other", named_by_stem=True)
    events = sent(records)
    arrived = dict.fromkeys((e.id for e in events), NOW.now - timedelta(seconds=SETTLE))
    queries = {
        "scheduled": (Workspace(events, arrived), scheduled(rule).query),
        "hunted": (Workspace(events, schema="defender"), defender_query(rule, HUNTING_SCHEMA)),
    }
    for name, (workspace, text) in queries.items():
        lines = text.split("\n| extend DetectionType")[0]
        assert {row["UserId"] for row in workspace.query(lines, NOW)} == expected, name
        assert len(workspace.query(text, NOW)) == len(expected), name


def test_custom_detections_link_to_one_event(pack: Pack) -> None:
    """Timestamp and ReportId are of one and the same event, and somebody or something is named."""
    for name in NAMES:
        cases = all_cases(ROOT, [pack.rule(name)], pack.sources)[name]
        events = {event.id: event for case in cases for event in case.events}
        workspace = Workspace(list(events.values()), schema="defender")
        text = (DIST / "defender" / "queries" / f"{name}.kql").read_text(encoding="utf-8")
        rows = workspace.query(text, clock_for(list(events.values())))
        assert rows
        for row in rows:
            assert row["Timestamp"] is not None and row["ReportId"] is not None
            if "AccountUpn" in row:
                assert events[row["ReportId"]].time == row["Timestamp"].replace(tzinfo=UTC)
                assert {"AccountObjectId", "AccountUpn"} <= row.keys()
            else:
                assert row["DeviceId"]


# ---- late events ------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 10, 8, 0, tzinfo=UTC)


def arrival(name: str, minutes: float, late: float, **record: Any) -> Arrival:
    """A cmdlet record, ``minutes`` after the start, in the table ``late`` minutes later."""
    time = START + timedelta(minutes=minutes)
    base = {
        "CreationTime": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "RecordType": 1,
        "Workload": "Exchange",
        "Operation": "Search-Mailbox",
        "UserId": f"{name}@contoso.example",
    }
    return Arrival(Event(name, M365, {**base, **record}), time + timedelta(minutes=late))


def visits(name: str, minutes: Sequence[float], late: Sequence[float]) -> list[Arrival]:
    """Visits of one account in mailboxes of others, each with its own delay."""
    return [
        replace(
            made := arrival(f"{name}-{number}", minute, delay),
            event=Event(
                made.event.id,
                M365,
                {
                    **made.event.record,
                    "RecordType": 2,
                    "Operation": "Create",
                    "UserId": f"{name}@contoso.example",
                    "MailboxOwnerUPN": f"owner{number}@contoso.example",
                    "ClientIP": "198.51.100.7",
                },
            ),
        )
        for number, (minute, delay) in enumerate(zip(minutes, late, strict=True))
    ]


def runs(
    document: Mapping[str, Any],
    entry: RuleEntry,
    arrivals: Sequence[Arrival],
    times: Sequence[datetime],
    now_is_scheduled: bool,
) -> Iterator[Hit]:
    """The alerts of runs that start at their time, as hits."""
    stated = {"eventGroupingSettings": {"aggregationKind": "AlertPerResult"}, **document}
    starts = [Start(moment, moment) for moment in times]
    for alert in alerts(stated, entry, "OfficeActivity", arrivals, starts, Behaviour(now_is_scheduled)):
        if entry.window is None:
            yield Hit("sentinel", entry.name, "analytics", alert.events)
        else:
            yield from (correlated_hit("sentinel", entry, "analytics", row) for row in alert.rows)


def hourly(count: int, first: datetime = START) -> list[datetime]:
    return [first + HOUR * number for number in range(count)]


DELAYS = (0, 0.5, 50, 3 * 60, 7 * 60)
#: Whether `now()` is the time that a run is scheduled for or, five minutes later, that of the run: Microsoft
#: does not say.
NOWS = [True, pytest.param(False, marks=pytest.mark.campaign)]


@pytest.mark.parametrize("now_is_scheduled", NOWS)
def test_every_late_event_is_alerted_on_once(now_is_scheduled: bool) -> None:
    """Also on the edges: at the hour, and in the five minutes between a run's time and the run."""
    minutes = (1, 29, 55, 58, 60, 61, 64, 65, 66, 119.5)
    arrivals = [
        arrival(f"e{minute}-{late}".replace(".", "_"), minute, late) for minute in minutes for late in DELAYS
    ]
    document = imported()["exchange_admin_cmdlet"]
    entry = RuleEntry("exchange_admin_cmdlet")
    found = Counter(
        event for hit in runs(document, entry, arrivals, hourly(12), now_is_scheduled) for event in hit.events
    )
    assert found == Counter(a.event.id for a in arrivals)


@pytest.mark.parametrize("now_is_scheduled", NOWS)
def test_plain_look_back_would_alert_again_and_again(now_is_scheduled: bool) -> None:
    """What the scheduled query is for: the plain one finds an event in every run of its look-back."""
    text = (DIST / "sentinel" / "queries" / "exchange_admin_cmdlet.kql").read_text(encoding="utf-8")
    document = {"query": text, "queryPeriod": "1d"}
    entry = RuleEntry("exchange_admin_cmdlet")
    hits = runs(document, entry, [arrival("once", 1, 0)], hourly(4), now_is_scheduled)
    assert sum(len(hit.events) for hit in hits) == 3


LATE_GROUPS: list[tuple[str, list[float], list[float], int]] = [
    ("ontime", [61, 62, 63, 64, 66], [0] * 5, 1),
    ("fifth50", [61, 62, 63, 64, 65], [0, 0, 0, 0, 50], 1),
    ("fifth3h", [61, 62, 63, 64, 65], [0, 0, 0, 0, 180], 1),
    ("fifth7h", [61, 62, 63, 64, 65], [0, 0, 0, 0, 420], 1),
    ("scattered", [61, 62, 63, 64, 65], [0, 50, 180, 300, 420], 1),
    ("allLate", [61, 62, 63, 64, 65], [420] * 5, 1),
    ("moreLater", [61, 62, 63, 64, 65, 66, 67], [0, 0, 0, 0, 0, 180, 420], 1),
    ("two hours", [61, 62, 63, 64, 65, 121, 122, 123, 124, 125], [0, 0, 0, 0, 180] * 2, 2),
    ("four", [61, 62, 63, 64], [0, 50, 180, 420], 0),
]


@pytest.mark.parametrize("now_is_scheduled", NOWS)
def test_every_group_is_alerted_on_once_however_late_its_events(now_is_scheduled: bool) -> None:
    arrivals = [a for name, minutes, late, _ in LATE_GROUPS for a in visits(name, minutes, late)]
    document = imported()["bulk_cross_mailbox_access"]
    [entry] = [e for e in rule_entries(DIST) if e.name == "bulk_cross_mailbox_access"]
    hits = list(runs(document, entry, arrivals, hourly(13), now_is_scheduled))
    found = Counter(hit.group[0][1].partition("@")[0] for hit in hits if hit.group)
    assert found == Counter({name.lower(): times for name, _, _, times in LATE_GROUPS if times})
    assert {hit.value for hit in hits} == {5.0}


@pytest.mark.parametrize("now_is_scheduled", NOWS)
def test_a_window_on_the_edge_of_the_look_back_is_counted_whole(now_is_scheduled: bool) -> None:
    """Alerted on at once; a day later three more arrive, when half of the window is 24 hours old."""
    minutes = [62.0, 63, 64, 105, 106, 115, 116, 117]
    arrivals = visits("edge", minutes, [0] * 5 + [24 * 60 - 40.0] * 3)
    document = imported()["bulk_cross_mailbox_access"]
    [entry] = [e for e in rule_entries(DIST) if e.name == "bulk_cross_mailbox_access"]
    first = START + timedelta(minutes=30)
    hits = list(runs(document, entry, arrivals, hourly(27, first), now_is_scheduled))
    assert [hit.value for hit in hits] == [5.0]


# ---- the files --------------------------------------------------------------------------------------------


def test_template_and_analytics_rules_say_the_same(pack: Pack) -> None:
    documents, deployed = imported(), deployed_rules(DIST)
    alerting = {rule.name for rule in rules_given(pack, "sentinel") if rule.tier not in BY_HAND}
    assert set(documents) == alerting >= set(NAMES)
    assert {document["id"] for document in documents.values()} == set(deployed)
    for name, document in documents.items():
        _, properties = deployed[document["id"]]
        assert properties["query"] == document["query"], name
        assert properties["displayName"] == document["name"] == pack.rule(name).title
        assert properties["description"] == document["description"].strip()
        assert properties["severity"] == document["severity"]
        # A rule that knows no account, host or address maps none: neither form has the key then.
        assert properties.get("entityMappings") == document.get("entityMappings")
        known = pack.rule(name).alert
        assert ("entityMappings" in document) == bool(known.user or known.source), name
        assert properties["customDetails"] == document["customDetails"]
        assert properties["alertDetailsOverride"] == document["alertDetailsOverride"]
        assert properties["eventGroupingSettings"] == document["eventGroupingSettings"]
        assert document["relevantTechniques"] == list(service_attack(pack.rule(name)).techniques)
        assert properties["techniques"] == list(dict.fromkeys(t[:5] for t in document["relevantTechniques"]))
        assert properties["subTechniques"] == [t for t in document["relevantTechniques"] if "." in t]


def test_core_rules_are_as_the_portal_shows_them() -> None:
    documents, deployed = imported(), deployed_rules(DIST)
    for name in NAMES:
        document, (_, properties) = documents[name], deployed[documents[name]["id"]]
        assert (document["severity"], document["tactics"]) == ("High", ["Collection"])
        assert (document["status"], document["kind"], document["version"]) == (
            "Available",
            "Scheduled",
            pack_version(ROOT),
        )
        assert (document["triggerOperator"], document["triggerThreshold"]) == ("gt", 0)
        assert (properties["techniques"], properties["subTechniques"]) == (["T1114"], ["T1114.002"])
        assert properties["queryFrequency"] == "PT1H"
        long = name == "bulk_cross_mailbox_access"
        assert properties["queryPeriod"] == ("P1DT3H" if long else "P1DT2H")
        assert document["queryPeriod"] == ("27h" if long else "26h")
        kinds = [mapping["entityType"] for mapping in document["entityMappings"]]
        assert kinds == (["Account", "Host"] if name.startswith("onprem") else ["Account", "IP"])
        for text in document["alertDetailsOverride"].values():
            assert 1 <= len(PLACEHOLDER.findall(text)) <= 3
    assert documents["onprem_powershell_collection"]["requiredDataConnectors"] == [
        {"connectorId": "MicrosoftThreatProtection", "dataTypes": ["DeviceProcessEvents"]}
    ]
    assert documents["exchange_admin_cmdlet"]["requiredDataConnectors"] == [
        {"connectorId": "Office365", "dataTypes": ["OfficeActivity (Exchange)"]}
    ]


def test_columns_that_a_rule_names_are_in_its_result() -> None:
    require(kql_judge.available())
    documents = imported()
    tables = SENTINEL_TABLES
    queries = {name: document["query"] for name, document in documents.items()}
    for name, analysis in kql_judge.analyze(tables, queries).items():
        assert not analysis.diagnostics, name
        document, there = documents[name], {column.name for column in analysis.columns}
        named = set(document["customDetails"].values())
        for mapping in document.get("entityMappings", ()):
            named |= {field["columnName"] for field in mapping["fieldMappings"]}
        for text in document["alertDetailsOverride"].values():
            named |= set(PLACEHOLDER.findall(text))
        assert named <= there, name
        assert "TimeGenerated" in there


# ---- text is text -----------------------------------------------------------------------------------------

HOSTILE = [
    "[concat('a', resourceGroup().id)]",
    "[[already]",
    "[only the start",
    "ends]",
    "{{UserId}} {{a}} {{b}} {{c}} {{{d}}}",
    "'quotes\" \\ back\ttab",
    "key: value # no comment",
    "- list\n  - [x]\n\ttab\n\ntrailing blank \n",
    "\u202e\u2028\U0001f4a3 ünïcode",
    "%TAG ! \n---\n...\n",
    "null",
    "]] [parameters('workspace')]",
]


def other_rule(folder: Path, **changes: Any) -> Rule:
    path = folder / "probe.yml"
    document: dict[str, Any] = {
        "title": "Probe",
        "logsource": {"product": "m365"},
        "detection": {"selection": {"Operation": "Send"}, "condition": "selection"},
        "alert": {"type": "Probe", "detail": "Seen", "user": "UserId", "source": "ClientIP"},
    }
    path.write_text(yaml.safe_dump({**document, **changes}, sort_keys=False), encoding="utf-8")
    return load_rule(path, "other", named_by_stem=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_rule_stays_text(tmp_path: Path, text: str) -> None:
    alert = {"type": text, "detail": text.replace("{", "(").replace("}", ")"), "user": "UserId"}
    made = scheduled(other_rule(tmp_path, title=text, description=text, alert=alert))
    document = yaml.safe_load(analytics_yaml(made))
    assert (document["name"], document["query"]) == (made.title, made.query)
    # What the rule needs follows, and is the pipeline's.
    assert document["description"].partition("\n\nNeeds OfficeActivity: ")[0].strip() == text.strip()
    [template] = templates([("Office365", resource(made))], "1.0.0").values()
    [deployed] = json.loads(template)["resources"]
    properties = deployed["properties"]
    assert not [s for s in strings(properties) if re.fullmatch(r"\[(?!\[).*\]", s, re.DOTALL)]
    assert unescaped(properties)["displayName"] == text
    assert unescaped(properties)["description"] == document["description"].removesuffix("\n")
    for value in document["alertDetailsOverride"].values():
        assert set(PLACEHOLDER.findall(value)) <= {"UserId", "DetectionDetail"}
    rows = Workspace([], sources=SOURCES.values()).query(made.query, NOW)
    assert rows == []


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (s for inner in value.values() for s in strings(inner))
    elif isinstance(value, list):
        yield from (s for inner in value for s in strings(inner))


@given(st.text(alphabet="[]a'x(", max_size=8))
def test_escaping_loses_nothing(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert unescaped(escaped({"k": [text, 1, None]})) == {"k": [text, 1, None]}


def test_only_the_names_of_a_resource_are_expressions() -> None:
    found = [json.loads(p.read_text(encoding="utf-8")) for p in DIST.glob("sentinel/azuredeploy/*.json")]
    assert len(found) > 1 and all(list(template["parameters"]) == ["workspace"] for template in found)
    for deployed in (deployed for template in found for deployed in template["resources"]):
        unescaped(deployed["properties"])
        others = {key: value for key, value in deployed.items() if key not in ("id", "name", "properties")}
        assert not [s for s in strings(others) if s.startswith("[")]
        assert re.fullmatch(
            r"\[concat\(parameters\('workspace'\),'/Microsoft\.SecurityInsights/[0-9a-f-]{36}'\)\]",
            deployed["name"],
        )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(300, "PT5M"), (3600, "PT1H"), (86400, "P1D"), (90000, "P1DT1H"), (1209600, "P14D"), (0, "PT0S")],
)
def test_durations(seconds: int, text: str) -> None:
    assert iso_duration(seconds) == text


def test_fifty_rules_a_template(tmp_path: Path) -> None:
    made = scheduled(other_rule(tmp_path))
    pairs = [("Office365", resource(made))] * 101 + [("", resource(made)), ("../x", resource(made))]
    sizes = {path: len(json.loads(text)["resources"]) for path, text in templates(pairs, "1.0.0").items()}
    assert sizes == {
        "sentinel/azuredeploy/other.json": 2,
        "sentinel/azuredeploy/Office365.json": 50,
        "sentinel/azuredeploy/Office365-2.json": 50,
        "sentinel/azuredeploy/Office365-3.json": 1,
    }


def test_a_template_without_a_connector_is_for_one_table() -> None:
    """A site that has one of the tables could import none of the rules, were there another's among them."""
    found = {}
    for path in DIST.glob("sentinel/analytics/*.yaml"):
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not stated["requiredDataConnectors"]:
            query = (DIST / "sentinel" / "queries" / f"{path.stem}.kql").read_text(encoding="utf-8")
            found[stated["id"]] = re.findall(r"^(\w+)\n\| where TimeGenerated", query, re.MULTILINE)[0]
    assert len(set(found.values())) > 1
    for table in set(found.values()):
        template = json.loads((DIST / "sentinel" / "azuredeploy" / f"{table}.json").read_text("utf-8"))
        ids = {name for one in template["resources"] for name in found if name in one["name"]}
        assert {found[name] for name in ids} == {table} and len(ids) == len(template["resources"])


def test_rule_without_an_id_gets_the_same_one_each_time(tmp_path: Path) -> None:
    first, second = scheduled(other_rule(tmp_path)), scheduled(other_rule(tmp_path))
    assert first.id == second.id and re.fullmatch(r"[0-9a-f-]{36}", first.id)


# ---- what the portal would refuse -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"description": "x" * 5_000}, "description:", "5,000"),
        ({"alert": {"type": "x" * 256, "detail": "d", "user": "UserId"}}, "  type:", "alert name"),
        (
            {
                "detection": {
                    "selection": {"UserId": [f"{i:0>40}" for i in range(250)]},
                    "condition": "selection",
                }
            },
            "detection:",
            "1 to 10,000",
        ),
        (
            {"detection": {"selection": {"UserId": "a union \\* b"}, "condition": "selection"}},
            "detection:",
            "union *",
        ),
        ({"lookback": "15d"}, "lookback:", "not between 5 minutes and 14 days"),
        ({"lookback": "4m"}, "lookback:", "not between 5 minutes and 14 days"),
    ],
)
def test_refused_in_one_line_at_its_place(
    tmp_path: Path, changes: dict[str, Any], key: str, said: str
) -> None:
    rule = other_rule(tmp_path, **changes)
    with pytest.raises(PackError) as refusal:
        scheduled(rule)
    [finding] = refusal.value.findings
    lines = rule.path.read_text(encoding="utf-8").splitlines()
    assert said in finding.what and "\n" not in str(finding)
    assert lines[finding.line - 1].startswith(key)


# ---- Microsoft's parser -----------------------------------------------------------------------------------


def test_every_imported_query_is_without_a_diagnostic(tmp_path: Path) -> None:
    require(kql_judge.available())
    queries = {f"analytics/{name}": document["query"] for name, document in imported().items()}
    queries |= {f"template/{key}": rule["query"] for key, (_, rule) in deployed_rules(DIST).items()}
    for title, selection, condition, _, _ in CASES:
        queries[f"operator/{title}"] = scheduled(rule_of(tmp_path, selection, condition)).query
    for kind in CORRELATIONS:
        rule = load_rule(correlation_file(tmp_path, kind), "other", named_by_stem=True)
        queries[f"correlation/{kind}"] = scheduled(rule).query
    assert len(queries) >= 8 + len(CASES) + len(CORRELATIONS)
    assert complaints(queries) == {}


def test_every_custom_detection_is_without_a_diagnostic(tmp_path: Path) -> None:
    require(kql_judge.available())
    shipped = {p.stem: p.read_text(encoding="utf-8") for p in sorted(DIST.glob("defender/queries/*.kql"))}
    assert set(shipped) >= set(NAMES)
    queries = dict(shipped)
    for title, selection, condition, _, _ in CASES:
        queries[f"operator {title}"] = defender_query(rule_of(tmp_path, selection, condition), HUNTING_SCHEMA)
    for kind in CORRELATIONS:
        rule = load_rule(correlation_file(tmp_path, kind), "other", named_by_stem=True)
        queries[f"correlation {kind}"] = defender_query(rule, HUNTING_SCHEMA)
    tables = DEFENDER_TABLES
    for name, analysis in kql_judge.analyze(tables, queries).items():
        assert not analysis.diagnostics, (name, list(map(str, analysis.diagnostics)))
        there = {column.name: column.type for column in analysis.columns}
        assert there["Timestamp"] == "datetime" and "ReportId" in there
        assert {"DeviceId", "AccountObjectId"} & there.keys()


def test_queries_of_the_import_page_are_without_a_diagnostic() -> None:
    require(kql_judge.available())
    page = (ROOT / "docs" / "import" / "sentinel.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```kusto\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    assert "union isfuzzy=true" in blocks[0]  # a table that a workspace lacks is an error otherwise
    assert complaints({str(number): block for number, block in enumerate(blocks)}) == {}

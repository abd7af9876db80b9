"""The trap: alerts of somebody's rules that name nobody, nothing and nowhere.

A rule without ``alert:`` shows who, where and what as its log source has it, Sigma's ``fields:`` and what a
correlation groups by; on every platform, executed (Microsoft's parser reads these rules in
agreement/test_correlation_forms.py). Kinds of rule that once
came out wrong are each built and executed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import Built, make, make_folder, rule_entries
from detection_pack.languages.conf import read_conf
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import AlertDefaults
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.platform import platform
from detection_pack.platforms.splunk.app import read_archive
from support.engines import ENGINES, IMPORTS, SOUND_ONLY
from support.sources import M365, PROCESS

CLOCK = Clock(datetime(2026, 3, 10, 18, tzinfo=UTC))
PROCESSES = {"product": "windows", "category": "process_creation"}
AUDIT = {"product": "m365", "service": "exchange"}


def plain(title: str, source: Mapping[str, str], selection: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    detection = {"s": dict(selection), "condition": "s"}
    return {"title": title, "logsource": dict(source), "detection": detection, "level": "high", **more}


def correlated(kind: str, group: Sequence[str], condition: Any = None, **more: Any) -> list[dict[str, Any]]:
    base = plain("Tool", PROCESSES, {"Image|endswith": ["\\whoami.exe", "\\net.exe"]}, name="tool")
    stated: dict[str, Any] = {"type": kind, "rules": ["tool"], "timespan": "10m"}
    stated |= {"group-by": list(group)} if group else {}
    stated |= {"condition": condition} if condition else {}
    return [base, {"title": "Many Tools", "correlation": stated, "level": "high", **more}]


RULES: dict[str, list[dict[str, Any]]] = {
    "process": [plain("Probe", PROCESSES, {"Image|endswith": "\\a.exe"})],
    "fields": [
        plain(
            "Probe",
            PROCESSES,
            {"Image|endswith": "\\a.exe"},
            fields=["CommandLine", "ParentCommandLine", "Nobody"],
        )
    ],
    "audit": [plain("Search", AUDIT, {"Operation": "Search-Mailbox"})],
    "letter_case": correlated("event_count", ["Computer", "User"], {"gte": 3}),
    "no_group": correlated("event_count", [], {"gte": 4}),
    "three_groups": correlated("event_count", ["Computer", "User", "Image"], {"gte": 2}),
    "braces": [plain("Of {UserId} and {count}", AUDIT, {"Operation": "Move"})],
    "long_title": [plain("T" * 256, AUDIT, {"Operation": "Move"})],
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[Rule]:
    folder = tmp_path_factory.mktemp("views")
    found = []
    for name, documents in RULES.items():
        path = folder / f"{name}.yml"
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        found.append(load_rule(path, "other", named_by_stem=True))
    return found


@pytest.fixture(scope="module")
def built(pack: Pack, rules: list[Rule]) -> Built:
    found = make(Pack(ROOT, pack.version, tuple(rules), pack.pipelines))
    assert found.rules == len(RULES) and not found.refused
    return found


@pytest.fixture(scope="module")
def dist(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for name, content in built.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def process(number: int, minute: int, image: str, computer: str = "WS1", user: str = "bob") -> Event:
    record = {
        "UtcTime": f"2026-03-10 09:{minute:02}:00",
        "Image": image,
        "CommandLine": f"{image} /x",
        "ParentImage": "C:\\Windows\\cmd.exe",
        "ParentCommandLine": "cmd /k",
        "Computer": computer,
        "User": f"CORP\\{user}",
    }
    return Event(f"p{number}", PROCESS, record)


EVENTS = [
    process(0, 1, "C:\\t\\a.exe"),
    *(
        process(n, n, image, computer, user)
        for n, (image, computer, user) in enumerate(
            [
                ("C:\\W\\whoami.exe", "WS1", "bob"),
                ("C:\\W\\WHOAMI.EXE", "ws1", "BOB"),
                ("C:\\W\\net.exe", "WS1", "bob"),
                ("C:\\W\\net.exe", "WS2", "eve"),
            ],
            start=1,
        )
    ),
    Event(
        "m",
        M365,
        {
            "Id": "m",
            "CreationTime": "2026-03-10T09:00:00",
            "RecordType": 1,
            "Workload": "Exchange",
            "Operation": "Search-Mailbox",
            "UserId": "admin@contoso.example",
            "ClientIP": "198.51.100.7",
            "Parameters": [{"Name": "Identity", "Value": "a.owner"}],
        },
    ),
]


@cache
def executed(dist: Path, here: str) -> list[Hit]:
    return ENGINES[here](dist, rule_entries(dist), EVENTS, CLOCK)


def found(dist: Path, here: str, rule: str) -> list[Hit]:
    return [
        hit
        for hit in executed(dist, here)
        if hit.rule == rule and SOUND_ONLY not in hit.artefact and hit.artefact.count(".") == 1
    ]


def shown(hit: Hit, column: str) -> list[str]:
    return [str(row[column]) for row in hit.rows]


@pytest.mark.parametrize("here", ENGINES)
def test_an_alert_says_who_where_and_what(dist: Path, here: str) -> None:
    [hit] = found(dist, here, "process")
    assert [text.lower() for text in shown(hit, "UserId")] == ["bob"]
    assert [text.lower() for text in shown(hit, "ClientIP")] == ["ws1"]
    assert shown(hit, "ExtraInfo") == ["C:\\t\\a.exe /x"]
    assert shown(hit, "ClientAgent")[0].endswith("cmd.exe")
    assert shown(hit, "DetectionDetail") == ["Probe"]
    [hit] = found(dist, here, "fields")
    assert shown(hit, "DetectionDetail") == ["Probe: ParentCommandLine: cmd /k"]
    [hit] = found(dist, here, "audit")
    assert (shown(hit, "UserId"), shown(hit, "ClientIP")) == (["admin@contoso.example"], ["198.51.100.7"])
    assert "a.owner" in shown(hit, "ExtraInfo")[0]


@pytest.mark.parametrize("here", ENGINES)
def test_a_correlation_groups_without_regard_to_letter_case_and_shows_its_groups(
    dist: Path, here: str
) -> None:
    """Three starts by one person on one computer, spelt in three ways; and four by anybody."""
    [hit] = found(dist, here, "letter_case")
    assert {(name, value.lower()) for name, value in hit.group or ()} == {
        ("Computer", "ws1"),
        ("User", "bob"),
    }
    assert hit.value == 3 and shown(hit, "DetectionDetail") == ["Many Tools: 3 in 10m"]
    [hit] = found(dist, here, "three_groups")
    assert (hit.value, dict(hit.group or ())["Image"].lower()) == (2, "c:\\w\\whoami.exe")
    assert shown(hit, "DetectionDetail")[0].lower() == "many tools: 2 in 10m, image: c:\\w\\whoami.exe"
    [hit] = found(dist, here, "no_group")
    assert (hit.group, hit.value) == ((), 4)
    assert [name.lower() for name in shown(hit, "UserId")[0].split(", ")][-2:] == ["bob", "eve"]


@pytest.mark.parametrize("here", IMPORTS)
def test_what_is_imported_finds_the_same(dist: Path, here: str) -> None:
    clock = Clock(datetime(2026, 3, 10, 10, 30, tzinfo=UTC))
    names = {"process", "no_group", "three_groups"}
    hits = IMPORTS[here](dist, [e for e in rule_entries(dist) if e.name in names], EVENTS, clock)
    assert {hit.rule for hit in hits if hit.events or hit.group is not None} == names


def test_each_platform_makes_entities_of_it(built: Built) -> None:
    sentinel = yaml.safe_load(built.files["sentinel/analytics/process.yaml"])
    assert [one["entityType"] for one in sentinel["entityMappings"]] == ["Account", "Host"]
    kibana = {one["name"]: one for one in map(json.loads, lines(built)) if "rule_id" in one}
    assert kibana["Search"]["alert_suppression"]["group_by"] == ["user.id", "source.ip"]
    fields = kibana["Probe"]["investigation_fields"]["field_names"]
    assert {"user.name", "host.name", "process.command_line"} <= set(fields)
    searches = saved_searches(built)
    assert json.loads(searches["process"]["action.risk.param._risk"])[0]["risk_object_field"] == "user"
    assert json.loads(searches["process"]["action.risk.param._risk"])[1]["risk_object_field"] == "dest"


def lines(built: Built) -> list[str]:
    return built.files["elastic/rules.ndjson"].decode().splitlines()


def saved_searches(built: Built) -> Mapping[str, Mapping[str, str]]:
    [app] = [content for path, content in built.files.items() if path.endswith(".tgz")]
    return read_conf(read_archive(app)["default/savedsearches.conf"])


def test_splunk_throttles_on_nothing_that_is_the_same_for_everybody(built: Built) -> None:
    for name, stanza in saved_searches(built).items():
        if stanza.get("alert.suppress") == "1":
            assert stanza["alert.suppress.fields"] == "AlertKey", name
            assert "| eval AlertKey=" in stanza["search"] and '| eval AlertKey="' not in stanza["search"]


def test_kibana_suppresses_by_one_key_of_all_groups(built: Built) -> None:
    """Before 9.2 Kibana takes three fields: a rule with three groups had no suppression at all."""
    [rule] = [one for one in map(json.loads, lines(built)) if is_three(one)]
    assert rule["alert_suppression"]["group_by"] == ["group_key", "window"]
    assert "| EVAL" in rule["query"] and rule["query"].count("group_key") == 2


def is_three(one: Mapping[str, Any]) -> bool:
    return one.get("type") == "esql" and "Sigma rule: three_groups" in one["tags"]


def test_a_column_that_a_platform_cannot_fill_is_a_warning(tmp_path: Path) -> None:
    """Elastic keeps the parameters of a cmdlet as an object, which no row of a correlation can show."""
    base = plain("Send", AUDIT, {"Operation": "Send"}, name="send")
    stated = {"type": "event_count", "rules": ["send"], "group-by": ["UserId"], "timespan": "1h"}
    main = {"title": "Many", "correlation": stated | {"condition": {"gte": 3}}}
    (tmp_path / "many.yml").write_text(yaml.safe_dump_all([base, main], sort_keys=False), encoding="utf-8")
    made = make_folder(ROOT, tmp_path)
    [warning] = made.warnings
    assert warning.what.startswith('alerts of Elastic leave "extra" empty: "Parameters"')
    assert warning.severity == "warning" and warning.check == "empty-column" and not made.refused


def test_an_alert_that_names_nothing_is_refused(pack: Pack, rules: list[Rule]) -> None:
    """A site's own log source may have an alert view that a platform maps nothing of."""
    pipeline = pack.pipelines["splunk"]
    nobody = AlertDefaults(user="Nobody", source="Nowhere", extra="CommandLine")
    own = replace(pipeline, alerts=tuple((scope, nobody) for scope, _ in pipeline.alerts))
    with pytest.raises(PackError, match=r'would name no account, host, mailbox or address .*"Nobody"'):
        platform("splunk").part(rules[0], {**pack.pipelines, "splunk": own}, pack.version)

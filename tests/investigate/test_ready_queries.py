"""The trap: a query that is right until somebody's name has an apostrophe, and one that finds too much.

A value is put into the Sigma rule and converted; the queries are executed on each platform, on a record that
has the value and on others that nearly have it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.investigate.ready_queries import parameters, ready_queries, with_value
from detection_pack.model.event import Event, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.platforms.platform import platform
from detection_pack.replay.verdict import clock_for
from support.engines import ENGINES
from support.sources import SOURCES

VALUES = [
    "o'neil@contoso.example",
    'a"b@contoso.example',
    "wild*card?@contoso.example",
    "CONTOSO\\ann",
    "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)",
    "a`b|c@contoso.example",
    "$x$ [[y]] {{z}}",
    "50%@contoso.example",
    "ann+tag@contoso.example",
    "/regex.*/",
]
RECORD = {
    "CreationTime": "2026-03-10T09:15:00",
    "RecordType": 50,
    "Workload": "Exchange",
    "Operation": "MailItemsAccessed",
    "LogonUserSid": "S-1-5-21-1",
    "MailboxGuid": "8e942cc1-73d8-4483-9def-000000001101",
    "ClientIPAddress": "203.0.113.9",
    "ClientInfoString": "Client=REST;;",
}


def events(value: str) -> list[Event]:
    held = {
        "same": value,
        "upper": value.upper(),
        "more": value + "x",
        "before": "x" + value,
        "star": value.replace("*", "zz").replace("?", "z") if "*" in value else "other",
        "other": "other@contoso.example",
    }
    return [Event(name, SOURCES["m365"], {**RECORD, "Id": name, "UserId": one}) for name, one in held.items()]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("values", [VALUES[:3], pytest.param(VALUES[3:], marks=pytest.mark.campaign)])
def test_a_filled_in_query_finds_the_value_and_nothing_else(
    name: str, values: list[str], pack: Pack, tmp_path: Path
) -> None:
    rule, here = pack.rule("account_in_mailboxes"), platform(name)
    for number, value in enumerate(values):
        filled = with_value(rule, "account@contoso.example", value)
        dist = tmp_path / str(number)
        part = here.part(filled, pack.pipelines, pack.version)
        made = [*part.artefacts, *here.assembled([part], pack.version)]
        for artefact in made:
            (dist / artefact.path).parent.mkdir(parents=True, exist_ok=True)
            (dist / artefact.path).write_bytes(artefact.content)
        paths = tuple(artefact.path for artefact in part.artefacts)
        entry = RuleEntry(rule.name, (), None, paths, rule.tier)
        hits = ENGINES[name](dist, [entry], events(value), clock_for(events(value)))
        assert {event for hit in hits for event in hit.events} == {"same", "upper"}, value


@pytest.mark.campaign
def test_every_parameter_has_queries_on_every_platform_with_its_data(pack: Pack) -> None:
    assert parameters(pack.rules) == ["account", "address", "application", "mailbox"]
    values = {"account": "a", "mailbox": "m", "application": "p", "address": "203.0.113.5"}
    found = ready_queries(pack, values, list(ENGINES))
    asked = {rule.name for rule in pack.rules if rule.tier == "investigation"}
    assert {one.rule for one in found} == asked
    for one in found:
        rule = pack.rule(one.rule)
        assert str(rule.main.data["parameter"]["value"]) not in one.query, one
    expected = {
        (rule.name, name)
        for rule in pack.rules
        for name in ENGINES
        if rule.tier == "investigation" and pack.pipelines[name].absence(rule) is None
    }
    assert {(one.rule, one.platform) for one in found} == expected


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "\x1b[2J", "\u202ex"])
def test_a_value_that_nobody_can_see_is_refused(pack: Pack, value: str) -> None:
    with pytest.raises(PackError):
        ready_queries(pack, {"account": value}, ["splunk"])


def test_a_rule_keeps_everything_but_the_value(pack: Pack) -> None:
    rule = pack.rule("account_changed_mail_settings")
    filled = with_value(rule, "account@contoso.example", "x")
    changed = json.dumps(filled.main.data["detection"]).replace('"x"', '"account@contoso.example"')
    assert json.loads(changed) == rule.main.data["detection"]
    assert replace(filled, documents=(), main=rule.main) == replace(rule, documents=(), main=rule.main)


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--root", str(ROOT), "investigate", "--queries", "--application", "x-y", "--platform", "sentinel"]
    assert main(base) == 0
    assert 'ClientAppId =~ "x-y"' in capsys.readouterr().out
    assert main([*base, "--format", "json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {one["platform"] for one in shown["queries"]} == {"sentinel"}

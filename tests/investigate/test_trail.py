"""The trap: an answer that leaves out the one record that matters, and a log that steers a terminal.

The answers are held against a plain reading of the same records in Python, which shares no code with the SQL;
what a log holds is shown and never interpreted, on the terminal, in JSON and on the page.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.investigate import trail as trails
from detection_pack.investigate.trail import trail, wanted
from detection_pack.investigate.trail_text import trail_text
from detection_pack.model.findings import PackError
from detection_pack.model.log_source_reader import load_log_source
from detection_pack.replay.reading import read
from detection_pack.replay.report_page import page
from support.report_answers import answer
from support.sources import SOURCES

USER = "ann@contoso.example"
BASE = {
    "RecordType": 50,
    "Workload": "Exchange",
    "Operation": "MailItemsAccessed",
    "UserId": USER,
    "MailboxOwnerUPN": "boss@contoso.example",
    "MailboxGuid": "8e942cc1-73d8-4483-9def-000000001101",
    "ClientAppId": "3e62f81e-590b-425b-9531-cad6683656cf",
    "ClientIPAddress": "203.0.113.9",
    "ClientInfoString": "Client=REST;;",
}


def record(number: int, minute: int, **more: Any) -> dict[str, Any]:
    time = datetime(2026, 3, 10) + timedelta(minutes=minute)
    return {"Id": f"id-{number}", "CreationTime": time.isoformat(), **BASE, **more}


def asked(folder: Path, records: Sequence[Mapping[str, Any]], user: str = USER) -> dict[str, Any]:
    path = folder / "log.json"
    path.write_text("\n".join(json.dumps(one) for one in records), encoding="utf-8")
    with read([path], SOURCES, wanted(SOURCES.values())) as reading:
        return trail(reading, user).as_json()


def ids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["record"] for row in rows]


# ---- against a plain reading ------------------------------------------------------------------------

SID = "S-1-5-21-1004336348-1177238915-682003330-1101"
OPERATIONS = [
    "MailItemsAccessed",
    "FolderBind",
    "Add-MailboxPermission",
    "New-InboxRule",
    "SearchQueryInitiated",
]
USERS = [USER, USER.upper(), "eve@contoso.example", f"x{USER}", f"{USER}x", "CONTOSO\\ann", "", None]
THROTTLED = [{"Name": "MailAccessType", "Value": "Bind"}, {"Name": "IsThrottled", "Value": "True"}]
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "minute": st.integers(0, 5000),
            "UserId": st.sampled_from(USERS),
            "LogonUserSid": st.sampled_from([SID, SID[:-1], "", None]),
            "Operation": st.sampled_from(OPERATIONS),
            "MailboxOwnerUPN": st.sampled_from([USER, "boss@contoso.example", None]),
            "ClientAppId": st.sampled_from(["app-1", "app-2", "", None]),
            "OperationProperties": st.sampled_from([THROTTLED, THROTTLED[:1], [], None, "text"]),
            "ObjectId": st.sampled_from([f"a/{USER}/b", "other", None]),
        }
    ),
    min_size=1,
    max_size=12,
)


def own(one: Mapping[str, Any], key: str, user: str) -> bool:
    held = str(one.get(key) or "").lower()
    return bool(held) and user in (held, re.split(r"[/\\]", held)[-1])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drawn=RECORDS,
    user=st.sampled_from([USER, USER.title(), "ann", "boss@contoso.example", SID, BASE["MailboxGuid"]]),
)
def test_the_answers_are_those_of_a_plain_reading(tmp_path_factory: Any, drawn: Any, user: str) -> None:
    listed = [
        record(n, one["minute"], **{k: v for k, v in one.items() if k != "minute"})
        for n, one in enumerate(drawn)
    ]
    found = asked(tmp_path_factory.mktemp("log"), listed, user)
    asks = user.lower()
    mine = [one for one in listed if own(one, "UserId", asks) or own(one, "LogonUserSid", asks)]
    assert found["records"] == len(mine)
    rows = found["timeline"]["rows"]
    assert sorted(ids(rows)) == sorted(one["Id"] for one in mine) and found["timeline"]["total"] == len(mine)
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    boxes = Counter(one["MailboxOwnerUPN"] or one["MailboxGuid"] for one in mine)
    assert {v["value"]: v["records"] for v in found["mailboxes"]["rows"]} == boxes
    clients = Counter(one["ClientAppId"] or one["ClientInfoString"] for one in mine)
    assert {v["value"]: v["records"] for v in found["clients"]["rows"]} == clients
    visitors = Counter(
        one["UserId"] or one["LogonUserSid"]
        for one in listed
        if (one["UserId"] or one["LogonUserSid"])
        and (own(one, "MailboxOwnerUPN", asks) or own(one, "MailboxGuid", asks))
        and one not in mine
    )
    assert {v["value"]: v["records"] for v in found["visitors"]["rows"]} == visitors
    for what, operation in (
        ("permissions", "Add-MailboxPermission"),
        ("rules and forwarding", "New-InboxRule"),
    ):
        expected = [
            one["Id"]
            for one in listed
            if one["Operation"] == operation and (one in mine or asks in str(one["ObjectId"] or "").lower())
        ]
        assert sorted(ids(found["changes"].get(what, {"rows": ()})["rows"])) == sorted(expected), what
    throttled = [one["Id"] for one in listed if one["OperationProperties"] == THROTTLED]
    marked = [row for rows in found["gaps"]["marked"].values() for row in rows["rows"]]
    assert sorted(ids(marked)) == sorted(throttled)


def test_silences_are_those_of_everybody_and_no_shorter_than_an_hour(tmp_path: Path) -> None:
    minutes = [0, 59, 200, 201, 1000]
    listed = [record(n, minute, UserId="eve@contoso.example") for n, minute in enumerate(minutes)]
    silences = asked(tmp_path, listed)["gaps"]["silences"]
    assert [one["hours"] for one in silences["m365"]] == [13.3, 2.4]
    assert silences["m365"][0]["from"] == "2026-03-10T03:21:00Z"


@pytest.mark.parametrize(
    ("name", "entry", "user"),
    [
        (
            "google_workspace",
            {
                "kind": "admin#reports#activity",
                "id": {
                    "time": "2026-03-10T09:15:00.101Z",
                    "uniqueQualifier": "-1",
                    "applicationName": "admin",
                },
                "actor": {"callerType": "USER", "email": "Ann@contoso.example"},
                "ipAddress": "203.0.113.9",
                "events": [{"type": "X", "name": "ASSIGN_ROLE", "parameters": []}],
            },
            USER,
        ),
        (
            "exchange_server",
            {
                "EventID": 1,
                "Channel": "MSExchange Management",
                "TimeCreated": "2026-03-10T09:15:00Z",
                "Computer": "exch01",
                "CmdletName": "New-MailboxExportRequest",
                "CmdletParameters": "-Mailbox x",
                "Caller": "contoso.example/Users/Ann",
            },
            "ann",
        ),
    ],
)
def test_other_sources_are_read_by_their_own_data(
    tmp_path: Path, name: str, entry: dict[str, Any], user: str
) -> None:
    found = asked(tmp_path, [entry], user)
    assert found["records"] == 1 and found["timeline"]["rows"][0]["source"] == name
    assert len(found["changes"]) == 1


def test_an_account_is_found_by_each_field_of_its_role(tmp_path: Path) -> None:
    """A record that names it twice is shown by the first name, and is found by the second."""
    listed = [record(n, n, LogonUserSid=SID) for n in range(3)] + [record(9, 9)]
    for user, number in ((SID, 3), (SID.lower(), 3), (USER, 4), (SID[:-1], 0)):
        found = asked(tmp_path, listed, user)
        assert found["records"] == len(found["timeline"]["rows"]) == number, user
    assert asked(tmp_path, listed, SID)["timeline"]["rows"][0]["account"] == USER
    guid = asked(tmp_path, [record(1, 1)], str(BASE["MailboxGuid"]))["visitors"]["rows"]
    assert [one["value"] for one in guid] == [USER]


def test_every_source_says_who_did_what() -> None:
    for source in SOURCES.values():
        assert {"account", "what"} <= source.traces.roles.keys(), source.name
        assert {field.partition(".")[0] for field in source.traces.fields()} <= {
            name.partition(".")[0] for name in source.fields
        }, source.name


# ---- limits and hostile content ---------------------------------------------------------------------


def test_lists_have_a_limit_and_the_count_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "ROWS", 3)
    monkeypatch.setattr(trails, "VALUES", 2)
    listed = [record(n, n, ClientAppId=f"app-{n}") for n in range(20)]
    found = asked(tmp_path, listed)
    assert found["records"] == found["timeline"]["total"] == found["clients"]["total"] == 20
    assert ids(found["timeline"]["rows"]) == ["id-0", "id-1", "id-19"]
    assert len(found["clients"]["rows"]) == 2
    assert found["timeline"]["last"] == found["timeline"]["rows"][-1]["time"]


def test_many_records_of_one_kind_hide_none_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind has the limit to itself, and what was done last is shown."""
    monkeypatch.setattr(trails, "ROWS", 4)
    many = [record(n, n, Operation="Set-Mailbox", RecordType=1) for n in range(1, 31)]
    rights = [record(n, n, Operation="Add-MailboxPermission") for n in (0, 98)]
    listed = [*many, *rights, record(99, 99)]
    listed += [record(100 + n, 100 + n, UserId="eve", OperationProperties=THROTTLED) for n in range(9)]
    found = asked(tmp_path, listed)
    assert ids(found["changes"]["permissions"]["rows"]) == ["id-0", "id-98"]
    forwarding = found["changes"]["rules and forwarding"]
    assert ids(forwarding["rows"]) == ["id-1", "id-2", "id-29", "id-30"] and forwarding["total"] == 30
    assert ids(found["timeline"]["rows"]) == ["id-0", "id-1", "id-98", "id-99"]
    ((what, throttled),) = found["gaps"]["marked"].items()
    assert throttled["total"] == 9 and len(throttled["rows"]) == 4
    shown = trail_text(found)
    assert f"{what}: 9 records, first 2026-03-10T01:40:00Z, last 2026-03-10T01:48:00Z" in shown
    assert "shown 4 of 30, the oldest and the newest; --format json has 4" in shown


def test_what_a_table_leaves_out_is_counted(tmp_path: Path) -> None:
    log = [record(n, n, ClientIPAddress=f"203.0.113.{n}", Operation="Set-Mailbox") for n in range(150)]
    found = asked(tmp_path, log)
    assert len(found["addresses"]["rows"]) == 150
    shown = trail_text(found)
    assert "shown 20 of 150, the most frequent; --format json has 150" in shown
    assert "shown 50 of 150, the oldest and the newest; --format json has 150" in shown
    assert "id-0\n" in shown and "id-149" in shown and "id-75\n" not in shown


def test_what_a_page_leaves_out_is_counted(tmp_path: Path) -> None:
    log = [record(n, n, ClientIPAddress=f"192.0.{n // 250}.{n % 250}") for n in range(510)]
    text = page(answer([], []), ROOT / "dist", "1", asked(tmp_path, log))
    assert "Shown 500 of 510, the oldest and the newest; investigate --format json has 510." in text
    assert "Shown 500 of 510, the most frequent; investigate --format json has 510." in text
    assert ">id-249<" in text and ">id-250<" not in text and ">id-260<" in text and ">id-509<" in text


def test_only_the_keys_that_are_asked_for_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(record(1, 1, Secret="x" * 100)), encoding="utf-8")
    with read([path], SOURCES, wanted(SOURCES.values())) as reading:
        assert not any(table.whole for table in reading.records.tables.values())
        assert "Secret" not in reading.records.tables["m365"].columns


HOSTILE = [
    "'; DROP TABLE trail; --",
    "x' OR '1'='1",
    "\x1b[2J\x1b]0;owned\x07",
    "<script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    "\u202egnp.exe",
    "a\nb\rc",
    "?",
    "$1",
    "%",
    "\ud800",
    "a" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_whatever_a_log_holds_is_shown_and_not_interpreted(tmp_path: Path, text: str) -> None:
    listed = [
        record(1, 1, ObjectId=text, Operation="New-InboxRule", ClientAppId=text, MailboxOwnerUPN=text),
        record(2, 2, UserId=text),
    ]
    found = asked(tmp_path, listed)
    assert found["records"] == 1 and len(found["changes"]["rules and forwarding"]["rows"]) == 1
    shown = trail_text(found)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert len(max(shown.split("\n"), key=len)) < 600
    if text.strip() == text and "\ud800" not in text and len(text) < 400:
        assert asked(tmp_path, listed, text)["records"] == 1


@pytest.mark.parametrize("name", ["", "  ", "\t"])
def test_nobody_is_not_an_account(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError):
        asked(tmp_path, [record(1, 1, UserId="")], name)


# ---- the command ------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    try:
        return main(["--root", str(ROOT), "investigate", *arguments])
    except SystemExit as error:
        return int(error.code or 0)


def written(folder: Path) -> str:
    path = folder / "log.json"
    listed = [
        record(1, 1, ClientInfoString="Client=WebServices;python-requests/2.25.1;", ClientAppId=None),
        record(2, 2, ObjectId="<script>alert(1)</script>", Operation="New-InboxRule", RecordType=1),
    ]
    path.write_text("\n".join(map(json.dumps, listed)), encoding="utf-8")
    return str(path)


def test_table_and_json_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = written(tmp_path)
    assert run(log, "--user", USER, "--format", "json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["records"] == 2 and "read: 2 records of m365" in printed.err
    assert run(log, "--user", USER) == 0
    assert capsys.readouterr().out.strip() == trail_text(found)


@pytest.mark.campaign
def test_the_report_has_a_section_beside_the_hits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert run(written(tmp_path), "--user", USER, "--report", str(page), "--quiet") == 0
    text = page.read_text(encoding="utf-8")
    assert f"Investigation of {USER}" in text and "suspicious_ews_client" in text
    section = text.partition('<section id="account">')[2].partition("</section>")[0]
    assert "<script" not in section and "&lt;script&gt;alert(1)" in section
    assert "account_in_mailboxes" not in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "error: investigate requires LOG or --queries"),
        (("--user", USER), "error: --user requires LOG or --queries"),
        (("LOG",), "error: LOG requires --user ACCOUNT"),
        (("LOG", "--user", USER, "--queries"), "error: --queries goes without LOG"),
        (("--queries", "--user", USER, "--report", "x.html"), "error: --queries goes without --report"),
        (("--queries",), "error: --queries requires --user, --mailbox, --application or --address"),
        (("LOG", "--user", USER, "--mailbox", "x"), "error: --mailbox requires --queries"),
        (("LOG", "--user", USER, "--platform", "splunk"), "error: --platform requires --queries"),
        (("--platform", "splunk"), "error: --platform requires --queries"),
        (("LOG", "--user", " "), "error: --user names nobody; write an account as the log has it"),
        (("--queries", "--user", " "), "error: --user is empty or holds "),
        (("no-such-file.json", "--user", USER), "no-such-file.json:1: "),
        (("LOG", "--user", USER, "--report", "/no/such/x.html"), "error: --report /no/such/x.html cannot be"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    log = written(tmp_path)
    assert run(*(log if one == "LOG" else one for one in arguments)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("read: ")]
    assert len(said) == 1 and said[0].startswith(text)


# ---- the data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("investigation: {acount: [UserId]}", '"acount" is unknown here'),
        ("investigation: {what: [Operation]}", 'names no "account"'),
        ("investigation: {account: UserId}", '"account" is not a list'),
        ("investigation: {account: [UserId], gaps: {x: [{values: [a]}]}}", '"field" is not a text'),
        ("investigation: {account: [UserId], changes: {x: [{field: a, color: b}]}}", '"color" is unknown'),
    ],
)
def test_a_fault_of_the_data_is_a_finding(tmp_path: Path, text: str, said: str) -> None:
    source = (ROOT / "pipelines" / "exchange_server" / "source.yml").read_text(encoding="utf-8")
    path = tmp_path / "mine" / "source.yml"
    path.parent.mkdir()
    path.write_text(
        source.partition("# What `detection-pack investigate`")[0] + text + "\n", encoding="utf-8"
    )
    with pytest.raises(PackError) as caught:
        load_log_source(path)
    assert said in str(caught.value)

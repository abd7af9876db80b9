"""The trap: an export that is read, but not as what it is.

Every format that people really export, the same event in each: it must come out the same. Repetitions are one
event; a faulty line is named; a record of another kind is left out and does not stop the rest.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.replay.logs import read_logs
from support.sources import M365, SOURCES

AUDIT = {
    "CreationTime": "2026-03-10T09:15:00",
    "Id": "a1",
    "Operation": "Search-Mailbox",
    "RecordType": 1,
    "UserId": "admin@contoso.example",
    "Parameters": [{"Name": "Identity", "Value": 'a, "b"\nc'}],
}
COMMAND = 'powershell.exe -c "Search-Mailbox, x" \u2028 y'
SYSMON = {
    "EventID": 1,
    "UtcTime": "2026-03-10 09:15:00.123",
    "Image": "C:\\Windows\\powershell.exe",
    "CommandLine": COMMAND,
    "ParentImage": "C:\\Windows\\explorer.exe",
    "User": "CONTOSO\\j.doe",
    "Computer": "ex01",
    "Id": "p1",
}
SECURITY = {
    "EventID": 4688,
    "TimeCreated": "2026-03-10T09:15:00.1234567Z",
    "NewProcessName": "C:\\Windows\\powershell.exe",
    "CommandLine": COMMAND,
    "ParentProcessName": "C:\\Windows\\explorer.exe",
    "SubjectUserName": "j.doe",
    "SubjectDomainName": "CONTOSO",
    "Hostname": "ex01",
    "Id": "p1",
}
DEFENDER = {
    "Timestamp": "2026-03-10T09:15:00.1234567Z",
    "DeviceName": "ex01",
    "DeviceId": "d",
    "ReportId": "7",
    "FileName": "powershell.exe",
    "FolderPath": "C:\\Windows\\powershell.exe",
    "ProcessCommandLine": COMMAND,
    "AccountName": "j.doe",
    "AccountDomain": "CONTOSO",
    "InitiatingProcessFileName": "explorer.exe",
    "InitiatingProcessFolderPath": "C:\\Windows\\explorer.exe",
}


def written(folder: Path, name: str, text: str) -> list[Event]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_logs([path], SOURCES)


def lines(*records: Any) -> str:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n"


def as_csv(*rows: dict[str, str]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", lines(AUDIT)),
        ("a.json", json.dumps([AUDIT])),
        ("bom.jsonl", "\ufeff" + lines(AUDIT)),
        ("purview.csv", as_csv({"RecordId": "a1", "Operation": "x", "AuditData": json.dumps(AUDIT)})),
        ("twice.jsonl", lines(AUDIT, AUDIT)),
        ("spreadsheet.csv", 'RecordId;AuditData\r\na1;"' + json.dumps(AUDIT).replace('"', '""') + '"\r\n'),
        ("mixed.jsonl", lines({"EventID": 4624, "x": 1}, AUDIT)),
        ("graph.json", json.dumps({"value": [AUDIT]})),
    ],
)
def test_audit_records(tmp_path: Path, name: str, text: str) -> None:
    [event] = written(tmp_path, name, text)
    assert event == Event("a1", M365, AUDIT)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sysmon.jsonl", lines(SYSMON)),
        ("security.jsonl", lines(SECURITY)),
        ("defender.json", json.dumps({"Results": [DEFENDER]})),
        ("defender.csv", as_csv(DEFENDER)),
        (
            "winlogbeat.jsonl",
            lines(
                {
                    "@timestamp": "2026-03-10T09:15:00.123Z",
                    "winlog": {
                        "event_id": 1,
                        "computer_name": "ex01",
                        "event_data": {
                            k: v for k, v in SYSMON.items() if k not in ("EventID", "Computer", "Id")
                        },
                    },
                }
            ),
        ),
    ],
)
def test_process_creations(tmp_path: Path, name: str, text: str) -> None:
    [event] = written(tmp_path, name, text)
    kept = ("Image", "CommandLine", "ParentImage", "User", "Computer")
    assert event.kind == "process_creation"
    assert {k: event.record[k] for k in kept} == {k: SYSMON[k] for k in kept}
    assert event.time is not None and event.time.isoformat().startswith("2026-03-10T09:15:00.123")


def test_identity_of_events_without_an_id(tmp_path: Path) -> None:
    [event] = written(tmp_path, "d.json", json.dumps([DEFENDER]))
    assert event.id == "d/7"
    anonymous = {k: v for k, v in SYSMON.items() if k != "Id"}
    assert [e.id for e in written(tmp_path, "s.jsonl", lines(anonymous, anonymous))] == [
        "s.jsonl:1",
        "s.jsonl:2",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", lines(AUDIT) + "{broken", "a.jsonl:2: is not JSON"),
        ("a.jsonl", lines(AUDIT, [1]), "a.jsonl:2: is not a JSON object"),
        ("a.csv", "x,y\n1,2\n", "is not an export that the pack reads"),
        ("a.csv", 'AuditData\n"{broken"\n', "AuditData is not JSON"),
        ("a.jsonl", lines({**AUDIT, "CreationTime": "yesterday"}), "a.jsonl:1: has no CreationTime"),
        ("a.json", "[1]", "entry 1 is not a record"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1:"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(PackError) as refusal:
        written(tmp_path, name, text)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(PackError, match="is not UTF-8"):
        read_logs([path], SOURCES)

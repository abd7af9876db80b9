"""The trap: an export that is read, but not as what it is.

Every format that people really export, the same event in each: it must come out the same. Repetitions are one
event; a faulty line is named; a record of another kind is left out and neither stops the rest. Nothing is
lost in silence: two records are one only if they say the same.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detection_pack.cli import main
from detection_pack.model.event import Event
from detection_pack.model.findings import Finding, PackError
from detection_pack.replay.reading import NAMED, read
from support.exports import read_events
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
    return read_events([path])


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
    assert event.id == "2026-03-10T09:15:00.1234567Z/d/7"
    anonymous = {k: v for k, v in SYSMON.items() if k != "Id"}
    assert [e.id for e in written(tmp_path, "s.jsonl", lines(anonymous, anonymous))] == [
        "s.jsonl:1",
        "s.jsonl:2",
    ]


UNTIMED = {k: v for k, v in AUDIT.items() if k != "CreationTime"}
FAULTS = [
    ("a.jsonl", "{broken", "is not JSON"),
    ("a.jsonl", "[1]", "is not a record"),
    ("a.jsonl", lines({**AUDIT, "CreationTime": "yesterday"}).strip(), "has no time"),
    ("a.jsonl", lines({**AUDIT, "CreationTime": "2024-05-01T09:00:65"}).strip(), "has no time"),
    (
        "a.jsonl",
        lines(UNTIMED).strip(),
        "has no time",
    ),
    ("a.jsonl", lines({**DEFENDER, "Timestamp": ""}).strip(), "has no time"),
    ("a.csv", "x", "AuditData is not a record in JSON"),
    ("a.csv", "", "AuditData is not a record in JSON"),
    ("a.csv", '"[1]"', "AuditData is not a record in JSON"),
    ("a.csv", '"x" y', "CSV: "),
]
GOOD = [{**AUDIT, "Id": f"a{number}"} for number in range(4)]


def around(name: str, bad: str) -> str:
    """A file of four good records, with a bad one as the third line or row of it."""
    records = [json.dumps(record) for record in GOOD]
    if name.endswith(".csv"):
        rows = ["1," + '"' + record.replace('"', '""') + '"' for record in records]
        return "\n".join(["RecordId,AuditData", rows[0], f"1,{bad}", *rows[1:]]) + "\n"
    return "\n".join([*records[:2], bad, *records[2:]]) + "\n"


@pytest.mark.parametrize(("name", "bad", "said"), FAULTS)
def test_a_bad_record_is_skipped_and_named(tmp_path: Path, name: str, bad: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(around(name, bad), encoding="utf-8")
    with read([path], SOURCES) as reading:
        assert [event.id for event in reading.events()] == ["a0", "a1", "a2", "a3"]
        (finding,) = reading.skipped.first
        assert reading.skipped.count == 1 and said in finding.what
    assert (finding.path, finding.line) == (str(path), 3)
    with pytest.raises(PackError) as refusal:
        read([path], SOURCES, strict=True)
    assert f"{path}:3: {finding.what}" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("entry", [1, "x", None])
def test_an_entry_of_a_list_that_is_no_record_is_skipped(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([GOOD[0], entry, GOOD[1]]), encoding="utf-8")
    with read([path], SOURCES) as reading:
        assert len(reading.events()) == 2
        assert [finding.what for finding in reading.skipped.first] == ["is not a record"]


@pytest.mark.parametrize("cut", range(1, 300, 13))
def test_a_cut_file_is_read_up_to_the_cut(tmp_path: Path, cut: int) -> None:
    for name, text in (("a.jsonl", lines(*GOOD)), ("a.csv", around("a.csv", "").replace("1,\n", ""))):
        path = tmp_path / name
        path.write_text(text[: len(text) - cut], encoding="utf-8")
        with read([path], SOURCES) as reading:
            found, skipped = reading.events(), reading.skipped
        whole = {1: 4}.get(cut, 3 if cut < len(json.dumps(GOOD[3])) else 2)
        assert len(found) == whole or (cut > 100 and len(found) in (2, 3))
        assert skipped.count == (0 if len(found) == 4 else 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "is not an export that the pack reads"),
        ("a.csv", 'AuditData\n"{broken"\n', "AuditData is not a record in JSON"),
        ("a.csv", "RecordId,AuditData\n", "holds no record"),
        ("a.jsonl", "", "holds no record"),
        ("a.jsonl", "\n \n", "holds no record"),
        ("a.json", "[]", "holds no record"),
        ("a.json", "[1]", "is not a record"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1:"),
        ("a.jsonl", lines({"EventID": 4624}), "holds 1 records, none of a kind"),
    ],
)
def test_nothing_read_at_all_is_an_error(
    tmp_path: Path, name: str, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PackError) as refusal:
        written(tmp_path, name, text)
    assert said in str(refusal.value)
    assert main(["replay", "--platform", "sentinel", "--tier", "core", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err


def test_the_command_goes_on_and_says_what_it_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, empty = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text("{x\n" * 14 + lines(AUDIT), encoding="utf-8")
    empty.write_text("", encoding="utf-8")
    command = ["replay", "--platform", "sentinel", "--tier", "core", str(path), str(empty)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].split()[1] == "exchange_admin_cmdlet" and said.out.endswith("  a1\n")
    named = [f"skipped: {path}:{n}: is not JSON; export one JSON object a line" for n in range(1, NAMED + 1)]
    titles = "; ".join(sorted(source.title for source in SOURCES.values()))
    of_file = f"skipped: {Finding(str(empty), 1, 'holds no record', f'export some of: {titles}')}"
    read = [
        "read: 1 record of m365 (ExchangeAdmin: 1)",
        "read: from 2026-03-10T09:15:00Z to 2026-03-10T09:15:00Z",
    ]
    skipped = "skipped: 14 records in all, the first 10 named above"
    assert said.err.splitlines() == [*named, of_file, skipped, *read]
    assert main([*command, "--verbose"]) == 0
    assert len([line for line in capsys.readouterr().err.splitlines() if "is not JSON" in line]) == 14
    assert main([*command, "--strict"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines() == [named[0].removeprefix("skipped: ")]


def test_the_same_id_with_other_content_is_another_record(tmp_path: Path) -> None:
    other, third = {**AUDIT, "UserId": "x@contoso.example"}, {**AUDIT, "UserId": "y@contoso.example"}
    text = lines(AUDIT, other, AUDIT, other, third)
    found = written(tmp_path, "a.jsonl", text)
    assert [event.record for event in found] == [AUDIT, other, third]
    assert [event.id for event in found] == ["a1", "a1 (a.jsonl:2)", "a1 (a.jsonl:5)"]


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 1),
        ({"Timestamp": "2026-03-10T09:16:00Z"}, 2),
        ({"DeviceId": "e"}, 2),
        ({"ReportId": "8"}, 2),
        ({"ProcessCommandLine": "y"}, 2),
    ],
)
def test_a_row_of_defender_is_known_by_time_device_and_report(
    tmp_path: Path, change: dict[str, str], count: int
) -> None:
    assert len(written(tmp_path, "a.csv", as_csv(DEFENDER, {**DEFENDER, **change}))) == count


@pytest.mark.parametrize("missing", ["DeviceId", "ReportId"])
def test_a_row_of_defender_without_a_part_of_its_identity_stands_alone(tmp_path: Path, missing: str) -> None:
    part = {k: v for k, v in DEFENDER.items() if k != missing}
    for row in (part, {**DEFENDER, missing: ""}):
        found = written(tmp_path, "a.csv", as_csv(row, row))
        assert [event.id for event in found] == ["a.csv:2", "a.csv:3"] or len(found) == 2


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"ActionType": "ProcessCreated"}, 1),
        ({"ActionType": "processcreated"}, 1),
        ({"ActionType": ""}, 1),
        ({"ActionType": "OpenProcessApiCall"}, 0),
        ({"ActionType": "MailItemsAccessed"}, 0),
        ({"ActionType": "ProcessCreated", "ProcessCommandLine": ""}, 0),
        ({"ProcessCommandLine": ""}, 0),
    ],
)
def test_only_a_process_creation_with_a_command_line_is_one(
    tmp_path: Path, change: dict[str, str], count: int
) -> None:
    row = {**DEFENDER, "ReportId": "9", **change}
    found = written(tmp_path, "a.jsonl", lines(AUDIT, row))
    assert sum(event.kind == "process_creation" for event in found) == count


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\0\xff\0\0{")
    with pytest.raises(PackError, match="is not text"):
        read([path], SOURCES)


@pytest.mark.parametrize("wrap", [json.dumps, lambda records: json.dumps({"records": records})])
def test_records_without_an_identity_stand_alone_on_one_line(
    tmp_path: Path, wrap: Callable[[list[dict[str, Any]]], str]
) -> None:
    anonymous = {k: v for k, v in SYSMON.items() if k != "Id"}
    found = written(tmp_path, "s.json", wrap([anonymous, anonymous, anonymous]))
    assert [event.id for event in found] == ["s.json:1", "s.json:1:2", "s.json:1:3"]

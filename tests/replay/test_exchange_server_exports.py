"""The trap: values without a name that are read by another place than their own, or not at all.

Cmdlets of Exchange Server in the forms in which people have them: each gives the same record.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.model.event import Event
from support.exports import read_events

REAL = ROOT / "tests" / "data" / "windows_events" / "exchange_cmdlets_evtx.jsonl"
VALUES = [
    "New-MailboxExportRequest",
    '-Mailbox "a.owner" -ContentFilter "Subject -like \'<R&D>\'" -FilePath "\\\\fs01\\x\\a.pst"',
    "contoso.example/R & D/admin1",
    "S-1-5-21-1-2-3-1001",
    "S-1-5-21-1-2-3-1001",
    "Remote-ManagementShell-Unknown",
    "8372 w3wp#MSExchangePowerShellAppPool",
    "",
]
RECORD = {
    "EventID": "1",
    "Channel": "MSExchange Management",
    "Computer": "exch01.contoso.example",
    "CmdletName": VALUES[0],
    "CmdletParameters": VALUES[1],
    "Caller": VALUES[2],
    "CallerSid": VALUES[3],
    "ManagementHost": VALUES[5],
}


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def data(element: str, empty: str = "") -> str:
    shown = empty or f"<{element}></{element}>"
    return "".join(f"<{element}>{escaped(v)}</{element}>" if v else shown for v in VALUES)


def system(quote: str) -> str:
    return (
        f"<System><Provider Name={quote}MSExchange CmdletLogs{quote}/>"
        f"<EventID Qualifiers={quote}16384{quote}>1</EventID>"
        f"<TimeCreated SystemTime={quote}2026-03-10T09:15:00.9821280Z{quote}/><EventRecordID>7184"
        "</EventRecordID><Channel>MSExchange Management</Channel><Computer>exch01.contoso.example</Computer>"
        "<Security/></System>"
    )


FORMS: dict[str, Any] = {
    "evtx_dump": {
        "Event": {
            "System": {
                "EventID": {"#attributes": {"Qualifiers": 16384}, "#text": 1},
                "TimeCreated": {"#attributes": {"SystemTime": "2026-03-10T09:15:00.982128Z"}},
                "EventRecordID": 7184,
                "Channel": "MSExchange Management",
                "Computer": "exch01.contoso.example",
                "Security": None,
            },
            "EventData": {"Data": {"#text": VALUES}, "Binary": None},
        }
    },
    "a list of elements": {
        "System": {
            "EventID": {"#text": "1"},
            "TimeCreated": {"@SystemTime": "2026-03-10T09:15:00.982128Z"},
            "Channel": "MSExchange Management",
            "Computer": "exch01.contoso.example",
        },
        "EventData": {"Data": VALUES},
    },
    "Winlogbeat": {
        "@timestamp": "2026-03-10T09:15:00.982Z",
        "event": {"code": "1", "provider": "MSExchange CmdletLogs"},
        "host": {"name": "exch01.contoso.example"},
        "winlog": {
            "channel": "MSExchange Management",
            "event_id": "1",
            "computer_name": "exch01.contoso.example",
            "record_id": 7184,
            "event_data": {f"param{n}": v for n, v in enumerate(VALUES, 1) if v},
        },
    },
    "flat, as Discover has it": {
        "@timestamp": "2026-03-10T09:15:00.982Z",
        "event.code": "1",
        "winlog.channel": "MSExchange Management",
        "winlog.computer_name": "exch01.contoso.example",
        **{f"winlog.event_data.param{n}": v for n, v in enumerate(VALUES, 1) if v},
    },
    "Get-WinEvent of PowerShell 7": {
        "Id": 1,
        "LogName": "MSExchange Management",
        "MachineName": "exch01.contoso.example",
        "RecordId": 7184,
        "TimeCreated": "2026-03-10T10:15:00.982128+01:00",
        "UserId": None,
        "Properties": [{"Value": v} for v in VALUES],
        "Message": "Cmdlet suceeded.",
    },
    "Get-WinEvent of Windows PowerShell": {
        "Id": 1,
        "LogName": "MSExchange Management",
        "MachineName": "exch01.contoso.example",
        "TimeCreated": "/Date(1773134100982)/",
        "Properties": [{"Value": v} for v in VALUES],
    },
    "Event of Sentinel": {
        "TimeGenerated": "2026-03-10T09:15:00.982Z",
        "Computer": "exch01.contoso.example",
        "EventLog": "MSExchange Management",
        "Source": "MSExchange CmdletLogs",
        "EventID": 1,
        "ParameterXml": data("Param"),
    },
    "Event of Sentinel, empty values short": {
        "TimeGenerated [UTC]": "3/10/2026, 9:15:00.982 AM",
        "Computer": "exch01.contoso.example",
        "EventLog": "MSExchange Management",
        "EventID": "1",
        "ParameterXml": data("Param", "<Param />"),
    },
}


def known(event: Event) -> dict[str, Any]:
    return {name: str(event.record.get(name)) for name in RECORD}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_record(tmp_path: Path, name: str) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(json.dumps(FORMS[name]) + "\n", encoding="utf-8")
    [event] = read_events([path])
    assert (event.source.name, known(event)) == ("exchange_server", RECORD)
    assert event.time is not None
    assert event.time.isoformat()[:23] == "2026-03-10T09:15:00.982"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_event_as_xml(tmp_path: Path, quote: str) -> None:
    path = tmp_path / "export.xml"
    values = data("Data", "<Data/>")
    text = f"<Event xmlns={quote}x{quote}>{system(quote)}<EventData>{values}</EventData></Event>"
    path.write_text(f"<Events>{text}</Events>", encoding="utf-8")
    [event] = read_events([path])
    assert (event.source.name, known(event)) == ("exchange_server", RECORD)


def test_real_events() -> None:
    events = read_events([REAL])
    assert [event.record["CmdletName"] for event in events] == ["Install-TransportAgent"] * 2
    assert {event.record["EventID"] for event in events} == {6}
    assert {event.record["Caller"] for event in events} == {"contoso.example/Company/Administrators/admin1"}
    assert events[0].record["ManagementHost"] == "Remote-ManagementShell-Unknown"


def test_one_event_twice_is_one(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(2 * (json.dumps(FORMS["evtx_dump"]) + "\n"), encoding="utf-8")
    assert len(read_events([path])) == 1

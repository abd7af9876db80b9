"""The trap: a script block whose text is read otherwise than it ran.

Script blocks in the forms in which people have them: each gives the same record.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.model.event import Event
from support.exports import read_events

REAL = ROOT / "tests" / "data" / "windows_events" / "script_block_evtx.jsonl"
CHANNEL = "Microsoft-Windows-PowerShell/Operational"
TEXT = "if (1 -lt 2 -and '&lt;' -ne \"<a b='c'>\") {\n  Search-Mailbox a.owner -TargetMailbox x & y }"
BLOCK, PATH = "965150b4-b107-4cce-9d30-1d3c55a8a085", "C:\\a & b\\x.ps1"
RECORD = {
    "EventID": "4104",
    "Channel": CHANNEL,
    "Computer": "fs03.contoso.example",
    "UserID": "S-1-5-21-1-2-3-1001",
    "MessageNumber": "1",
    "MessageTotal": "2",
    "ScriptBlockText": TEXT,
    "ScriptBlockId": BLOCK,
    "Path": PATH,
}
DATA = {
    "MessageNumber": 1,
    "MessageTotal": 2,
    "ScriptBlockText": TEXT,
    "ScriptBlockId": BLOCK,
    "Path": PATH,
}


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def named(quote: str) -> str:
    return "".join(f"<Data Name={quote}{k}{quote}>{escaped(str(v))}</Data>" for k, v in DATA.items())


FORMS: dict[str, Any] = {
    "evtx_dump": {
        "Event": {
            "System": {
                "EventID": 4104,
                "TimeCreated": {"#attributes": {"SystemTime": "2026-03-10T09:15:00.361955Z"}},
                "EventRecordID": 83421,
                "Channel": CHANNEL,
                "Computer": "fs03.contoso.example",
                "Security": {"#attributes": {"UserID": "S-1-5-21-1-2-3-1001"}},
            },
            "EventData": DATA,
        }
    },
    "Winlogbeat without its pipelines": {
        "@timestamp": "2026-03-10T09:15:00.361Z",
        "winlog": {
            "channel": CHANNEL,
            "event_id": "4104",
            "computer_name": "fs03.contoso.example",
            "record_id": 83421,
            "user": {"identifier": "S-1-5-21-1-2-3-1001"},
            "event_data": {k: str(v) for k, v in DATA.items()},
        },
    },
    "the Windows integration": {
        "@timestamp": "2026-03-10T09:15:00.361Z",
        "event": {"code": "4104", "category": ["process"]},
        "host": {"name": "fs03.contoso.example"},
        "user": {"id": "S-1-5-21-1-2-3-1001"},
        "file": {"path": PATH},
        "powershell": {
            "sequence": 1,
            "total": 2,
            "file": {"script_block_text": TEXT, "script_block_id": BLOCK},
        },
        "winlog": {"channel": CHANNEL, "computer_name": "fs03.contoso.example", "record_id": "83421"},
    },
    "Get-WinEvent of PowerShell 7": {
        "Id": 4104,
        "LogName": CHANNEL,
        "MachineName": "fs03.contoso.example",
        "RecordId": 83421,
        "TimeCreated": "2026-03-10T10:15:00.3619550+01:00",
        "UserId": {"BinaryLength": 28, "Value": "S-1-5-21-1-2-3-1001"},
        "Properties": [{"Value": v} for v in DATA.values()],
    },
    "NXLog": {
        "@timestamp": "2026-03-10T09:15:00.361Z",
        "EventID": 4104,
        "Channel": CHANNEL,
        "Hostname": "fs03.contoso.example",
        "UserID": "S-1-5-21-1-2-3-1001",
        **DATA,
    },
    "Splunk": {
        "_time": "2026-03-10T09:15:00.361+00:00",
        "EventCode": "4104",
        "Channel": CHANNEL,
        "Computer": "fs03.contoso.example",
        "UserID": "S-1-5-21-1-2-3-1001",
        **DATA,
    },
    "Event of Sentinel": {
        "TimeGenerated": "2026-03-10T09:15:00.361Z",
        "Computer": "fs03.contoso.example",
        "EventLog": CHANNEL,
        "EventID": 4104,
        "UserName": "S-1-5-21-1-2-3-1001",
        "EventData": '<DataItem Type="System.XmlData"><EventData xmlns="x">'
        + named('"')
        + "</EventData></DataItem>",
    },
}


def known(event: Event) -> dict[str, Any]:
    return {name: str(event.record.get(name)) for name in RECORD}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_record(tmp_path: Path, name: str) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(json.dumps(FORMS[name]) + "\n", encoding="utf-8")
    [event] = read_events([path])
    assert (event.source.name, known(event)) == ("powershell_script", RECORD)
    assert event.time is not None
    assert event.time.isoformat()[:23] == "2026-03-10T09:15:00.361"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_event_as_xml(tmp_path: Path, quote: str) -> None:
    path = tmp_path / "export.xml"
    system = (
        f"<EventID>4104</EventID><TimeCreated SystemTime={quote}2026-03-10T09:15:00.3619550Z{quote}/>"
        f"<Channel>{CHANNEL}</Channel><Computer>fs03.contoso.example</Computer>"
        f"<Security UserID={quote}S-1-5-21-1-2-3-1001{quote}/>"
    )
    text = f"<Event><System>{system}</System><EventData>{named(quote)}</EventData></Event>"
    path.write_text(text, encoding="utf-8")
    [event] = read_events([path])
    assert (event.source.name, known(event)) == ("powershell_script", RECORD)


def test_a_real_event() -> None:
    [event] = read_events([REAL])
    assert event.record["ScriptBlockText"].startswith('"IEX(New-Object Net.WebClient)')
    assert event.record["UserID"] == "S-1-5-21-1000000001-1000000002-1000000003-1111"

"""The trap: a search on CIM fields where the events have none.

The raw form of a process rule, executed on events that have their own names only: Sysmon's and the Security
log's. Both are found, by the same condition, and neither by the other's names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import DIST
from detection_pack.model.event import Clock, Event
from detection_pack.platforms.splunk.app import open_app
from detection_pack.platforms.splunk.run import Workspace
from support.sources import PROCESS

CLOCK = Clock(datetime(2026, 3, 10, 13, 0, tzinfo=UTC))
RAW = sorted((DIST / "splunk" / "queries").glob("*.raw.spl"))
#: What an add-on would have added.
CIM = (
    "process",
    "process_name",
    "process_path",
    "parent_process_name",
    "parent_process_path",
    "user",
    "dest",
)


def events() -> list[Event]:
    record = {
        "UtcTime": "2026-03-10 12:00:00",
        "Image": "C:\\Windows\\PowerShell.exe",
        "CommandLine": "powershell -c SEARCH-MAILBOX x",
        "ParentImage": "C:\\Windows\\explorer.exe",
        "User": "CONTOSO\\j.doe",
        "Computer": "ex01",
    }
    other = {**record, "CommandLine": "powershell -c Search-MailboxAuditLog"}
    return [
        Event("sysmon", PROCESS, {**record, "EventID": 1}),
        Event("security", PROCESS, {**record, "EventID": 4688}),
        Event("no term", PROCESS, {**other, "EventID": 1}),
        Event("no shell", PROCESS, {**record, "EventID": 4688, "Image": "C:\\Windows\\cmd.exe"}),
    ]


@pytest.mark.parametrize("path", RAW, ids=lambda path: path.stem)
def test_found_by_the_events_own_names(path: Path) -> None:
    workspace = Workspace(events())
    # Only what the events themselves have: the add-ons' fields are taken away.
    listed = ", ".join(f"'{name}'" for name in CIM)
    workspace.connection.execute(
        "UPDATE splunk_events SET tag = [], fields = map_from_entries(list_filter(map_entries(fields),"
        f" lambda entry: entry.key NOT IN ({listed})))"
    )
    app = open_app(DIST)
    text = path.read_text(encoding="utf-8")
    rows = workspace.search(text, app.macros, CLOCK.now, lookups=app.lookups)
    assert {event for row in rows for event in row.events} == {"sysmon", "security"}
    shown = {(row.values["UserId"], row.values["ClientIP"], row.values["ClientAgent"]) for row in rows}
    assert shown == {("j.doe", "ex01", "explorer.exe")}


def test_there_is_a_raw_form() -> None:
    assert RAW

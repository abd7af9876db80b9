"""The trap: a search on CIM fields where the events have none.

The raw form of a process rule, executed on events that have their own names only: Sysmon's and the Security
log's, each as XML and as text. All are found, by the same condition, and none by another's names.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import DIST
from detection_pack.model.event import Clock, Event
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.records import quoted
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
FILLING = "INSERT INTO splunk_events BY NAME"


def without_add_ons(folder: Path) -> LogSource:
    """The source as it is where no add-on gives its events tags and the fields of the CIM."""
    model, _, _ = (PROCESS.folder / "splunk.sql").read_text(encoding="utf-8").partition("-- The data set")
    assert model.count(FILLING) == 1
    taken = f"{FILLING} SELECT * EXCLUDE (tag, {', '.join(map(quoted, CIM))}) FROM added"
    sql = model.replace(FILLING, "INSERT INTO added BY NAME") + taken
    (folder / "splunk.sql").write_text(sql, encoding="utf-8")
    return dataclasses.replace(PROCESS, folder=folder)


def events(source: LogSource) -> list[Event]:
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
        Event("sysmon", source, {**record, "EventID": 1}),
        Event("security", source, {**record, "EventID": 4688}),
        Event("sysmon, text", source, {**record, "EventID": 1, "RenderedAsText": True}),
        Event("security, text", source, {**record, "EventID": 4688, "RenderedAsText": True}),
        Event("no term", source, {**other, "EventID": 1}),
        Event("no shell", source, {**record, "EventID": 4688, "Image": "C:\\Windows\\cmd.exe"}),
    ]


@pytest.mark.parametrize("path", RAW, ids=lambda path: path.stem)
def test_found_by_the_events_own_names(path: Path, tmp_path: Path) -> None:
    workspace = Workspace(events(without_add_ons(tmp_path)))
    assert all(not set(CIM) & set(fields) for fields in workspace.events.all_fields().values())
    app = open_app(DIST)
    text = path.read_text(encoding="utf-8")
    rows = workspace.search(text, app.macros, CLOCK.now, lookups=app.lookups)
    assert {event for row in rows for event in row.events} == {
        "sysmon",
        "security",
        "sysmon, text",
        "security, text",
    }
    shown = {(row.values["UserId"], row.values["ClientIP"], row.values["ClientAgent"]) for row in rows}
    assert shown == {("j.doe", "ex01", "explorer.exe")}


#: What an event calls who, where and what, by its form and log.
OWN_NAMES = {
    "sysmon": {"Computer", "User", "Image", "CommandLine", "ParentImage"},
    "security": {"Computer", "SubjectUserName", "SubjectDomainName", "NewProcessName", "CommandLine"}
    | {"ParentProcessName"},
    "sysmon, text": {"ComputerName", "User", "Image", "CommandLine", "ParentImage"},
    "security, text": {"ComputerName", "Account_Name", "Account_Domain", "New_Process_Name"}
    | {"Process_Command_Line", "Creator_Process_Name"},
}


def test_each_form_has_its_own_names_and_no_other(tmp_path: Path) -> None:
    found = Workspace(events(without_add_ons(tmp_path))).events.all_fields()
    every = set().union(*OWN_NAMES.values())
    assert {name: set(found[name]) & every for name in OWN_NAMES} == OWN_NAMES


def test_there_is_a_raw_form() -> None:
    assert RAW

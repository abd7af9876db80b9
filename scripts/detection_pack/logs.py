"""What people really export, read as events.

Office 365: Management Activity API records (JSON lines or a JSON list) and the Purview audit search CSV,
whose ``AuditData`` column holds the record. Hosts: DeviceProcessEvents from advanced hunting (CSV or JSON)
and Sysmon 1 or Security 4688 events as JSON lines (flat, or as Winlogbeat nests them). A record of another
kind is left out: an export of a whole event log holds many. One that cannot be read is skipped, and named.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detection_pack.events import Event, Kind, plain_record
from detection_pack.findings import Finding, PackError

#: DeviceProcessEvents column -> Sysmon's name, which is Sigma's.
_DEFENDER = {
    "ProcessCommandLine": "CommandLine",
    "DeviceName": "Computer",
    "ProcessId": "ProcessId",
    "ProcessIntegrityLevel": "IntegrityLevel",
    "ProcessVersionInfoOriginalFileName": "OriginalFileName",
    "ProcessVersionInfoProductName": "Product",
    "ProcessVersionInfoCompanyName": "Company",
    "ProcessVersionInfoFileDescription": "Description",
    "InitiatingProcessCommandLine": "ParentCommandLine",
    "InitiatingProcessId": "ParentProcessId",
}
#: Security 4688 -> Sysmon. Splunk and the event schema spell the command line differently.
_SECURITY = {
    "NewProcessName": "Image",
    "CommandLine": "CommandLine",
    "Process_Command_Line": "CommandLine",
    "ProcessCommandLine": "CommandLine",
    "ParentProcessName": "ParentImage",
    "NewProcessId": "ProcessId",
}
_TIMES = ("UtcTime", "TimeCreated", "@timestamp", "SystemTime", "TimeGenerated", "Timestamp", "EventTime")
_HOSTS = ("Computer", "Hostname", "host", "ComputerName")


@dataclass(frozen=True)
class _Row:
    path: Path
    line: int
    data: Mapping[str, Any]


#: How many skipped records are named; all are counted.
NAMED = 10


@dataclass
class Skipped:
    """The records that could not be read: how many, and the first of them; and the files that gave no event
    at all. With ``strict`` the first of either raises."""

    strict: bool = False
    count: int = 0
    first: list[Finding] = field(default_factory=list)
    files: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        if self.strict:
            raise PackError([finding])
        self.count += 1
        if self.count <= NAMED:
            self.first.append(finding)


def read_logs(paths: Sequence[Path], skipped: Skipped | None = None) -> list[Event]:
    """Every event of the files, once each: a record with the Id and the content of another is an export's
    repetition. One with the Id alone is another record, and gets a name of its own.

    A record that cannot be read goes to ``skipped``. Raises `PackError` for a file that is none of the
    formats, if nothing at all can be read, and for the first bad record where ``skipped`` says strict.
    """
    skipped = Skipped() if skipped is None else skipped
    events = _Events()
    for path in paths:
        before, others, found = skipped.count, 0, False
        for row in _rows(path, skipped):
            try:
                event = _event(row)
            except PackError as error:
                skipped.add(error.findings[0])
                continue
            if event is None:
                others += 1
            else:
                found = True
                events.add(event, row)
        if not found:
            skipped.files.append(_nothing(path, others, skipped.count - before))
            if skipped.strict:
                raise PackError(skipped.files)
    if skipped.files and not events.listed:
        raise PackError([*skipped.first, *skipped.files])
    return events.listed


class _Events:
    """Events, once each."""

    def __init__(self) -> None:
        self.listed: list[Event] = []
        self._first: dict[tuple[Kind, str], Event] = {}
        self._others: set[tuple[Kind, str, bytes]] = set()

    def add(self, event: Event, row: _Row) -> None:
        key = (event.kind, event.id)
        if key not in self._first:
            self._first[key] = event
            self.listed.append(event)
            return
        content = (*key, hashlib.sha256(event.json().encode()).digest())
        if self._first[key].record == event.record or content in self._others:
            return
        self._others.add(content)
        name = f"{event.id} ({row.path.name}:{row.line})"
        while (event.kind, name) in self._first:
            name += "'"
        self._first[event.kind, name] = named = replace(event, id=name)
        self.listed.append(named)


def _nothing(path: Path, others: int, bad: int) -> Finding:
    """Why a file gives no event."""
    if bad:
        return Finding(str(path), 1, f"holds no record that can be read, {bad} skipped", "export it again")
    what = f"holds {others} records, none of a kind that the pack reads" if others else "holds no record"
    return Finding(str(path), 1, what, "export audit records or process creations")


def _rows(path: Path, skipped: Skipped) -> Iterator[_Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PackError.at(path, 1, f"cannot be read ({error.strerror})", "check the path") from error
    except UnicodeDecodeError as error:
        raise PackError.at(path, 1, "is not UTF-8", "export it as UTF-8") from error
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and path.suffix == ".json"):
        yield from _json_document(path, text, skipped)
    elif start == "{" or not start:
        yield from _json_lines(path, text, skipped)
    else:
        yield from _csv_rows(path, text, skipped)


def _json_document(path: Path, text: str, skipped: Skipped) -> Iterator[_Row]:
    """A list of records, an object with them under Results or value, or JSON lines after all."""
    try:
        document = json.loads(text)
    except ValueError:
        yield from _json_lines(path, text, skipped)
        return
    except RecursionError as error:
        raise PackError.at(path, 1, "is nested too deeply", "export the records as JSON lines") from error
    if isinstance(document, dict):
        inner = next((document[k] for k in ("Results", "results", "value") if k in document), None)
        document = inner if isinstance(inner, list) else [document]
    for number, record in enumerate(document, start=1):
        if isinstance(record, dict):
            yield _Row(path, number, record)
        else:
            skipped.add(Finding(str(path), 1, f"entry {number} is not a record", "export objects"))


def _json_lines(path: Path, text: str, skipped: Skipped) -> Iterator[_Row]:
    # Only \n ends a line: JSON text may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            skipped.add(Finding(str(path), number, "is not JSON", "export one JSON object a line"))
            continue
        if isinstance(record, dict):
            yield _Row(path, number, record)
        else:
            skipped.add(Finding(str(path), number, "is not a JSON object", "export one JSON object a line"))


def _csv_rows(path: Path, text: str, skipped: Skipped) -> Iterator[_Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    header_line = text.partition("\n")[0]
    # Spreadsheets write a semicolon where the comma is the decimal sign.
    delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        header = reader.fieldnames or []
    except csv.Error as error:
        raise PackError.at(path, reader.line_num or 1, f"CSV: {error}", "export it again") from error
    if "AuditData" not in header and "ProcessCommandLine" not in header:
        raise PackError.at(
            path,
            1,
            "is neither a Purview audit export nor DeviceProcessEvents",
            "export with the column AuditData or ProcessCommandLine",
        )
    while True:
        try:
            row = _next_row(path, reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader has not counted the line that it stopped in, and goes on with the one after it.
            line = min(reader.line_num + 1, len(text.splitlines()))
            skipped.add(Finding(str(path), line, f"CSV: {error}", "export it again"))
        except PackError as error:
            skipped.add(error.findings[0])
        else:
            yield row


def _next_row(path: Path, reader: csv.DictReader[str]) -> _Row:
    row = next(reader)
    return _csv_row(path, reader.line_num, row)


def _csv_row(path: Path, line: int, row: Mapping[str, Any]) -> _Row:
    if row.get("AuditData") is None:
        return _Row(path, line, {k: v for k, v in row.items() if isinstance(k, str) and v is not None})
    try:
        record = json.loads(row["AuditData"])
    except (ValueError, RecursionError) as error:
        raise PackError.at(path, line, "AuditData is not JSON", "export it again, untouched") from error
    if not isinstance(record, dict):
        raise PackError.at(path, line, "AuditData is not a record", "export it again, untouched")
    return _Row(path, line, record)


def _event(row: _Row) -> Event | None:
    data = row.data
    if isinstance(data.get("AuditData"), dict):
        data = data["AuditData"]
    if "Operation" in data and "RecordType" in data:
        return _made("m365", row, dict(data), data.get("Id"))
    if "ProcessCommandLine" in data and ("FileName" in data or "FolderPath" in data):
        if not data["ProcessCommandLine"] or not _is_creation(data.get("ActionType")):
            return None
        return _made("process", row, _defender(data), _defender_identity(data))
    flat = _flattened(data)
    event_id = str(flat.get("EventID", flat.get("EventCode", "")))
    if event_id == "4688" or "NewProcessName" in flat:
        return _made("process", row, _security(flat), flat.get("Id"))
    named = "CommandLine" in flat or "ParentImage" in flat
    if "Image" in flat and named and event_id in ("", "1"):
        return _made("process", row, _sysmon(flat), flat.get("Id"))
    return None


def _made(kind: Kind, row: _Row, record: dict[str, Any], identity: object) -> Event:
    name = str(identity) if identity not in (None, "") else f"{row.path.name}:{row.line}"
    name = name.encode("utf-8", "replace").decode()  # JSON can spell half of a surrogate pair
    try:
        event = Event(name, kind, plain_record(record))
    except ValueError as error:
        raise PackError.at(row.path, row.line, f"is {error}", "export the record again") from error
    if event.time is None:
        wanted = "CreationTime" if kind == "m365" else "time"
        raise PackError.at(
            row.path, row.line, f"has no {wanted} that can be read", "export the time as ISO 8601"
        )
    return event


def _is_creation(action: object) -> bool:
    """Other tables of advanced hunting have the same columns, and other acts in ``ActionType``."""
    return action in (None, "") or str(action).lower() == "processcreated"


def _defender_identity(row: Mapping[str, Any]) -> str | None:
    """A ReportId is one of a device and a time only; a row that lacks a part stands for itself
    (Microsoft Learn, "Advanced hunting schema", DeviceProcessEvents)."""
    parts = [row.get(name) for name in ("Timestamp", "DeviceId", "ReportId")]
    return None if any(part in (None, "") for part in parts) else "/".join(map(str, parts))


def _defender(row: Mapping[str, Any]) -> dict[str, Any]:
    record = {ours: row[theirs] for theirs, ours in _DEFENDER.items() if row.get(theirs) not in (None, "")}
    record["UtcTime"] = _time(row)
    record["Image"] = _whole_path(row.get("FolderPath"), row.get("FileName"))
    parent = _whole_path(row.get("InitiatingProcessFolderPath"), row.get("InitiatingProcessFileName"))
    if parent:
        record["ParentImage"] = parent
    if user := row.get("AccountName"):
        domain = row.get("AccountDomain")
        record["User"] = f"{domain}\\{user}" if domain else user
    return record


def _whole_path(folder: object, name: object) -> str:
    path, file = str(folder or ""), str(name or "")
    if not path or path.lower().endswith(file.lower()):
        return path or file
    return path.rstrip("\\") + "\\" + file


def _security(row: Mapping[str, Any]) -> dict[str, Any]:
    record = {ours: row[theirs] for theirs, ours in _SECURITY.items() if row.get(theirs) is not None}
    if user := row.get("SubjectUserName"):
        domain = row.get("SubjectDomainName")
        record["User"] = f"{domain}\\{user}" if domain else user
    return record | {"UtcTime": _time(row), "EventID": 4688, **_host(row)}


def _sysmon(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None} | {"UtcTime": _time(row), **_host(row)}


def _host(row: Mapping[str, Any]) -> dict[str, str]:
    found = next((row[k] for k in _HOSTS if isinstance(row.get(k), str) and row[k]), None)
    return {"Computer": found} if found else {}


def _time(row: Mapping[str, Any]) -> str | None:
    return next((str(row[k]) for k in _TIMES if row.get(k) not in (None, "")), None)


def _flattened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``winlog.event_data``, ``Event.EventData`` and the like beside the top level's."""
    flat = {k: v for k, v in data.items() if not isinstance(v, dict)}
    for key in ("winlog", "Event", "event_data", "EventData", "System", "host"):
        inner = data.get(key)
        if isinstance(inner, dict):
            for name, value in _flattened(inner).items():
                flat.setdefault(_WINLOG.get(name, name), value)
    return flat


_WINLOG = {"event_id": "EventID", "computer_name": "Computer"}

"""What people really export, read as events.

Office 365: Management Activity API records (JSON lines or a JSON list) and the Purview audit search CSV,
whose ``AuditData`` column holds the record. Hosts: DeviceProcessEvents from advanced hunting (CSV or JSON)
and Sysmon 1 or Security 4688 events as JSON lines (flat, or as Winlogbeat nests them). A record of another
kind is left out: an export of a whole event log holds many.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.model.event import Event, Kind, plain_record
from detection_pack.model.findings import PackError

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


def read_logs(paths: Sequence[Path]) -> list[Event]:
    """Every event of the files, once each: an Id that comes again is an export's repetition.

    Raises `PackError` for a file that cannot be read as one of the formats.
    """
    events: dict[tuple[Kind, str], Event] = {}
    for path in paths:
        records = [_event(row) for row in _rows(path)]
        known = [event for event in records if event is not None]
        if records and not known:
            what = f"holds {len(records)} records, none of a kind that the pack reads"
            raise PackError.at(path, 1, what, "export audit records or process creations")
        for event in known:
            events.setdefault((event.kind, event.id), event)
    return list(events.values())


def _rows(path: Path) -> Iterator[_Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PackError.at(path, 1, f"cannot be read ({error.strerror})", "check the path") from error
    except UnicodeDecodeError as error:
        raise PackError.at(path, 1, "is not UTF-8", "export it as UTF-8") from error
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and path.suffix == ".json"):
        yield from _json_document(path, text)
    elif start == "{" or not start:
        yield from _json_lines(path, text)
    else:
        yield from _csv_rows(path, text)


def _json_document(path: Path, text: str) -> Iterator[_Row]:
    """A list of records, an object with them under Results or value, or JSON lines after all."""
    try:
        document = json.loads(text)
    except ValueError:
        yield from _json_lines(path, text)
        return
    except RecursionError as error:
        raise PackError.at(path, 1, "is nested too deeply", "export the records as JSON lines") from error
    if isinstance(document, dict):
        inner = next((document[k] for k in ("Results", "results", "value") if k in document), None)
        document = inner if isinstance(inner, list) else [document]
    for number, record in enumerate(document, start=1):
        if not isinstance(record, dict):
            raise PackError.at(path, 1, f"entry {number} is not a record", "export objects")
        yield _Row(path, number, record)


def _json_lines(path: Path, text: str) -> Iterator[_Row]:
    # Only \n ends a line: JSON text may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PackError.at(path, number, "is not JSON", "export one JSON object a line") from error
        if not isinstance(record, dict):
            raise PackError.at(path, number, "is not a JSON object", "export one JSON object a line")
        yield _Row(path, number, record)


def _csv_rows(path: Path, text: str) -> Iterator[_Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    header_line = text.partition("\n")[0]
    # Spreadsheets write a semicolon where the comma is the decimal sign.
    delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        header = reader.fieldnames or []
        if "AuditData" not in header and "ProcessCommandLine" not in header:
            raise PackError.at(
                path,
                1,
                "is neither a Purview audit export nor DeviceProcessEvents",
                "export with the column AuditData or ProcessCommandLine",
            )
        for row in reader:
            yield _csv_row(path, reader.line_num, row)
    except csv.Error as error:
        raise PackError.at(path, reader.line_num or 1, f"CSV: {error}", "export it again") from error


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
        identity = "/".join(str(data[k]) for k in ("DeviceId", "ReportId") if data.get(k) not in (None, ""))
        return _made("process", row, _defender(data), data.get("Id") or identity)
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

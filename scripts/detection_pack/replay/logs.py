"""What people really export, read as events.

Files: JSON (a list of records, an object with them under Results or value, a record a line) and CSV. How an
export of a log source looks is data of the source (``exports`` of source.yml). A record of another kind is
left out: an export of a whole event log holds many.
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

from detection_pack.model.event import Event, plain_record
from detection_pack.model.export_form import ExportForm, csv_columns
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource


@dataclass(frozen=True)
class _Row:
    path: Path
    line: int
    data: Mapping[str, Any]


def read_logs(paths: Sequence[Path], sources: Mapping[str, LogSource]) -> list[Event]:
    """Every event of the files, once each: an identity that comes again is an export's repetition.

    Raises `PackError` for a file that cannot be read as one of the formats.
    """
    events: dict[tuple[str, str], Event] = {}
    for path in paths:
        records = [_event(row, sources) for row in _rows(path, sources)]
        known = [event for event in records if event is not None]
        if records and not known:
            what = f"holds {len(records)} records, none of a kind that the pack reads"
            titles = [form.title for source in sources.values() for form in source.exports]
            raise PackError.at(path, 1, what, f"export one of: {'; '.join(titles)}")
        for event in known:
            events.setdefault((event.source.name, event.id), event)
    return list(events.values())


def _rows(path: Path, sources: Mapping[str, LogSource]) -> Iterator[_Row]:
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
        yield from _csv_rows(path, text, [form for one in sources.values() for form in one.exports])


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


def _csv_rows(path: Path, text: str, forms: Sequence[ExportForm]) -> Iterator[_Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    header_line = text.partition("\n")[0]
    # Spreadsheets write a semicolon where the comma is the decimal sign.
    delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    known = tuple(dict.fromkeys(csv_columns(forms)))
    nested = {form.inside for form in forms if form.inside is not None}
    try:
        header = reader.fieldnames or []
        if not set(known) & set(header):
            todo = f"export with the column {' or '.join(known)}"
            raise PackError.at(path, 1, "is not an export that the pack reads", todo)
        for row in reader:
            yield _csv_row(path, reader.line_num, row, next((one for one in header if one in nested), None))
    except csv.Error as error:
        raise PackError.at(path, reader.line_num or 1, f"CSV: {error}", "export it again") from error


def _csv_row(path: Path, line: int, row: Mapping[str, Any], inside: str | None) -> _Row:
    """A row as it is, or the record in its column ``inside``."""
    if inside is None or row.get(inside) is None:
        return _Row(path, line, {k: v for k, v in row.items() if isinstance(k, str) and v is not None})
    try:
        record = json.loads(row[inside])
    except (ValueError, RecursionError) as error:
        raise PackError.at(path, line, f"{inside} is not JSON", "export it again, untouched") from error
    if not isinstance(record, dict):
        raise PackError.at(path, line, f"{inside} is not a record", "export it again, untouched")
    return _Row(path, line, record)


def _event(row: _Row, sources: Mapping[str, LogSource]) -> Event | None:
    """The event of the first form that knows the entry; None where none does."""
    for source in sources.values():
        for form in source.exports:
            if (entry := form.entry(row.data)) is not None:
                return _made(row, source, form, entry)
    return None


def _made(row: _Row, source: LogSource, form: ExportForm, entry: Mapping[str, Any]) -> Event:
    record = form.record(entry)
    stated = "/".join(str(entry[key]) for key in form.identity if entry.get(key) not in (None, ""))
    name = source.identity_of(record) or source.identity_of(entry) or stated or f"{row.path.name}:{row.line}"
    name = name.encode("utf-8", "replace").decode()  # JSON can spell half of a surrogate pair
    try:
        event = Event(name, source, plain_record(record))
    except ValueError as error:
        raise PackError.at(row.path, row.line, f"is {error}", "export the record again") from error
    if event.time is None:
        wanted = "ISO 8601" if source.time.format == "iso8601" else source.time.format
        what, todo = f"has no {source.time.field} that can be read", f"export the time as {wanted}"
        raise PackError.at(row.path, row.line, what, todo)
    return event

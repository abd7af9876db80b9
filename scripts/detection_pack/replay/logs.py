"""What people really export, read as events.

Files: JSON (a list of records, an object with them under Results or value, a record a line) and CSV. How an
export of a log source looks is data of the source (``exports`` of source.yml). A record of another kind is
left out: an export of a whole event log holds many. One that cannot be read is skipped, and named.
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

from detection_pack.model.event import Event, plain_record
from detection_pack.model.export_form import ExportForm, csv_columns
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource


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


def read_logs(
    paths: Sequence[Path], sources: Mapping[str, LogSource], skipped: Skipped | None = None
) -> list[Event]:
    """Every event of the files, once each: a record with the identity and the content of another is an
    export's repetition. One with the identity alone is another record, and gets a name of its own.

    A record that cannot be read goes to ``skipped``. Raises `PackError` for a file that is none of the
    formats, if nothing at all can be read, and for the first bad record where ``skipped`` says strict.
    """
    skipped = Skipped() if skipped is None else skipped
    events = _Events()
    for path in paths:
        before, others, found = skipped.count, 0, False
        for row in _rows(path, sources, skipped):
            try:
                event = _event(row, sources)
            except PackError as error:
                skipped.add(error.findings[0])
                continue
            if event is None:
                others += 1
            else:
                found = True
                events.add(event, row)
        if not found:
            skipped.files.append(_nothing(path, sources, others, skipped.count - before))
            if skipped.strict:
                raise PackError(skipped.files)
    if skipped.files and not events.listed:
        raise PackError([*skipped.first, *skipped.files])
    return events.listed


class _Events:
    """Events, once each."""

    def __init__(self) -> None:
        self.listed: list[Event] = []
        self._first: dict[tuple[str, str], Event] = {}
        self._others: set[tuple[str, str, bytes]] = set()

    def add(self, event: Event, row: _Row) -> None:
        key = (event.source.name, event.id)
        if key not in self._first:
            self._first[key] = event
            self.listed.append(event)
            return
        content = (*key, hashlib.sha256(event.json().encode()).digest())
        # As text: Python takes True for 1.
        if self._first[key].json() == event.json() or content in self._others:
            return
        self._others.add(content)
        name = f"{event.id} ({row.path.name}:{row.line})"
        while (event.source.name, name) in self._first:
            name += "'"
        self._first[event.source.name, name] = named = replace(event, id=name)
        self.listed.append(named)


def _nothing(path: Path, sources: Mapping[str, LogSource], others: int, bad: int) -> Finding:
    """Why a file gives no event."""
    if bad:
        return Finding(str(path), 1, f"holds no record that can be read, {bad} skipped", "export it again")
    what = f"holds {others} records, none of a kind that the pack reads" if others else "holds no record"
    titles = [form.title for source in sources.values() for form in source.exports]
    return Finding(str(path), 1, what, f"export one of: {'; '.join(titles)}")


def _rows(path: Path, sources: Mapping[str, LogSource], skipped: Skipped) -> Iterator[_Row]:
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
        yield from _csv_rows(path, text, [form for one in sources.values() for form in one.exports], skipped)


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


def _csv_rows(path: Path, text: str, forms: Sequence[ExportForm], skipped: Skipped) -> Iterator[_Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    header_line = text.partition("\n")[0]
    # Spreadsheets write a semicolon where the comma is the decimal sign.
    delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    known = tuple(dict.fromkeys(csv_columns(forms)))
    nested = {form.inside for form in forms if form.inside is not None}
    try:
        header = reader.fieldnames or []
    except csv.Error as error:
        raise PackError.at(path, reader.line_num or 1, f"CSV: {error}", "export it again") from error
    if not set(known) & set(header):
        todo = f"export with the column {' or '.join(known)}"
        raise PackError.at(path, 1, "is not an export that the pack reads", todo)
    inside = next((one for one in header if one in nested), None)
    while True:
        try:
            data = next(reader)
            row = _csv_row(path, reader.line_num, data, inside)
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
    parts = [entry.get(key) for key in form.identity]
    # What identifies an entry does so together: one that lacks a part stands for itself.
    stated = "" if any(part in (None, "") for part in parts) else "/".join(map(str, parts))
    name = source.identity_of(record) or source.identity_of(entry) or stated or f"{row.path.name}:{row.line}"
    name = name.encode("utf-8", "replace").decode()  # JSON can spell half of a surrogate pair
    try:
        event = Event(name, source, plain_record(record))
    except ValueError as error:
        raise PackError.at(row.path, row.line, f"is {error}", "export the record again") from error
    if event.time is None:
        wanted = "ISO 8601" if source.time.format == "iso8601" else source.time.format
        what = f"has no time that can be read ({source.time.field} of the record)"
        todo = f"export the time as {wanted}"
        raise PackError.at(row.path, row.line, what, todo)
    return event

"""One text file of an export: what it looks like, and its entries one after another."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from detection_pack.replay import table_rows
from detection_pack.replay.event_xml import events
from detection_pack.replay.json_values import Entry, JsonValues, Known, Parts, whole
from detection_pack.replay.table_rows import Table

HEAD = 1 << 16
#: How many entries of one row have places of their own.
SUB = 1 << 16
_JSON, _XML = re.compile(rb"\s*[\[{]"), re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Events?[\s>]")


@dataclass(frozen=True)
class ExportFile:
    """A text file and its shape: JSON (``lines``: its first line is an object by itself), XML, or a table.

    A place in it is the number of an entry from 1 or, ``by_row``, that of a line or row with something in it,
    and behind it (`SUB` to one) the number of the entry in there.
    """

    label: str
    path: Path
    known: Known
    json: bool = False
    xml: bool = False
    lines: bool = False
    table: Table | None = None
    by_row: bool = False
    parts: Parts = whole

    @property
    def empty(self) -> bool:
        return not (self.json or self.xml or self.table)

    def entries(self) -> Iterator[Entry]:
        """Every entry, and a fault for whatever is none."""
        with self.path.open("rb") as stream:
            if self.json:
                yield from JsonValues(stream, self.known, parts=self.parts)
            elif self.xml:
                yield from events(stream)
            elif self.table is not None:
                for line, row, fault in table_rows.rows(stream, self.table):
                    yield fault or table_rows.entry(self.table, line, row)

    def at(self, rows: Iterable[int]) -> Iterator[tuple[int, Entry]]:
        """The entries of these rows, in ascending order, with their places: only they are parsed."""
        wanted = iter(rows)
        number = next(wanted, None)
        with self.path.open("rb") as stream:
            for count, (line, row, fault) in enumerate(self._rows(stream), start=1):
                if number is None:
                    return
                if count == number:
                    for sub, entry in enumerate(self._of_row(line, row, fault)):
                        yield count * SUB + min(sub, SUB - 1), entry
                    number = next(wanted, None)

    def count(self) -> int:
        """The number of rows."""
        with self.path.open("rb") as stream:
            return sum(1 for _ in self._rows(stream))

    def places(self) -> Iterator[tuple[int, Entry]]:
        """Every entry with its place."""
        for number, entry in enumerate(self.entries(), start=1):
            yield number * SUB, entry

    def found(self, places: Iterable[int]) -> Iterator[tuple[int, Entry]]:
        """The entries at these places, and perhaps their neighbours."""
        wanted = sorted({place // SUB for place in places})
        if self.by_row:
            yield from self.at(wanted)
        else:
            numbers = set(wanted)
            for place, entry in self.places():
                if place // SUB in numbers:
                    yield place, entry
                if place // SUB == wanted[-1]:
                    return

    def _rows(self, stream: IO[bytes]) -> Iterator[tuple[int, bytes, Entry | None]]:
        if self.table is not None:
            yield from table_rows.rows(stream, self.table)
        else:
            yield from ((n, line, None) for n, line in enumerate(stream, start=1) if line.strip(b" \t\r\n"))

    def _of_row(self, line: int, row: bytes, fault: Entry | None) -> Iterator[Entry]:
        if fault is not None:
            yield fault
        elif self.table is not None:
            yield table_rows.entry(self.table, line, row)
        else:
            yield from JsonValues(io.BytesIO(row), self.known, line, self.parts)


def export_file(label: str, path: Path, known: Known, parts: Parts = whole) -> ExportFile:
    """The file with its shape, by its first bytes. ``known`` and ``parts``: see `JsonValues`."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
        while head.isspace() and (more := stream.read(HEAD)):
            head = more
        if _JSON.match(head):
            return ExportFile(label, path, known, json=True, lines=_is_lines(head), parts=parts)
        if _XML.match(head):
            return ExportFile(label, path, known, xml=True)
        if not head.strip():
            return ExportFile(label, path, known)
        stream.seek(0)
        return ExportFile(label, path, known, table=table_rows.table(stream))


def _is_lines(head: bytes) -> bool:
    """Whether the first line could be a whole object."""
    first, ended, _ = head.lstrip().partition(b"\n")
    return first.startswith(b"{") and (not ended or first.rstrip().endswith(b"}"))

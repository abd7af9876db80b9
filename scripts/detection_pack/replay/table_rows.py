"""The rows of a CSV text, by any separator, with the lines on which they stand."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

from detection_pack.replay.json_values import Entry

SEPARATORS = (",", ";", "\t", "|")
#: What a row may hold: beyond it a quotation mark was left open.
LINES, LONGEST = 2_000, 32 << 20
#: What portals add to the name of a column of times.
_ZONE = re.compile(r" \[UTC\]$")


@dataclass(frozen=True)
class Table:
    """How a CSV file looks: its columns, the separator, and how many lines come before its first row."""

    header: tuple[str, ...]
    separator: str
    before: int


def table(stream: IO[bytes]) -> Table | None:
    """The header of a CSV text, after the lines that PowerShell and spreadsheets put before it; None where
    there is none."""
    before, separator = 0, None
    while (line := stream.readline(LONGEST)) and before < 10:
        text = line.decode("utf-8", "replace").strip("\r\n")
        stated = re.fullmatch(r'"?sep=(.)"?', text, re.IGNORECASE)
        if stated is not None:
            separator = stated[1]
        elif text.strip() and not text.startswith("#TYPE"):
            separator = separator or max(SEPARATORS, key=_outside_quotes(text).count)
            try:
                header = next(csv.reader([text], delimiter=separator, strict=True))
            except (csv.Error, StopIteration):
                return None
            names = (_ZONE.sub("", name.strip().strip("\ufeff")) for name in header)
            return Table(tuple(names), separator, before + 1)
        before += 1
    return None


def _outside_quotes(text: str) -> str:
    return re.sub(r'"[^"]*"', "", text)


def rows(stream: IO[bytes], about: Table) -> Iterator[tuple[int, bytes, Entry | None]]:
    """Every row with its first line and its bytes. A row that is left open is a fault, and reading goes on
    with the line after its first."""
    lines = enumerate(stream, start=1)
    for _ in islice(lines, about.before):
        pass
    waiting: list[tuple[int, bytes]] = []
    while True:
        number, line = waiting.pop(0) if waiting else next(lines, (0, b""))
        if not number:
            return
        if not line.strip():
            continue
        group, size = [(number, line)], len(line)
        open_ = line.count(b'"') % 2
        while open_ and len(group) < LINES and size < LONGEST:
            following = waiting.pop(0) if waiting else next(lines, None)
            if following is None:
                break
            group.append(following)
            size += len(following[1])
            open_ ^= following[1].count(b'"') % 2
        if open_:
            waiting[:0] = group[1:]
            yield number, line, Entry(number, None, "CSV: a quotation mark is left open", "export it again")
        else:
            yield number, b"".join(one for _, one in group), None


def entry(about: Table, line: int, row: bytes) -> Entry:
    """The entry of a row's bytes."""
    try:
        text = row.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return Entry(line, None, "is not UTF-8", "export it as UTF-8")
    csv.field_size_limit(LONGEST)
    try:
        # Of a line's end inside a value the reader wants to see the end.
        [cells] = csv.reader(_kept(text), delimiter=about.separator, strict=True)
    except (csv.Error, ValueError) as error:
        return Entry(line, None, f"CSV: {error}", "export it again")
    if len(cells) > len(about.header):
        what = f"CSV: has {len(cells)} columns instead of {len(about.header)}"
        return Entry(line, None, what, "export it again")
    # What is empty is absent, and yet a column of the row.
    return Entry(line, {name: cell or None for name, cell in zip(about.header, cells, strict=False)})


def _kept(text: str) -> Iterator[str]:
    """The lines of a row; only a line feed ends one."""
    parts = text.split("\n")
    yield from (part + "\n" for part in parts[:-1])
    yield parts[-1]

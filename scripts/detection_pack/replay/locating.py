"""From the id of a record to the whole of it: where it stands in its file, and what it says there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.platforms.record_store import FILE, PLACE
from detection_pack.platforms.records import ID, Records
from detection_pack.replay.export_file import ExportFile
from detection_pack.replay.matching import Match, Matcher, Unreadable


@dataclass(frozen=True)
class Located:
    """A whole record, as its source writes it, and where it was read."""

    record: Mapping[str, Any]
    path: str
    line: int


def located(
    records: Records, exports: Sequence[ExportFile], matcher: Matcher, source: str, ids: Iterable[str]
) -> dict[str, Located]:
    """The records of these ids, by id; an id that was not read is left out."""
    table = records.tables[source].name
    cursor = records.connection.cursor()
    sql = f"SELECT {ID}, {FILE}, {PLACE} FROM {table} WHERE {ID} IN (SELECT unnest(CAST(? AS VARCHAR[])))"
    places: dict[int, dict[int, str]] = {}
    for name, file, place in cursor.execute(sql, [list(ids)]).fetchall():
        places.setdefault(file, {})[place] = name
    found = {}
    for file, wanted in sorted(places.items()):
        for place, entry in exports[file].found(wanted):
            if place in wanted and entry.data is not None:
                match = matched(matcher, entry.data)
                if match is not None and (match.id is None or wanted[place].startswith(match.id)):
                    found[wanted[place]] = Located(match.record, exports[file].label, entry.line)
    return found


def matched(matcher: Matcher, data: Mapping[str, Any]) -> Match | None:
    """The record of an entry that was read before; None for one that was not."""
    try:
        match = matcher.match(data)
    except Unreadable:
        return None
    return match if isinstance(match, Match) else None

"""Record sets moved to another time, under new identifiers, marked as simulated."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from detection_pack.model.case import with_part
from detection_pack.model.findings import PackError
from detection_pack.model.record_time import ISO8601, value_at
from detection_pack.simulate.record_sets import RawRecord, RecordSet

#: What the field of the mark holds in every simulated record, and a search finds.
MARK = "SIMULATED by detection-pack"
_HOUR = timedelta(hours=1)
_NAMESPACE = UUID("c1b8a4c2-9c53-4b7b-8a7e-0f6f2f0a7b11")


@dataclass(frozen=True)
class Simulated:
    """Records ready to be sent, in the order of time. ``fires``: the rules that they set off, no others;
    ``beside``: those of them that were not asked for, which no records leave out."""

    records: tuple[dict[str, Any], ...]
    fires: tuple[str, ...]
    beside: tuple[str, ...]
    first: datetime
    last: datetime

    def lines(self) -> bytes:
        """JSON lines in UTF-8, one record a line."""
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self.records).encode()


def chosen(sets: Sequence[RecordSet], rules: Iterable[str]) -> list[RecordSet]:
    """The sets that set off these rules, all sets for none.

    Those that set off nothing else; for a rule that has no such set, the one with the fewest others. Raises
    `PackError` for a rule of which there are no records.
    """
    wanted = set(rules)
    if not wanted:
        return list(sets)
    known = sorted({name for one in sets for name in one.fires})
    for name in sorted(wanted - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        todo = f'did you mean "{near[0]}"?' if near else f"use {', '.join(known)}"
        raise PackError.at("--rule", 1, f'names a rule without records: "{name}"', todo)
    found = [one for one in sets if set(one.fires) <= wanted]
    for name in sorted(wanted - {name for one in found for name in one.fires}):
        fitting = [one for one in sets if name in one.fires]
        found.append(min(fitting, key=lambda one: len(set(one.fires) - wanted)))
    return [one for one in sets if one in found]


def simulated(sets: Sequence[RecordSet], at: datetime, asked: Iterable[str] = ()) -> Simulated:
    """The records of the sets as if they were logged just before ``at`` (aware).

    All are moved by the same number of whole hours, so that distances stay and a burst keeps its place in
    the hour of the clock, which windows of the clock count by; the last is at most an hour before ``at``.
    The same sets and ``at`` give the same bytes, identifiers included.
    """
    moments = [_moment(raw) for one in sets for raw in one.records]
    shift = (at.astimezone(UTC) - max(moments)) // _HOUR * _HOUR
    made = [
        (_moment(raw) + shift, _simulated(raw, shift, f"{at.isoformat()}|{one.title}|{number}"))
        for one in sets
        for number, raw in enumerate(one.records)
    ]
    made.sort(key=lambda pair: pair[0])
    fires = tuple(sorted({name for one in sets for name in one.fires}))
    named = set(asked) or set(fires)
    return Simulated(
        tuple(record for _, record in made),
        fires,
        tuple(name for name in fires if name not in named),
        made[0][0],
        made[-1][0],
    )


def _moment(raw: RawRecord) -> datetime:
    moment = raw.source.time.of(raw.record)
    assert moment is not None  # `record_sets` refuses a record without
    return moment


def _simulated(raw: RawRecord, shift: timedelta, seed: str) -> dict[str, Any]:
    source, time = raw.source, raw.source.time
    about = source.simulation
    assert about is not None  # `record_sets` refuses a source without
    record = source.as_written(raw.record)
    written = str(value_at(raw.record, time.field))
    moment = _moment(raw) + shift
    # Whole hours change the date and the hour alone: a fraction and a Z stay as they are written.
    moved = (
        f"{moment:%Y-%m-%d}{written[10]}{moment:%H}{written[13:]}"
        if time.format == ISO8601
        else time.written(moment)
    )
    record = with_part(record, time.field, moved)
    for name, kind in about.ids.items():
        made = uuid5(_NAMESPACE, f"{seed}|{name}")
        value = made.int % (1 << 53) if kind == "number" else str(made)
        as_text = kind == "number" and isinstance(value_at(record, name), str)
        record = with_part(record, name, str(value) if as_text else value)
    return with_part(record, about.mark, MARK)

"""Records that arrive late, and when a scheduler starts: what the models of all schedulers have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle

from detection_pack.model.event import Event


@dataclass(frozen=True)
class Arrival:
    """An event and when it can be searched. ``stamped``: whether what is stored says when it arrived."""

    event: Event
    ingested: datetime
    stamped: bool = True


@dataclass(frozen=True)
class Start:
    """A run: the time that it was due and the time that it started."""

    due: datetime
    started: datetime


def starts(
    first: datetime,
    until: datetime,
    interval: timedelta,
    late: Sequence[timedelta] = (timedelta(),),
    down: Sequence[tuple[datetime, datetime]] = (),
) -> Iterator[Start]:
    """The runs of a rule. ``late``: how long after its time each starts, in turn, from the first again after
    the last; ``down``: from when to when the scheduler is off, and what is due then never starts."""
    due, delays = first, cycle(late)
    while due <= until:
        start = Start(due, due + next(delays))
        if not any(begin <= start.due < end for begin, end in down):
            yield start
        due += interval

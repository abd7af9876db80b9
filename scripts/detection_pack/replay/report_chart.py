"""Hits over time as an inline SVG: bars of hours, days, weeks or months, stacked by rule.

The page's style gives the colours (classes ``s0`` to ``s7``), so one picture serves light, dark and print.
svg.py writes attributes and text as they are given: everything that is not a number goes through `_safe`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import svg
from markupsafe import Markup, escape

from detection_pack.model.findings import printable
from detection_pack.replay.report_island import moment

#: Rules with a colour of their own; what is left shares the last.
COLOURS = 8
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 240, 52, 26, 12
#: More bars than this are too thin to see.
_MOST_BARS = 120


@dataclass(frozen=True)
class Chart:
    """The picture, its unit ("hour" to "month", "years" where a month is too short), the legend (colour's
    number, rule), the hits of each bar for those who do not see the picture, and the hits without a time."""

    picture: Markup
    unit: str
    legend: tuple[tuple[int, str], ...]
    bars: tuple[tuple[str, int], ...]
    untimed: int


def chart(answer: Mapping[str, Any]) -> Chart | None:
    """The chart of the answer's hits; None where no hit has a time."""
    found = [(moment(hit["time"]), hit["rule"]) for hit in answer["hits"]]
    timed = [(time, rule) for time, rule in found if time is not None]
    if not timed:
        return None
    unit, floor, after, label = _unit(min(t for t, _ in timed), max(t for t, _ in timed))
    counted = Counter((floor(time), rule) for time, rule in timed)
    totals = Counter(rule for _, rule in timed)
    order = sorted(totals, key=lambda rule: (-totals[rule], rule))
    colour = {rule: min(at, COLOURS - 1) for at, rule in enumerate(order)}
    starts = _starts(min(s for s, _ in counted), max(s for s, _ in counted), after)
    stacks = [[(rule, counted[start, rule]) for rule in order if counted[start, rule]] for start in starts]
    bars = tuple((label(s), sum(n for _, n in stack)) for s, stack in zip(starts, stacks, strict=True))
    many = len(order) > COLOURS
    legend = [(colour[rule], printable(str(rule))) for rule in order[: COLOURS - 1 if many else COLOURS]]
    if many:
        legend.append((COLOURS - 1, f"{len(order) - COLOURS + 1} other rules"))
    picture = _picture(bars, stacks, colour, f"{len(timed)} hits by {unit}")
    return Chart(picture, unit, tuple(legend), bars, len(found) - len(timed))


_Floor = Callable[[datetime], datetime]


def _unit(first: datetime, last: datetime) -> tuple[str, _Floor, _Floor, Callable[[datetime], str]]:
    """The shortest unit that gives few enough bars: its name, the start of one, the next, its label."""
    days = (last - first) / timedelta(days=1)
    if days * 24 < _MOST_BARS:
        return "hour", _hour, lambda t: t + timedelta(hours=1), lambda t: f"{t:%Y-%m-%d %H:00}"
    if days < _MOST_BARS:
        return "day", _day, lambda t: t + timedelta(days=1), _date
    if days / 7 < _MOST_BARS:
        return "week", _week, lambda t: t + timedelta(days=7), _date
    if days / 30 < _MOST_BARS:
        return "month", _month, lambda t: _month(t + timedelta(days=31)), lambda t: f"{t.year:04}-{t:%m}"
    span = math.ceil((last.year - first.year + 1) / _MOST_BARS)

    def floor(time: datetime) -> datetime:
        return datetime(first.year + (time.year - first.year) // span * span, 1, 1, tzinfo=UTC)

    # A log may hold the last year that there is: the next would have no number.
    name = "year" if span == 1 else f"{span} years"
    return name, floor, lambda t: t.replace(year=min(t.year + span, 9999)), lambda t: f"{t.year:04}"


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _day(time: datetime) -> datetime:
    return _hour(time).replace(hour=0)


def _week(time: datetime) -> datetime:
    start = _day(time)
    return start - min(timedelta(days=start.weekday()), start - datetime(1, 1, 1, tzinfo=UTC))


def _month(time: datetime) -> datetime:
    return _day(time).replace(day=1)


def _date(time: datetime) -> str:
    return f"{time.year:04}-{time:%m-%d}"


def _starts(first: datetime, last: datetime, after: _Floor) -> list[datetime]:
    """Every bar from the first to the last, those without a hit too."""
    found = [first]
    while found[-1] < last:
        try:
            found.append(min(after(found[-1]), last))
        except OverflowError:
            found.append(last)
    assert all(a < b for a, b in pairwise(found))
    return found


def _picture(
    bars: Sequence[tuple[str, int]],
    stacks: Sequence[Sequence[tuple[str, int]]],
    colour: Mapping[str, int],
    said: str,
) -> Markup:
    top = _ceiling(max(n for _, n in bars))
    base, height = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT) / len(bars)
    width = min(step * 0.8, 48)
    drawn: list[svg.Element] = []
    for part in sorted({0, top // 2 if top % 2 == 0 else top, top}):
        y = round(base - height * part / top, 1)
        drawn.append(svg.Line(x1=LEFT, x2=WIDTH, y1=y, y2=y, class_=["grid"]))
        drawn.append(svg.Text(x=LEFT - 8, y=y + 4, text=f"{part:,}", text_anchor="end"))
    for at, ((label, _), stack) in enumerate(zip(bars, stacks, strict=True)):
        x, done = round(LEFT + at * step + (step - width) / 2, 1), 0
        for rule, n in stack:
            done += n
            tall = height * n / top
            drawn.append(
                svg.Rect(
                    x=x,
                    y=round(base - height * done / top, 1),
                    width=round(width, 1),
                    # One hit among thousands is seen, too.
                    height=round(max(tall, 1.5), 1),
                    class_=[f"s{colour[rule]}"],
                    elements=[svg.Title(text=_safe(f"{label}: {n:,} × {rule}"))],
                )
            )
    for at in _labelled(len(bars)):
        x = round(LEFT + (at + 0.5) * step, 1)
        drawn.append(svg.Text(x=x, y=HEIGHT - 6, text=_safe(bars[at][0]), text_anchor="middle"))
    whole = svg.SVG(
        viewBox=svg.ViewBoxSpec(0, 0, WIDTH, HEIGHT), elements=[svg.Title(text=_safe(said)), *drawn]
    )
    return Markup(str(whole))


def _labelled(bars: int) -> list[int]:
    """The bars with a label beneath: six at most, none at the edge of the picture where it would be cut."""
    if bars <= 6:
        return list(range(bars))
    return sorted({round((part + 0.5) * bars / 6 - 0.5) for part in range(6)})


def _ceiling(most: int) -> int:
    """The next of 1, 2, 4, 5, 6, 8, 10 times a power of ten: the top of the scale."""
    power = int("1" + "0" * (len(str(most)) - 1))
    return next(n * power for n in (1, 2, 4, 5, 6, 8, 10) if n * power >= most)


def _safe(text: str) -> str:
    return str(escape(printable(text)))

"""The group, the window and the count of a correlation for one event, and the events that count with it.

All of it is what the platform's own query says when it is run on some of the events: on the event alone, with
a threshold of one, it names the event's group and window; on all of them, what it counts there. Of windows
that overlap the event stands in many: told is the first in which the rule's condition holds, or else the one
that counts most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from detection_pack.model.event import Event, Hit
from detection_pack.model.rule import Correlation, Rule
from detection_pack.replay.explain_runs import Asked
from detection_pack.replay.explain_variants import counting_each, counting_from_one, in_every_window

Group = tuple[tuple[str, str], ...]
Place = tuple[Group, datetime]


@dataclass(frozen=True)
class WindowExplained:
    """A window that the event counts in, by its start. ``value``: what is counted there, None where the
    platform cannot be asked. ``events``: the ids of those that are counted. ``fires``: whether the rule
    alerts on it (where windows overlap: on the first of a run of windows to which it belongs), None where
    its query cannot be run."""

    group: Group
    window: datetime
    value: float | None
    events: tuple[str, ...]
    fires: bool | None


@dataclass(frozen=True)
class CorrelationExplained:
    """``counts``: whether the event is one of those that the correlation counts; None where the platform
    cannot be asked, and ``refused`` says why."""

    facts: Correlation
    counts: bool | None
    windows: tuple[WindowExplained, ...] = ()
    refused: str | None = None


def correlation_explained(
    asked: Asked, rule: Rule, event: Event, context: Sequence[Event]
) -> CorrelationExplained:
    """``asked`` has the rule itself, `counting_each` and, where there are any, `counting_from_one` and
    `in_every_window` of it."""
    facts = rule.correlation
    assert facts is not None
    each = counting_each(rule)
    alone = asked.run([event], [each.name])
    if each.name in alone.refused:
        return CorrelationExplained(facts, None, refused=alone.refused[each.name])
    own = alone.hits.get(each.name, ())
    if not own:
        return CorrelationExplained(facts, False)
    so_far = counting_from_one(rule)
    rule = in_every_window(rule) or rule
    answers = asked.run(context, [rule.name, *([so_far.name] if so_far else [])])
    fired, counted = (
        {_place(hit): hit for hit in answers.hits.get(r.name, ())} if r else {} for r in (rule, so_far)
    )
    told = so_far is not None and so_far.name not in answers.refused
    windows = []
    places = list(dict.fromkeys(map(_place, own)))
    if facts.overlapping is not None:
        places = [_told(places, fired, counted)]
    for place in places:
        group, window = place
        near = [one for one in context if _near(one, window, facts.window)]
        hit = fired.get(place) or counted.get(place)
        windows.append(
            WindowExplained(
                group,
                window,
                hit.value if hit is not None else 0.0 if told else None,
                tuple(one.id for one in _counted(near, _counter(asked, each, place))),
                None if rule.name in answers.refused else place in fired,
            )
        )
    return CorrelationExplained(facts, True, tuple(windows))


def _hits(asked: Asked, rule: Rule, events: Sequence[Event]) -> tuple[Hit, ...]:
    return asked.run(events, [rule.name]).hits.get(rule.name, ())


def _told(places: Sequence[Place], fired: Mapping[Place, Hit], counted: Mapping[Place, Hit]) -> Place:
    """Of the windows in which an event stands the one that is told."""

    def rank(place: Place) -> tuple[bool, float, datetime]:
        hit = counted.get(place)
        held = place in fired
        return not held, 0.0 if held or hit is None else -(hit.value or 0.0), place[1]

    return min(places, key=rank)


def _place(hit: Hit) -> tuple[Group, datetime]:
    assert hit.group is not None and hit.window is not None
    return hit.group, hit.window


def _near(event: Event, window: datetime, seconds: int) -> bool:
    """No window that begins then holds an event further away, whatever a window is to the platform."""
    moment = event.time
    span = timedelta(seconds=seconds)
    return moment is not None and window - span <= moment <= window + 2 * span


def _counter(asked: Asked, each: Rule, place: tuple[Group, datetime]) -> Callable[[Sequence[Event]], int]:
    def count(events: Sequence[Event]) -> int:
        return sum(int(hit.value or 0) for hit in _hits(asked, each, events) if _place(hit) == place)

    return count


def _counted(events: Sequence[Event], count: Callable[[Sequence[Event]], int]) -> Iterator[Event]:
    """The events that count, found by halving: a count of none or of all needs no further look."""
    if not events:
        return
    found = count(events)
    if found >= len(events):
        yield from events
    elif found and len(events) > 1:
        middle = len(events) // 2
        yield from _counted(events[:middle], count)
        yield from _counted(events[middle:], count)

"""What a log says of the rules: how often each would have fired, when, on whom, and the hits one by one.

The answer is plain data (`Answer.as_json`), which `replay --format json` prints and a report shows.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from detection_pack.model.event import Hit
from detection_pack.platforms.platform import platform

#: The columns of the alert view besides the time, as every platform returns them.
COLUMNS = ("UserId", "ClientIP", "ClientAgent", "DetectionType", "DetectionDetail", "ExtraInfo")
#: What a platform calls the time of a row.
_TIMES = ("TimeGenerated", "Timestamp", "_time", "time")
#: How many values of a column are named.
TOP = 5


@dataclass(frozen=True)
class AboutRule:
    """What people are told of a rule. ``source`` is the name of its log source."""

    name: str
    title: str
    level: str
    tier: str
    source: str


@dataclass(frozen=True)
class FoundHit:
    """One hit of a rule: the event of a plain rule, the group and window of a correlation. ``columns`` are
    the seven of the alert view without the time, ``platforms`` the ids of those that found it."""

    rule: str
    time: datetime | None
    platforms: tuple[str, ...]
    columns: Mapping[str, str]
    event: str | None = None
    group: Mapping[str, str] | None = None
    window: datetime | None = None
    value: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "time": stamp(self.time),
            "platforms": list(self.platforms),
            "columns": dict(self.columns),
            "events": None if self.event is None else [self.event],
            "group": None if self.group is None else dict(self.group),
            "window": stamp(self.window),
            "value": int(self.value)
            if self.value is not None and self.value == int(self.value)
            else self.value,
        }


@dataclass(frozen=True)
class RuleAnswer:
    """How one rule did. ``platforms``: by id how many hits each found, or why it could not run the rule;
    ``lists``: by a list of a site how many hits it leaves."""

    about: AboutRule
    hits: tuple[FoundHit, ...]
    platforms: Mapping[str, int | str]
    span: tuple[datetime, datetime] | None
    trial: Mapping[str, Any] | None = None
    lists: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> list[int]:
        """The number of hits on each platform that ran the rule."""
        return [found for found in self.platforms.values() if isinstance(found, int)]

    @property
    def disagrees(self) -> bool:
        """Whether two platforms that ran the rule found another number of hits, or another hit."""
        ran = [name for name, found in self.platforms.items() if isinstance(found, int)]
        return any(set(hit.platforms) != set(ran) for hit in self.hits)

    def as_json(self) -> dict[str, Any]:
        times = [hit.time for hit in self.hits if hit.time is not None]
        return {
            "rule": self.about.name,
            "title": self.about.title,
            "level": self.about.level,
            "tier": self.about.tier,
            "source": self.about.source,
            "hits": len(self.hits),
            "users": len({hit.columns["UserId"].lower() for hit in self.hits if hit.columns["UserId"]}),
            "first": stamp(min(times, default=None)),
            "last": stamp(max(times, default=None)),
            "per_day": per_day(times, self.span),
            "top": {
                "users": top(hit.columns["UserId"] for hit in self.hits),
                "addresses": top(hit.columns["ClientIP"] for hit in self.hits),
                "applications": top(hit.columns["ClientAgent"] for hit in self.hits),
            },
            "platforms": {
                name: {"hits": found} if isinstance(found, int) else {"refused": found}
                for name, found in self.platforms.items()
            },
            "disagrees": self.disagrees,
            "trial": None if self.trial is None else dict(self.trial),
            "lists": {name: {"hits": left} for name, left in self.lists.items()},
        }


@dataclass(frozen=True)
class Answer:
    """``read``: what was read, as `seen.what_was_read` says it."""

    read: Mapping[str, Any]
    rules: tuple[RuleAnswer, ...] = field(default=())

    @property
    def hits(self) -> list[FoundHit]:
        """All hits, the newest first."""
        listed = [hit for rule in self.rules for hit in rule.hits]
        return sorted(
            listed, key=lambda hit: (stamp(hit.time) or "", hit.rule, hit.event or ""), reverse=True
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "read": dict(self.read),
            "rules": [rule.as_json() for rule in self.rules],
            "hits": [hit.as_json() for hit in self.hits],
        }


def found_hits(rule: str, hits: Iterable[Hit]) -> tuple[FoundHit, ...]:
    """The hits that the platforms' own queries of a rule found, each once. Its columns are those of the first
    platform in the order of the hits that shows it."""
    found: dict[Any, FoundHit] = {}
    for hit in hits:
        if hit.rule != rule or not platform(hit.platform).is_own_query(hit.artefact, rule):
            continue
        for key, one in _each(hit):
            known = found.get(key)
            if known is None:
                found[key] = one
            elif hit.platform not in known.platforms:
                found[key] = FoundHit(**{**vars(known), "platforms": (*known.platforms, hit.platform)})
    return tuple(found.values())


def _each(hit: Hit) -> Iterable[tuple[Any, FoundHit]]:
    if hit.group is not None:
        row = hit.rows[0] if hit.rows else {}
        folded = tuple((name, value.lower()) for name, value in hit.group)
        yield (
            (folded, hit.window),
            FoundHit(
                hit.rule,
                _time(row) or hit.window,
                (hit.platform,),
                _columns(row),
                group=dict(hit.group),
                window=hit.window,
                value=hit.value,
            ),
        )
        return
    shown = dict(zip(hit.row_events, hit.rows, strict=True))
    for event in sorted(hit.events):
        row = shown.get(event, {})
        yield event, FoundHit(hit.rule, _time(row), (hit.platform,), _columns(row), event=event)


def _columns(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if row.get(name) is None else str(row[name]) for name in COLUMNS}


def _time(row: Mapping[str, Any]) -> datetime | None:
    found = next((row[name] for name in _TIMES if isinstance(row.get(name), datetime)), None)
    return (
        None
        if found is None
        else found.replace(tzinfo=UTC)
        if found.tzinfo is None
        else found.astimezone(UTC)
    )


def stamp(moment: datetime | None) -> str | None:
    """A moment as ISO 8601 in UTC, to the second."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def per_day(times: Sequence[datetime], span: tuple[datetime, datetime] | None) -> dict[str, float] | None:
    """The median and the worst number of hits a day (UTC), over all days of the log, those without a hit
    among them; None for a log without times."""
    if span is None:
        return None
    counts: Counter[date] = Counter(moment.date() for moment in times)
    first, last = (moment.astimezone(UTC).date() for moment in span)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    listed = [counts[day] for day in days]
    return {"median": float(statistics.median(listed)), "worst": float(max(listed))}


def top(values: Iterable[str]) -> list[list[str | int]]:
    """The values behind most hits with their number, without regard to letter case; the empty one is none."""
    counts: Counter[str] = Counter()
    spelt: dict[str, str] = {}
    for value in values:
        if value:
            counts[spelt.setdefault(value.lower(), value).lower()] += 1
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [[spelt[value], number] for value, number in ordered[:TOP]]

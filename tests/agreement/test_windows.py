"""The trap: a burst that the clock cuts in two, and one burst that alerts twelve times.

The rule of windows, said once more and naively: for every moment at which a window may start, what stands in
it. Random events are executed on every platform, queries and imports alike; each must alert on the same
groups and windows with the same counts, and these must have the properties that the rule is there for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import make, rule_entries
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.model.pack import Pack
from detection_pack.model.rule_reader import load_rule
from detection_pack.model.windows import overlapping
from detection_pack.platforms.arrivals import Arrival
from detection_pack.platforms.sentinel.imports import analytics_rule
from platforms.sentinel.test_sentinel_artefacts import runs
from support.engines import ENGINES, IMPORTS, SOUND_ONLY
from support.sources import M365

START = datetime(2026, 3, 10, tzinfo=UTC)
CLOCK = Clock(datetime(2026, 3, 14, tzinfo=UTC), "30d")
SOURCE = {"product": "m365", "service": "exchange"}
USERS = ("ann@contoso.example", "Ann@Contoso.example", "bob@contoso.example", "")


@dataclass(frozen=True)
class One:
    """An event as the oracle sees it."""

    at: int
    kind: str
    user: str
    address: str
    owner: str

    def record(self, number: int) -> dict[str, Any]:
        when = START + timedelta(seconds=self.at)
        found = {
            "Id": str(number),
            "CreationTime": when.strftime("%Y-%m-%dT%H:%M:%S"),
            "RecordType": 1,
            "Workload": "Exchange",
            "Operation": self.kind,
            "ClientIP": self.address,
        }
        more = {"UserId": self.user, "ObjectId": self.owner}
        return found | {key: value for key, value in more.items() if value}


Held = Callable[[Sequence[One]], float]


def ordered(events: Sequence[One]) -> float:
    first = min((e.at for e in events if e.kind == "Send"), default=None)
    last = max((e.at for e in events if e.kind == "Move"), default=None)
    return 2 if first is not None and last is not None and first <= last else 0


@dataclass(frozen=True)
class Asked:
    """A correlation, what it counts, and its windows as the rule of windows has them, in seconds."""

    correlation: Mapping[str, Any]
    counts: Held
    least: float
    window: int
    step: int
    group: tuple[str, ...] = ("UserId",)


def correlation(kind: str, timespan: str, condition: Any, group: Sequence[str] = ("UserId",)) -> Any:
    names = ["sent", "moved"] if kind.startswith("temporal") else ["sent"]
    found = {"type": kind, "rules": names, "group-by": list(group), "timespan": timespan}
    return found | ({"condition": condition} if condition else {})


def sent(events: Sequence[One]) -> list[One]:
    return [event for event in events if event.kind == "Send"]


RULES = {
    "events_an_hour": Asked(
        correlation("event_count", "1h", {"gte": 5}), lambda events: len(sent(events)), 5, 3600, 300
    ),
    "events_seven_minutes": Asked(
        correlation("event_count", "7m", {"gt": 2}), lambda events: len(sent(events)), 3, 420, 30
    ),
    "events_some_seconds": Asked(
        correlation("event_count", "7s", {"gte": 2}), lambda events: len(sent(events)), 2, 7, 1
    ),
    "values_five_hours": Asked(
        correlation("value_count", "5h", {"gte": 4, "field": "ObjectId"}, ("UserId", "ClientIP")),
        lambda events: len({event.owner for event in sent(events) if event.owner}),
        4,
        18000,
        1200,
        ("UserId", "ClientIP"),
    ),
    "both_in_half_an_hour": Asked(
        correlation("temporal", "30m", None), lambda events: len({e.kind for e in events}), 2, 1800, 150
    ),
    "in_order_in_a_day": Asked(correlation("temporal_ordered", "1d", None), ordered, 2, 86400, 7200),
}


@pytest.fixture(scope="module")
def built(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    rules = [
        load_rule(written(folder, name, asked), "other", named_by_stem=True) for name, asked in RULES.items()
    ]
    dist = folder / "dist"
    for path, content in make(Pack(ROOT, pack.version, tuple(rules), pack.pipelines)).files.items():
        (dist / path).parent.mkdir(parents=True, exist_ok=True)
        (dist / path).write_bytes(content)
    return dist


def written(folder: Path, name: str, asked: Asked) -> Path:
    plain = [
        {
            "title": called,
            "name": called,
            "logsource": SOURCE,
            "detection": {"s": {"Operation": operation}, "condition": "s"},
        }
        for called, operation in (("sent", "Send"), ("moved", "Move"))
        if called in asked.correlation["rules"]
    ]
    alert = {"type": "Probe", "detail": "{count}", "user": "UserId", "extra": "ObjectId"}
    if "ClientIP" in asked.group:
        alert["source"] = "ClientIP"
    main = {"title": name, "name": name, "correlation": dict(asked.correlation), "alert": alert}
    path = folder / f"{name}.yml"
    path.write_text(
        yaml.safe_dump_all([*plain, main | {"lookback": "2d"}], sort_keys=False), encoding="utf-8"
    )
    return path


def events(seed: int) -> list[One]:
    """Bursts of every length of the rules, and noise, over three days; many at an edge of a step."""
    rng = random.Random(seed)
    found = []
    for _ in range(60):
        begin, length = rng.randrange(3 * 86400), rng.choice([5, 30, 400, 1800, 3600, 18000, 86400])
        if rng.random() < 0.5:
            begin -= begin % rng.choice([150, 300, 1200, 3600])
        user, address = rng.choice(USERS), f"192.0.2.{rng.randrange(2)}"
        for _ in range(rng.randrange(1, 8)):
            at = min(begin + rng.choice([0, length, length - 1, rng.randrange(length)]), 3 * 86400 - 1)
            kind, owner = rng.choice(["Send", "Send", "Move"]), rng.choice(["", "a", "b", "c", "d", "e"])
            found.append(One(at, kind, user, address, owner))
    return found


def groups(found: Sequence[One], by: Sequence[str]) -> dict[tuple[str, ...], list[One]]:
    made: dict[tuple[str, ...], list[One]] = {}
    for event in found:
        values = {"UserId": event.user.lower(), "ClientIP": event.address}
        made.setdefault(tuple(values[name] for name in by), []).append(event)
    return made


def holding(own: Sequence[One], asked: Asked) -> dict[int, float]:
    """The windows in which the condition holds, by their start, with the count."""
    back = asked.window // asked.step
    found = {}
    for number in {e.at // asked.step - i for e in own for i in range(back + 1)}:
        begin = number * asked.step
        value = asked.counts([e for e in own if begin <= e.at < begin + asked.window + asked.step])
        if value >= asked.least:
            found[begin] = value
    return found


def firsts(own: Sequence[One], asked: Asked) -> dict[int, float]:
    """The windows in which the condition holds, and not in the one a step before."""
    windows = holding(own, asked)
    return {begin: value for begin, value in windows.items() if begin - asked.step not in windows}


def expected(found: Sequence[One], asked: Asked) -> set[tuple[tuple[str, ...], datetime, float]]:
    return {
        (group, START + timedelta(seconds=begin), float(value))
        for group, own in groups(found, asked.group).items()
        for begin, value in firsts(own, asked).items()
    }


def alerts(hits: Sequence[Hit], rule: str) -> Iterator[tuple[tuple[str, ...], datetime, float]]:
    for hit in hits:
        if hit.rule == rule and SOUND_ONLY not in hit.artefact:
            assert hit.group is not None and hit.window is not None and hit.value is not None
            yield tuple(value for _, value in hit.group), hit.window, hit.value


@pytest.mark.parametrize("rule", RULES)
def test_the_steps_are_those_of_the_oracle(rule: str) -> None:
    asked = RULES[rule]
    windows = overlapping(asked.window)
    assert (windows.step, windows.width) == (asked.step, asked.window + asked.step)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (1, 2))])
@pytest.mark.parametrize("here", ENGINES)
def test_every_platform_alerts_on_the_first_windows(built: Path, here: str, seed: int) -> None:
    given = events(seed)
    records = [Event(str(n), M365, one.record(n)) for n, one in enumerate(given)]
    entries = rule_entries(built)
    for runner in (ENGINES[here], IMPORTS[here]):
        hits = runner(built, entries, records, CLOCK)
        if runner is IMPORTS[here] and here == "defender":
            continue
        for rule, asked in RULES.items():
            wanted = expected(given, asked)
            assert len(wanted) > 1, rule
            assert set(alerts(hits, rule)) == wanted, rule


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", RULES)
def test_the_oracle_is_the_rule_of_windows(rule: str, seed: int) -> None:
    """Nothing within the time is missed, nothing wider than a step more alerts, a burst alerts once."""
    asked = RULES[rule]
    for own in groups(events(seed), asked.group).values():
        windows, alerting = holding(own, asked), firsts(own, asked)
        for event in own:
            near = [e for e in own if event.at <= e.at <= event.at + asked.window]
            if asked.counts(near) >= asked.least:
                last = max(e.at for e in near)
                whole = [b for b in windows if b <= event.at and last < b + asked.window + asked.step]
                assert whole
                start = min(whole)
                while start not in alerting:
                    start -= asked.step
                    assert start in windows
        for begin in alerting:
            inside = [e for e in own if begin <= e.at < begin + asked.window + asked.step]
            assert asked.counts(inside) >= asked.least
            assert max(e.at for e in inside) - min(e.at for e in inside) < asked.window + asked.step


#: Six acts around eleven, and two days and more until they are out of reach of every look-back.
BURST = [One(11 * 3600 + minute * 60, "Send", USERS[minute % 2], "192.0.2.1", "a") for minute in range(-3, 3)]
AGES = [
    pytest.param([2, 24, 47.25, 47.75, 48, 48.25, 48.5, 49, 51, 54], id="some ages"),
    pytest.param([2, 3, 24, *(46 + age / 4 for age in range(33))], id="ages", marks=pytest.mark.campaign),
]


def records_of(given: Sequence[One]) -> list[Event]:
    return [Event(str(number), M365, one.record(number)) for number, one in enumerate(given)]


@pytest.mark.parametrize("ages", AGES)
@pytest.mark.parametrize("here", ["splunk", "elastic"])
def test_a_burst_that_leaves_the_look_back_is_one_alert(built: Path, here: str, ages: list[float]) -> None:
    """Every run that sees it names the same group and window, by which its alerts are kept together."""
    [entry] = [entry for entry in rule_entries(built) if entry.name == "events_an_hour"]
    end = START + timedelta(seconds=BURST[-1].at)
    told = []
    for age in ages:
        clock = Clock(end + timedelta(hours=age))
        told += [set(alerts(IMPORTS[here](built, [entry], records_of(BURST), clock), entry.name))]
    assert set().union(*told) == expected(BURST, RULES["events_an_hour"])
    assert all(told[: ages.index(48)]) and not told[-1]


@pytest.mark.parametrize("late", [40, *(pytest.param(late, marks=pytest.mark.campaign) for late in (0, 5))])
def test_a_scheduled_run_alerts_once_on_a_burst(built: Path, late: int) -> None:
    """On Sentinel, on a burst whose last event comes hours later as on any, and in no run after that."""
    [entry] = [entry for entry in rule_entries(built) if entry.name == "events_an_hour"]
    document = analytics_rule(built / "sentinel/analytics/events_an_hour.yaml")
    given = [
        Arrival(event, START + timedelta(seconds=one.at, hours=late if number == 4 else 0))
        for number, (one, event) in enumerate(zip(BURST[:5], records_of(BURST[:5]), strict=True))
    ]
    moments = [START + timedelta(hours=11 + hour, minutes=20) for hour in range(56)]
    found = list(runs(document, entry, given, moments, True))
    assert set(alerts(found, entry.name)) == expected(BURST[:5], RULES["events_an_hour"])
    assert len(found) == 1

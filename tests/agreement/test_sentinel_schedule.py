"""The trap: a rule that matches and never alerts, or alerts twice, because of when it runs.

What stands in the analytics rules runs for fourteen generated days as Microsoft Sentinel runs it
(`detection_pack.platforms.sentinel.schedule`). Every plain event and every burst raises an alert, none raises
a second one, and what somebody else or something else did is never swallowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from conftest import DIST
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Event
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.sentinel.imports import analytics_rule
from detection_pack.platforms.sentinel.schedule import MOST_ALERTS, Behaviour, SentinelAlert, alerts
from support.days import (
    CLOCK,
    FIRST,
    HOUR,
    MINUTE,
    ORDERED,
    OVERLAPPING,
    PLAIN,
    bursts,
    generated,
    run_starts,
)
from support.sources import M365

ENTRIES = {entry.name: entry for entry in rule_entries(DIST)}
TABLE = "OfficeActivity"
#: ``now()`` is the time that a run is due, or that it starts: it is not documented.
LOOKS = [
    pytest.param(Behaviour(now_is_due=False), 6, id="started"),
    pytest.param(Behaviour(now_is_due=True), 28, id="due", marks=pytest.mark.campaign),
    pytest.param(Behaviour(now_is_due=False), 28, id="more", marks=pytest.mark.campaign),
]


def simulated(
    rule: str, arrivals: Sequence[Arrival], behaviour: Behaviour, restarts: bool = True
) -> list[SentinelAlert]:
    stated = analytics_rule(DIST / "sentinel" / "analytics" / f"{rule}.yaml")
    runs = run_starts(HOUR, restarts=restarts)
    return list(alerts(stated, ENTRIES[rule], TABLE, arrivals, runs, behaviour))


def window_of(alert: SentinelAlert) -> tuple[tuple[str, ...], datetime]:
    [row] = alert.rows
    group = tuple(str(row[f"_Group{i}"]) for i in range(sum(key.startswith("_Group") for key in row)))
    return group, row["WindowStart"].replace(tzinfo=FIRST.tzinfo)


def cmdlet(name: str, minute: float, user: str, late: float = 10) -> Arrival:
    happened = FIRST + minute * MINUTE
    record = {
        "Id": name,
        "CreationTime": happened.strftime("%Y-%m-%dT%H:%M:%S"),
        "RecordType": 1,
        "Workload": "Exchange",
        "Operation": "Search-Mailbox",
        "UserId": user,
        "ClientIP": "198.51.100.7",
        "Parameters": [{"Name": "SearchQuery", "Value": f"subject:{name} " + "é" * 3000}],
    }
    return Arrival(Event(name, M365, record), happened + late * MINUTE)


@pytest.mark.parametrize("now_is_due", [True, False])
def test_a_start_some_minutes_late_and_a_run_that_fails_lose_nothing(now_is_due: bool) -> None:
    """A run that took what had come since the hour before lost some minutes, and had others twice."""
    stated = analytics_rule(DIST / "sentinel" / "analytics" / f"{PLAIN}.yaml")
    runs = [
        Start(FIRST + n * HOUR, FIRST + n * HOUR + timedelta(seconds=240 * (n % 2)))
        for n in range(8)
        if n != 4
    ]
    given = [cmdlet(f"m{minute}", minute, f"u{minute}@contoso.example") for minute in range(10, 330, 4)]
    found = list(alerts(stated, ENTRIES[PLAIN], TABLE, given, runs, Behaviour(now_is_due)))
    assert Counter(event for alert in found for event in alert.events) == Counter(a.event.id for a in given)


def test_many_events_of_one_person_are_one_alert_that_holds_them() -> None:
    """A run raises 150 alerts at most, and 400 events of one person filled them."""
    flood = [cmdlet(f"flood{n}", n / 100, "admin@contoso.example") for n in range(400)]
    other = [cmdlet("other", 3, "somebody@contoso.example")]
    found = simulated(PLAIN, [*flood, *other], Behaviour(now_is_due=False))
    assert sorted(len(alert.events) for alert in found) == [1, 400]
    [row] = next(alert for alert in found if len(alert.events) == 400).rows
    assert row["EventCount"] == 400 and row["Events"]
    # The key is what keeps it from alerting again, however long the parameters are.
    assert all(len(alert.details) == 6 and alert.details["AlertKey"] for alert in found)


def test_more_people_than_a_run_has_alerts_are_not_lost() -> None:
    """The last alert of the run holds all that are left; those whose key did not fit get their own later."""
    crowd = [cmdlet(f"one{n}", n / 100, f"user{n}@contoso.example") for n in range(200)]
    found = simulated(PLAIN, crowd, Behaviour(now_is_due=False))
    times = Counter(event for alert in found for event in alert.events)
    assert times.keys() == {a.event.id for a in crowd} and set(times.values()) <= {1, 2}
    assert sorted(len(alert.events) for alert in found)[-1] == 200 - MOST_ALERTS + 1
    assert len(found) <= MOST_ALERTS + 50


@pytest.mark.parametrize(("behaviour", "count"), LOOKS)
def test_every_event_of_a_plain_rule_stands_in_one_alert(behaviour: Behaviour, count: int) -> None:
    made = generated(PLAIN, count)
    found = simulated(PLAIN, made.arrivals, behaviour)
    assert Counter(event for alert in found for event in alert.events) == Counter(
        a.event.id for a in made.arrivals
    )


@pytest.mark.parametrize(("behaviour", "count"), LOOKS)
@pytest.mark.parametrize("rule", [CLOCK, OVERLAPPING, ORDERED])
def test_every_burst_is_alerted_on_once(rule: str, behaviour: Behaviour, count: int) -> None:
    made = generated(rule, count)
    expected = bursts(made)
    found = Counter(map(window_of, simulated(rule, made.arrivals, behaviour)))
    assert len(expected) > count / 3
    counts = [sum(found.pop((burst.group, window), 0) for window in burst.windows) for burst in expected]
    assert counts == [1] * len(expected)
    assert not found

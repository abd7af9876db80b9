"""The trap: a Kibana rule that alerts a hundred times on one burst, or never, because of when it runs.

What stands in ``rules.ndjson`` runs for fourteen generated days as Kibana runs it
(`detection_pack.platforms.elastic.schedule`). Every plain event and every burst raises an alert, none raises
a second one, and what somebody else or something else did is never swallowed. What Kibana cannot give stands
in docs/import/elastic.md with the figures that are counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.model.event import Event
from detection_pack.platforms.arrivals import Arrival
from detection_pack.platforms.elastic.imports import load_rules, name_of
from detection_pack.platforms.elastic.run import look_back
from detection_pack.platforms.elastic.schedule import Alert, scheduled
from support.days import (
    CLOCK,
    FIRST,
    MINUTE,
    ORDERED,
    OVERLAPPING,
    PLAIN,
    Burst,
    bursts,
    generated,
    records_of,
    run_starts,
)
from support.sources import M365

RULES = {(name_of(rule), rule["type"]): rule for rule in load_rules(DIST)}
COUNTS = [6, pytest.param(28, marks=pytest.mark.campaign)]


def simulated(rule: dict[str, Any], arrivals: Sequence[Arrival], suppression: bool = True) -> list[Alert]:
    moments = [start.started for start in run_starts(15 * MINUTE)]
    return scheduled(rule, arrivals, suppression, moments)


@pytest.mark.parametrize("suppression", [True, False])
def test_every_event_of_a_plain_rule_stands_in_one_alert(suppression: bool) -> None:
    made = generated(PLAIN, 28)
    found = simulated(RULES[PLAIN, "query"], made.arrivals, suppression)
    assert Counter(event for alert in found for event in alert.documents) == Counter(
        a.event.id for a in made.arrivals
    )
    records = {a.event.id: a.event.record for a in made.arrivals}
    for alert in found:
        assert (
            len(
                {(r["UserId"], r["Operation"], r["ClientIP"]) for r in map(records.get, alert.documents) if r}
            )
            == 1
        )


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("rule", [CLOCK, OVERLAPPING, ORDERED])
def test_every_burst_is_alerted_on_once(rule: str, count: int) -> None:
    made = generated(rule, count)
    expected = bursts(made)
    found = Counter(alert.values for alert in simulated(RULES[rule, "esql"], made.arrivals))
    assert len(expected) > count / 3
    times = [sum(found.pop((*burst.group, str(window)), 0) for window in burst.windows) for burst in expected]
    assert min(times) == 1 and not found
    twice = sum(number > 1 for number in times)
    page = (ROOT / "docs" / "import" / "elastic.md").read_text(encoding="utf-8")
    if rule != OVERLAPPING:
        assert twice == 0
    elif count == 28:
        assert f"{twice} of {len(expected)} did" in " ".join(page.split())
    else:
        assert twice <= 1


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("rule", [CLOCK, OVERLAPPING])
def test_the_threshold_rule_finds_the_bursts_that_the_page_says(rule: str, count: int) -> None:
    """It goes by arrival: what comes in hours apart is not counted together, and different hours may be."""
    made = generated(rule, count)
    expected, threshold = bursts(made), RULES[rule, "threshold"]
    found: Counter[Burst] = Counter()
    others = 0
    for alert in simulated(threshold, made.arrivals):
        counted = {
            a.event.id
            for a in made.arrivals
            if alert.at - look_back(threshold) < a.ingested <= alert.at
            and {a.event.record["UserId"], a.event.record.get("ClientIP")} >= set(alert.values)
        }
        assert len(counted) >= threshold["threshold"]["cardinality"][0]["value"]
        own = [burst for burst in expected if counted & {a.event.id for a in records_of(burst, made)}]
        found.update(own[-1:])
        others += not own
    assert count != 6 or len(found) >= 5
    if count == 28:
        twice = sum(number > 1 for number in found.values())
        said = f"{len(found)} of {len(expected)} bursts, {twice} of them twice, and {others} times"
        page = (ROOT / "docs" / "import" / "elastic.md").read_text(encoding="utf-8")
        assert f"`{rule}` {said}" in " ".join(page.split())


def test_a_busy_hour_does_not_alert_again_when_it_leaves_the_look_back() -> None:
    """Suppression for the look-back rounded up to 26 hours ended before the last records of the hour left."""
    records = [
        {
            "Id": f"b{n}",
            "CreationTime": f"2026-03-01T00:{'00' if n < 6 else '59'}:{n:02}",
            "RecordType": 2,
            "Workload": "Exchange",
            "Operation": "Create",
            "UserId": "busy@contoso.example",
            "MailboxOwnerUPN": f"owner{n}@contoso.example",
            "MailboxOwnerSid": f"S-1-5-21-1004336348-1177238915-682003330-11{n:02}",
            "MailboxGuid": f"8e942cc1-73d8-4483-9def-0000000011{n:02}",
            "ClientIP": "198.51.100.7",
        }
        for n in range(12)
    ]
    given = [Arrival(event, event.time) for r in records if (event := Event(str(r["Id"]), M365, r)).time]
    moments = [FIRST + timedelta(seconds=30) + n * 15 * MINUTE for n in range(110)]
    rule = RULES[CLOCK, "esql"]
    assert len(scheduled(rule, given, moments=moments)) == 1
    shorter = {**rule["alert_suppression"], "duration": {"value": 26, "unit": "h"}}
    assert len(scheduled({**rule, "alert_suppression": shorter}, given, moments=moments)) == 2


def test_a_flood_is_one_alert_a_group() -> None:
    def one(n: int) -> Arrival:
        record = {
            "Id": f"f{n}",
            "CreationTime": "2026-03-01T12:00:00",
            "RecordType": 1,
            "Workload": "Exchange",
            "Operation": "Search-Mailbox",
            "UserId": f"admin{n % 3}@contoso.example",
            "ClientIP": "198.51.100.7",
        }
        return Arrival(Event(f"f{n}", M365, record), FIRST + timedelta(hours=12, minutes=n / 100))

    found = simulated(RULES[PLAIN, "query"], [one(n) for n in range(400)])
    assert sorted(len(alert.documents) for alert in found) == [133, 133, 134]


def test_a_setting_that_hides_events_says_so_in_the_rule() -> None:
    hiding = [rule for rule in RULES.values() if rule["type"] == "query" and "alert_suppression" in rule]
    assert len(hiding) > 10
    assert all("This hides events" in rule["setup"] for rule in hiding)

"""The trap: a custom detection that alerts again on each event that a burst grows by, or on all of 30 days.

What stands in ``defender/detections`` runs for fourteen generated days as Microsoft Defender XDR runs it
(`detection_pack.platforms.defender.schedule`). The service looks back four hours and not a day, so what comes
later is lost; how much that is stands in docs/import/defender.md, and is counted here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Event
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.defender.schedule import DefenderAlert, alerts
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
TABLE = "CloudAppEvents"
DETECTIONS = {p.stem: json.loads(p.read_text("utf-8")) for p in (DIST / "defender/detections").glob("*.json")}
PAGE = " ".join((ROOT / "docs" / "import" / "defender.md").read_text(encoding="utf-8").split())


def simulated(rule: str, arrivals: Sequence[Arrival], by_arrival: bool = False) -> list[DefenderAlert]:
    stated = DETECTIONS[rule]
    hours = int(stated["schedule"]["frequency"].removeprefix("PT").removesuffix("H"))
    return list(alerts(stated, ENTRIES[rule], TABLE, arrivals, run_starts(hours * HOUR), by_arrival))


def lateness(arrival: Arrival) -> timedelta:
    assert arrival.event.time is not None
    return arrival.ingested - arrival.event.time


@pytest.mark.parametrize("by_arrival", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_every_event_that_comes_in_time_is_one_alert(by_arrival: bool) -> None:
    made = generated(PLAIN, 10).arrivals
    times = Counter(alert.event for alert in simulated(PLAIN, made, by_arrival))
    assert set(times.values()) == {1}
    lost = [a for a in made if a.event.id not in times]
    assert all(lateness(a) > 2 * HOUR and not by_arrival for a in lost)
    if not by_arrival:
        assert f"{len(lost)} of {len(made)} events" in PAGE


@pytest.mark.parametrize("rule", [CLOCK, ORDERED, pytest.param(OVERLAPPING, marks=pytest.mark.campaign)])
def test_no_burst_alerts_as_often_as_it_grows(rule: str) -> None:
    made = generated(rule, 10)
    expected = bursts(made)
    found = Counter(
        (
            tuple(str(a.row[k]) for k in a.row if k.startswith("_Group")),
            a.row["BurstStart"].replace(tzinfo=FIRST.tzinfo),
        )
        for a in simulated(rule, made.arrivals)
    )
    times = [sum(found.pop((b.group, window), 0) for window in b.windows) for b in expected]
    assert not found and max(times) == 1
    if rule != OVERLAPPING:
        assert f"{times.count(0)} of {len(times)} {'bursts' if rule == CLOCK else 'sequences'}" in PAGE


def growing() -> list[Arrival]:
    """Nine mailboxes of one hour, a run in the middle of them, and nothing late."""
    given = []
    for n in range(9):
        happened = FIRST + HOUR + (3 + 6 * n) * MINUTE
        record: dict[str, Any] = {
            "Id": f"g{n}",
            "CreationTime": happened.strftime("%Y-%m-%dT%H:%M:%S"),
            "RecordType": 2,
            "Workload": "Exchange",
            "Operation": "Create",
            "UserId": "visitor@contoso.example",
            "MailboxOwnerUPN": f"owner{n}@contoso.example",
            "ClientIP": "198.51.100.7",
        }
        given.append(Arrival(Event(f"g{n}", M365, record), happened + MINUTE))
    return given


def test_a_growing_hour_is_one_alert_and_the_count_is_no_part_of_it() -> None:
    """The columns of the last event made another alert in every run that saw the burst grow."""
    runs = [Start(FIRST + HOUR + n * 10 * MINUTE, FIRST + HOUR + n * 10 * MINUTE) for n in range(36)]
    given = growing()
    stated = DETECTIONS[CLOCK]
    assert len(list(alerts(stated, ENTRIES[CLOCK], TABLE, given, runs))) == 1
    query = stated["queryCondition"]["queryText"]
    # What a rule must not do, and did: the last event's time tells alerts apart, and windows are cut in two.
    last = {**stated, "queryCondition": {"queryText": query.replace("arg_min(", "arg_max(")}}
    template = stated["detectionAction"]["alertTemplate"]
    told = {"alertTemplate": template | {"customDetails": {"Timestamp": "Timestamp"}}}
    assert len(list(alerts({**last, "detectionAction": told}, ENTRIES[CLOCK], TABLE, given, runs))) > 3
    uncut = re.sub(r"\n\| where WindowStart >= .*", "", query)
    assert uncut != query
    first = {**stated, "queryCondition": {"queryText": uncut}, "detectionAction": told}
    assert len(list(alerts(first, ENTRIES[CLOCK], TABLE, given, runs))) > 1


def test_saving_a_detection_alerts_on_thirty_days_of_a_plain_rule() -> None:
    made = generated(PLAIN, 6).arrivals
    end = FIRST + timedelta(days=16)
    saved = list(alerts(DETECTIONS[PLAIN], ENTRIES[PLAIN], TABLE, made, [Start(end, end)]))
    assert len(saved) == len(made)
    assert "30 days" in PAGE


def test_every_detection_is_as_the_service_takes_it() -> None:
    kinds = {"accounts": {"aadUserIdColumn", "upnColumn"}, "hosts": {"deviceIdColumn"}}
    ids = [stated["id"] for stated in DETECTIONS.values()]
    assert len(DETECTIONS) > 20 and len(set(ids)) == len(ids)
    for name, stated in DETECTIONS.items():
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,99}", stated["id"]), name
        assert stated["status"] == "disabled", name
        assert stated["schedule"]["frequency"] in ("PT1H", "PT3H", "PT12H", "PT24H"), name
        alert = stated["detectionAction"]["alertTemplate"]
        assert alert["severity"] in ("informational", "low", "medium", "high")
        assert len(alert["tactics"]) == 1 and alert["tactics"][0]["techniques"], name
        mapped = [(kind, one) for kind, listed in alert["entityMappings"].items() for one in listed]
        assert mapped and all(len(one) == 1 and set(one) <= kinds[kind] for kind, one in mapped), name
        projected = stated["queryCondition"]["queryText"].rpartition("| project ")[2]
        columns = [*alert["customDetails"].values(), *(c for _, one in mapped for c in one.values())]
        assert all(re.search(rf"\b{column}\b", projected) for column in columns), name
        assert "{{" not in alert["title"] + alert["description"]

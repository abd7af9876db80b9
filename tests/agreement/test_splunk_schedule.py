"""The trap: a search that finds everything, and an analyst who is told of it twice, or never.

The saved searches of the app run for 14 days under a model of Splunk's scheduler: records come minutes to a
day late, runs start up to 240 s late, Splunk is down now and then, bursts lie across every boundary, and
people do several things. Each event and each burst makes one alert, no other act is lost in it, and what
Splunk cannot give is measured and stands in docs/import/splunk.md. What makes a burst is worked out here
without the pack's code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.model.event import Event
from detection_pack.platforms.arrivals import Arrival, Start
from detection_pack.platforms.splunk.app import App, open_app
from detection_pack.platforms.splunk.schedule import (
    CATCH_UP,
    MOST_ALERTS,
    Alert,
    Outage,
    alerts,
    runs,
)
from support.sources import BY_KIND

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 14
END = START + timedelta(days=DAYS)
#: Nothing is on its way any more, and every run that could find it has been.
QUIET = END + timedelta(days=2)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
#: A restart in the minute of a run, an evening, and a day but for an hour.
OUTAGES = [
    Outage(START + timedelta(days=2, hours=6, minutes=5), START + timedelta(days=2, hours=7, minutes=2)),
    Outage(START + timedelta(days=5, hours=17), START + timedelta(days=5, hours=23, minutes=31)),
    Outage(START + timedelta(days=9, hours=3), START + timedelta(days=10, hours=2)),
]
PAGE = (ROOT / "docs" / "import" / "splunk.md").read_text(encoding="utf-8")


def late(random: Random) -> timedelta:
    """From a minute to a day, and a day exactly."""
    spread = [(1, 10), (10, 60), (60, 600), (600, 1439), (1440, 1440)]
    return timedelta(minutes=random.randint(*random.choice(spread)))


def delay(due: datetime) -> timedelta:
    """From 0 to 240 s, the same in every test run."""
    return timedelta(
        seconds=int.from_bytes(hashlib.sha256(due.isoformat().encode()).digest()[:4], "big") % 241
    )


def runs_of(
    app: App, stanza: str, until: datetime = QUIET, outages: Sequence[Outage] = OUTAGES
) -> list[Start]:
    return runs(app.saved_searches[stanza], (START, until), outages, delay)


def worth(planned: Iterable[Start], arrivals: Sequence[Arrival]) -> list[Start]:
    """Of the runs those in whose last 65 minutes something arrived, and of the others one in twelve: enough
    for the ordinary run of the tests."""
    moments = [one.ingested for one in arrivals]
    return [
        run
        for number, run in enumerate(planned)
        if number % 12 == 0 or any(run.due - 65 * MINUTE <= moment <= run.due for moment in moments)
    ]


# --- what happens --------------------------------------------------------------------------------------


def m365(name: str, time: datetime, **record: Any) -> Event:
    return Event(name, BY_KIND["m365"], {"Id": name, "CreationTime": f"{time:%Y-%m-%dT%H:%M:%S}", **record})


def acts(random: Random, days: int = DAYS) -> list[Arrival]:
    """Cmdlets and clients of five people: other cmdlets within the minute, the same again within the
    second."""
    found: list[Arrival] = []
    cmdlets = ["Search-Mailbox", "New-ComplianceSearch", "New-MailboxExportRequest"]
    for number in range(28):
        who = f"person{random.randint(1, 5)}@contoso.example"
        time = START + timedelta(seconds=random.randrange(days * 86400 - 60))
        if number % 4 == 0:
            time = time.replace(minute=random.choice([0, 59, 12, 13]), second=random.choice([0, 59]))
        for again in range(random.choice([1, 1, 2, 3])):
            act = random.choice(cmdlets) if again != 2 else "Search-Mailbox"
            shown = {"RecordType": 1, "Operation": act, "UserId": who, "ClientIP": "192.0.2.1"}
            read = {"RecordType": 2, "Operation": "MailItemsAccessed", "UserId": who, "ClientIP": "192.0.2.1"}
            read |= {"ClientInfoString": "Client=WebServices;python-requests/2.31", "LogonType": 2}
            read |= {"MailboxOwnerUPN": "other@contoso.example", "AppId": "x"}
            at = time + timedelta(seconds=random.choice([0, 0, 20]))
            found.append(Arrival(one := m365(f"act{number}.{again}", at, **shown), at + late(random)))
            found.append(Arrival(m365(f"read{one.id}", at, **read), at + late(random)))
    return found


def commands(random: Random) -> list[Arrival]:
    """Commands on four hosts, the same one started again and again."""
    found = []
    for number in range(40):
        time = START + timedelta(seconds=random.randrange(DAYS * 86400))
        host, kind = random.randint(1, 4), random.choice([1, 4688])
        record = {
            "EventID": kind,
            "UtcTime": f"{time:%Y-%m-%d %H:%M:%S}.{number:03}",
            "Computer": f"ex0{host}",
        }
        record |= {
            "Image": "C:\\powershell.exe",
            "CommandLine": "powershell Search-Mailbox",
            "User": "D\\ann",
        }
        event = Event(f"start{number}", BY_KIND["process"], record)
        found.append(Arrival(event, time + late(random)))
    return found


#: Where bursts begin: before and after the hour, midnight, a quarter, the minutes in which runs are due and
#: their arrivals end. Minutes of the day.
BOUNDARIES = [
    23 * 60 + 58,
    0,
    9 * 60 + 57,
    11 * 60 + 15,
    13 * 60 + 10,
    15 * 60 + 12,
    17 * 60 + 17,
    19 * 60 + 44,
]


@dataclass(frozen=True)
class Plan:
    """A burst: who, when, and how many mailboxes at what distance."""

    who: str
    start: datetime
    mailboxes: int
    apart: timedelta


def plans(random: Random, count: int) -> list[Plan]:
    """Bursts of six people, some of four mailboxes, which are none, of one person on several days, and twice
    a day."""
    found = []
    for number in range(count):
        day = START + timedelta(days=(number * 3) % (DAYS - 1) + 0.0)
        start = day + timedelta(minutes=BOUNDARIES[number % len(BOUNDARIES)])
        apart = timedelta(seconds=random.choice([5, 60, 280]))
        found.append(Plan(f"Person{number % 6}@Contoso.Example", start, random.choice([4, 5, 6, 9]), apart))
    return found


def bursts(random: Random, planned: Sequence[Plan]) -> list[Arrival]:
    """Records for both rules about many mailboxes: work in them, and reading."""
    found = []
    for plan in planned:
        for number in range(plan.mailboxes):
            time = plan.start + number * plan.apart
            name = f"{plan.who}{plan.start:%d%H%M}.{number}"
            who = plan.who if number % 2 else plan.who.lower()
            sid = f"S-1-5-21-1-{number}"
            common = {
                "RecordType": 2,
                "UserId": who,
                "ClientIP": "192.0.2.1",
                "LogonUserSid": "S-1-5-21-1-99",
            }
            work = common | {"Operation": "Create", "MailboxOwnerUPN": f"box{number}@contoso.example"}
            read = common | {
                "Operation": "MailItemsAccessed",
                "MailboxOwnerSid": sid,
                "MailboxGuid": f"guid{number}",
            }
            found += [Arrival(m365(f"w{name}", time, **work), time + late(random))]
            found += [Arrival(m365(f"r{name}", time, **read), time + late(random))]
    return found


def grants(random: Random) -> list[Arrival]:
    """A right given and then used, within a day or after it, in this order or the other."""
    found = []
    rights = [{"Name": "User", "Value": "x"}, {"Name": "AccessRights", "Value": "FullAccess"}]
    for number in range(10):
        who = f"admin{number % 5}@contoso.example"
        time = START + timedelta(days=(number // 5) * 4.5 + number % 5 / 7)
        used = time + timedelta(hours=random.choice([-1, 0.05, 5, 23, 30]))
        grant = {"RecordType": 1, "Operation": "Add-MailboxPermission", "Parameters": rights, "UserId": who}
        read = {"RecordType": 2, "Operation": "FolderBind", "UserId": who, "ClientIPAddress": "192.0.2.7"}
        read |= {"LogonUserSid": "S-1-5-21-1-99", "MailboxOwnerSid": "S-1-5-21-1-1", "MailboxGuid": "g"}
        found.append(
            Arrival(m365(f"grant{number}", time, **grant, ClientIP="192.0.2.7:1"), time + late(random))
        )
        for again in range(random.choice([1, 3])):
            at = used + again * 20 * MINUTE
            found.append(Arrival(m365(f"used{number}.{again}", at, **read), at + late(random)))
    return found


# --- what ought to be raised ---------------------------------------------------------------------------


def time_of(arrival: Arrival) -> float:
    assert arrival.event.time is not None
    return arrival.event.time.timestamp()


def user_of(arrival: Arrival) -> str:
    return str(arrival.event.record["UserId"]).lower()


def chains(
    arrivals: Sequence[Arrival], step: int, steps: int, enough: Callable[[Sequence[Arrival]], bool]
) -> list[tuple[str, set[int]]]:
    """The bursts: of each person the starts of windows one after the other in which it is enough."""
    found: list[tuple[str, set[int]]] = []
    for user in sorted({user_of(one) for one in arrivals}):
        own = [one for one in arrivals if user_of(one) == user]
        starts = {int(time_of(one) // step - back) for one in own for back in range(steps + 1)}
        held = [
            start
            for start in sorted(starts)
            if enough([a for a in own if start * step <= time_of(a) < (start + steps + 1) * step])
        ]
        for start in held:
            if not found or found[-1][0] != user or start - 1 not in found[-1][1]:
                found.append((user, set()))
            found[-1][1].add(start)
    return found


def five_mailboxes(seen: Sequence[Arrival]) -> bool:
    return len({one.event.record.get("MailboxGuid") for one in seen}) >= 5


def granted_then_used(seen: Sequence[Arrival]) -> bool:
    given = [time_of(one) for one in seen if one.event.record["Operation"] == "Add-MailboxPermission"]
    used = [time_of(one) for one in seen if one.event.record["Operation"] == "FolderBind"]
    return bool(given and used) and min(given) <= max(used)


def raised_for(found: Sequence[Alert], known: Sequence[tuple[str, set[int]]], step: int) -> Counter[int]:
    """How many results of alerts each burst has; every result must belong to one."""
    counted: Counter[int] = Counter()
    for alert in found:
        for row in alert.rows:
            assert row.window is not None
            start = int(row.window.timestamp() // step)
            (place,) = [
                n for n, (user, starts) in enumerate(known) if user == row.group[0] and start in starts
            ]
            counted[place] += 1
    return counted


# --- the app over 14 days ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app() -> App:
    return open_app(DIST)


PLAIN = [
    "exchange_admin_cmdlet",
    "onprem_powershell_collection.raw",
    "onprem_powershell_collection.tstats",
    "onprem_powershell_collection",
    "suspicious_ews_client",
]


def longer(names: Iterable[str], ordinary: int) -> list[Any]:
    """The first of them for the ordinary run, the others for the campaign."""
    return [
        name if number < ordinary else pytest.param(name, marks=pytest.mark.campaign)
        for number, name in enumerate(names)
    ]


def once_each(found: Sequence[Alert]) -> Counter[str]:
    return Counter(event for alert in found for row in alert.rows for event in row.events)


def wanted(stanza: str, arrivals: Sequence[Arrival]) -> set[str]:
    beginning = {"exchange_admin_cmdlet": "act", "suspicious_ews_client": "read"}.get(stanza, "start")
    return {one.event.id for one in arrivals if one.event.id.startswith(beginning)}


@pytest.mark.parametrize("stanza", longer(PLAIN, 2))
def test_each_event_is_in_one_alert(stanza: str, app: App) -> None:
    random = Random(20)
    arrivals = commands(random) if stanza.startswith("onprem") else acts(random)
    found = list(alerts(app, stanza, arrivals, runs_of(app, stanza)))
    assert once_each(found) == Counter(wanted(stanza, arrivals)) and len(once_each(found)) >= 28
    # Not a moment before it was there, and not long after.
    indexed = {one.event.id: one.ingested for one in arrivals}
    for alert in found:
        begins = alert.run.due + delay(alert.run.due)
        down = any(one.start <= begins <= one.end for one in OUTAGES)
        for event in (event for row in alert.rows for event in row.events):
            waited = alert.run.started - indexed[event]
            least = timedelta() if stanza.endswith(".tstats") else timedelta(minutes=5)
            assert least <= waited <= (CATCH_UP if down else timedelta(minutes=69))


def test_each_clock_window_is_one_result(app: App) -> None:
    stanza, random = "bulk_cross_mailbox_access", Random(21)
    arrivals = bursts(random, plans(random, 8))
    mailboxes: dict[tuple[str, int], set[str]] = {}
    for one in arrivals:
        if one.event.record["Operation"] == "Create":
            hour = int(time_of(one) // 3600)
            mailboxes.setdefault((user_of(one), hour), set()).add(str(one.event.record["MailboxOwnerUPN"]))
    due = {window for window, owners in mailboxes.items() if len(owners) >= 5}
    assert 4 <= len(due) < len(mailboxes)
    found = Counter(
        (row.group[0], int(row.window.timestamp() // 3600))
        for alert in alerts(app, stanza, arrivals, worth(runs_of(app, stanza), arrivals))
        for row in alert.rows
        if row.window is not None
    )
    assert found == Counter(due)


@dataclass(frozen=True)
class Kind:
    """A correlation whose windows overlap: its saved search, steps, and what is enough."""

    stanza: str
    step: int
    steps: int
    enough: Callable[[Sequence[Arrival]], bool]
    made: Callable[[Random], list[Arrival]]


KINDS = [
    Kind("account_reads_many_mailboxes", 300, 12, five_mailboxes, lambda r: bursts(r, plans(r, 7))),
    Kind("self_grant_then_read", 7200, 12, granted_then_used, grants),
]


def bursts_of(kind: Kind, arrivals: Sequence[Arrival]) -> list[tuple[str, set[int]]]:
    about = [one for one in arrivals if one.event.record["Operation"] != "Create"]
    return chains(about, kind.step, kind.steps, kind.enough)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.stanza)
def test_each_burst_is_one_result(kind: Kind, app: App) -> None:
    arrivals = kind.made(Random(22))
    known = bursts_of(kind, arrivals)
    assert len(known) >= 4
    found = list(alerts(app, kind.stanza, arrivals, worth(runs_of(app, kind.stanza), arrivals)))
    assert raised_for(found, known, kind.step) == Counter(range(len(known)))


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
def test_every_run_of_every_kind(seed: int, app: App) -> None:
    """The same with other dice, and every run of the 14 days."""
    random = Random(seed)
    for stanza in PLAIN:
        arrivals = commands(random) if stanza.startswith("onprem") else acts(random)
        found = list(alerts(app, stanza, arrivals, runs_of(app, stanza)))
        assert once_each(found) == Counter(wanted(stanza, arrivals)), stanza
    for kind in KINDS:
        arrivals = kind.made(random)
        known = bursts_of(kind, arrivals)
        found = list(alerts(app, kind.stanza, arrivals, runs_of(app, kind.stanza)))
        assert raised_for(found, known, kind.step) == Counter(range(len(known))), kind.stanza


# --- what Splunk cannot give ---------------------------------------------------------------------------


def figure(pattern: str) -> tuple[int, ...]:
    """The numbers of the one place of the guide that says so."""
    (found,) = re.findall(pattern, " ".join(PAGE.split()))
    return tuple(int(number) for number in ([found] if isinstance(found, str) else found))


@pytest.mark.parametrize("stanza", ["exchange_admin_cmdlet", "suspicious_ews_client"])
def test_lateness_that_is_always_found_is_what_the_guide_says(stanza: str, app: App) -> None:
    hours, minutes = figure(
        r"always found if it is indexed at most (\d+) hours (\d+) minutes after it happened"
    )
    assert timedelta(hours=hours) >= timedelta(hours=24)
    sure = timedelta(hours=hours, minutes=minutes)
    arrivals, lateness = [], {}
    for number in range(240):
        time = START + timedelta(hours=number // 20, minutes=number % 20 * 3)
        after = sure + (number % 7 - 3) * 20 * MINUTE
        record = {"RecordType": 1, "Operation": "Search-Mailbox", "UserId": "ann@contoso.example"}
        record |= {"ClientIP": "192.0.2.1"}
        if stanza != "exchange_admin_cmdlet":
            record |= {"RecordType": 2, "Operation": "MailItemsAccessed", "LogonType": 2}
            record |= {"ClientInfoString": "Client=WebServices;python-requests/2.31"}
        arrivals.append(Arrival(event := m365(f"e{number}", time, **record), time + after))
        lateness[event.id] = after
    found = once_each(list(alerts(app, stanza, arrivals, runs_of(app, stanza, START + 4 * 24 * HOUR, ()))))
    lost = [after for name, after in lateness.items() if name not in found]
    assert max(found.values()) == 1
    assert min(lost) > sure and min(lost) <= sure + HOUR


def test_an_event_may_be_ahead_of_its_index_time_by_as_much_as_the_guide_says(app: App) -> None:
    (minutes,) = figure(r"whose own time is more than (\d+) minutes ahead of it")
    stanza, arrivals, ahead = "exchange_admin_cmdlet", [], {}
    for number in range(60):
        time = START + 5 * HOUR + number * MINUTE
        record = {"RecordType": 1, "Operation": "Search-Mailbox", "UserId": "ann", "ClientIP": "192.0.2.1"}
        for before in (0, minutes, 40):
            event = m365(f"e{number}.{before}", time + before * MINUTE, **record)
            arrivals.append(Arrival(event, time))
            ahead[event.id] = before
    found = once_each(list(alerts(app, stanza, arrivals, runs_of(app, stanza, START + 12 * HOUR, ()))))
    lost = {before for name, before in ahead.items() if name not in found}
    assert lost == {40} and set(found.values()) == {1}


def test_what_arrived_during_an_outage_of_more_than_a_day_is_lost_but_for_its_last_day(app: App) -> None:
    (hours,) = figure(r"down for more than (\d+) hours")
    assert timedelta(hours=hours) == CATCH_UP
    stanza, outage = "exchange_admin_cmdlet", Outage(START + 10 * HOUR, START + 44 * HOUR)
    arrivals = []
    for number in range(80):
        time = START + number * 45 * MINUTE
        record = {
            "RecordType": 1,
            "Operation": "Search-Mailbox",
            "UserId": f"u{number}",
            "ClientIP": "192.0.2.1",
        }
        arrivals.append(Arrival(m365(f"e{number}", time, **record), time + 10 * MINUTE))
    found = once_each(list(alerts(app, stanza, arrivals, runs_of(app, stanza, START + 90 * HOUR, [outage]))))
    lost = [one.ingested for one in arrivals if one.event.id not in found]
    assert lost and min(lost) >= outage.start - 65 * MINUTE and max(lost) < outage.end - CATCH_UP


def walk(random: Random, who: str, start: datetime, lateness: Callable[[Random], timedelta]) -> list[Arrival]:
    """Forty mailboxes in four hours."""
    found = []
    for number in range(40):
        time = start + number * 6 * MINUTE
        read = {"RecordType": 2, "UserId": who, "ClientIP": "192.0.2.1", "LogonUserSid": "S-1-5-21-1-99"}
        read |= {
            "Operation": "MailItemsAccessed",
            "MailboxOwnerSid": f"S-1-5-21-1-{number}",
            "MailboxGuid": f"g{number}",
        }
        found.append(Arrival(m365(f"{who}{number}", time, **read), time + lateness(random)))
    return found


def within_the_hour(random: Random) -> timedelta:
    return random.randint(1, 60) * MINUTE


@pytest.mark.parametrize(
    ("said", "lateness"),
    [
        (r"up to an hour late, (\d+) of (\d+) walks raised (\d+) results", within_the_hour),
        pytest.param(
            r"up to a day late and in any order, (\d+) of (\d+) raised up to (\d+)",
            late,
            marks=pytest.mark.campaign,
        ),
    ],
    ids=["an hour", "a day"],
)
def test_second_alerts_of_bursts_that_come_in_pieces_are_as_many_as_the_guide_says(
    said: str, lateness: Callable[[Random], timedelta], app: App
) -> None:
    """Two parts of what turns out to be one burst, each enough by itself before what lies between them is
    there."""
    random, kind = Random(23), KINDS[0]
    arrivals = [
        arrival
        for number in range(20)
        for arrival in walk(
            random, f"walker{number}@contoso.example", START + number % 4 * 3 * HOUR, lateness
        )
    ]
    known = bursts_of(kind, arrivals)
    planned = runs_of(app, kind.stanza, START + 3 * 24 * HOUR, ())
    counted = raised_for(list(alerts(app, kind.stanza, arrivals, planned)), known, kind.step)
    assert len(counted) == len(known) == 20
    several = [count for count in counted.values() if count > 1]
    assert figure(said) == (len(several), len(known), max(counted.values()))


def fails(due: datetime) -> bool:
    """One run in ten, the same in every test run."""
    return hashlib.sha256(f"fails {due.isoformat()}".encode()).digest()[0] % 10 == 0


ONE_IN_TEN = (
    r"One run in ten failing, (\d+) of (\d+) events, none of (\d+) starts in the `.tstats` form and (\d+) of"
    r" (\d+) bursts were in no alert"
)


def well(app: App, stanza: str) -> list[Start]:
    return runs(app.saved_searches[stanza], (START, QUIET), OUTAGES, delay, fails)


def test_what_a_failed_run_loses_is_what_the_guide_says(app: App) -> None:
    """The plain forms lose what was indexed in its hour; the data set is searched whole by the next run."""
    lost, of, starts, *_ = figure(ONE_IN_TEN)
    counted = []
    for stanza in ("exchange_admin_cmdlet", "onprem_powershell_collection.tstats"):
        arrivals = commands(Random(20)) if stanza.startswith("onprem") else acts(Random(20))
        planned = well(app, stanza)
        failed = {run.due for run in runs_of(app, stanza)} - {run.due for run in planned}
        found = once_each(list(alerts(app, stanza, arrivals, worth(planned, arrivals))))
        assert failed and set(found.values()) == {1}
        missing = [one for one in arrivals if one.event.id in wanted(stanza, arrivals) - set(found)]
        for one in missing:
            assert any(due - 65 * MINUTE <= one.ingested < due - 5 * MINUTE for due in failed)
        counted.append((len(missing), len(wanted(stanza, arrivals))))
    assert counted == [(lost, of), (0, starts)]
    assert figure(r"each of (\d+) starts was in one alert") == (starts,)


@pytest.mark.campaign
def test_bursts_that_failed_runs_lose_are_as_many_as_the_guide_says(app: App) -> None:
    *_, lost, of = figure(ONE_IN_TEN)
    kind, arrivals = KINDS[0], bursts(Random(22), plans(Random(22), 28))
    known = bursts_of(kind, arrivals)
    found = list(alerts(app, kind.stanza, arrivals, worth(well(app, kind.stanza), arrivals)))
    raised = raised_for(found, known, kind.step)
    assert set(raised.values()) == {1} and (len(known) - len(raised), len(known)) == (lost, of)


def test_a_durable_search_is_not_modelled(app: App) -> None:
    stanza = "exchange_admin_cmdlet"
    with pytest.raises(ValueError, match="durable"):
        runs_of(changed(app, stanza, durable__track_time_type="_indextime"), stanza)


def test_starts_of_one_second_that_are_the_same_are_one_result_of_the_data_set(app: App) -> None:
    """The data set does not tell them from a record that is delivered twice; the plain form does."""
    stanza = "onprem_powershell_collection"
    first, *_ = commands(Random(24))
    assert first.event.time is not None
    record = {**first.event.record, "UtcTime": f"{first.event.time:%Y-%m-%d %H:%M:%S}.900"}
    again = Arrival(dataclasses.replace(first.event, id="again", record=record), first.ingested + 3 * HOUR)
    for form, wanted_of_it in (("", {first.event.id, "again"}), (".tstats", {first.event.id})):
        planned = runs_of(app, stanza + form, START + 16 * 24 * HOUR, ())
        found = list(alerts(app, stanza + form, [first, again], worth(planned, [first, again])))
        assert set(once_each(found)) == wanted_of_it


def flood(count: int) -> list[Arrival]:
    found = []
    for number in range(count):
        time = START + 5 * HOUR + number * timedelta(seconds=1)
        record = {
            "EventID": 1,
            "UtcTime": f"{time:%Y-%m-%d %H:%M:%S}",
            "Computer": f"host{number}",
            "User": "D\\ann",
        }
        record |= {"Image": "C:\\powershell.exe", "CommandLine": "powershell Search-Mailbox"}
        found.append(Arrival(Event(f"f{number}", BY_KIND["process"], record), time + MINUTE))
    return found


@pytest.mark.parametrize(("form", "most"), [("", None), (".raw", None), (".tstats", MOST_ALERTS)])
def test_no_number_of_results_is_too_many_but_for_the_data_set(form: str, most: int | None, app: App) -> None:
    stanza = f"onprem_powershell_collection{form}"
    arrivals = flood(MOST_ALERTS + 100)
    found = list(alerts(app, stanza, arrivals, runs_of(app, stanza, START + 8 * HOUR, ())))
    if most is None:
        assert sum(len(alert.rows) for alert in found) == len(arrivals) and len(found) <= 2
    else:
        assert max(Counter(alert.run for alert in found).values()) == most
        # The newest are not among those that are cut off.
        lost = {one.event.id for one in arrivals} - set(once_each(found))
        assert lost and max(int(name[1:]) for name in lost) < len(arrivals) - MOST_ALERTS
    assert figure(r"at most (\d+) alerts a run") == (MOST_ALERTS,)


# --- what the simulation would notice ------------------------------------------------------------------


def changed(app: App, stanza: str, **settings: str | None) -> App:
    made = {name: value for name, value in settings.items() if value is not None}
    named = {name.replace("__", "."): value for name, value in made.items()}
    gone = {name.replace("__", ".") for name, value in settings.items() if value is None}
    kept = {name: value for name, value in app.saved_searches[stanza].items() if name not in gone}
    return dataclasses.replace(app, saved_searches={**app.saved_searches, stanza: kept | named})


#: Version 1.1, and a step too far to each side. What each does: events without an alert, with more than one.
WRONG: dict[str, tuple[dict[str, str | None], bool, bool]] = {
    "throttled by user and address for a day": (
        {
            "dispatch__index_earliest": None,
            "dispatch__index_latest": None,
            "alert__digest_mode": "0",
            "alert__suppress": "1",
            "alert__suppress__fields": "UserId,ClientIP",
            "alert__suppress__period": "24h",
        },
        True,
        True,
    ),
    "a gap between runs": ({"dispatch__index_earliest": "-60m@m"}, True, False),
    "runs left out": ({"realtime_schedule": "1"}, True, False),
    "no throttle and every run over all": (
        {"dispatch__index_earliest": None, "dispatch__index_latest": None},
        False,
        True,
    ),
    "an overlap of runs": ({"dispatch__index_earliest": "-90m@m"}, False, True),
    "a look-back of a day": ({"dispatch__earliest_time": "-24h@h"}, True, False),
}


@pytest.mark.parametrize("name", longer(WRONG, 2))
def test_a_wrong_schedule_is_noticed(name: str, app: App) -> None:
    settings, loses, repeats = WRONG[name]
    stanza, arrivals = "exchange_admin_cmdlet", acts(Random(20), 4)
    wrong = changed(app, stanza, **settings)
    if "dispatch__earliest_time" in settings:
        # The search names the macro, which is what counts.
        wrong = dataclasses.replace(wrong, macros={**wrong.macros, f"{stanza}_lookback": "-24h@h"})
    planned = worth(runs_of(wrong, stanza, START + 6 * 24 * HOUR), arrivals)
    found = once_each(list(alerts(wrong, stanza, arrivals, planned)))
    assert (bool(wanted(stanza, arrivals) - set(found)), max(found.values()) > 1) == (loses, repeats)


WRONG_TEXT = {
    "alerted bursts are not left out": (" AND alerted_before=0", ""),
    "windows, not bursts": (
        "eventstats max(alerted_before) AS alerted_before BY UserId, burst_number",
        "eventstats max(alerted_before) AS alerted_before BY UserId, burst_number, _time",
    ),
    "arrivals of the next run counted in both": ('"-65m@m"', '"-50m@m"'),
    "arrivals that no run takes": (
        '_indextime<relative_time(info_max_time,"-5m@m")',
        "_indextime<info_max_time",
    ),
}


@pytest.mark.parametrize("name", longer(WRONG_TEXT, 1))
def test_a_wrong_correlation_is_noticed(name: str, app: App) -> None:
    kind = KINDS[0]
    old, new = WRONG_TEXT[name]
    text = app.saved_searches[kind.stanza]["search"]
    assert text.count(old) == 1
    wrong = changed(app, kind.stanza, search=text.replace(old, new))
    random = Random(23)
    arrivals = bursts(random, plans(random, 10))
    known = bursts_of(kind, arrivals)
    found = list(alerts(wrong, kind.stanza, arrivals, worth(runs_of(wrong, kind.stanza), arrivals)))
    assert raised_for(found, known, kind.step) != Counter(range(len(known)))

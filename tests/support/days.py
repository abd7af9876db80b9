"""Fourteen generated days of Exchange records for the models of schedulers: what is done, when it arrives.

One rule of each kind reads them. People do several different things: an administrator runs several cmdlets in
one minute, a delegate walks through mailboxes on several days and from several addresses, the one who grants
a right reads in the next hour. Bursts lie across every kind of edge: the hour, midnight, the start of a run,
the time that the scheduler is off. Records arrive out of order, from a minute to 24 hours late.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from detection_pack.model.event import Event
from detection_pack.model.windows import overlapping
from detection_pack.platforms.arrivals import Arrival, Start, starts
from support.sources import M365

PLAIN, CLOCK, OVERLAPPING, ORDERED = (
    "exchange_admin_cmdlet",
    "bulk_cross_mailbox_access",
    "account_reads_many_mailboxes",
    "self_grant_then_read",
)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = timedelta(days=14)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
_CMDLETS = ("Search-Mailbox", "New-MailboxExportRequest", "New-ComplianceSearch", "New-MailboxSearch")
_FROM = ("198.51.100.7", "203.0.113.24", "192.0.2.66")
_SID = "S-1-5-21-1004336348-1177238915-682003330-"


@dataclass(frozen=True)
class Generated:
    """The records that one rule is about, in any order."""

    rule: str
    arrivals: tuple[Arrival, ...]


def generated(rule: str, count: int, seed: int = 14) -> Generated:
    """The fourteen days of one rule: ``count`` times something is done, each time some records."""
    chance = random.Random(f"{rule} {seed}")
    made = {PLAIN: _cmdlets, CLOCK: _visits, OVERLAPPING: _readings, ORDERED: _grants}[rule]
    arrivals: list[Arrival] = []
    for number in range(count):
        # The service hands records out in batches.
        delays = [_delay(chance) for _ in range(chance.choice([1, 2, 3]))]
        for after, record in made(chance, number, count):
            happened = (FIRST + max(after, timedelta())).replace(microsecond=0)
            name = f"{rule}-{len(arrivals)}"
            stamped = {"CreationTime": happened.strftime("%Y-%m-%dT%H:%M:%S"), "Workload": "Exchange"}
            event = Event(name, M365, {**stamped, "Id": name, **record})
            arrivals.append(Arrival(event, happened + chance.choice(delays)))
    return Generated(rule, tuple(arrivals))


def _delay(chance: random.Random) -> timedelta:
    """Most records take less than an hour and a half; some many hours, up to a day."""
    low, high = chance.choice([(1, 30), (1, 30), (10, 90), (10, 90), (90, 480), (480, 1440)])
    return chance.uniform(low, high) * MINUTE


def _begin(chance: random.Random, number: int, count: int) -> timedelta:
    """When one of them begins: on each day some, shortly before or at an hour or a midnight."""
    day = timedelta(days=number * 14 // count, hours=chance.choice([0, 0, *range(1, 23)]))
    return day - chance.choice([0, 5, 20, 30, 58]) * MINUTE - chance.choice([0, 1]) * timedelta(seconds=1)


def run_starts(interval: timedelta, seed: int = 14, restarts: bool = True) -> list[Start]:
    """The runs: each starts up to 240 s after its time, and three times the scheduler is off when one run
    (of rules that run hourly) is due."""
    chance = random.Random(f"starts {seed}")
    late = [
        timedelta(seconds=chance.choice([0, 0, 1, 5, 60, 200, 240, chance.uniform(0, 240)]))
        for _ in range(97)
    ]
    phase = chance.uniform(0, 60) * MINUTE
    first = FIRST - interval + phase % interval
    down = []
    if restarts:
        for day in (2, 6, 11):
            begin = FIRST + timedelta(days=day, hours=chance.randrange(24)) + phase - 5 * MINUTE
            down.append((begin, begin + 50 * MINUTE))
    return list(starts(first, FIRST + DAYS + timedelta(days=2), interval, late, down))


# ---- what is done -----------------------------------------------------------------------------------------

_Act = tuple[timedelta, Mapping[str, Any]]


def _cmdlets(chance: random.Random, number: int, count: int) -> Iterator[_Act]:
    admin, address = f"admin{number % 4}@contoso.example", chance.choice(_FROM)
    after = _begin(chance, number, count)
    for cmdlet in chance.sample(_CMDLETS, chance.choice([1, 2, 4])):
        yield after, {"RecordType": 1, "Operation": cmdlet, "UserId": admin, "ClientIP": address}
        after += chance.choice([0, 1, 40, 3600]) * timedelta(seconds=1)


def _burst(chance: random.Random, number: int, count: int) -> list[timedelta]:
    """The times of what is done in one burst, five to eight of them."""
    begin, length = _begin(chance, number, count), chance.choice([4, 20, 50]) * MINUTE
    return sorted(begin + chance.uniform(0, 1) * length for _ in range(chance.randrange(5, 9)))


def _visits(chance: random.Random, number: int, count: int) -> Iterator[_Act]:
    address = chance.choice(_FROM)
    for owner, time in enumerate(_burst(chance, number, count)):
        visited = {
            "RecordType": 2,
            "Operation": "Create",
            "UserId": f"delegate{number % 3}@contoso.example",
            "MailboxOwnerUPN": f"owner{owner}@contoso.example",
            "MailboxOwnerSid": f"{_SID}110{owner}",
            "MailboxGuid": f"8e942cc1-73d8-4483-9def-00000000110{owner}",
            "ClientIP": address,
        }
        yield time, visited


def _readings(chance: random.Random, number: int, count: int) -> Iterator[_Act]:
    for owner, time in enumerate(_burst(chance, number, count)):
        yield time, _reading(f"reader{number % 3}@contoso.example", owner, chance.choice(_FROM))


def _reading(user: str, owner: int, address: str) -> dict[str, Any]:
    return {
        "RecordType": 50,
        "Operation": "MailItemsAccessed",
        "UserId": user,
        "LogonUserSid": f"{_SID}2001",
        "MailboxOwnerSid": f"{_SID}110{owner}",
        "MailboxGuid": f"8e942cc1-73d8-4483-9def-00000000110{owner}",
        "ClientIPAddress": address,
        "ClientInfoString": "Client=OWA;Action=ViaProxy",
    }


def _grants(chance: random.Random, number: int, count: int) -> Iterator[_Act]:
    right = [{"Name": "Identity", "Value": "a.owner"}, {"Name": "AccessRights", "Value": "FullAccess"}]
    user, begin = f"helper{number % 3}@contoso.example", _begin(chance, number, count)
    granted = {"RecordType": 1, "Operation": "Add-MailboxPermission", "UserId": user, "Parameters": right}
    yield begin, granted | {"ClientIP": _FROM[0]}
    if number % 5:
        yield begin + chance.choice([1, 60, 300, 1300]) * MINUTE, _reading(user, 1, _FROM[1])


# ---- what must be alerted on ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Burst:
    """Windows of a group, one after the other, in each of which the condition holds: one alert stands for
    them, at any of them, whatever has arrived by then."""

    group: tuple[str, ...]
    windows: tuple[datetime, ...]


def bursts(of: Generated) -> list[Burst]:
    """All bursts, said naively: for each moment at which a window may start, what stands in it."""
    step, width = _window(of.rule)
    groups: dict[tuple[str, ...], list[Arrival]] = {}
    for arrival in of.arrivals:
        groups.setdefault(_group(of.rule, arrival), []).append(arrival)
    found = []
    for group, own in groups.items():
        starting = {_floor(_when(a), step) - step * back for a in own for back in range(width // step)}
        holding = sorted(
            begin
            for begin in starting
            if _holds(of.rule, [a for a in own if begin <= _when(a) < begin + width])
        )
        chains: list[list[datetime]] = []
        for begin in holding:
            if of.rule != CLOCK and chains and begin - chains[-1][-1] == step:
                chains[-1].append(begin)
            else:
                chains.append([begin])
        found += [Burst(group, tuple(chain)) for chain in chains]
    return found


def records_of(burst: Burst, of: Generated) -> list[Arrival]:
    """What stands in a burst's windows."""
    since, until = burst.windows[0], burst.windows[-1] + _window(of.rule)[1]
    return [a for a in of.arrivals if _group(of.rule, a) == burst.group and since <= _when(a) < until]


def _window(rule: str) -> tuple[timedelta, timedelta]:
    """A rule's step and the width of its windows."""
    length = {CLOCK: HOUR, OVERLAPPING: HOUR, ORDERED: 24 * HOUR}[rule]
    if rule == CLOCK:
        return length, length
    steps = overlapping(int(length.total_seconds()))
    return timedelta(seconds=steps.step), timedelta(seconds=steps.width)


def _group(rule: str, arrival: Arrival) -> tuple[str, ...]:
    record = arrival.event.record
    address = (record.get("ClientIP", ""),) if rule == CLOCK else ()
    return (record["UserId"].lower(), *address)


def _holds(rule: str, inside: Sequence[Arrival]) -> bool:
    if rule != ORDERED:
        return len({a.event.record["MailboxGuid"] for a in inside}) >= 5
    granted = [_when(a) for a in inside if a.event.record["RecordType"] == 1]
    read = [_when(a) for a in inside if a.event.record["RecordType"] == 50]
    return bool(granted and read and min(granted) <= max(read))


def _when(arrival: Arrival) -> datetime:
    assert arrival.event.time is not None
    return arrival.event.time


def _floor(moment: datetime, step: timedelta) -> datetime:
    return FIRST + ((moment - FIRST) // step) * step

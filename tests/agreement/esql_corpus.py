"""Correlation rules of every kind that the pack builds for Elastic, and events that tell them apart.

`own` gives each rule's ES|QL with the types of the fields that it may read: every correlation type, operator,
kind of field to group by and to count, every way to compare a value, several rules, windows from a second to
a month. The conditions of scripts/corpus.py, in SigmaHQ's style, come on top, one correlation each
(`strangers`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.platforms.elastic.backend import queries
from support import corpus
from support.community_events import records
from support.elastic_rules import AUDIT, PROCESS, pipeline, rule_of
from support.sources import M365, SOURCES

Detection = Mapping[str, Any]
START = datetime(2026, 3, 8, 22, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Query:
    """``types``: the mapping type of each field of the indices, by the pipeline."""

    name: str
    text: str
    types: Mapping[str, str]


ALERT = {
    "type": 'A "quoted" \\ type',
    "detail": "{count} in {window} by {UserId}: {Operation}",
    "user": "UserId",
    "source": "ClientIP",
    "agent": "ClientInfoString",
    "extra": "CreationTime",
}
PROCESS_ALERT = {"type": "P", "detail": "{count} of {Image}", "user": "User", "extra": "CommandLine"}

_AUDIT: Mapping[str, Detection] = {
    "operations": {"s": {"Operation": ["MailItemsAccessed", "send", "Update"]}, "condition": "s"},
    "not_own": {
        "s": {"RecordType": "ExchangeItem"},
        "own": {"UserId|fieldref": "MailboxOwnerUPN"},
        "gone": {"MailboxOwnerUPN": None},
        "condition": "s and not own and not gone",
    },
    "two_fields": {"s": {"UserId|fieldref": "UserKey"}, "condition": "s"},
    "neither": {
        "a": {"UserId|fieldref": "UserKey"},
        "b": {"UserAgent|contains": "python"},
        "condition": "not a and not b",
    },
    "network": {"s": {"ClientIP|cidr": ["198.51.100.0/24", "2001:db8::/32"]}, "condition": "s"},
    "no_network": {
        "s": {"ClientIP|cidr": "198.51.100.16/28"},
        "t": {"ClientIP": "203.0.113.9"},
        "condition": "not s and not t",
    },
    "terms": {"s": {"ClientInfoString|contains": ["curl", "python-requests", "ж"]}, "condition": "s"},
    "pieces": {
        "s": {"UserAgent|contains": ["PYTHON", 'a"b', "\\"], "UserId|endswith": ".EXAMPLE"},
        "condition": "s",
    },
    "cased": {"s": {"Operation|cased": "Send", "UserKey|startswith|cased": "K"}, "condition": "s or not s"},
    "expression": {"s": {"UserAgent|re": "(?i)^py[a-z]+[-/][a-z0-9.]{1,4}"}, "condition": "s"},
    "wildcards": {"s": {"UserAgent": "*py?hon*/*"}, "condition": "s"},
    "absent": {"s": {"UserAgent": None}, "t": {"ExternalAccess|exists": True}, "condition": "s or t"},
    "numbers": {"s": {"OperationCount|gte": 3, "LogonType": "Delegated"}, "condition": "s"},
    "listed_numbers": {"s": {"OperationCount": [1, 5, -2]}, "condition": "not s"},
    "below": {"s": {"OperationCount|lt": 4}, "t": {"OperationCount|gt": 7}, "condition": "not (s or t)"},
    "boolean": {"s": {"ExternalAccess": True}, "condition": "s"},
    "letters": {"s": {"UserKey": ["ΑΣ", "İx", "STRASSE", "key é"]}, "condition": "s"},
    "long_value": {"s": {"UserAgent|startswith": "long"}, "condition": "s"},
}
_PROCESS: Mapping[str, Detection] = {
    "shells": {"s": {"Image|endswith": ["\\powershell.exe", "\\pwsh.exe"]}, "condition": "s"},
    "same": {"s": {"Image|fieldref": "ParentImage"}, "condition": "not s"},
    "terms": {"s": {"CommandLine|contains": ["Search-Mailbox", "Get-MessageTrace"]}, "condition": "s"},
    "paths": {
        "s": {"Image|startswith": "C:\\Windows\\", "ParentImage": "c:\\windows\\EXPLORER.exe"},
        "t": {"CommandLine|re": "\\.ps1$"},
        "condition": "s and not t",
    },
    "level": {"s": {"IntegrityLevel": ["High", "System"]}, "condition": "s"},
    "parent": {"s": {"ParentProcessId": [4, 880]}, "condition": "s"},
    "user": {"s": {"User|contains": "doe"}, "condition": "s"},
}
_AUDIT_GROUPS = (
    ("UserId",),
    ("UserId", "ClientIP"),
    ("ClientIP",),
    ("RecordType", "LogonType"),
    ("ExternalAccess",),
    ("OperationCount",),
    ("UserAgent", "UserKey"),
    ("Id",),
    ("SessionId", "UserId", "Operation"),
    ("CreationTime",),
)
_PROCESS_GROUPS = (("Computer",), ("User", "Computer"), ("Image",), ("ParentProcessId",), ("CommandLine",))
_SPANS = ("1h", "5m", "30s", "1d", "15m", "2d", "7d", "6h", "1s", "30d", "36h", "14d")
_CONDITIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("event_count", {"gte": 2}),
    ("event_count", {"gt": 1}),
    ("event_count", {"lt": 3}),
    ("event_count", {"lte": 2}),
    ("event_count", {"eq": 1}),
    ("event_count", {"neq": 2}),
    ("value_count", {"field": "UserId", "gte": 2}),
    ("value_count", {"field": "ClientIP", "gte": 1}),
    ("value_count", {"field": "OperationCount", "gte": 2}),
    ("value_count", {"field": "ExternalAccess", "gte": 1}),
    ("value_count", {"field": "UserKey", "gt": 1}),
    ("value_sum", {"field": "OperationCount", "gte": 5}),
    ("value_avg", {"field": "OperationCount", "lt": 6}),
)
_PROCESS_CONDITIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("event_count", {"gte": 2}),
    ("value_count", {"field": "User", "gte": 1}),
    ("value_count", {"field": "CommandLine", "gte": 2}),
    ("value_sum", {"field": "ParentProcessId", "gte": 1}),
)


def own() -> Iterator[Query]:
    """Rules of this file. What pairs with what changes from rule to rule, and each thing occurs."""
    for number, (name, detection) in enumerate(_AUDIT.items()):
        for turn in range(3):
            step = 3 * number + turn
            kind, condition = _CONDITIONS[step % len(_CONDITIONS)]
            groups = _AUDIT_GROUPS[step % len(_AUDIT_GROUPS)]
            yield _built(f"audit_{name}_{turn}", AUDIT, [detection], kind, condition, groups, step)
    for number, (name, detection) in enumerate(_PROCESS.items()):
        for turn in range(2):
            step = 2 * number + turn
            kind, condition = _PROCESS_CONDITIONS[step % len(_PROCESS_CONDITIONS)]
            groups = _PROCESS_GROUPS[step % len(_PROCESS_GROUPS)]
            yield _built(f"process_{name}_{turn}", PROCESS, [detection], kind, condition, groups, step)
    several = [_AUDIT[name] for name in ("operations", "network", "absent")]
    for step, detections in enumerate((several[:2], several, [_AUDIT["two_fields"], _AUDIT["letters"]])):
        groups = _AUDIT_GROUPS[step]
        yield _built(f"several_temporal_{step}", AUDIT, detections, "temporal", None, groups, step)
        if len(detections) == 2:
            yield _built(f"several_ordered_{step}", AUDIT, detections, "temporal_ordered", None, groups, step)
        yield _built(f"several_counted_{step}", AUDIT, detections, "event_count", {"gte": 3}, groups, step)


def _built(
    name: str,
    logsource: Mapping[str, str],
    detections: list[Detection],
    kind: str,
    condition: Mapping[str, Any] | None,
    groups: tuple[str, ...],
    step: int,
) -> Query:
    bases = [
        {"title": f"Base {n}", "name": f"base_{n}", "logsource": logsource, "detection": dict(detection)}
        for n, detection in enumerate(detections)
    ]
    correlation: dict[str, Any] = {
        "type": kind,
        "rules": [base["name"] for base in bases],
        "group-by": list(groups),
        "timespan": _SPANS[step % len(_SPANS)],
    }
    if condition is not None:
        correlation["condition"] = dict(condition)
    document: dict[str, Any] = {"title": name, "name": name, "correlation": correlation, "lookback": "30d"}
    # Half of them mean whole terms, whose expressions have boundaries.
    document["whole_terms"] = step % 2 == 0
    # Of two rules with a length of window one counts by the clock.
    if step // len(_SPANS) % 2 == 0:
        document["windows"] = "clock"
    if kind != "value_avg":  # a double as text is another matter: test_doubles_are_written_as_java_does
        document["alert"] = ALERT if logsource is AUDIT else PROCESS_ALERT
    made = queries(rule_of(*bases, document), pipeline())
    assert made.esql is not None
    return Query(name, made.esql, made.state["field_types"])


@dataclass(frozen=True)
class Stranger:
    """A rule of tests/support/corpus.py as a correlation, and events that its values call for."""

    query: Query
    events: tuple[Event, ...]


def strangers(count: int, seed: int) -> Iterator[Stranger]:
    """Those of ``count`` rules that Elastic can have; each counts events by host in an hour."""
    for rule in corpus.rules(count, seed):
        document = yaml.safe_load(rule.text)
        if "category" not in document["logsource"]:
            continue
        name = Path(rule.path).stem
        document["name"] = name
        correlation = {
            "type": "event_count",
            "rules": [name],
            "group-by": ["ProcessId"],
            "timespan": "1h",
            "condition": {"gte": 1},
        }
        try:
            made = queries(rule_of(document, {"title": name, "correlation": correlation}), pipeline())
        except PackError:
            continue
        rng = random.Random(f"{seed}:{name}")
        events = tuple(
            Event(f"{name}-{n}", SOURCES["process_creation"], {**record, "ProcessId": str(n)})
            for n, record in enumerate(records(document["detection"], rng, 12))
        )
        assert made.esql is not None
        yield Stranger(Query(name, made.esql, made.state["field_types"]), events)


_USERS = ("u@contoso.example", "U@Contoso.Example", "K1", "İx@contoso.example", "ΑΣ", "ας", "ασ", "jo ße", "")
_KEYS = ("u@contoso.example", "K1", "k1", "ΑΣ", "ας", "İx", "i̇x", "straße", "STRASSE", "KEY É", "key é")
_AGENTS = (
    "python-requests/2.31",
    "PYTHON",
    'a"b',
    "back\\slash",
    "python\nrequests/1",
    "curl/8",
    "long" + "x" * 1100,
)


def varied(count: int, seed: int) -> list[Event]:
    """Audit records and process creations with every field of the rules above: absent, at edges of windows,
    in several spellings, too long for the index."""
    rng = random.Random(seed)
    return [_audit(rng, n) if rng.random() < 0.7 else _creation(rng, n) for n in range(count)]


def _moment(rng: random.Random) -> datetime:
    """Around the ends of hours, days and weeks, over three days; the second of them is a Monday."""
    edge = START + timedelta(hours=rng.randrange(60))
    return edge + timedelta(milliseconds=rng.choice((0, 1, 999, 1000, 59_999, 1_800_000, 3_599_999)))


def _audit(rng: random.Random, number: int) -> Event:
    moment = _moment(rng)
    record: dict[str, Any] = {
        "Id": f"v{number}",
        "CreationTime": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}",
        "Workload": "Exchange",
        "RecordType": rng.choice((1, 2, 2, 3, 50)),
        "Operation": rng.choice(("MailItemsAccessed", "SEND", "Send", "update", "Create", "Delete")),
        "UserId": rng.choice(_USERS),
        "UserKey": rng.choice(_KEYS),
        "MailboxOwnerUPN": rng.choice(_USERS),
        "ClientIPAddress": rng.choice(
            ("198.51.100.20", "198.51.100.40", "203.0.113.9", "2001:db8::5", "2001:DB8:0:0::5", "::1", "no")
        ),
        "UserAgent": rng.choice(_AGENTS),
        "ClientInfoString": rng.choice(("Client=REST;curl/8;", "libcurl", "ж", "Client=OWA;", "x" * 1030)),
        "LogonType": rng.choice((0, 1, 2)),
        "SessionId": rng.choice(("s1", "S1", "s2")),
        "OperationCount": rng.choice((1, 2, 3, 5, 8, -2, "4", "many", 2**40)),
        "ExternalAccess": rng.choice((True, False)),
        "LogonUserSid": rng.choice(("S-1", "S-2")),
        "MailboxOwnerSid": rng.choice(("S-1", "S-2")),
        "MailboxGuid": rng.choice(("g1", "g2", "G1")),
    }
    for field in list(record)[4:]:
        if rng.random() < 0.15:
            del record[field]
    return Event(f"v{number}", M365, record)


def _creation(rng: random.Random, number: int) -> Event:
    moment = _moment(rng)
    shell = "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe"
    record: dict[str, Any] = {
        "UtcTime": moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}",
        "Image": rng.choice((shell, shell.upper(), "C:\\Windows\\explorer.exe", "D:\\x.exe")),
        "ParentImage": rng.choice((shell, "C:\\Windows\\Explorer.exe", "D:\\X.EXE")),
        "CommandLine": rng.choice(
            ("powershell Search-Mailbox", "x Get-MessageTrace.ps1", "é" * 1200, "a.ps1")
        ),
        "User": rng.choice(("CONTOSO\\j.doe", "CONTOSO\\J.Doe", "ΑΣ", "SYSTEM")),
        "Computer": rng.choice(("ex01", "EX01", "ex02")),
        "IntegrityLevel": rng.choice(("High", "SYSTEM", "Medium")),
        "EventID": rng.choice((1, 4688)),
        "ParentProcessId": rng.choice(("4", "880", "7")),
        "EventType": rng.choice(("start", "start", "end")),
    }
    for field in list(record)[1:]:
        if rng.random() < 0.15:
            del record[field]
    return Event(f"v{number}", SOURCES["process_creation"], record)

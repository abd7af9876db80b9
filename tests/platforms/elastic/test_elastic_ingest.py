"""The trap: a rule that matches the raw record and nothing in Elastic. The o365 integration renames, moves
and drops fields; the bulk rule then has to count what is left, hour by hour, letter case aside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.pack import Pack
from detection_pack.platforms.elastic.documents import ingested
from support.engines import of_platform, run_elastic
from support.sources import BY_KIND, M365

BULK = RuleEntry("bulk_cross_mailbox_access", ("UserId", "ClientIP"), 3600)
NOW = Clock(datetime(2026, 1, 2, tzinfo=UTC))


def document(record: dict[str, Any], kind: str = "m365") -> dict[str, Any]:
    found = ingested([Event("1", BY_KIND[kind], record)])
    read: dict[str, Any] = json.loads(found[0][2])
    return read


@pytest.mark.parametrize("record_type", [2, "2", "ExchangeItem"])
def test_on_single_items_the_owner_moves_to_user_email(record_type: object) -> None:
    held = document({"RecordType": record_type, "UserId": "u@x.com", "MailboxOwnerUPN": "Own@x.com"})
    assert (held["event.code"], held["user.email"], held["user.id"]) == (
        "ExchangeItem",
        "Own@x.com",
        "u@x.com",
    )
    assert "o365.audit.MailboxOwnerUPN" not in held


@pytest.mark.parametrize("record_type", [3, 50])
def test_on_other_records_the_owner_stays(record_type: int) -> None:
    held = document({"RecordType": record_type, "UserId": "u@x.com", "MailboxOwnerUPN": "own@x.com"})
    assert (held["user.email"], held["o365.audit.MailboxOwnerUPN"]) == ("u@x.com", "own@x.com")


@pytest.mark.parametrize(
    ("record", "address"),
    [
        ({"ClientIP": "80.1.2.3:16902"}, "80.1.2.3"),
        ({"ClientIP": "[2603:1026:207:5d::5]:47254"}, "2603:1026:207:5d::5"),
        ({"ClientIP": "[::1]"}, "::1"),
        ({"ClientIP": "::ffff:10.0.0.1"}, "10.0.0.1"),
        ({"ClientIPAddress": "10.0.0.1", "ClientIP": "10.0.0.2"}, "10.0.0.1"),
        ({"ActorIpAddress": "10.0.0.3"}, "10.0.0.3"),
        ({}, None),
    ],
)
def test_addresses(record: dict[str, Any], address: str | None) -> None:
    held = document({"RecordType": 2, **record})
    assert held.get("source.ip") == address
    assert held.get("o365.audit.ClientIP") == (
        record.get("ClientIP") if "ClientIPAddress" in record else None
    )


def test_parameters() -> None:
    listed = document({"Parameters": [{"Name": "A.b", "Value": "x"}, {"Name": "C", "Value": None}]})
    assert {k: v for k, v in listed.items() if "Parameters" in k} == {"o365.audit.Parameters.A.b": "x"}
    assert document({"Parameters": '-Name "x"'})["o365.audit.Parameters._raw"] == '-Name "x"'


def test_empty_is_dropped_and_renamed_fields_are_gone() -> None:
    held = document(
        {
            "RecordType": 1,
            "UserId": "",
            "UserKey": None,
            "Operation": "X",
            "Workload": "Exchange",
            "UserType": 2,
        }
    )
    for name in (
        "user.id",
        "o365.audit.UserId",
        "o365.audit.UserKey",
        "o365.audit.Operation",
        "o365.audit.Workload",
    ):
        assert name not in held
    assert (held["event.action"], held["event.provider"], held["o365.audit.UserType"]) == (
        "X",
        "Exchange",
        "2",
    )


def test_process() -> None:
    held = document({"Image": "C:\\a\\B.exe", "User": "D\\u", "Computer": "H", "CommandLine": ""}, "process")
    assert (held["process.name"], held["user.name"], held["host.name"]) == ("B.exe", "u", "H")
    assert "process.command_line" not in held


POWERSHELL = {"Image": "C:\\powershell.exe", "CommandLine": "powershell -c Search-Mailbox", "User": "D\\u"}


@pytest.mark.parametrize(
    ("types", "found"),
    [
        (None, True),
        ("start", True),
        (["start"], True),
        (["start", "end"], True),
        (["end", "start"], True),
        ("end", False),
        (["end"], False),
        (["info"], False),
    ],
)
def test_a_process_that_is_over_soon_is_found(pack: Pack, tmp_path: Path, types: Any, found: bool) -> None:
    """Elastic Defend, since 8.18: its start and its end are one event. The end alone is no start, and Elastic
    holds a list as a list."""
    record = {**POWERSHELL, "UtcTime": "2026-01-01 12:00:00.000"}
    record |= {} if types is None else {"EventType": types}
    held = document(record, "process")
    assert held["event.type"] == ("start" if types is None else types)
    for artefact in of_platform(pack, "elastic"):
        (tmp_path / artefact.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / artefact.path).write_bytes(artefact.content)
    rule = RuleEntry("onprem_powershell_collection")
    for command in (record["CommandLine"], record["CommandLine"] + " x" * 1000):
        event = Event("1", BY_KIND["process"], {**record, "CommandLine": command})
        assert {bool(hit.events) for hit in run_elastic(tmp_path, [rule], [event], NOW)} == {found}


def accesses(
    owners: Sequence[str | None],
    user: str | Sequence[str] | None = "eve@x.com",
    time: str = "12:10:00",
    **more: Any,
) -> list[dict[str, Any]]:
    """One access an owner. ``user`` None leaves UserId out."""
    out = []
    for number, owner in enumerate(owners):
        named = user if user is None or isinstance(user, str) else user[number % len(user)]
        record = {"RecordType": 2, "Operation": "Create", "UserId": named, "MailboxOwnerUPN": owner}
        if owner:
            record["MailboxGuid"] = f"guid of {owner.lower()}"
        out.append({**record, "ClientIP": "10.0.0.1", "CreationTime": f"2026-01-01T{time}", **more})
    return out


def hits(pack: Pack, folder: Path, records: Sequence[dict[str, Any]], kind: str) -> list[Hit]:
    for artefact in of_platform(pack, "elastic"):
        (folder / artefact.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / artefact.path).write_bytes(artefact.content)
    events = [Event(str(n), M365, record) for n, record in enumerate(records)]
    return [hit for hit in run_elastic(folder, [BULK], events, NOW) if hit.artefact.endswith(kind)]


FIVE = [f"u{n}@x.com" for n in range(5)]
CASES = [
    ("five", accesses(FIVE), [5]),
    ("four", accesses(FIVE[:4]), []),
    ("four and the own", accesses([*FIVE[:4], "EVE@x.com"]), []),
    ("one owner in five spellings", accesses(["u@x.com", "U@x.com", "u@X.com", "u@x.Com", "u@x.coM"]), []),
    ("one account in two spellings", accesses(FIVE, ("eve@x.com", "Eve@X.com")), [5]),
    ("no UserId", accesses(FIVE, None), [5]),
    ("no owner", accesses([*FIVE[:4], None, ""]), []),
    ("other operation", accesses(FIVE, Operation="Update"), []),
    ("operation in capitals", accesses(FIVE, Operation="CREATE"), [5]),
    ("other record type", accesses(FIVE, RecordType=3), []),
    ("two addresses", accesses(FIVE[:3]) + accesses(FIVE[3:], ClientIP="10.0.0.2"), []),
    ("over the hour", accesses(FIVE[:3], time="12:59:59") + accesses(FIVE[3:], time="13:00:00"), []),
    ("up to the hour", accesses(FIVE[:3], time="12:00:00") + accesses(FIVE[3:], time="12:59:59.999"), [5]),
    ("no address", accesses(FIVE, ClientIP=None), [5]),
]


@pytest.mark.parametrize(("name", "records", "values"), CASES, ids=[case[0] for case in CASES])
def test_bulk_rule_exactly(
    name: str, records: list[dict[str, Any]], values: list[int], pack: Pack, tmp_path: Path
) -> None:
    assert [hit.value for hit in hits(pack, tmp_path, records, ".esql")] == values


@pytest.mark.parametrize(("name", "records", "values"), CASES, ids=[case[0] for case in CASES])
def test_threshold_rule_covers_the_exact_one(
    name: str, records: list[dict[str, Any]], values: list[int], pack: Pack, tmp_path: Path
) -> None:
    """Save where Kibana itself groups otherwise: by exact letter case, and not at all without a value."""
    if name in ("one account in two spellings", "no UserId", "no address"):
        assert hits(pack, tmp_path, records, ".threshold.json") == []
        return
    exact = {(hit.group, hit.window) for hit in hits(pack, tmp_path, records, ".esql")}
    found = {(hit.group, hit.window) for hit in hits(pack, tmp_path, records, ".threshold.json")}
    assert exact <= found


def test_threshold_rule_counts_the_own_mailbox_too(pack: Pack, tmp_path: Path) -> None:
    found = hits(pack, tmp_path, accesses([*FIVE[:4], "eve@x.com"]), ".threshold.json")
    assert [hit.value for hit in found] == [5]


def test_alert_view(pack: Pack, tmp_path: Path) -> None:
    (hit,) = hits(pack, tmp_path, accesses(FIVE), ".esql")
    assert hit.rows == (
        {
            "time": datetime(2026, 1, 1, 12, 10, tzinfo=UTC),
            "UserId": "eve@x.com",
            "ClientIP": "10.0.0.1",
            "ClientAgent": "",
            "DetectionType": "Bulk Cross-Mailbox Access",
            "DetectionDetail": "Single account accessed 5 distinct mailboxes in 1h window",
            "ExtraInfo": "Create",
        },
    )


def test_the_same_bytes_again(pack: Pack) -> None:
    assert of_platform(pack, "elastic") == of_platform(pack, "elastic")

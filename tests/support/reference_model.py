"""The behaviour in plain Python: the yardstick that every engine is held against.

What it looks for stands in reference/; with ``departures`` it adds those of docs/departures.md, each under
the name it has there. The differential test holds it against a Kusto query made from the same folder.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import yaml

from conftest import REFERENCE
from detection_pack.model.event import Event

BEHAVIOURS: dict[str, Any] = yaml.safe_load((REFERENCE / "behaviours.yml").read_text(encoding="utf-8"))
#: The number of each record type.
RECORD_TYPES = {
    row["name"]: int(row["value"])
    for row in csv.DictReader((REFERENCE / "enumerations.csv").read_text(encoding="utf-8").splitlines())
    if row["enumeration"] == "AuditLogRecordType" and row["name"]
}


def listed(rule: str, condition: str, field: str) -> tuple[str, ...]:
    """The names that a behaviour looks for in a field: ``listed("exchange_admin_cmdlet", "whole_term_in",
    "Operation")``."""
    names = BEHAVIOURS["behaviours"][rule][condition][field]
    return tuple(value for name in names for value in BEHAVIOURS["lists"][name])


def record_types(rule: str) -> set[int]:
    return {RECORD_TYPES[name] for name in BEHAVIOURS["behaviours"][rule]["record_types"]}


AGENTS = listed("suspicious_ews_client", "whole_term_in", "ClientInfoString")
CMDLETS = listed("exchange_admin_cmdlet", "whole_term_in", "Operation")
COMMANDS = listed("onprem_powershell_collection", "whole_term_in", "CommandLine")
SHELLS = listed("onprem_powershell_collection", "file_name_of", "Image")
ITEM_OPERATIONS = listed("bulk_cross_mailbox_access", "equal_to", "Operation")
COUNTED = BEHAVIOURS["behaviours"]["bulk_cross_mailbox_access"]["counted"]

Group = tuple[str, str, datetime]


def exchange_admin_cmdlet(event: Event) -> bool:
    administration = _type(event) in record_types("exchange_admin_cmdlet")
    return administration and any(contains_whole_term(_text(event, "Operation"), c) for c in CMDLETS)


def suspicious_ews_client(event: Event, departures: bool) -> bool:
    types = record_types("suspicious_ews_client")
    if departures:  # departure: aggregated-records
        types.add(RECORD_TYPES["ExchangeItemAggregated"])
    agent = _text(event, "ClientInfoString")
    return _type(event) in types and any(contains_whole_term(agent, term) for term in AGENTS)


def onprem_powershell_collection(event: Event) -> bool:
    if event.kind != "process_creation":
        return False
    shell = re.split(r"[\\/]", _text(event, "Image"))[-1].lower()
    command = _text(event, "CommandLine")
    return shell in SHELLS and any(contains_whole_term(command, term) for term in COMMANDS)


def cross_mailbox_access(event: Event, departures: bool) -> bool:
    operation, user, owner = (_text(event, f) for f in ("Operation", "UserId", "MailboxOwnerUPN"))
    item = _type(event) in record_types("bulk_cross_mailbox_access")
    if departures:  # departures: letter-case, upn-case
        known = operation.lower() in {o.lower() for o in ITEM_OPERATIONS}
        return item and known and owner != "" and user.lower() != owner.lower()
    return item and operation in ITEM_OPERATIONS and owner not in ("", user)


def bulk_cross_mailbox_access(events: Iterable[Event], departures: bool) -> dict[Group, int]:
    """``{(user, address, start of the hour): distinct owners}`` of every group that reaches the threshold."""
    owners: dict[Group, set[str]] = defaultdict(set)
    for event in events:
        if event.kind == "m365" and cross_mailbox_access(event, departures):
            assert event.time is not None
            hour = event.time - timedelta(
                minutes=event.time.minute, seconds=event.time.second, microseconds=event.time.microsecond
            )
            user, owner, address = (_text(event, f) for f in ("UserId", "MailboxOwnerUPN", "ClientIP"))
            if departures:  # departures: upn-case, client-ip, missing-user
                user, owner = (user or _text(event, "LogonUserSid")).lower(), owner.lower()
                address = without_port(address or _text(event, "ClientIPAddress"))
            owners[user, address, hour].add(owner)
    return {group: len(found) for group, found in owners.items() if len(found) >= COUNTED["at_least"]}


def without_port(address: str) -> str:
    """``80.1.2.3:16902`` and ``[2001:db8::5]:47254`` without port and brackets; any other text as it is."""
    if found := re.fullmatch(r"\[([^\]]*)\](?::\d+)?", address):
        return found[1]
    found = re.fullmatch(r"([^:]+):\d+", address)
    return found[1] if found else address


def matches(rule: str, event: Event, departures: bool) -> bool:
    """The verdict of a plain rule on one event."""
    if rule == "exchange_admin_cmdlet":
        return event.kind == "m365" and exchange_admin_cmdlet(event)
    if rule == "suspicious_ews_client":
        return event.kind == "m365" and suspicious_ews_client(event, departures)
    assert rule == "onprem_powershell_collection"
    return onprem_powershell_collection(event)


def _type(event: Event) -> int | None:
    value: Any = event.record.get("RecordType")
    return value if isinstance(value, int) else None


def _text(event: Event, field: str) -> str:
    record: Mapping[str, Any] = event.record
    return str(record.get(field) or "")


def contains(value: str, term: str) -> bool:
    """What ``contains`` answers, in Python."""
    return term.casefold() in value.casefold()


def contains_whole_term(value: str, term: str) -> bool:
    """What ``has`` answers, in Python."""
    text, wanted = value.casefold(), term.casefold()
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        left = not wanted[0].isalnum() or start == 0 or not text[start - 1].isalnum()
        right = not wanted[-1].isalnum() or end == len(text) or not text[end].isalnum()
        if left and right:
            return True
        start = text.find(wanted, start + 1)
    return False

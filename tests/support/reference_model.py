"""The behaviour in plain Python: the yardstick that every engine is held against.

`reference` restates what the reference query finds; `pack` adds the departures of docs/departures.md, each
under the name it has there. The differential test holds `reference` against the query itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from detection_pack.model.event import Event

CMDLETS = (
    "New-MailboxExportRequest",
    "Get-MailboxExportRequest",
    "Search-Mailbox",
    "New-ComplianceSearch",
    "Start-ComplianceSearch",
    "New-ComplianceSearchAction",
    "Get-ComplianceSearchAction",
    "Invoke-SelfSearch",
    "Invoke-GlobalMailSearch",
    "Get-GlobalAddressList",
    "Invoke-MailboxSearch",
    "New-MailboxSearch",
)
AGENTS = (
    "MailSniper",
    "python-requests",
    "python/",
    "Go-http-client",
    "curl/",
    "wget/",
    "Microsoft.Exchange.WebServices",
    "EWSEditor",
)
TOOLS = ("MailSniper", "Microsoft.Exchange.WebServices", "EWSEditor", "Invoke-PasswordSprayOWA")
SHELLS = ("powershell.exe", "pwsh.exe", "exshell.exe")
ITEM_OPERATIONS = ("MailboxLogin", "Create", "Move", "Send", "Copy")

Group = tuple[str, str, datetime]


def exchange_admin_cmdlet(event: Event) -> bool:
    return _type(event) == 1 and any(contains_whole_term(_text(event, "Operation"), c) for c in CMDLETS)


def suspicious_ews_client(event: Event, departures: bool) -> bool:
    types = (2, 3, 50) if departures else (2, 3)  # departure: aggregated-records
    agent = _text(event, "ClientInfoString")
    return _type(event) in types and any(contains_whole_term(agent, term) for term in AGENTS)


def onprem_powershell_collection(event: Event) -> bool:
    if event.kind != "process_creation":
        return False
    shell = re.split(r"[\\/]", _text(event, "Image"))[-1].lower()
    command = _text(event, "CommandLine")
    return shell in SHELLS and any(contains_whole_term(command, term) for term in (*CMDLETS, *TOOLS))


def cross_mailbox_access(event: Event, departures: bool) -> bool:
    operation, user, owner = (_text(event, f) for f in ("Operation", "UserId", "MailboxOwnerUPN"))
    if departures:  # departures: letter-case, upn-case
        known = operation.lower() in {o.lower() for o in ITEM_OPERATIONS}
        return _type(event) == 2 and known and owner != "" and user.lower() != owner.lower()
    return _type(event) == 2 and operation in ITEM_OPERATIONS and owner not in ("", user)


def bulk_cross_mailbox_access(events: Iterable[Event], departures: bool) -> dict[Group, int]:
    """``{(user, address, start of the hour): distinct owners}`` of every group that reaches five."""
    owners: dict[Group, set[str]] = defaultdict(set)
    for event in events:
        if event.kind == "m365" and cross_mailbox_access(event, departures):
            assert event.time is not None
            hour = event.time - timedelta(
                minutes=event.time.minute, seconds=event.time.second, microseconds=event.time.microsecond
            )
            user, owner, address = (_text(event, f) for f in ("UserId", "MailboxOwnerUPN", "ClientIP"))
            if departures:  # departures: upn-case, client-ip
                user, owner = user.lower(), owner.lower()
                address = without_port(address or _text(event, "ClientIPAddress"))
            owners[user, address, hour].add(owner)
    return {group: len(found) for group, found in owners.items() if len(found) >= 5}


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

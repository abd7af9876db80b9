"""Events at random, seeded: dense in near misses, as raw as their sources write them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from detection_pack.model.event import Event
from support import reference_model as model
from support.sources import M365, PROCESS

START = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
#: Where the last hour that the events use ends; a query at this time sees them all.
END = START + timedelta(hours=12)

_NEIGHBOURS = (
    "",
    "",
    "",
    " ",
    "-",
    "_",
    "x",
    "Z",
    "7",
    "é",
    "ж",
    "中",
    ".",
    "/",
    "\\",
    '"',
    "'",
    "(",
    "\n",
    "\t",
    ";",
)
_ADMIN_NEAR = ("Search-MailboxAuditLog", "Set-Mailbox", "Get-Mailbox", "New-InboxRule", "Search Mailbox", "")
_AGENT_TEMPLATES = (
    "{}",
    "Client=WebServices;{}",
    "Client=WebServices;ExchangeWebServicesProxy/CrossSite/EXCH/15.20.7249.024/{}[AppId=47629505];",
    "Client=REST;{};",
    "Client=OWA;Mozilla/5.0 (X11) {} Firefox/128.0;",
)
_AGENTS_NEAR = (
    "Client=WebServices;",
    "Client=WebServices;Microsoft Office/16.0 (Windows NT 10.0)[AppId=d3590ed6];",
    "Client=WebServices;Action=ConfigureGroupMailbox",
    "Client=MSExchangeRPC",
    "ExchangeServicesClient/15.00.0913.015",
)
_COMMANDS = (
    "powershell.exe -c {}",
    'powershell -Command "{} -Mailbox a@contoso.example -FilePath \\\\srv\\c$\\x.pst"',
    "pwsh -File C:\\jobs\\{}.ps1",
    "Add-Type -Path 'C:\\t\\{}.dll'",
    "{}",
    "cmd /c echo {} & whoami",
)
_IMAGES = (
    "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
    "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\POWERSHELL.EXE",
    "C:\\Program Files\\PowerShell\\7\\pwsh.exe",
    "D:\\x\\ExShell.exe",
    "powershell.exe",
    "C:\\Windows\\System32\\cmd.exe",
    "C:\\t\\mypowershell.exe",
    "C:\\t\\powershell.exe.bak",
    "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell_ise.exe",
    "C:\\powershell.exe\\other.exe",
)


def generate(count: int, seed: int) -> list[Event]:
    """At least ``count`` events: a third each of admin and item records, groups, and process creations."""
    rng = random.Random(seed)
    events: list[Event] = []
    while len(events) < count:
        make = rng.choices((_admin, _item, _process, _group), weights=(6, 6, 6, 2))[0]
        events += make(rng, len(events))
    return events


def _admin(rng: random.Random, number: int) -> list[Event]:
    operation = _mutated(rng, rng.choice(model.CMDLETS)) if rng.random() < 0.7 else rng.choice(_ADMIN_NEAR)
    record = {
        "RecordType": rng.choice((1, 1, 1, 1, 2, 18, 24)),
        "Workload": "Exchange",
        "Operation": operation,
        "UserId": rng.choice(("admin@contoso.example", "Admin@Contoso.Example", "S-1-5-18")),
        "ClientIP": rng.choice(("198.51.100.7:16902", "[2001:db8::5]:47254", "")),
        "Parameters": [{"Name": "Identity", "Value": 'a "quoted" \\ value'}],
    }
    if record["RecordType"] in (18, 24):
        record["Workload"] = "SecurityComplianceCenter"
    return [_m365(rng, number, record)]


def _item(rng: random.Random, number: int) -> list[Event]:
    if rng.random() < 0.75:
        agent = rng.choice(_AGENT_TEMPLATES).format(
            _mutated(rng, rng.choice(model.AGENTS)) + rng.choice(("", "2.25.1"))
        )
    else:
        agent = rng.choice(_AGENTS_NEAR)
    record: dict[str, Any] = {
        "RecordType": rng.choice((2, 2, 3, 50, 50, 1)),
        "Workload": "Exchange",
        "Operation": rng.choice(("MailItemsAccessed", "Update", "SoftDelete", "Send")),
        "UserId": "reader@contoso.example",
        "MailboxOwnerUPN": "reader@contoso.example",
        "ClientIPAddress": "203.0.113.9",
        "LogonType": 0,
    }
    if record["RecordType"] in (2, 3):
        record["ClientIP"] = "203.0.113.9"
    if rng.random() < 0.93:
        record["ClientInfoString"] = agent
    return [_m365(rng, number, record)]


def _group(rng: random.Random, number: int) -> list[Event]:
    """One account in several mailboxes: around the threshold, around an hour's end, in two spellings."""
    user = f"user{number}@contoso.example"
    base = START + timedelta(hours=rng.randrange(11), minutes=rng.choice((0, 30, 59)), seconds=50)
    events: list[Event] = []
    for _ in range(rng.randrange(4, 15)):
        owner = rng.choice(
            (f"box{rng.randrange(8)}@contoso.example", f"box{rng.randrange(8)}@contoso.example", user)
        )
        record: dict[str, Any] = {
            "RecordType": rng.choice((2,) * 12 + (3, 50)),
            "Workload": "Exchange",
            "Operation": rng.choice(
                ("Create", "Move", "Send", "Copy", "MailboxLogin") * 4 + ("Update", "create")
            ),
            "UserId": _spelling(rng, user, 0.1),
            "MailboxOwnerUPN": _spelling(rng, owner, 0.15),
            "ClientInfoString": "Client=OWA;Action=ViaProxy",
            "LogonType": 2,
        }
        # What Exchange always writes beside the names, the same for every spelling of them.
        record["MailboxGuid"] = f"guid-{owner}"
        record["MailboxOwnerSid"] = f"S-1-5-21-{owner}"
        record["LogonUserSid"] = f"S-1-5-21-{user}"
        address = rng.choice(("198.51.100.20",) * 6 + ("198.51.100.20:4431", "198.51.100.21"))
        if record["RecordType"] != 50 and rng.random() < 0.97:
            record["ClientIP"] = address
        record["ClientIPAddress"] = address.split(":")[0]
        if rng.random() < 0.06:  # a record without an owner has nothing of one
            for field in ("MailboxOwnerUPN", "MailboxOwnerSid", "MailboxGuid"):
                record[field] = ""
            if rng.random() < 0.7:
                del record["MailboxOwnerUPN"]
        seconds = rng.choice((0, 1, 9, 9, 10, 10, 11, 40))
        events.append(_m365(rng, number + len(events), record, base + timedelta(seconds=seconds)))
    return events


def _process(rng: random.Random, number: int) -> list[Event]:
    command = rng.choice(_COMMANDS).format(_mutated(rng, rng.choice((*model.COMMANDS, "Get-Mailbox"))))
    record = {
        "Image": rng.choice(_IMAGES),
        "CommandLine": command,
        "ParentImage": "C:\\Windows\\explorer.exe",
        "User": "CONTOSO\\j.doe",
        "Computer": "ex01.contoso.example",
        "UtcTime": _moment(rng).strftime("%Y-%m-%d %H:%M:%S.") + f"{rng.randrange(1000):03d}",
    }
    if rng.random() < 0.04:
        del record[rng.choice(("Image", "CommandLine", "ParentImage", "User"))]
    return [Event(f"p{number}", PROCESS, record)]


def _m365(rng: random.Random, number: int, record: dict[str, Any], moment: datetime | None = None) -> Event:
    stamp = (moment or _moment(rng)).strftime("%Y-%m-%dT%H:%M:%S")
    return Event(f"m{number}", M365, {"Id": f"m{number}", "CreationTime": stamp, **record})


def _moment(rng: random.Random) -> datetime:
    return START + timedelta(seconds=rng.randrange(12 * 3600))


def _mutated(rng: random.Random, term: str) -> str:
    """The term in some letter case, with some neighbours, now and then with a fault inside."""
    text = _spelling(rng, term, 0.6)
    if rng.random() < 0.08:
        cut = rng.randrange(len(text))
        text = text[:cut] + rng.choice(("", "x", " ", "–")) + text[cut + 1 :]
    return rng.choice(_NEIGHBOURS) + text + rng.choice(_NEIGHBOURS)


def _spelling(rng: random.Random, text: str, odds: float) -> str:
    if rng.random() >= odds:
        return text
    return rng.choice((text.upper(), text.lower(), "".join(rng.choice((c.upper(), c.lower())) for c in text)))

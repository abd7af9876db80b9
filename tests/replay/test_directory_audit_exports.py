"""The trap: one act has two forms, the unified audit log's and Entra's own, and a value of the second has
quotation marks of its own and stands below the resource: read as it is, no permission equals its name.

The same three acts in every form in which people have them must fire the same rule on every platform.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.replay.needs import wanted_keys
from detection_pack.replay.reading import read
from detection_pack.replay.verdict import clock_for
from support.engines import ENGINES
from support.exports import read_events
from support.sources import SOURCES

DIRECTORY = {"directory_audit": SOURCES["directory_audit"]}
GRAPH = "00000003-0000-0000-c000-000000000000;https://graph.microsoft.com"
CONSENT = "[] => [[Id: x, ClientId: y, ConsentType: Principal, Scope: Mail.Read, CreatedDateTime: ]]; "
PLATFORMS = ("defender", "elastic", "sentinel", "splunk")


def record(number: int, operation: str, actor: str, *changed: tuple[str, str, str]) -> dict[str, Any]:
    """An act as the unified audit log has it."""
    return {
        "CreationTime": f"2026-03-10T09:1{number}:00",
        "Id": f"a6bee61d-8b3f-42e1-b4fa-77866b05c43{number}",
        "Operation": f"{operation}.",
        "OrganizationId": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "RecordType": 8,
        "ResultStatus": "Success",
        "UserType": 0,
        "Version": 1,
        "Workload": "AzureActiveDirectory",
        "UserId": actor,
        "ModifiedProperties": [{"Name": n, "NewValue": new, "OldValue": old} for n, new, old in changed],
    }


PRINCIPAL = "fc8c8125-bc0c-499d-8344-e53c6e3caa81"
RECORDS = [
    record(
        1,
        "Add app role assignment to service principal",
        f"ServicePrincipal_{PRINCIPAL}",
        ("AppRole.Id", "11111111-bc0c-499d-8344-e53c6e3caa81", ""),
        ("AppRole.Value", "MailboxItem.Export.All", ""),
        ("ServicePrincipal.DisplayName", 'The "App"', ""),
        ("ServicePrincipal.AppId", "5f91ce94-4cc5-4ebe-aeb6-f074e57201bb", ""),
        ("TargetId.ServicePrincipalNames", GRAPH, ""),
    ),
    record(
        2,
        "Add delegated permission grant",
        "admin@contoso.example",
        ("DelegatedPermissionGrant.Scope", " User.Read Mail.ReadWrite", "User.Read"),
        ("DelegatedPermissionGrant.ConsentType", "AllPrincipals", "AllPrincipals"),
        ("TargetId.ServicePrincipalNames", GRAPH, ""),
    ),
    record(
        3,
        "Consent to application",
        "user@contoso.example",
        ("ConsentContext.IsAdminConsent", "False", ""),
        ("ConsentContext.IsAppOnly", "False", ""),
        ("ConsentContext.OnBehalfOfAll", "False", ""),
        ("ConsentContext.Tags", "", ""),
        ("ConsentAction.Permissions", CONSENT, ""),
    ),
    # Nothing new: it was there before.
    record(
        4,
        "Add delegated permission grant",
        "admin@contoso.example",
        ("DelegatedPermissionGrant.Scope", "Mail.Read User.Read", "Mail.Read"),
        ("TargetId.ServicePrincipalNames", GRAPH, ""),
    ),
]


def quoted(value: str) -> str | None:
    return json.dumps(value) if value else None


def entra(one: Mapping[str, Any]) -> dict[str, Any]:
    """The same act as Entra's own log and Graph's directoryAudits have it."""
    user = one["UserId"]
    actor = (
        {"app": {"appId": None, "displayName": "App", "servicePrincipalId": PRINCIPAL}}
        if user.startswith("ServicePrincipal_")
        else {"user": {"id": "x", "displayName": None, "userPrincipalName": user, "ipAddress": ""}}
    )
    changed = [
        {
            "displayName": p["Name"],
            "oldValue": quoted(p["OldValue"]),
            "newValue": quoted(p["NewValue"]),
        }
        for p in one["ModifiedProperties"]
    ]
    return {
        "id": f"Directory_{one['Id']}",
        "category": "ApplicationManagement",
        "correlationId": "ed53faec-49b5-444f-b6af-b928558ca433",
        "result": "success",
        "resultReason": "",
        "activityDisplayName": one["Operation"].removesuffix("."),
        "activityDateTime": one["CreationTime"] + ".7643129Z",
        "loggedByService": "Core Directory",
        "operationType": "Assign",
        "initiatedBy": actor,
        "targetResources": [
            {"id": "8429eb5c", "displayName": "Microsoft Graph", "modifiedProperties": changed},
            {"id": "2e5c2fd0", "displayName": None, "modifiedProperties": []},
        ],
        "additionalDetails": [{"key": "User-Agent", "value": "EvoSTS"}],
    }


def diagnostic(one: Mapping[str, Any]) -> dict[str, Any]:
    act = entra(one)
    return {
        "time": act["activityDateTime"],
        "operationName": act["activityDisplayName"],
        "category": "AuditLogs",
        "tenantId": one["OrganizationId"],
        "resultSignature": "None",
        "properties": act,
    }


def row(one: Mapping[str, Any]) -> dict[str, Any]:
    """AuditLogs of Sentinel; its dynamic columns as text, as the portal's CSV has them."""
    act = entra(one)
    return {
        "TimeGenerated": act["activityDateTime"],
        "OperationName": act["activityDisplayName"],
        "Category": act["category"],
        "CorrelationId": act["correlationId"],
        "Id": act["id"],
        "Result": act["result"],
        "InitiatedBy": json.dumps(act["initiatedBy"]),
        "TargetResources": json.dumps(act["targetResources"]),
        "AADTenantId": one["OrganizationId"],
        "Type": "AuditLogs",
    }


def portal_row(one: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table that the Entra portal downloads: five properties at most."""
    user = one["UserId"]
    made = {
        "Date (UTC)": one["CreationTime"] + "Z",
        "CorrelationId": "ed53faec-49b5-444f-b6af-b928558ca433",
        "Service": "Core Directory",
        "Category": "ApplicationManagement",
        "Activity": one["Operation"].removesuffix("."),
        "Result": "success",
        "ActorType": "User",
        "ActorDisplayName": "",
        "ActorUserPrincipalName": user if "@" in user else "",
        "IPAddress": "",
        "ActorServicePrincipalId": "" if "@" in user else PRINCIPAL,
        "Target1Type": "ServicePrincipal",
        "Target1ObjectId": "8429eb5c",
    }
    properties = one["ModifiedProperties"]
    for n in range(1, 6):
        held = properties[n - 1] if n <= len(properties) else {"Name": "", "OldValue": "", "NewValue": ""}
        made[f"Target1ModifiedProperty{n}Name"] = held["Name"]
        made[f"Target1ModifiedProperty{n}OldValue"] = quoted(held["OldValue"]) or ""
        made[f"Target1ModifiedProperty{n}NewValue"] = quoted(held["NewValue"]) or ""
    return made


def document(one: Mapping[str, Any]) -> dict[str, Any]:
    """A document of the o365 integration."""
    changed = {
        p["Name"].replace(".", "_"): {k: p[k] for k in ("NewValue", "OldValue")}
        for p in one["ModifiedProperties"]
    }
    return {
        "@timestamp": one["CreationTime"] + ".000Z",
        "event": {
            "action": one["Operation"],
            "code": "AzureActiveDirectory",
            "dataset": "o365.audit",
            "id": one["Id"],
            "provider": "AzureActiveDirectory",
        },
        "user": {"id": one["UserId"]},
        "o365": {"audit": {"RecordType": "8", "ResultStatus": "Success", "ModifiedProperties": changed}},
    }


def flattened(tree: Mapping[str, Any], before: str = "") -> dict[str, str]:
    made: dict[str, str] = {}
    for key, value in tree.items():
        path = f"{before}{key}"
        made |= flattened(value, f"{path}.") if isinstance(value, Mapping) else {path: str(value)}
    return made


def lines(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for one in rows for key in one)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


FORMS: Mapping[str, Callable[[], str]] = {
    "records of the Management Activity API": lambda: json.dumps(RECORDS),
    "Purview's table": lambda: table(
        [{"RecordId": r["Id"], "RecordType": 8, "AuditData": json.dumps(r)} for r in RECORDS]
    ),
    "Search-UnifiedAuditLog": lambda: json.dumps(
        [
            {"RecordType": "AzureActiveDirectory", "Operations": r["Operation"], "AuditData": json.dumps(r)}
            for r in RECORDS
        ]
    ),
    "audit search of Graph": lambda: json.dumps(
        {
            "value": [
                {"id": r["Id"], "auditLogRecordType": "azureActiveDirectory", "auditData": r} for r in RECORDS
            ]
        }
    ),
    "rows of CloudAppEvents": lambda: lines(
        *({"Timestamp": r["CreationTime"], "ActionType": r["Operation"], "RawEventData": r} for r in RECORDS)
    ),
    "events of Splunk": lambda: lines(*({"result": {"_raw": json.dumps(r)}} for r in RECORDS)),
    "directoryAudits of Graph": lambda: json.dumps({"value": list(map(entra, RECORDS))}),
    "the portal's JSON": lambda: json.dumps(list(map(entra, RECORDS)), indent=2),
    "diagnostic records": lambda: lines(*map(diagnostic, RECORDS)),
    "rows of Sentinel": lambda: lines(*map(row, RECORDS)),
    "rows of Sentinel with objects": lambda: lines(
        *(
            {**row(r), "InitiatedBy": entra(r)["initiatedBy"], "TargetResources": entra(r)["targetResources"]}
            for r in RECORDS
        )
    ),
    "Sentinel's table": lambda: table(list(map(row, RECORDS))),
    "the portal's table": lambda: table(list(map(portal_row, RECORDS))),
    "documents of Elastic": lambda: lines(*({"_source": document(r)} for r in RECORDS)),
    "Discover's table": lambda: table(list(map(flattened, map(document, RECORDS)))),
    "what Elastic keeps": lambda: lines(
        *({"_source": {"event": {"original": json.dumps(r), "action": "x"}}} for r in RECORDS)
    ),
}
#: What documents of the integration are read for.
KNOWN = {name.removeprefix("ModifiedProperties.") for name in SOURCES["directory_audit"].fields}
#: What the rule says of each act.
FOUND = {
    (f"ServicePrincipal_{PRINCIPAL}", "Permission to mail: MailboxItem.Export.All"),
    ("admin@contoso.example", "Permission to mail:  User.Read Mail.ReadWrite"),
    ("user@contoso.example", f"Permission to mail: {CONSENT}"),
}


def _act(record: Mapping[str, Any]) -> tuple[object, ...]:
    """What a record says of its act, but for what only one of the forms has."""
    changed = {p["Name"]: (p["NewValue"], p["OldValue"]) for p in record["ModifiedProperties"]}
    changed = {name: values for name, values in changed.items() if values != ("", "")}
    user, status = record["UserId"].removeprefix("ServicePrincipal_"), record["ResultStatus"].lower()
    return record["Operation"].removesuffix("."), user, status, str(sorted(changed.items()))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_acts(tmp_path: Path, form: str) -> None:
    path = tmp_path / "export.txt"
    path.write_text(FORMS[form](), encoding="utf-8", newline="")
    found = read_events([path], SOURCES, strict=True)
    assert {event.source.name for event in found} == {"directory_audit"}
    assert all(event.time is not None and event.time.minute // 10 == 1 for event in found)
    wanted = RECORDS
    if form == "the portal's table":
        wanted = [{**r, "ModifiedProperties": r["ModifiedProperties"][:5]} for r in RECORDS]
    if form in ("documents of Elastic", "Discover's table"):
        wanted = [
            {**r, "ModifiedProperties": [p for p in r["ModifiedProperties"] if p["Name"] in KNOWN]}
            for r in RECORDS
        ]
    assert sorted(_act(event.record) for event in found) == sorted(map(_act, wanted))


@pytest.mark.parametrize("form", ["records of the Management Activity API", "Sentinel's table"])
def test_both_forms_fire_on_every_platform(tmp_path: Path, form: str) -> None:
    path = tmp_path / "export.txt"
    path.write_text(FORMS[form](), encoding="utf-8", newline="")
    [rule] = [entry for entry in rule_entries(ROOT / "dist") if entry.name == "mail_permission_granted"]
    wanted = wanted_keys(ROOT / "dist", [rule], PLATFORMS, DIRECTORY, {})
    with read([path], DIRECTORY, wanted) as reading:
        assert reading.counts == {("directory_audit", "AzureActiveDirectory"): len(RECORDS)}
        assert reading.partial == ()
        clock = clock_for(reading.records)
        for platform in PLATFORMS:
            hits = ENGINES[platform](ROOT / "dist", [rule], reading.records, clock, DIRECTORY.values())
            rows = [r for hit in hits for r in hit.rows]
            assert {(r["UserId"], r["DetectionDetail"]) for r in rows} == FOUND, platform
            assert len(rows) == len(FOUND)


@pytest.mark.parametrize("held", ["[", '"text"', "[1]", "[[]]", '[{"modifiedProperties": "x"}]', "", "null"])
def test_a_broken_list_is_no_list(tmp_path: Path, held: str) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(lines({**row(RECORDS[0]), "TargetResources": held or "x"}, row(RECORDS[1])))
    with read([path], DIRECTORY) as reading:
        assert sum(reading.counts.values()) == 2

"""The trap: an export of Graph requests that is read as another log, or with a request's parts missing.

One request of a user and one of an application, in every form in which people have them. What comes out must
be found by the rules, and where a table lacks something (the permissions in Defender XDR), only that is lost.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from detection_pack.cli import main
from detection_pack.model.event import Event
from detection_pack.model.record_time import value_at
from support.exports import read_events
from support.sources import SOURCES

SOURCE = SOURCES["graph_activity"]
BATCH, SCOPE = "https://graph.microsoft.com/v1.0/$batch", "MailboxItem.Export openid"
USER, PRINCIPAL, APP = (f"{digit * 8}-0000-4000-8000-000000000001" for digit in "572")


def raw(**more: Any) -> dict[str, Any]:
    """A diagnostic record of a user's token."""
    properties = {
        "requestId": "r1",
        "operationId": "o1",
        "requestMethod": "POST",
        "requestUri": BATCH,
        "responseStatusCode": 200,
        "responseSizeBytes": 4088,
        "roles": "",
        "scopes": SCOPE,
        "appId": APP,
        "userId": USER,
        "clientAuthMethod": "0",
        "ipAddress": "203.0.113.9",
        "userAgent": "python-requests/2.32.5",
        "signInActivityId": "s1",
    }
    return {
        "time": "2026-03-10T09:15:00.1234567Z",
        "category": "MicrosoftGraphActivityLogs",
        "operationName": "Microsoft Graph Activity",
        "callerIpAddress": "203.0.113.9",
        "properties": {**properties, **more},
    }


SENTINEL = {
    "TenantId": "11111111-1111-1111-1111-111111111111",
    "TimeGenerated": "2026-03-10T09:15:00.1234567Z",
    "RequestId": "r1",
    "OperationId": "o1",
    "RequestMethod": "POST",
    "RequestUri": BATCH,
    "ResponseStatusCode": 200,
    "ResponseSizeBytes": 4088,
    "Roles": "",
    "Scopes": SCOPE,
    "AppId": APP,
    "UserId": USER,
    "ServicePrincipalId": "",
    "ClientAuthMethod": 0,
    "IPAddress": "203.0.113.9",
    "UserAgent": "python-requests/2.32.5",
    "SignInActivityId": "s1",
    "Type": "MicrosoftGraphActivityLogs",
}
DEFENDER = {
    "Timestamp": "2026-03-10T09:15:00.123Z",
    "RequestId": "r1",
    "ReportId": "x1",
    "OperationId": "o1",
    "RequestMethod": "POST",
    "RequestUri": BATCH,
    "ResponseStatusCode": "200",
    "Scopes": SCOPE,
    "ApplicationId": APP,
    "AccountObjectId": USER,
    "EntityType": "user",
    "IpAddress": "203.0.113.9",
    "UniqueTokenIdentifier": "s1",
}
ELASTIC = {
    "@timestamp": "2026-03-10T09:15:00.123Z",
    "event": {"dataset": "azure.graphactivitylogs", "action": "Microsoft Graph Activity"},
    "url": {"original": BATCH, "path": "/v1.0/$batch"},
    "http": {
        "request": {"id": "r1", "method": "POST"},
        "response": {"status_code": 200, "bytes": 4088},
    },
    "source": {"ip": "203.0.113.9"},
    "user": {"id": USER},
    "user_agent": {"original": "python-requests/2.32.5"},
    "azure": {
        "graphactivitylogs": {
            "category": "MicrosoftGraphActivityLogs",
            "properties": {
                "app_id": APP,
                "operation_id": "o1",
                "client_auth_method": 0,
                "scopes": SCOPE.split(),
                "sign_in_activity_id": "s1",
            },
        }
    },
}
#: What every form gives back.
COMMON = ("requestId", "operationId", "requestMethod", "requestUri", "appId", "userId", "ipAddress")


def lines(*records: Any) -> str:
    return "\n".join(map(json.dumps, records)) + "\n"


def as_csv(row: Mapping[str, Any]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(row))
    writer.writeheader()
    writer.writerow(row)
    return buffer.getvalue()


def flat(record: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        found |= flat(value, f"{start}{key}.") if isinstance(value, dict) else {start + key: value}
    return found


def portal(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the Azure portal writes its CSV."""
    time = {"TimeGenerated [UTC]": "3/10/2026, 9:15:00.123 AM"}
    return time | {key: value for key, value in row.items() if key not in ("TimeGenerated", "Type")}


FORMS = {
    "blob.json": lines(raw()),
    "records.json": json.dumps({"records": [raw()]}),
    "enveloped.jsonl": lines({"body": raw(), "x-opt-sequence-number": 7}),
    "original.jsonl": lines({"event": {"original": json.dumps(raw())}}),
    "splunk.csv": as_csv(flat(raw()) | {"sourcetype": "azure:monitor:aad", "index": "azure"}),
    "splunk.jsonl": lines({"result": {"_raw": json.dumps(raw()), "_time": "2026-03-10T09:15:00.123Z"}}),
    "sentinel.csv": as_csv(SENTINEL),
    "portal.csv": as_csv(portal(SENTINEL)),
    "sentinel.json": json.dumps([SENTINEL]),
    "defender.csv": as_csv(DEFENDER),
    "defender.json": json.dumps({"Results": [DEFENDER]}),
    "elastic.ndjson": lines({"_index": "logs-azure.graphactivitylogs-default", "_source": ELASTIC}),
    "discover.csv": as_csv(flat(ELASTIC) | {"azure.graphactivitylogs.properties.scopes": SCOPE}),
}


def only(folder: Path, name: str, text: str) -> Event:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    [event] = read_events([path])
    assert event.source is SOURCE
    return event


@pytest.mark.parametrize("name", FORMS)
def test_a_request_comes_out_as_it_is_logged(tmp_path: Path, name: str) -> None:
    event = only(tmp_path, name, FORMS[name])
    wanted = raw()["properties"]
    for field in COMMON:
        assert value_at(event.record, f"properties.{field}") == wanted[field], field
    assert str(value_at(event.record, "properties.responseStatusCode")) == "200"
    assert event.time is not None and event.time.isoformat()[:19] == "2026-03-10T09:15:00"
    assert event.id == "r1"
    scopes = value_at(event.record, "properties.scopes")
    assert scopes == (SCOPE.split() if name == "elastic.ndjson" else SCOPE)


@pytest.mark.parametrize(
    "name",
    [
        "blob.json",
        "enveloped.jsonl",
        "splunk.csv",
        "portal.csv",
        "defender.csv",
        "elastic.ndjson",
        "discover.csv",
    ],
)
def test_a_rule_finds_it_on_every_platform(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the delegated permission, which every table has, in one of them as a list."""
    path = tmp_path / name
    path.write_text(FORMS[name], encoding="utf-8")
    rule = ["--rule", "graph_mailbox_export"]
    assert main(["replay", str(path), *rule, "--format", "json", "--quiet"]) == 0
    [hit] = json.loads(capsys.readouterr().out)["hits"]
    assert hit["platforms"] == ["defender", "elastic", "sentinel", "splunk"]


def test_an_application_is_told_from_a_user(tmp_path: Path) -> None:
    token = {"userId": None, "scopes": None, "roles": "MailboxItem.Export.All"}
    token["servicePrincipalId"] = PRINCIPAL
    event = only(tmp_path, "app.jsonl", lines(raw(**token)))
    assert value_at(event.record, "properties.servicePrincipalId") == PRINCIPAL
    assert value_at(event.record, "properties.userId") is None
    row = SENTINEL | {"UserId": "", "Scopes": "", "Roles": token["roles"], "ServicePrincipalId": PRINCIPAL}
    event = only(tmp_path, "app.csv", as_csv(row))
    assert value_at(event.record, "properties.servicePrincipalId") == PRINCIPAL
    assert value_at(event.record, "properties.roles") == token["roles"]
    assert value_at(event.record, "properties.userId") is None


@pytest.mark.parametrize(
    "other",
    [
        raw() | {"category": "AuditLogs"},
        SENTINEL | {"Type": "AADGraphActivityLogs"},
        {"RequestUri": BATCH, "RequestMethod": "POST"},
        {"event.dataset": "azure.auditlogs", "url.original": BATCH},
    ],
)
def test_a_row_of_another_kind_is_none(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(lines(other, raw()), encoding="utf-8")
    [event] = read_events([path])
    assert value_at(event.record, "properties.requestId") == "r1" and event.source is SOURCE

"""The trap: an export that comes back as a record without the part that a rule reads.

What the rules on folders, counts and named properties read, out of rows of OfficeActivity, where it is JSON
text, and out of documents of the Elastic integration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from detection_pack.replay.reading import read
from support.sources import SOURCES

PERMISSIONS = {
    "Id": "LgAAAABKe",
    "ParentFolder": {"MemberRights": "ReadAny, Visible", "MemberUpn": "Everyone", "Path": "\\Inbox"},
}
PROPERTIES = [{"Name": "MailAccessType", "Value": "Bind"}, {"Name": "IsThrottled", "Value": "True"}]
ROW = {
    "Type": "OfficeActivity",
    "OfficeId": "8e942cc1-73d8-4483-9def-000000009101",
    "TimeGenerated": "2026-03-10T09:15:00Z",
    "RecordType": "ExchangeItem",
    "Operation": "ModifyFolderPermissions",
    "OfficeWorkload": "Exchange",
    "UserId": "a.owner@contoso.example",
    "Item": json.dumps(PERMISSIONS),
    "OperationProperties": json.dumps(PROPERTIES),
}
DOCUMENT = {
    "@timestamp": "2026-03-10T09:15:00.000Z",
    "event": {
        "dataset": "o365.audit",
        "action": "MailItemsAccessed",
        "code": "ExchangeItemAggregated",
        "id": "8e942cc1-73d8-4483-9def-000000009102",
    },
    "user": {"id": "a.owner@contoso.example"},
    "o365": {
        "audit": {
            "RecordType": "50",
            "OperationCount": 150,
            "ClientAppId": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
            "QueryText": "password",
            "Item": PERMISSIONS,
            "OperationProperties": PROPERTIES,
        }
    },
}


@pytest.mark.parametrize(
    ("exported", "expected"),
    [
        (ROW, {"Id": ROW["OfficeId"], "Item": PERMISSIONS, "OperationProperties": PROPERTIES}),
        (
            DOCUMENT,
            {
                "Operation": "MailItemsAccessed",
                "OperationCount": 150,
                "ClientAppId": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
                "QueryText": "password",
                "Item": PERMISSIONS,
                "OperationProperties": PROPERTIES,
            },
        ),
    ],
    ids=["OfficeActivity", "Elastic"],
)
def test_what_the_rules_read_comes_back(
    tmp_path: Path, exported: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(json.dumps(exported) + "\n", encoding="utf-8")
    name = str(exported.get("OfficeId") or exported["event"]["id"])
    with read([path], SOURCES, None) as reading:
        found = reading.record("m365", name)
        assert found is not None
        assert {key: found.record.get(key) for key in expected} == dict(expected)

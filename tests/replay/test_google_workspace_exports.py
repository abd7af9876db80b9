"""The trap: an activity that holds several events is read as one, and the second is never seen.

The same two events in every form in which people have them must come out the same, with their parameters.
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
from detection_pack.model.findings import PackError
from detection_pack.replay.needs import wanted_keys
from detection_pack.replay.reading import read
from detection_pack.replay.verdict import clock_for
from support.engines import ENGINES
from support.exports import read_events
from support.sources import SOURCES

GOOGLE = {"google_workspace": SOURCES["google_workspace"]}
ACTIVITY = {
    "kind": "admin#reports#activity",
    "id": {
        "time": "2026-03-10T09:15:00.101Z",
        "uniqueQualifier": "-7581660077956046741",
        "applicationName": "admin",
        "customerId": "C01contoso",
    },
    "actor": {"callerType": "USER", "email": "admin@contoso.example", "profileId": "100000000000000000001"},
    "ipAddress": "203.0.113.10",
}


def saved(setting: str) -> dict[str, Any]:
    return {
        "type": "APPLICATION_SETTINGS",
        "name": "CREATE_APPLICATION_SETTING",
        "parameters": [
            {"name": "APPLICATION_NAME", "value": "Gmail"},
            {"name": "LABELS", "multiValue": ["a", 'b "c"']},
            {"name": "SETTING_NAME", "value": setting},
        ],
    }


#: Two events of one activity, with one name.
EVENTS = [
    saved("ContentCompliance rules[7] content_compliance_info"),
    saved("RuleState rule_state[14] enabled"),
]


def lines(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def apart(key: str) -> list[dict[str, Any]]:
    return [{**ACTIVITY, key: event} for event in EVENTS]


def rows() -> list[dict[str, str]]:
    about, actor = ACTIVITY["id"], ACTIVITY["actor"]
    assert isinstance(about, Mapping) and isinstance(actor, Mapping)
    return [
        {
            "TimeGenerated": about["time"],
            "IdApplicationName": about["applicationName"],
            "IdCustomerId": about["customerId"],
            "IdUniqueQualifier": about["uniqueQualifier"],
            "ActorCallerType": actor["callerType"],
            "ActorEmail": actor["email"],
            "ActorKey": "",
            "ActorProfileId": actor["profileId"],
            "SrcIpAddr": str(ACTIVITY["ipAddress"]),
            "EventType": event["type"],
            "EventName": event["name"],
            "EventParameters": json.dumps(event["parameters"]),
        }
        for event in EVENTS
    ]


def table() -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows()[0]))
    writer.writeheader()
    writer.writerows({**row, "TimeGenerated": "3/10/2026, 9:15:00.101 AM"} for row in rows())
    return text.getvalue()


def kept_by_elastic() -> str:
    return lines(
        *(
            {
                "_index": ".ds-logs-google_workspace.admin-default-2026.03.10-000001",
                "_source": {
                    "@timestamp": "2026-03-10T09:15:00.101Z",
                    "event": {"action": event["name"], "original": json.dumps({**ACTIVITY, "events": event})},
                },
            }
            for event in EVENTS
        )
    )


FORMS: Mapping[str, Callable[[], str]] = {
    "an activity of two events": lambda: lines({**ACTIVITY, "events": EVENTS}),
    "the API's answer": lambda: json.dumps(
        {"kind": "admin#reports#activities", "items": [{**ACTIVITY, "events": EVENTS}]}, indent=2
    ),
    "activities one after another": lambda: lines(*({**ACTIVITY, "events": [event]} for event in EVENTS)),
    "events taken apart": lambda: lines(*apart("events")),
    "events of the Splunk add-on": lambda: lines(*apart("event")),
    "results of a Splunk search": lambda: lines(
        *(
            {"preview": False, "result": {"_raw": json.dumps(one), "sourcetype": "x"}}
            for one in apart("event")
        )
    ),
    "what Elastic keeps": kept_by_elastic,
    "rows of Sentinel": lambda: lines(*rows()),
    "rows of Sentinel as a table": table,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_both_events(tmp_path: Path, form: str) -> None:
    path = tmp_path / "export.txt"
    path.write_text(FORMS[form](), encoding="utf-8", newline="")
    found = read_events([path], GOOGLE, strict=True)
    assert len({event.id for event in found}) == 2
    assert all("CREATE_APPLICATION_SETTING" in event.id for event in found)
    for event in found:
        assert event.time is not None and event.time.isoformat() == "2026-03-10T09:15:00.101000+00:00"
    held = [_event(event.record) for event in found]
    assert sorted(held, key=str) == sorted(EVENTS, key=str)


def _event(record: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a record; a table's row has its parts under names with dots."""
    parts = ("type", "name", "parameters")
    return record["event"] if "event" in record else {part: record[f"event.{part}"] for part in parts}


@pytest.mark.parametrize("form", FORMS)
def test_the_rule_finds_the_one_that_it_is_for(tmp_path: Path, form: str) -> None:
    path = tmp_path / "export.txt"
    path.write_text(FORMS[form](), encoding="utf-8", newline="")
    [rule] = [entry for entry in rule_entries(ROOT / "dist") if entry.name == "gmail_copy_rule"]
    platforms = ("elastic", "sentinel", "splunk")
    wanted = wanted_keys(ROOT / "dist", [rule], platforms, GOOGLE, {})
    with read([path], GOOGLE, wanted) as reading:
        assert reading.partial == ()
        clock = clock_for(reading.records)
        for platform in platforms:
            [hit] = ENGINES[platform](ROOT / "dist", [rule], reading.records, clock, GOOGLE.values())
            [identifier] = hit.events
            [row] = hit.rows
            assert "ContentCompliance rules[7]" in row["DetectionDetail"], platform
            record = reading.record("google_workspace", identifier)
            assert record is not None and _event(record.record) == EVENTS[0], platform


def test_what_holds_no_event_is_none(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    odd: tuple[object, ...] = ([], ["text"], [{}], [{"type": "x"}], {}, "text", None)
    path.write_text(lines({**ACTIVITY, "events": EVENTS}, *({**ACTIVITY, "events": one} for one in odd)))
    with read([path], GOOGLE) as reading:
        assert reading.counts == {("google_workspace", "admin"): 2}
        assert sum(reading.other.values()) == len(odd)


def test_an_activity_twice_is_one(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(lines({**ACTIVITY, "events": EVENTS}, *apart("event")))
    with read([path], GOOGLE) as reading:
        assert (sum(reading.counts.values()), reading.repeated) == (2, 2)


def test_records_of_others_are_not_divided(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(lines({"CreationTime": "2026-03-10T09:15:00", "events": [{"name": "a"}, {"name": "b"}]}))
    with pytest.raises(PackError, match="1 records, none of a kind"):
        read([path], GOOGLE)

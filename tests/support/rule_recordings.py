"""Recordings of what the corpus's rules must find, in the layout of SigmaHQ's and in evtx_dump's JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from support.community_events import records
from support.sigma_semantics import matcher

#: Tries to make an event that the rule means.
_TRIES = 60
_SYSTEM = ("UtcTime", "Computer", "EventID")


def evtx_dump(record: Mapping[str, Any], number: int) -> str:
    """A process creation of Sysmon as evtx_dump prints it."""
    data = {"RuleName": "-", **{k: v for k, v in record.items() if k not in ("Computer", "EventID")}}
    moment = str(record["UtcTime"]).replace(" ", "T")
    system = {
        "Provider": {"#attributes": {"Name": "Microsoft-Windows-Sysmon"}},
        "EventID": 1,
        "TimeCreated": {"#attributes": {"SystemTime": f"{moment}.000000Z"}},
        "EventRecordID": number,
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "Computer": record["Computer"],
    }
    return json.dumps({"Event": {"System": system, "EventData": data}}, indent=2, ensure_ascii=False) + "\n"


def event_of(rule: Mapping[str, Any]) -> dict[str, Any] | None:
    """A record that the rule means; None where its own values make none, or nobody can tell what it means."""
    rng = random.Random(str(rule["id"]))
    try:
        means = matcher(rule["detection"], False)
    except NotImplementedError:  # few rules compare fields, or addresses
        return None
    return next((r for r in records(rule["detection"], rng, _TRIES) if means(r)), None)


def write(folder: Path, rules: list[Path]) -> list[str]:
    """Write a recording of each rule of process creation; the ids of the rules that have one."""
    written = []
    for number, path in enumerate(rules):
        rule = yaml.safe_load(path.read_text(encoding="utf-8"))
        if rule["logsource"].get("category") != "process_creation" or (record := event_of(rule)) is None:
            continue
        place = folder / "rules" / path.stem
        place.mkdir(parents=True)
        name = f"{rule['id']}.json"
        (place / name).write_text(evtx_dump(record, number), encoding="utf-8")
        (place / f"{rule['id']}.evtx").write_bytes(b"ElfFile\0")
        information = {
            "id": f"00000000-0000-4000-8000-{number:012}",
            "rule_metadata": [{"id": rule["id"], "title": rule["title"]}],
            "regression_tests_info": [
                {
                    "name": "Positive Detection Test",
                    "type": "evtx",
                    "match_count": 1,
                    "path": f"regression_data/rules/{path.stem}/{rule['id']}.evtx",
                }
            ],
        }
        (place / "info.yml").write_text(yaml.safe_dump(information), encoding="utf-8")
        written.append(str(rule["id"]))
    return written

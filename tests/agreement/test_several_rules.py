"""The trap: an event that several rules of a correlation match, counted as several."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import make, rule_entries
from detection_pack.model.event import Clock, Event
from detection_pack.model.pack import Pack
from detection_pack.model.rule_reader import load_rule
from support.engines import ENGINES, IMPORTS
from support.sources import M365

CLOCK = Clock(datetime(2026, 3, 10, 18, tzinfo=UTC))
DETECTIONS = {
    "sent": {"Operation": "Send", "ObjectId|contains": ["a", "b"]},
    "of_a": {"ObjectId|startswith": "a", "ClientInfoString|contains": "probe"},
    "of_a_client": {"ClientIP": "192.0.2.1", "Operation": ["Send", "Move"]},
}
#: Of one user each: what is done to which object, and how many of these the rules match.
ACTS = {
    "three": ([("Send", "a1"), ("Send", "a2"), ("Move", "a3")], 3),
    "two": ([("Send", "a1"), ("Move", "b2"), ("Copy", "a3")], 2),
}


@pytest.fixture(scope="module")
def built(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    source = {"product": "m365", "service": "exchange"}
    plain = [
        {"title": name, "name": name, "logsource": source, "detection": {"s": stated, "condition": "s"}}
        for name, stated in DETECTIONS.items()
    ]
    correlation = {
        "type": "event_count",
        "rules": list(DETECTIONS),
        "group-by": ["UserId"],
        "timespan": "1h",
        "condition": {"gte": 2},
    }
    alert = {"type": "Probe", "detail": "{count}", "user": "UserId"}
    main = {"title": "Acts", "name": "acts", "correlation": correlation, "alert": alert}
    path = folder / "acts.yml"
    path.write_text(yaml.safe_dump_all([*plain, main], sort_keys=False), encoding="utf-8")
    rule = load_rule(path, "other", named_by_stem=True)
    dist = folder / "dist"
    for name, content in make(Pack(ROOT, pack.version, (rule,), pack.pipelines)).files.items():
        (dist / name).parent.mkdir(parents=True, exist_ok=True)
        (dist / name).write_bytes(content)
    return dist


@pytest.mark.parametrize("here", ENGINES)
def test_an_event_counts_once(built: Path, here: str) -> None:
    base = {"CreationTime": "2026-03-10T12:10:00", "RecordType": 1, "Workload": "Exchange"}
    records = [
        {**base, "Id": f"{user}{n}", "UserId": user, "Operation": act, "ObjectId": what, "ClientIP": address}
        for user, (acts, _) in ACTS.items()
        for n, (act, what) in enumerate(acts)
        for address in ["192.0.2.1" if act != "Copy" else "192.0.2.2"]
    ]
    events = [Event(str(n), M365, record) for n, record in enumerate(records)]
    for runner in (ENGINES[here], IMPORTS[here]):
        if runner is IMPORTS[here] and here == "defender":
            continue
        hits = runner(built, rule_entries(built), events, CLOCK)
        found = {(hit.group or ())[0][1]: hit.value for hit in hits if "threshold" not in hit.artefact}
        assert found == {user: count for user, (_, count) in ACTS.items()}

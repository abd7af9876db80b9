"""The events that the product's ingest model makes for Splunk, read out for an interpreter of SPL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from detection_pack.model.event import Event
from detection_pack.platforms.splunk.run import Workspace
from support.spl import Index, Row

DATA_SET = "Endpoint.Processes"
#: The index of an event is not part of the ingest model; a search names it as ``index=*``.
INDEX = "main"


def index_of(events: Sequence[Event]) -> tuple[Workspace, Index]:
    """The workspace that the product searches, and the same events as dictionaries."""
    workspace = Workspace(events)
    query = workspace.connection.execute
    found = query("SELECT id, _time, sourcetype, tag, _raw, to_json(fields) FROM splunk_events").fetchall()
    rows = [
        _row(id, {"_time": time, "sourcetype": sourcetype, "tag": tag, "_raw": raw, "index": INDEX}, fields)
        for id, time, sourcetype, tag, raw, fields in found
    ]
    processes = query("SELECT id, _time, to_json(fields) FROM splunk_endpoint_processes").fetchall()
    data_set = [_row(id, {"_time": time}, fields) for id, time, fields in processes]
    return workspace, Index(rows, {DATA_SET: data_set})


def _row(identity: str, own: dict[str, Any], fields: str | None) -> Row:
    """Fields with one value hold it, with several a list, and with none are absent."""
    everything = {**json.loads(fields or "{}"), **own}
    shown = {}
    for name, value in everything.items():
        members = [v for v in value if v is not None] if isinstance(value, list) else value
        if members is None or members == []:
            continue
        shown[name] = members[0] if isinstance(members, list) and len(members) == 1 else members
    return Row(shown, frozenset({identity}))

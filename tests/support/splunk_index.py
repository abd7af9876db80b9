"""The events that the product's ingest model makes for Splunk, read out for an interpreter of SPL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from detection_pack.model.event import Event
from detection_pack.platforms.splunk.run import Workspace
from support.spl import Index, Row

_EVENTS = 'SELECT id, _time, sourcetype, tag, _raw, "index", to_json(fields) FROM splunk_events'


def index_of(events: Sequence[Event]) -> tuple[Workspace, Index]:
    """The workspace that the product searches, and the same events as dictionaries."""
    workspace = Workspace(events)
    query = workspace.connection.execute
    rows = [
        _row(id, {"_time": time, "sourcetype": sourcetype, "tag": tag, "_raw": raw, "index": index}, fields)
        for id, time, sourcetype, tag, raw, index, fields in query(_EVENTS).fetchall()
    ]
    tables = query("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
    # A data set is a table of its name, which no other table has a dot in.
    data_sets = {
        name: [_row(id, {"_time": time}, fields) for id, time, fields in query(_data_set(name)).fetchall()]
        for (name,) in tables
        if "." in name
    }
    return workspace, Index(rows, data_sets)


def _data_set(name: str) -> str:
    return f'SELECT id, _time, to_json(fields) FROM "{name}"'


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

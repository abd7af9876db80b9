"""The events that the product's ingest model makes for Splunk, read out for an interpreter of SPL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from detection_pack.languages.spl.spl_steps import DATA_SET, EVENT_TABLE
from detection_pack.model.event import Event
from detection_pack.platforms.splunk.run import Workspace
from support.spl import Index, Row

_META = ("_id", "_time", "_indextime", "sourcetype", "tag", "_raw", "index")


def index_of(
    events: Sequence[Event], indexed: Mapping[str, datetime] | None = None
) -> tuple[Workspace, Index]:
    """The workspace that the product searches, and the same events as dictionaries. ``indexed`` says by id
    when they were indexed."""
    workspace = Workspace(events, indexed=indexed)
    fields = workspace.events.all_fields()
    rows = [_row({**fields[event["_id"]], **event}) for event in _selected(workspace, EVENT_TABLE, _META)]
    data_sets = {
        name: [_row(event) for event in _selected(workspace, DATA_SET + name, ("_id", "_time", *columns))]
        for name, columns in workspace.events.data_sets.items()
    }
    return workspace, Index(rows, data_sets)


def _selected(workspace: Workspace, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    listed = ", ".join(f'"{column}"' for column in columns)
    rows = workspace.connection.execute(f'SELECT {listed} FROM "{table}"').fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _row(everything: Mapping[str, Any]) -> Row:
    """Fields with one value hold it, with several a list, and with none are absent."""
    shown = {}
    for name, value in everything.items():
        if name == "_id":
            continue
        members = [v for v in value if v is not None] if isinstance(value, list) else value
        if members is None or members == []:
            continue
        shown[name] = members[0] if isinstance(members, list) and len(members) == 1 else members
    return Row(shown, frozenset({everything["_id"]}))

"""A trail in lines for people. What stands in a log is shown, never interpreted: characters that do not print
are escapes, a cell has a width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.investigate.trail import LISTS
from detection_pack.model.findings import printable

#: Rows of the timeline that a table lists; all of them are in JSON.
LISTED = 50
_WIDEST = 60
_TITLES = {
    "mailboxes": "mailboxes",
    "clients": "clients and applications",
    "addresses": "addresses",
    "operations": "what it did",
}


def trail_text(found: Mapping[str, Any]) -> str:
    """All answers; ``found`` is from `Trail.as_json`."""
    return "\n\n".join(block for block in _blocks(found) if block)


def _blocks(found: Mapping[str, Any]) -> Iterator[str]:
    account, records = _cell(found["account"]), found["records"]
    read, of = found["read"], sum(found["read"]["records"].values())
    yield f"{account}: {records} records, of {of} from {read['first']} to {read['last']}"
    if not records:
        yield (
            "no record is the account's. Write it as the log has it (an address, a SID, an object id, a "
            "path); an application with a permission of its own is recorded as the mailbox's owner"
        )
    for name, title in _TITLES.items():
        assert name in LISTS
        yield _values(title, found[name])
    yield _values(f"who else was in the mailbox of {account}", found["visitors"])
    for what, rows in found["changes"].items():
        yield f"{_cell(what)}, changed by the account or naming it:\n{_rows(rows)}"
    yield _gaps(found)
    if found["timeline"]:
        yield f"timeline:\n{_rows(found['timeline'])}"


def _gaps(found: Mapping[str, Any]) -> str:
    gaps, read = found["gaps"], found["read"]
    lines = []
    for what, rows in gaps["marked"].items():
        lines.append(
            f"  {_cell(what)}: {len(rows)} records, first {rows[0]['time']}, last {rows[-1]['time']}"
        )
    for source, silences in gaps["silences"].items():
        said = ", ".join(f"{one['from']} to {one['to']} ({one['hours']:g} h)" for one in silences)
        lines.append(f"  no record of {source} at all: {said}")
    for key in ("skipped", "unreadable"):
        if read[key]:
            lines.append(f"  {key}: {read[key]} of what was given")
    lines.append("  nothing is known before the first and after the last record, nor of what is not audited")
    return "\n".join(["gaps:", *lines])


def _values(title: str, values: Sequence[Mapping[str, Any]]) -> str:
    if not values:
        return ""
    rows = [["", "records", "first", "last"]]
    rows += [[_cell(v["value"]), str(v["records"]), v["first"] or "-", v["last"] or "-"] for v in values[:20]]
    more = f"\n{len(values) - 20} more; --format json has them" if len(values) > 20 else ""
    return f"{title}:\n{_table(rows)}{more}"


def _rows(listed: Sequence[Mapping[str, Any]]) -> str:
    columns = ("time", "account", "what", "mailbox", "client", "address", "target", "record")
    rows = [list(columns)]
    rows += [[_cell(row[name]) for name in columns] for row in listed[:LISTED]]
    more = f"\n{len(listed) - LISTED} more; --format json has them" if len(listed) > LISTED else ""
    return _table(rows) + more


def _cell(value: object) -> str:
    shown = "-" if value is None else printable(str(value))
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 1] + "…"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

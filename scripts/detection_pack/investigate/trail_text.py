"""A trail in lines for people. What stands in a log is shown, never interpreted: characters that do not print
are escapes, a cell has a width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.investigate.trail import LISTS
from detection_pack.model.text_table import columns, cut

#: Rows and values that a table lists; JSON has more of them.
LISTED, VALUES_LISTED = 50, 20
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
    if found["timeline"]["rows"]:
        yield f"timeline:\n{_rows(found['timeline'])}"


def _gaps(found: Mapping[str, Any]) -> str:
    gaps, read = found["gaps"], found["read"]
    lines = []
    for what, rows in gaps["marked"].items():
        lines.append(f"  {_cell(what)}: {rows['total']} records, first {rows['first']}, last {rows['last']}")
    for source, silences in gaps["silences"].items():
        said = ", ".join(f"{one['from']} to {one['to']} ({one['hours']:g} h)" for one in silences)
        lines.append(f"  no record of {source} at all: {said}")
    for key in ("skipped", "unreadable"):
        if read[key]:
            lines.append(f"  {key}: {read[key]} of what was given")
    lines.append("  nothing is known before the first and after the last record, nor of what is not audited")
    return "\n".join(["gaps:", *lines])


def _values(title: str, listed: Mapping[str, Any]) -> str:
    values = listed["rows"][:VALUES_LISTED]
    if not values:
        return ""
    rows = [["", "records", "first", "last"]]
    rows += [[_cell(v["value"]), str(v["records"]), v["first"] or "-", v["last"] or "-"] for v in values]
    return f"{title}:\n{_table(rows)}{_left_out(listed, len(values), 'the most frequent')}"


def both_ends(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many rows: the first and the last of them."""
    return rows if len(rows) <= most else [*rows[: most - most // 2], *rows[len(rows) - most // 2 :]]


def _left_out(listed: Mapping[str, Any], shown: int, which: str) -> str:
    held, total = len(listed["rows"]), listed["total"]
    return f"\nshown {shown} of {total}, {which}; --format json has {held}" if shown < total else ""


def _rows(listed: Mapping[str, Any]) -> str:
    columns = ("time", "account", "what", "mailbox", "client", "address", "target", "record")
    rows = [list(columns)]
    shown = both_ends(listed["rows"], LISTED)
    rows += [[_cell(row[name]) for name in columns] for row in shown]
    return _table(rows) + _left_out(listed, len(shown), "the oldest and the newest")


def _cell(value: object) -> str:
    return "-" if value is None else cut(str(value), _WIDEST)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(columns(rows))

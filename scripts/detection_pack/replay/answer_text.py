"""An answer in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.model.findings import printable
from detection_pack.model.text_table import columns, cut

#: How many hits a table lists; all of them are in the other formats.
LISTED = 200
#: Characters of a cell.
_WIDEST = 60


def answer_text(answer: Mapping[str, Any]) -> str:
    """The rules, what they hit, why some hit nothing, and the hits; ``answer`` is from `Answer.as_json`."""
    blocks = [_rules(answer["rules"]), *_tops(answer["rules"]), *_notes(answer), _hits(answer["hits"])]
    return "\n\n".join(block for block in blocks if block)


def _rules(rules: Sequence[Mapping[str, Any]]) -> str:
    rows = [["rule", "level", "hits", "users", "first", "last", "a day (median, worst)"]]
    for rule in rules:
        a_day = rule["per_day"]
        rows.append(
            [
                rule["rule"],
                rule["level"],
                str(rule["hits"]),
                str(rule["users"]),
                rule["first"] or "-",
                rule["last"] or "-",
                "-" if a_day is None else f"{a_day['median']:g}, {a_day['worst']:g}",
            ]
        )
        if rule["trial"] is not None:
            rows.append([f"  with {rule['trial']['set']}", "", str(rule["trial"]["hits"]), "", "", "", ""])
        for name, left in rule.get("lists", {}).items():
            rows.append([f"  left by {name}", "", str(left["hits"]), "", "", "", ""])
    return _table(rows)


def _tops(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        lines = []
        for kind in ("users", "addresses", "applications"):
            if rule["top"][kind]:
                said = ", ".join(f"{_cell(value)} ({number})" for value, number in rule["top"][kind])
                lines.append(f"  {kind}: {said}")
        if lines:
            yield "\n".join([f"most of {rule['rule']}:", *lines])


def _notes(answer: Mapping[str, Any]) -> Iterator[str]:
    lines = []
    for rule in answer["rules"]:
        for platform, found in rule["platforms"].items():
            if "refused" in found:
                lines.append(f"{platform} cannot run {rule['rule']}: {found['refused']}")
        if rule["disagrees"]:
            said = ", ".join(f"{p} {f['hits']}" for p, f in rule["platforms"].items() if "hits" in f)
            lines.append(
                f"platforms disagree on {rule['rule']}: {said}; the hits say which platform found them"
            )
    read = answer["read"]
    lines += [f"no record of {source} was read: its rules cannot fire" for source in read["silent"]]
    lines += [
        f"{rule} needs {', '.join(fields)}, which no record has"
        for rule, fields in read["absent_fields"].items()
    ]
    for field, values in read["unknown"].items():
        said = ", ".join(f"{_cell(value)} ({number})" for value, number in values)
        lines.append(f"{field} has values that the pack does not know: {said}")
    if lines:
        yield "\n".join(["what stands out:", *(f"  {printable(line)}" for line in lines)])


def _hits(hits: Sequence[Mapping[str, Any]]) -> str:
    if not hits:
        return "no hits"
    rows = [["time", "rule", "who", "where", "what", "record"]]
    for hit in hits[:LISTED]:
        columns = hit["columns"]
        group = hit["group"] or {}
        record = hit["events"][0] if hit["events"] else f"{hit['value']} in the window of {hit['window']}"
        rows.append(
            [
                hit["time"] or "-",
                hit["rule"],
                _cell(columns["UserId"] or group.get("UserId", "")),
                _cell(columns["ClientIP"]),
                _cell(columns["DetectionDetail"]),
                _cell(record),
            ]
        )
    more = len(hits) - LISTED
    return _table(rows) + (
        f"\n{more} more hits; --format json or csv, or --out DIR, has all" if more > 0 else ""
    )


def _cell(text: str) -> str:
    return cut(str(text), _WIDEST)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(columns(rows))

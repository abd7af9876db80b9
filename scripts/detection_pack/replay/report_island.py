"""The hits as the data block of the report page: compact, and inert whatever a log holds.

Every text stands once in a table and is named by its place there, so that a hundred thousand hits of the same
few accounts take a few megabytes, and the page's script compares numbers where it sorts and filters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from detection_pack.model.findings import printable
from detection_pack.model.rule import AlertView

#: What a hit has besides its columns, in the order in which the page shows it.
MORE = ("events", "group", "window", "value")
_LATE = datetime.max.replace(tzinfo=UTC)


def moment(text: object) -> datetime | None:
    """An ISO 8601 time of the answer, aware and in UTC; None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def inert_json(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: ASCII alone, and nothing that HTML reads as markup."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def island(answer: Mapping[str, Any], platforms: Sequence[str], queries: Sequence[str]) -> dict[str, Any]:
    """What the script of the page reads. ``queries`` are the texts of the copy buttons, as dist/ has them.

    ``strings`` holds each text once, with control and bidirectional characters as escapes, the empty text
    first. ``fields`` is a list of columns (the time, those of ``columns``, those of ``more``), each with one
    place in it for each hit; ``rule`` and ``seen`` (a bit a platform) are numbers for each hit, ``ran`` has
    the bits of the platforms that ran each rule. Hits stand in the order of their times.
    """
    names = {rule["rule"]: at for at, rule in enumerate(answer["rules"])}
    hits = [hit for hit in answer["hits"] if hit["rule"] in names]
    hits.sort(key=lambda hit: moment(hit["time"]) or _LATE)
    table = _Strings()
    columns = _columns(hits)
    fields = {"time": [table.place(hit["time"]) for hit in hits]}
    fields |= {name: [table.place((hit["columns"] or {}).get(name)) for hit in hits] for name in columns}
    fields |= {name: [table.place(_flat(hit.get(name))) for hit in hits] for name in MORE}
    bits = {name: 1 << at for at, name in enumerate(platforms)}
    return {
        "rules": [printable(str(rule["rule"])) for rule in answer["rules"]],
        "ran": [
            sum(bit for name, bit in bits.items() if "hits" in rule["platforms"].get(name, {}))
            for rule in answer["rules"]
        ],
        "columns": [printable(name) for name in columns],
        "more": list(MORE),
        "rule": [names[hit["rule"]] for hit in hits],
        "seen": [sum(bits.get(name, 0) for name in set(hit["platforms"])) for hit in hits],
        "fields": [*fields.values()],
        "strings": table.listed,
        "queries": list(queries),
    }


def _columns(hits: Sequence[Mapping[str, Any]]) -> list[str]:
    """The alert's columns, then any other; none that only repeats the time."""
    found = {name for hit in hits for name in hit["columns"] or ()}
    repeats = {
        name
        for name in found - set(AlertView.COLUMNS)
        if all((hit["columns"] or {}).get(name) in (None, "", hit["time"]) for hit in hits)
    }
    return [*AlertView.COLUMNS, *sorted(found - repeats - set(AlertView.COLUMNS))]


def _flat(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


class _Strings:
    """Texts by their place, each once."""

    def __init__(self) -> None:
        self.listed = [""]
        self._places = {"": 0}

    def place(self, value: Any) -> int:
        text = "" if value is None else value if isinstance(value, str) else _text(value)
        at = self._places.get(text)
        if at is None:
            at = self._places[text] = len(self.listed)
            self.listed.append(printable(text))
        return at


def _text(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)

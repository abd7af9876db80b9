"""Events: raw records as their source writes them, and the verdicts that platforms reach on them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from detection_pack.model.log_source import LogSource


@dataclass(frozen=True)
class Event:
    """One raw record of a log source. ``id`` is unique among the events of one run."""

    id: str
    source: LogSource
    record: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The name of the log source."""
        return self.source.name

    @property
    def time(self) -> datetime | None:
        """The record's own time, aware and in UTC; None where the record has none that can be read."""
        return self.source.time.of(self.record)

    def json(self) -> str:
        """The record as the ingest models read it: as its source writes it, no half of a surrogate pair."""
        plain = self.source.as_written(self.record)
        return json.dumps(plain, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Hit:
    """What one artefact of one rule found.

    A plain rule gives one hit that lists the ids of the events. A correlation gives one hit for each group
    and window: ``group`` from canonical field to value, ``window`` the start of the window, ``value`` what
    was counted. ``rows`` are the result rows as the platform returned them, by column name; ``row_events``
    the ids of their events, as many, of a plain rule's own query.
    """

    platform: str
    rule: str
    artefact: str
    events: frozenset[str] = frozenset()
    group: tuple[tuple[str, str], ...] | None = None
    window: datetime | None = None
    value: float | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    row_events: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that ``replay --format json`` prints for this hit."""
        common: dict[str, Any] = {"platform": self.platform, "rule": self.rule}
        if self.group is None:
            return common | {"events": sorted(self.events)}
        window = None if self.window is None else self.window.strftime("%Y-%m-%dT%H:%M:%SZ")
        return common | {"group": dict(self.group), "window": window, "value": _plain_number(self.value)}


def _plain_number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


@dataclass(frozen=True)
class Clock:
    """When a replay happens and how far back it looks. ``lookback`` None leaves the artefact's own."""

    now: datetime
    lookback: str | None = None


#: Levels of a record. No source nests a tenth as deep; what reads JSON further on overflows at some depth.
MAX_LEVELS = 100


def plain_record(record: Mapping[Any, Any]) -> dict[str, Any]:
    """The record as JSON can hold it: keys are text, and a number that is none (YAML's ``.inf``, JSON's
    ``1e999``) is null. Raises `ValueError` where it is nested too deeply."""
    plain: dict[str, Any] = _plain(record, 1)
    return plain


def _plain(value: Any, level: int) -> Any:
    if level > MAX_LEVELS:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, level + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, level + 1) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class RuleEntry:
    """What an engine must know of a rule besides its artefacts; read from dist/manifest.json.

    ``group_by`` holds a correlation's canonical group fields and ``window`` its length in seconds; a plain
    rule has neither. ``artefacts`` are the rule's own files, relative to dist/. ``tier`` is empty where
    nobody says it.
    """

    name: str
    group_by: tuple[str, ...] = ()
    window: int | None = None
    artefacts: tuple[str, ...] = ()
    tier: str = ""

"""Two readings of SPL held against each other: the product's model and the interpreter of `support.spl`."""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from detection_pack.languages.spl.spl_parser import UnsupportedSpl
from detection_pack.languages.spl.spl_steps import Lookup
from detection_pack.languages.spl.spl_times import moment_before
from detection_pack.model.event import Event
from detection_pack.platforms.splunk.run import Workspace
from support.spl import MODES, Index, Mode, Row, Table, UnsupportedSearch, moment_of, run, stanzas
from support.splunk_index import index_of

_CIDR = re.compile(r"CIDR\(([^()]*)\)")


@dataclass(frozen=True)
class Search:
    """One artefact: its text, and what its surroundings in Splunk give it."""

    name: str
    text: str
    macros: Mapping[str, str]
    dispatched: str | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)


def searches_of(files: Mapping[str, bytes], lookback: str | None = None) -> Iterator[Search]:
    """The searches of a dist/: the files ``splunk/**.spl`` and the app's saved searches.

    ``lookback`` such as ``40d`` replaces the one of each search.
    """
    app: dict[str, str] = {}
    tables: dict[str, Table] = {}
    for content in (content for path, content in sorted(files.items()) if path.endswith(".tgz")):
        members = {name.partition("/")[2]: text for name, text in _members(content)}
        app = members if "default/macros.conf" in members else app
        for name, about in stanzas(members["default/transforms.conf"]).items():
            lines = csv.DictReader(io.StringIO(members[f"lookups/{about['filename']}"], newline=""))
            cased = about.get("case_sensitive_match", "true") == "true"
            networks = frozenset(_CIDR.findall(about.get("match_type", "")))
            tables[name] = Table(list(lines), cased, networks)
    own = _macros(app["default/macros.conf"], lookback)
    macros = _macros(files["splunk/macros.conf"].decode(), lookback)
    for path, content in files.items():
        if path.startswith("splunk/") and path.endswith(".spl"):
            yield Search(path, content.decode(), macros, tables=tables)
    for name, about in stanzas(app["default/savedsearches.conf"]).items():
        assert about["dispatch.latest_time"] == "now"
        yield Search(f"app/{name}", about["search"], own, about["dispatch.earliest_time"], tables)


def _macros(conf: str, lookback: str | None) -> dict[str, str]:
    return {
        name: f"-{lookback}" if lookback and name.endswith("_lookback") else about["definition"]
        for name, about in stanzas(conf).items()
    }


def _members(archive: bytes) -> Iterator[tuple[str, str]]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        for member in opened.getmembers():
            file = opened.extractfile(member)
            if file is not None:
                yield member.name, file.read().decode()


@dataclass
class Agreement:
    """``searched`` searches compared in each mode, ``rows`` results in all, and every ``disagreement``."""

    searched: int = 0
    rows: int = 0
    refused: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)


class Bench:
    """Some events, in the product's workspace and as dictionaries."""

    def __init__(self, events: Sequence[Event], now: datetime) -> None:
        self.now = now
        self.workspace: Workspace
        self.index: Index
        # Half of them arrived before the run that the search is, so that what a schedule asks of it counts.
        before = {e.id: now - timedelta(hours=2) for n, e in enumerate(events) if n % 2}
        after = {e.id: now - timedelta(minutes=10) for n, e in enumerate(events) if not n % 2}
        self.workspace, self.index = index_of(events, before | after)
        self._models: dict[tuple[str, str, str], list[tuple[frozenset[str], Any]] | str] = {}

    def compare(self, search: Search, into: Agreement, changed: str | None = None) -> None:
        """Run one search on both sides. That one side alone refuses it is a disagreement too.

        ``changed`` is what the interpreter runs in its place: to see whether a change would be noticed.
        """
        key = (search.name, search.text, str(search.tables))
        if key not in self._models:
            self._models[key] = self._model(search)
        model = self._models[key]
        into.searched += 1
        for mode in MODES:
            mine = self._interpreted(search if changed is None else replace(search, text=changed), mode)
            where = f"{search.name} ({mode.name})"
            if isinstance(model, str) or isinstance(mine, str):
                both = isinstance(model, str) and isinstance(mine, str)
                said = f"{where}: {model!s:.200} | {mine!s:.200}"
                (into.refused if both else into.disagreements).append(said)
                continue
            into.rows += len(mine)
            # The model does not say which events a group of `stats` is made of.
            groups = {shown for events, shown in model if not events}
            found = Counter((frozenset() if shown in groups else events, shown) for events, shown in mine)
            for side, rest in (("model", Counter(model) - found), ("interpreter", found - Counter(model))):
                if rest:
                    events, shown = next(iter(rest))
                    said = f"{rest.total()} rows of the {side} alone: {events} {shown}"
                    into.disagreements.append(f"{where}: {said}")

    def _model(self, search: Search) -> list[tuple[frozenset[str], Any]] | str:
        window = None
        if search.dispatched is not None:
            start = moment_before(search.dispatched, self.now.timestamp())
            window = (datetime.fromtimestamp(start, UTC), self.now)
        tables = {name: Lookup(list(t.rows), t.cased, tuple(t.networks)) for name, t in search.tables.items()}
        try:
            rows = self.workspace.search(search.text, search.macros, self.now, window, tables)
        except UnsupportedSpl as error:
            return f"model: {error}"
        return [(frozenset(row.events), _shown(row.values)) for row in rows]

    def _interpreted(self, search: Search, mode: Mode) -> list[tuple[frozenset[str], Any]] | str:
        now = self.now.timestamp()
        window = None if search.dispatched is None else (moment_of(search.dispatched, now), now)
        try:
            rows: list[Row] = run(search.text, self.index, search.macros, now, mode, window, search.tables)
        except UnsupportedSearch as error:
            return f"interpreter: {error}"
        return [(row.events, _shown(row.fields)) for row in rows]


def _shown(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A row as it is displayed, ``_time`` to the millisecond; a field without a value is not shown."""
    return tuple(sorted((name, _text(name, value)) for name, value in fields.items() if value is not None))


def _text(name: str, value: Any) -> str:
    if name == "_time":
        moment = value if isinstance(value, datetime) else datetime.fromtimestamp(float(value), UTC)
        return f"{moment.timestamp():.3f}"
    if isinstance(value, (list, tuple)):
        return "\n".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

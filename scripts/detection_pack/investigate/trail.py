"""The first questions after an alert, answered from an export: what did the account do, where, with what,
what did it change, and what is missing?

What a record says stands in the log source's ``investigation`` (`detection_pack.model.traces`). Everything is
one SQL statement a question over the records' table: no record goes through Python but those that are shown.
Each list has a limit of its own and the whole number beside it; of rows both ends are kept, since what was
done last matters no less than what came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from detection_pack.languages.databases import literal
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.traces import ROLES, Named
from detection_pack.platforms.records import ID, TIME, quoted
from detection_pack.replay.reading import Reading

#: The most rows of a timeline and of each kind of change and gap, the most values of a list, and the most
#: silences of a source.
ROWS, VALUES, SILENCES = 10_000, 10_000, 3
#: The most characters of a value that is shown, and of one that a mention is looked for in.
_WIDEST, _SEARCHED = 400, 100_000
#: Seconds without any record that are worth a line.
_SILENCE = 3600
_ACCOUNT, _WHAT, _MAILBOX, _CLIENT, _ADDRESS, _TARGET = ROLES
#: The lists of values, by what they are called.
LISTS = {"mailboxes": _MAILBOX, "clients": _CLIENT, "addresses": _ADDRESS, "operations": _WHAT}


@dataclass(frozen=True)
class Listed:
    """``rows``, at most as many as the limit, of ``total``; ``first`` and ``last`` are the times of all."""

    total: int = 0
    first: str | None = None
    last: str | None = None
    rows: tuple[Mapping[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"total": self.total, "first": self.first, "last": self.last, "rows": list(self.rows)}


@dataclass(frozen=True)
class Trail:
    """What an export says of ``account``. Rows are mappings of `ROLES`, ``time``, ``source`` and ``record``,
    the oldest and the newest where there are more than the limit, by time.

    ``found``: how many records are the account's. ``lists``: by the keys of `LISTS` the values, each with how
    many records and when, the most frequent first. ``visitors``: who else was in the account's own mailbox.
    ``changes``: by what was changed, the account's and those that name it. ``marked``: by what is missing,
    the records that say so. ``silences``: by source the longest times without any record of anybody.
    """

    account: str
    found: int
    timeline: Listed
    lists: Mapping[str, Listed]
    visitors: Listed
    changes: Mapping[str, Listed]
    marked: Mapping[str, Listed]
    silences: Mapping[str, tuple[Mapping[str, Any], ...]]
    read: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "read": dict(self.read),
            "records": self.found,
            "timeline": self.timeline.as_json(),
            **{name: values.as_json() for name, values in self.lists.items()},
            "visitors": self.visitors.as_json(),
            "changes": {what: rows.as_json() for what, rows in self.changes.items()},
            "gaps": {
                "marked": {what: rows.as_json() for what, rows in self.marked.items()},
                "silences": {source: list(rows) for source, rows in self.silences.items()},
            },
        }


def wanted(sources: Iterable[LogSource]) -> dict[str, frozenset[str]]:
    """The keys of each source's records that are read."""
    return {source.name: source.traces.keys() for source in sources if source.traces.roles}


def trail(reading: Reading, account: str) -> Trail:
    """The answers. Raises `PackError` for an account without a name."""
    if not account.strip():
        raise PackError.at("--user", 1, "names nobody", "write an account as the log has it")
    found = _Question(reading, account.strip())
    return found.answer()


class _Question:
    """A table of all records with the roles as columns, and the questions to it."""

    def __init__(self, reading: Reading, account: str) -> None:
        self.reading, self.account = reading, account
        self.cursor = reading.records.cursor()
        self.sources = [source for source in reading.records.sources if source.traces.roles]
        self.all = "trail"
        # Once for all questions; DuckDB spills what exceeds its memory.
        reading.records.execute(self.cursor, f"CREATE TEMP TABLE {self.all} AS {self._view()}")

    def answer(self) -> Trail:
        timeline = self._kinds("'timeline'", "mine").get("timeline", Listed())
        # Who the account's own mailbox was opened by; a mailbox that is named by an address is its owner's.
        others = f"own_mailbox AND NOT mine AND {_ACCOUNT} IS NOT NULL"
        span = self.reading.span
        return Trail(
            self.account,
            timeline.total,
            timeline,
            {name: self._values(role, "mine") for name, role in LISTS.items()},
            self._values(_ACCOUNT, others),
            self._kinds("change", "(mine OR mentioned)"),
            self._kinds("gap", "true"),
            dict(self._silences()),
            {
                "files": len(self.reading.files),
                "records": {f"{s}/{kind}": n for (s, kind), n in self.reading.counts.items()},
                "first": None if span is None else _iso(span[0]),
                "last": None if span is None else _iso(span[1]),
                "skipped": self.reading.skipped.count,
                "repeated": self.reading.repeated,
                "unreadable": len(self.reading.unreadable),
            },
        )

    # ---- the view -----------------------------------------------------------------------------------

    def _view(self) -> str:
        """SQL: a row a record, with the roles as they are shown, whether it is the account's, and one of the
        account's own mailbox, by any field of the role; what it changes, what it says is missing, and whether
        it mentions the account."""
        parts = []
        for source in self.sources:
            traces = source.traces
            columns = [f"{literal(source.name)} AS source", f"{ID} AS record", f"{TIME} AS time"]
            for role in ROLES:
                texts = [self._text(source, name) for name in traces.roles.get(role, ())]
                held = ", ".join(f"nullif({text}, '')" for text in texts)
                shown = f"coalesce({held})" if texts else "NULL"
                columns.append(f"left({shown}, {_WIDEST}) AS {role}")
            columns.append(f"{self._any_is(source, _ACCOUNT)} AS mine")
            columns.append(f"{self._any_is(source, _MAILBOX)} AS own_mailbox")
            columns.append(f"{self._case(source, traces.changes)} AS change")
            columns.append(f"{self._case(source, traces.gaps)} AS gap")
            searched = [f"left({self._text(source, name)}, {_SEARCHED})" for name in traces.mentions]
            asked = literal(self.account.lower())
            named = [f"contains(lower(coalesce({text}, '')), {asked})" for text in searched]
            columns.append(f"({' OR '.join(named) or 'false'}) AS mentioned")
            table = self.reading.records.tables[source.name].name
            parts.append(f"SELECT {', '.join(columns)} FROM {table}")
        return " UNION ALL ".join(parts)

    def _any_is(self, source: LogSource, role: str) -> str:
        """SQL for whether a field of the role is the account: its whole value, or what stands behind the last
        slash or backslash of it, as in DOMAIN\\name and in a path of the directory."""
        asked = literal(self.account.lower())
        said = []
        for name in source.traces.roles.get(role, ()):
            text = f"left({self._text(source, name)}, {_SEARCHED})"
            last = f"regexp_extract({text}, '[^/\\\\]+$')"
            said.append(f"coalesce(lower({text}) = {asked} OR lower({last}) = {asked}, false)")
        return f"({' OR '.join(said) or 'false'})"

    def _json(self, source: LogSource, name: str) -> str:
        """SQL for what a record holds under a name, as JSON: flat, or below the objects on the way."""
        records = self.reading.records
        head, _, rest = name.partition(".")
        if not rest:
            return records.key(source, name)
        pointer = "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in rest.split("."))
        below = f"json_extract({records.key(source, head)}, {literal(pointer)})"
        return f"coalesce({records.key(source, name)}, {below})"

    def _text(self, source: LogSource, name: str) -> str:
        """The same as text: a text as it stands, anything else as JSON, null for null."""
        return f"nullif(json_extract_string({self._json(source, name)}, '$'), 'null')"

    def _case(self, source: LogSource, kinds: Mapping[str, tuple[Named, ...]]) -> str:
        whens = [
            f"WHEN {' OR '.join(self._is(source, one) for one in listed)} THEN {literal(what)}"
            for what, listed in kinds.items()
            if listed
        ]
        return f"CASE {' '.join(whens)} END" if whens else "NULL"

    def _is(self, source: LogSource, one: Named) -> str:
        values = ", ".join(literal(value.lower()) for value in one.values)
        if one.name is None:
            text = f"lower({self._text(source, one.field)})"
            return f"{text} IN ({values})" if values else f"{text} IS NOT NULL"
        name, value = (f"lower(json_extract_string(pair, '$.{key}'))" for key in ("Name", "Value"))
        said = f"{name} = {literal(one.name.lower())}" + (f" AND {value} IN ({values})" if values else "")
        listed = f"coalesce(TRY_CAST({self._json(source, one.field)} AS JSON[]), [])"
        return f"len(list_filter({listed}, lambda pair: coalesce({said}, false))) > 0"

    # ---- the questions ------------------------------------------------------------------------------

    def _kinds(self, kind: str, where: str) -> dict[str, Listed]:
        """By kind, a column or a text, the oldest and the newest of its rows and how many there are."""
        columns = ("time", "source", *ROLES, "record")
        sql = (
            f"SELECT kind, total, first, last, {', '.join(columns)} FROM (SELECT {', '.join(columns)}, "
            f"{kind} AS kind, count(*) OVER all_of AS total, min(time) OVER all_of AS first, "
            "max(time) OVER all_of AS last, "
            "row_number() OVER (PARTITION BY kind ORDER BY time, record) AS place "
            f"FROM {self.all} WHERE {kind} IS NOT NULL AND {where} WINDOW all_of AS (PARTITION BY kind)) "
            f"WHERE place <= {ROWS - ROWS // 2} OR place > total - {ROWS // 2} ORDER BY kind, place"
        )
        found: dict[str, Listed] = {}
        for what, group in groupby(self._run(sql), key=itemgetter(0)):
            listed = list(group)
            _, total, first, last, *_ = listed[0]
            rows = tuple(dict(zip(columns, (_iso(row[4]), *row[5:]), strict=True)) for row in listed)
            found[what] = Listed(total, _iso(first), _iso(last), rows)
        return found

    def _values(self, role: str, where: str) -> Listed:
        sql = (
            f"SELECT *, count(*) OVER (), min(first) OVER (), max(last) OVER () FROM (SELECT "
            f"{role} AS value, count(*) AS records, min(time) AS first, max(time) AS last FROM {self.all} "
            f"WHERE {where} AND {role} IS NOT NULL GROUP BY value) "
            f"ORDER BY records DESC, value LIMIT {VALUES}"
        )
        found = self._run(sql)
        if not found:
            return Listed()
        rows = tuple(
            {"value": value, "records": records, "first": _iso(first), "last": _iso(last)}
            for value, records, first, last, *_ in found
        )
        _, _, _, _, total, earliest, latest = found[0]
        return Listed(total, _iso(earliest), _iso(latest), rows)

    def _silences(self) -> Iterator[tuple[str, tuple[Mapping[str, Any], ...]]]:
        for source in self.sources:
            table = self.reading.records.tables[source.name].name
            sql = (
                f"SELECT start, stop, epoch(stop) - epoch(start) AS length FROM (SELECT {TIME} AS start, "
                f"lead({TIME}) OVER (ORDER BY {TIME}) AS stop FROM (SELECT DISTINCT date_trunc('minute', "
                f"{TIME}) AS {quoted(TIME)} FROM {table} WHERE {TIME} IS NOT NULL)) WHERE stop IS NOT NULL "
                f"AND epoch(stop) - epoch(start) >= {_SILENCE} ORDER BY length DESC, start LIMIT {SILENCES}"
            )
            rows = [
                {"from": _iso(start), "to": _iso(stop), "hours": round(length / 3600, 1)}
                for start, stop, length in self._run(sql)
            ]
            if rows:
                yield source.name, tuple(rows)

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.reading.records.execute(self.cursor, sql).fetchall()
        return found


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"

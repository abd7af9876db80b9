"""The first questions after an alert, answered from an export: what did the account do, where, with what,
what did it change, and what is missing?

What a record says stands in the log source's ``investigation`` (`detection_pack.model.traces`). Everything is
one SQL statement a question over the records' table: no record goes through Python but those that are shown,
and lists have a limit, with the whole number beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from detection_pack.languages.databases import literal
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.traces import ROLES, Named
from detection_pack.platforms.records import ID, TIME, quoted
from detection_pack.replay.reading import Reading

#: The most rows of a timeline and of a list of changes, the most values of a list, and silences of a source.
ROWS, VALUES, SILENCES = 10_000, 100, 3
#: The most characters of a value that is shown, and of one that a mention is looked for in.
_WIDEST, _SEARCHED = 400, 100_000
#: Seconds without any record that are worth a line.
_SILENCE = 3600
_ACCOUNT, _WHAT, _MAILBOX, _CLIENT, _ADDRESS, _TARGET = ROLES
#: The lists of values, by what they are called.
LISTS = {"mailboxes": _MAILBOX, "clients": _CLIENT, "addresses": _ADDRESS, "operations": _WHAT}


@dataclass(frozen=True)
class Trail:
    """What an export says of ``account``. Rows are mappings of `ROLES`, ``time``, ``source`` and ``record``.

    ``found``: how many records are the account's. ``lists``: by the keys of `LISTS` the values, each with how
    many records and when. ``visitors``: who else was in the account's own mailbox. ``changes``: by what was
    changed, the account's and those that name it. ``marked``: by what is missing, the records that say so.
    ``silences``: by source the longest times without any record of anybody.
    """

    account: str
    found: int
    timeline: tuple[Mapping[str, Any], ...]
    lists: Mapping[str, tuple[Mapping[str, Any], ...]]
    visitors: tuple[Mapping[str, Any], ...]
    changes: Mapping[str, tuple[Mapping[str, Any], ...]]
    marked: Mapping[str, tuple[Mapping[str, Any], ...]]
    silences: Mapping[str, tuple[Mapping[str, Any], ...]]
    read: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "read": dict(self.read),
            "records": self.found,
            "timeline": list(self.timeline),
            **{name: list(values) for name, values in self.lists.items()},
            "visitors": list(self.visitors),
            "changes": {what: list(rows) for what, rows in self.changes.items()},
            "gaps": {
                "marked": {what: list(rows) for what, rows in self.marked.items()},
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
        mine = f"{_is(_ACCOUNT)}"
        [(found,)] = self._run(f"SELECT count(*) FROM {self.all} WHERE {mine}", 1)
        lists = {name: tuple(self._values(role, mine)) for name, role in LISTS.items()}
        # Who the account's own mailbox was opened by; a mailbox that is named by an address is its owner's.
        others = f"{_is(_MAILBOX)} AND NOT {mine} AND {_ACCOUNT} IS NOT NULL"
        span = self.reading.span
        return Trail(
            self.account,
            found,
            tuple(self._rows(mine, 1)),
            lists,
            tuple(self._values(_ACCOUNT, others, parameters=2)),
            dict(self._kinds("change", f"({mine} OR mentioned)", 1)),
            dict(self._kinds("gap", "true", 0)),
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
        """SQL: a row a record, with the roles, what it changes, what it says is missing, and
        whether it mentions the account."""
        parts = []
        for source in self.sources:
            traces = source.traces
            columns = [f"{literal(source.name)} AS source", f"{ID} AS record", f"{TIME} AS time"]
            for role in ROLES:
                texts = [self._text(source, name) for name in traces.roles.get(role, ())]
                held = ", ".join(f"nullif({text}, '')" for text in texts)
                shown = f"coalesce({held})" if texts else "NULL"
                columns.append(f"left({shown}, {_WIDEST}) AS {role}")
            columns.append(f"{self._case(source, traces.changes)} AS change")
            columns.append(f"{self._case(source, traces.gaps)} AS gap")
            searched = [f"left({self._text(source, name)}, {_SEARCHED})" for name in traces.mentions]
            asked = literal(self.account.lower())
            named = [f"contains(lower(coalesce({text}, '')), {asked})" for text in searched]
            columns.append(f"({' OR '.join(named) or 'false'}) AS mentioned")
            table = self.reading.records.tables[source.name].name
            parts.append(f"SELECT {', '.join(columns)} FROM {table}")
        return " UNION ALL ".join(parts)

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

    def _rows(self, where: str, parameters: int, more: str = "") -> Iterator[Mapping[str, Any]]:
        columns = ("time", "source", *ROLES, "record", *filter(None, [more]))
        sql = f"SELECT {', '.join(columns)} FROM {self.all} WHERE {where} ORDER BY time, record LIMIT {ROWS}"
        for row in self._run(sql, parameters):
            yield {
                name: _iso(value) if name == "time" else value
                for name, value in zip(columns, row, strict=True)
            }

    def _values(self, role: str, where: str, parameters: int = 1) -> Iterator[Mapping[str, Any]]:
        sql = (
            f"SELECT {role}, count(*), min(time), max(time) FROM {self.all} WHERE {where} AND {role} IS NOT "
            f"NULL GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT {VALUES}"
        )
        for value, count, first, last in self._run(sql, parameters):
            yield {"value": value, "records": count, "first": _iso(first), "last": _iso(last)}

    def _kinds(
        self, column: str, where: str, parameters: int
    ) -> Iterator[tuple[str, tuple[Mapping[str, Any], ...]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in self._rows(f"{column} IS NOT NULL AND {where}", parameters, column):
            found.setdefault(str(row[column]), []).append({k: v for k, v in row.items() if k != column})
        yield from ((what, tuple(rows)) for what, rows in sorted(found.items()))

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
                for start, stop, length in self._run(sql, 0)
            ]
            if rows:
                yield source.name, tuple(rows)

    def _run(self, sql: str, parameters: int) -> list[tuple[Any, ...]]:
        """``parameters``: how often the statement asks for the account."""
        found: list[tuple[Any, ...]] = self.reading.records.execute(
            self.cursor, sql, [self.account.lower()] * parameters * 2
        ).fetchall()
        return found


def _is(role: str) -> str:
    """Whether a role is the account: its whole value, or what stands behind the last slash or backslash of
    it, as in DOMAIN\\name and in a path of the directory."""
    return f"(lower({role}) = ? OR lower(regexp_extract({role}, '[^/\\\\]+$')) = ?)"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"

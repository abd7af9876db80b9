"""Commands, one after the other over rows: commands/source-commands, commands/processing-commands."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from support.esql.aggregates import aggregate
from support.esql.expressions import Compiler, Context
from support.esql.parser import parse
from support.esql.syntax import (
    Assignment,
    Command,
    Eval,
    From,
    Limit,
    MvExpand,
    Name,
    Order,
    Project,
    Rename,
    Sort,
    Stats,
    Where,
)
from support.esql.values import TEXT, Index, Row, unpack

#: limitations, "Result set size limit": what is returned without LIMIT, and at most.
DEFAULT_ROWS = 1_000
MOST_ROWS = 10_000
_METADATA = {"_id": TEXT, "_index": TEXT, "_version": "long"}


@dataclass(frozen=True)
class Result:
    """``columns``: name to type, in order. ``rows``: values as in `values`, by column. ``truncated``: whether
    the limit on rows, stated or not, cut some off."""

    columns: Mapping[str, str]
    rows: Sequence[Row]
    warnings: tuple[str, ...]
    truncated: bool


@dataclass
class _Table:
    columns: dict[str, str]
    rows: list[Row]
    limited: bool = False
    truncated: bool = False


def evaluate(
    text: str, indices: Sequence[Index], default_rows: int = DEFAULT_ROWS, now: datetime | None = None
) -> Result:
    """The rows of a query over these indices; without LIMIT at most ``default_rows``. ``now`` is the time of
    the query. Raises `Refused` and `VerificationFailed`."""
    commands, lexer = parse(text)
    context = Context(lexer, now=now)
    first = commands[0]
    assert isinstance(first, From)
    table = _from(context, first, indices)
    for command in commands[1:]:
        _apply(context, command, table)
    _limit(table, MOST_ROWS if table.limited else default_rows)
    rows = [{name: row.get(name) for name in table.columns} for row in table.rows]
    return Result(table.columns, rows, tuple(context.warnings), table.truncated)


def _from(context: Context, node: From, indices: Sequence[Index]) -> _Table:
    """esql-from: patterns with ``*``, and ``-pattern`` to leave out; the fields of all indices. A field with
    two types can be in no expression."""
    chosen: list[Index] = []
    for index in indices:
        named = False
        for pattern in node.patterns:
            if fnmatch.fnmatchcase(index.name, pattern.removeprefix("-").replace("[", "[[]")):
                named = not pattern.startswith("-")
        if named:
            chosen.append(index)
    if not chosen:
        raise context.invalid(node.at, f"unknown index [{','.join(node.patterns)}]")
    columns: dict[str, str] = {}
    for index in chosen:
        for name, mapped in index.fields.items():
            known = columns.setdefault(name, mapped.seen_as)
            columns[name] = known if known == mapped.seen_as else "conflicting"
    columns = dict(sorted(columns.items()))
    rows = [row for index in chosen for row in index.rows()]
    if node.metadata:
        raise context.refused(node.metadata[0].at, "METADATA is not modelled")
    return _Table(columns, rows)


def _apply(context: Context, command: Command, table: _Table) -> None:
    match command:
        case Where():
            holds = Compiler(context, table.columns).condition(command.condition)
            table.rows = [row for row in table.rows if holds(row)]
        case Eval():
            _eval(context, command.columns, table)
        case Stats():
            _stats(context, command, table)
        case Project():
            _project(context, command, table)
        case Rename():
            _rename(context, command, table)
        case Sort():
            _sort(context, command, table)
        case Limit():
            _limit(table, command.count)
            table.limited = True
        case MvExpand():
            _expand(context, command.name, table)
        case _:
            raise AssertionError(command)


def _eval(context: Context, columns: Sequence[Assignment], table: _Table) -> None:
    """esql-eval: a column of the same name is replaced and moves to the end; later ones see earlier ones."""
    for item in columns:
        compiled = Compiler(context, table.columns).compile(item.expression)
        if compiled.type == "timespan":
            raise context.invalid(item.at, "a time span cannot be a column")
        table.rows = [{**row, item.name: compiled.of(row)} for row in table.rows]
        table.columns.pop(item.name, None)
        table.columns[item.name] = compiled.type


def _stats(context: Context, node: Stats, table: _Table) -> None:
    """esql-stats-by: a row a group, null among them; a row with several values of a group is in each of their
    groups. Without BY one row. Columns: aggregates, then groups."""
    for item in node.by:
        if item.expression != Name(item.at, item.name):
            _eval(context, [item], table)
    for item in node.by:
        if item.name not in table.columns:
            raise context.invalid(item.at, f"unknown column [{item.name}]")
        if table.columns[item.name] in ("unsupported", "conflicting"):
            raise context.invalid(item.at, f"cannot use field [{item.name}]")
    compiler = Compiler(context, table.columns)
    made = {item.name: aggregate(compiler, item) for item in node.aggregates}
    names = [item.name for item in node.by]
    groups: dict[tuple[Any, ...], list[Row]] = {} if names else {(): []}
    for row in table.rows:
        for key in itertools.product(*(list(unpack(row.get(name))) or [None] for name in names)):
            groups.setdefault(key, []).append(row)
    types = {name: table.columns[name] for name in names}
    table.rows = [
        {name: found.over(rows) for name, found in made.items()} | dict(zip(names, key, strict=True))
        for key, rows in groups.items()
    ]
    table.columns = {name: found.type for name, found in made.items() if name not in types} | types


def _known(context: Context, name: Name, table: _Table) -> str:
    if name.name not in table.columns:
        raise context.invalid(name.at, f"unknown column [{name.name}]")
    return name.name


def _project(context: Context, node: Project, table: _Table) -> None:
    """esql-keep: these columns in this order; esql-drop: all others."""
    names = list(dict.fromkeys(_known(context, name, table) for name in node.names))
    kept = names if node.command == "keep" else [name for name in table.columns if name not in names]
    table.columns = {name: table.columns[name] for name in kept}
    table.rows = [{name: row.get(name) for name in kept} for row in table.rows]


def _rename(context: Context, node: Rename, table: _Table) -> None:
    """esql-rename: one after the other; a column that had the new name is gone."""
    for old, new in node.pairs:
        _known(context, old, table)
        columns = {
            new.name if name == old.name else name: kind
            for name, kind in table.columns.items()
            if name != new.name or name == old.name
        }
        table.rows = [
            {name: row.get(old.name if name == new.name else name) for name in columns} for row in table.rows
        ]
        table.columns = columns


def _sort(context: Context, node: Sort, table: _Table) -> None:
    """esql-sort: null is larger than any value unless stated; of several values the lowest counts when
    rising, the highest when falling. How rows that tie are sorted is not stated; here, as they arrive."""
    for key in reversed(node.keys):
        compiled = Compiler(context, table.columns).compile(key.expression)
        present: list[tuple[Any, Row]] = []
        absent: list[tuple[Any, Row]] = []
        for row in table.rows:
            value = compiled.of(row)
            (absent if value is None else present).append((value, row))
        present.sort(key=_extreme(key), reverse=key.descending)
        ordered = [*absent, *present] if key.nulls_first else [*present, *absent]
        table.rows = [row for _, row in ordered]


def _extreme(key: Order) -> Callable[[tuple[Any, Row]], Any]:
    choose = max if key.descending else min
    return lambda item: choose(unpack(item[0]))


def _limit(table: _Table, count: int) -> None:
    table.truncated = table.truncated or len(table.rows) > count
    table.rows = table.rows[:count]


def _expand(context: Context, name: Name, table: _Table) -> None:
    """esql-mv_expand: a row for each value."""
    column = _known(context, name, table)
    table.rows = [
        {**row, column: value} for row in table.rows for value in list(unpack(row.get(column))) or [None]
    ]

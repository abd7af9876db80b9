"""A whole search: what generates its events, and the commands after it.

Search Reference: ``search`` is implied at the beginning; ``union`` and ``multisearch`` run searches in
brackets and give the results of all; ``tstats`` counts the events of a data model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from support.spl import aggregates, search
from support.spl.commands import COMMANDS, Context, Table
from support.spl.errors import UnsupportedSearch
from support.spl.expressions import number
from support.spl.lexer import Reader, replaced_macros
from support.spl.pattern import Mode
from support.spl.rows import Row, Value

Generate = Callable[[], list[Row]]
_UNION_OPTIONS = ("maxtime", "maxout", "timeout")
_TSTATS_OPTIONS = ("summariesonly", "allow_old_summaries", "fillnull_value")


@dataclass(frozen=True)
class Index:
    """What can be searched: events, and the events of each data set of a data model (``Model.DataSet``)."""

    events: Sequence[Row]
    data_sets: Mapping[str, Sequence[Row]] = field(default_factory=dict)


def run(
    spl: str,
    index: Index,
    macros: Mapping[str, str],
    now: float,
    mode: Mode,
    dispatched: tuple[float, float] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> list[Row]:
    """The results of a search. Times are seconds since the epoch; ``dispatched`` is the search's time range,
    for where it states none itself. Raises `UnsupportedSearch`."""
    reader = Reader(replaced_macros(spl, macros))
    context = Context(search.Scope(now, dispatched), mode, tables or {})
    generate = _pipeline(reader, index, context)
    if reader.next.kind != "end":
        raise reader.refused("the end of the search is expected here")
    return generate()


def _pipeline(reader: Reader, index: Index, context: Context) -> Generate:
    generate = _generator(reader, index, context)
    while reader.accept("|"):
        token = reader.next
        name = reader.name()
        if token.kind != "word" or name not in COMMANDS:
            raise UnsupportedSearch(f"the command {name!r} here", token.position)
        generate = _after(generate, COMMANDS[name](reader, context))
        if not reader.ends():
            raise reader.refused(f"the end of {name} is expected here")
    return generate


def _after(generate: Generate, step: Callable[[Sequence[Row]], list[Row]]) -> Generate:
    return lambda: step(generate())


def _generator(reader: Reader, index: Index, context: Context) -> Generate:
    if reader.accept("|"):
        if reader.accept("union"):
            while reader.is_word(*_UNION_OPTIONS):
                reader.take()
                reader.expect("=")
                reader.name()
            return _searches(reader, index, context)
        if reader.accept("multisearch"):
            return _searches(reader, index, context)
        if reader.accept("tstats"):
            return _tstats(reader, index, context)
        raise reader.refused("union, multisearch or tstats is expected here")
    reader.accept("search")
    test = search.parse(reader, context.scope, first=True)
    return lambda: [row for row in index.events if test(row)]


def _searches(reader: Reader, index: Index, context: Context) -> Generate:
    parts = []
    while reader.accept("["):
        parts.append(_pipeline(reader, index, context))
        reader.expect("]")
    if len(parts) < 2:
        raise reader.refused("two or more searches in brackets are expected here")
    return lambda: [row for part in parts for row in part()]


def _tstats(reader: Reader, index: Index, context: Context) -> Generate:
    """``tstats [options] aggregates FROM datamodel=Model.DataSet [WHERE terms] [BY [_time span=1s] fields]``.

    Search Reference, "tstats": a row whose group lacks a field is dropped unless ``fillnull_value`` gives a
    text for it; of the spans of ``_time`` seconds are known here.
    """
    fill: str | None = None
    while reader.is_word(*_TSTATS_OPTIONS):
        position, option = reader.next.position, reader.take().text
        reader.expect("=")
        value = reader.name()
        if option == "fillnull_value":
            fill = value
        elif option == "summariesonly" and value != "false":
            raise UnsupportedSearch("tstats of the summaries alone", position)
    found = [aggregates.parse(reader, context.mode)]
    while not reader.is_word("FROM"):
        found.append(aggregates.parse(reader, context.mode))
    reader.expect("FROM")
    reader.expect("datamodel")
    reader.expect("=")
    position, name = reader.next.position, reader.name()
    if name not in index.data_sets:
        raise UnsupportedSearch(f"the data set {name}", position)
    rows = index.data_sets[name]
    test = search.parse(reader, context.scope, ("BY",), first=True) if reader.accept("WHERE") else None
    by = []
    if reader.accept("BY"):
        while not reader.ends():
            position, field = reader.next.position, reader.name()
            by.append(field)
            if field == "_time":
                reader.expect("span")
                reader.expect("=")
                if reader.name() != "1s":
                    raise UnsupportedSearch("tstats by another span than a second", position)

    def counted() -> list[Row]:
        kept = [row for row in rows if test is None or test(row)]
        if "_time" in by:
            kept = [row.having({**row.fields, "_time": _second(row.fields["_time"])}) for row in kept]
        if fill is not None:
            kept = [row.having({**dict.fromkeys(by, fill), **row.fields}) for row in kept]
        return aggregates.grouped(kept, by, found)

    return counted


def _second(time: Value | None) -> int:
    moment = number(time)
    assert moment is not None
    return math.floor(moment)

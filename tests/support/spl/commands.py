"""The commands between the pipes: Search Reference, each command's page.

A command reads its arguments and gives what makes rows of rows.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from support.spl import aggregates, search
from support.spl.errors import UnsupportedSearch
from support.spl.expressions import Expressions, number
from support.spl.lexer import Reader
from support.spl.pattern import Mode
from support.spl.rows import Row, Value, from_list, values_of

Step = Callable[[Sequence[Row]], list[Row]]


@dataclass(frozen=True)
class Table:
    """A lookup table: its lines, and ``case_sensitive_match`` of transforms.conf; the columns that hold
    networks, as its ``match_type`` says (``CIDR(address)``)."""

    rows: Sequence[Mapping[str, str]]
    cased: bool = True
    networks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Context:
    scope: search.Scope
    mode: Mode
    tables: Mapping[str, Table]


def _search(reader: Reader, context: Context) -> Step:
    test = search.parse(reader, context.scope)
    return lambda rows: [row for row in rows if test(row)]


def _where(reader: Reader, context: Context) -> Step:
    """Keeps the rows whose expression is true."""
    position = reader.next.position
    with reader.expression():
        condition = Expressions(reader, context.mode, context.scope.now).parse()

    def kept(row: Row) -> bool:
        value = condition(row)
        if value is not None and not isinstance(value, bool):
            raise UnsupportedSearch("where with what is neither true nor false", position)
        return value is True

    return lambda rows: [row for row in rows if kept(row)]


def _eval(reader: Reader, context: Context) -> Step:
    """Assignments in order, each seeing those before it; a null takes the field away."""
    assigned = []
    with reader.expression():
        while True:
            position, name = reader.next.position, reader.name()
            reader.expect("=")
            assigned.append((position, name, Expressions(reader, context.mode, context.scope.now).parse()))
            if not reader.accept(","):
                break

    def computed(row: Row) -> Row:
        for position, name, expression in assigned:
            value = expression(row)
            if isinstance(value, bool):
                raise UnsupportedSearch("a Boolean assigned to a field", position)
            fields = dict(row.fields)
            fields.pop(name, None)
            row = row.having(fields if value is None else fields | {name: value})
        return row

    return lambda rows: [computed(row) for row in rows]


def _bin(reader: Reader, context: Context) -> Step:
    """``bin <field> span=<n>(s|m|h|d)``: the start of the span, counted from the epoch, in UTC."""
    name = reader.name()
    reader.expect("span")
    reader.expect("=")
    position, text = reader.next.position, reader.name()
    found = re.fullmatch(r"([1-9]\d*)([smhd])", text, re.ASCII)
    if found is None or name != "_time":
        raise UnsupportedSearch(f"bin of {name} with the span {text!r}", position)
    span = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]

    def binned(row: Row) -> Row:
        time = number(row.fields.get(name))
        return row if time is None else row.having({**row.fields, name: int(time // span * span)})

    return lambda rows: [binned(row) for row in rows]


def _aggregations(reader: Reader, context: Context) -> tuple[list[aggregates.Aggregate], list[str]]:
    """The functions of a ``stats`` and the fields that it groups by."""
    found = [aggregates.parse(reader, context.mode)]
    while not (reader.ends() or reader.is_word("BY", "by")):
        reader.accept(",")
        found.append(aggregates.parse(reader, context.mode))
    return found, _names(reader) if reader.accept("BY") or reader.accept("by") else []


def _stats(reader: Reader, context: Context) -> Step:
    found, by = _aggregations(reader, context)
    return lambda rows: aggregates.grouped(rows, by, found)


def _streamstats(reader: Reader, context: Context) -> Step:
    """Statistics of each row and those before it in its group; with ``current=f`` of those before it alone.
    Other options are refused."""
    current = not reader.accept("current")
    if not current:
        reader.expect("=")
        reader.expect("f")
    found, by = _aggregations(reader, context)

    def streamed(rows: Sequence[Row]) -> list[Row]:
        seen: dict[tuple[str, ...], list[Row]] = {}
        out = []
        for row in rows:
            before = seen.setdefault(_one_group(row, by), [])
            if current:
                before.append(row)
            out.append(_with_statistics(row, found, before))
            if not current:
                before.append(row)
        return out

    return streamed


def _eventstats(reader: Reader, context: Context) -> Step:
    """Statistics of its whole group in each row."""
    found, by = _aggregations(reader, context)

    def counted(rows: Sequence[Row]) -> list[Row]:
        whole: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            whole.setdefault(_one_group(row, by), []).append(row)
        return [_with_statistics(row, found, whole[_one_group(row, by)]) for row in rows]

    return counted


def _one_group(row: Row, by: Sequence[str]) -> tuple[str, ...]:
    keys = list(aggregates.groups([row], by))
    if len(keys) != 1:
        raise UnsupportedSearch("statistics of a row in no group, or in several")
    return keys[0]


def _with_statistics(row: Row, found: Sequence[aggregates.Aggregate], of: Sequence[Row]) -> Row:
    added = {a.name: v for a in found if (v := a.result(of)) is not None}
    return row.having({**{n: v for n, v in row.fields.items() if n not in {a.name for a in found}}, **added})


def _addinfo(reader: Reader, context: Context) -> Step:
    """The latest time of the search, which its range or ``latest=now`` states; the other fields are left
    out."""
    until = context.scope.now if context.scope.dispatched is None else context.scope.dispatched[1]
    return lambda rows: [row.having({**row.fields, "info_max_time": until}) for row in rows]


def _names(reader: Reader) -> list[str]:
    """Names up to the end of the command, with commas or spaces between them."""
    names = [reader.name()]
    while not reader.ends():
        reader.accept(",")
        names.append(reader.name())
    return names


def _table(reader: Reader, context: Context) -> Step:
    position, names = reader.next.position, _names(reader)
    if wild := [name for name in names if "*" in name]:
        raise UnsupportedSearch(f"table with the wildcard {wild[0]}", position)
    return lambda rows: [
        row.having({name: row.fields[name] for name in names if name in row.fields}) for row in rows
    ]


def _sort(reader: Reader, context: Context) -> Step:
    """``sort [<count>] [-]<field>…``: by number where both values are one; 0 keeps every result."""
    count = 10_000
    if reader.next.kind == "word" and re.fullmatch(r"\d+", reader.next.text, re.ASCII):
        count = int(reader.take().text)
    order = [(name.lstrip("+-"), name.startswith("-")) for name in _names(reader)]

    def ordered(rows: Sequence[Row]) -> list[Row]:
        listed = list(rows)
        for name, descending in reversed(order):
            listed.sort(key=lambda row: _sort_key(row.fields.get(name)), reverse=descending)
        return listed[:count] if count else listed

    return ordered


def _sort_key(value: Value | None) -> tuple[int, float, str]:
    if (size := number(value)) is not None:
        return 0, size, ""
    return 1, 0.0, " ".join(values_of(value))


def _rename(reader: Reader, context: Context) -> Step:
    """``rename <field> AS <field>``; one ``*`` on either side stands for the same text."""
    position, pairs = reader.next.position, []
    while not reader.ends():
        old = reader.name()
        reader.expect("AS", "as")
        pairs.append((old, reader.name()))
        reader.accept(",")
    for old, new in pairs:
        if old.count("*") != new.count("*") or old.count("*") > 1:
            raise UnsupportedSearch(f"rename of {old} AS {new}", position)

    def renamed(row: Row) -> Row:
        fields = dict(row.fields)
        for old, new in pairs:
            pattern = re.compile("(.*)".join(map(re.escape, old.split("*"))), re.DOTALL)
            for name in list(fields):
                if found := pattern.fullmatch(name):
                    fields[new.replace("*", found[1]) if "*" in old else new] = fields.pop(name)
        return row.having(fields)

    return lambda rows: [renamed(row) for row in rows]


def _dedup(reader: Reader, context: Context) -> Step:
    """The first row of each combination of values; rows without one of the fields are dropped."""
    names = _names(reader)

    def deduplicated(rows: Sequence[Row]) -> list[Row]:
        seen: dict[tuple[str, ...], Row] = {}
        for row in rows:
            if all(name in row.fields for name in names):
                seen.setdefault(tuple("\n".join(values_of(row.fields[name])) for name in names), row)
        return list(seen.values())

    return deduplicated


def _mvexpand(reader: Reader, context: Context) -> Step:
    """A row for each value of the field; a row without the field gives none here, and is refused."""
    position, name = reader.next.position, reader.name()

    def expanded(row: Row) -> list[Row]:
        values = values_of(row.fields.get(name))
        if not values:
            raise UnsupportedSearch("mvexpand of an absent field", position)
        return [row.having({**row.fields, name: value}) for value in values]

    return lambda rows: [one for row in rows for one in expanded(row)]


def _fields(reader: Reader, context: Context) -> Step:
    """``fields [-] <field>…``: these fields and the internal ones, or all but these."""
    without = reader.accept("-")
    names = _names(reader)

    def kept(name: str) -> bool:
        return name not in names if without else name in names or name.startswith("_")

    return lambda rows: [row.having({n: v for n, v in row.fields.items() if kept(n)}) for row in rows]


def _lookup(reader: Reader, context: Context) -> Step:
    """``lookup <table> <field> [AS <field>]… OUTPUT <field> [AS <field>]…``, the first line of the table that
    matches.

    Without a match the fields of OUTPUT are emptied (Search Reference, "lookup"). A cell that holds nothing
    matches nothing here; what Splunk does with it is not documented.
    """
    position, name = reader.next.position, reader.name()
    if name not in context.tables:
        raise UnsupportedSearch(f"the lookup table {name} is not defined", position)
    table = context.tables[name]
    keys, outputs = [], []
    while not reader.is_word("OUTPUT"):
        column = reader.name()
        keys.append((column, reader.name() if reader.accept("AS") else column))
        reader.accept(",")
    reader.expect("OUTPUT")
    while not reader.ends():
        column = reader.name()
        outputs.append((column, reader.name() if reader.accept("AS") else column))
        reader.accept(",")

    def folded(text: str) -> str:
        return text if table.cased else text.lower()

    def agrees(cell: str, value: str, column: str) -> bool:
        if column not in table.networks:
            return bool(cell) and folded(value) == folded(cell)
        try:
            return ipaddress.ip_address(value) in ipaddress.ip_network(cell)
        except ValueError:
            return False

    def looked_up(row: Row) -> Row:
        fields = dict(row.fields)
        for _, shown in outputs:
            fields.pop(shown, None)
        wanted = [values_of(row.fields.get(key)) for _, key in keys]
        if any(len(values) > 1 for values in wanted):
            raise UnsupportedSearch("lookup of several values", position)
        for line in table.rows:
            if all(v and agrees(line[k], v[0], k) for (k, _), v in zip(keys, wanted, strict=True)):
                fields.update({shown: value for c, shown in outputs if (value := from_list([line[c]]))})
                break
        return row.having(fields)

    return lambda rows: [looked_up(row) for row in rows]


COMMANDS: dict[str, Callable[[Reader, Context], Step]] = {
    "search": _search,
    "where": _where,
    "eval": _eval,
    "bin": _bin,
    "stats": _stats,
    "streamstats": _streamstats,
    "eventstats": _eventstats,
    "addinfo": _addinfo,
    "table": _table,
    "sort": _sort,
    "rename": _rename,
    "dedup": _dedup,
    "mvexpand": _mvexpand,
    "fields": _fields,
    "lookup": _lookup,
}

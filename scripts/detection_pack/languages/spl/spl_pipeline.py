"""A pipeline of SPL commands as one SQL statement.

Every row carries where it comes from, in columns that no command drops: the id of its event (of `tstats`, the
ids of its group), and after `stats` its group, the start of its window (the `_time` of the group) and the
first aggregate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from lark import Token, Tree

from detection_pack.languages.spl.spl_parser import UnsupportedSpl, string_value
from detection_pack.languages.spl.spl_sql import (
    Expressions,
    Relation,
    Sql,
    as_bool,
    as_list,
    as_text,
    cidrmatch,
    column,
    quoted,
    quoted_name,
)
from detection_pack.languages.spl.spl_steps import (
    DATA_SET,
    EVENT_COLUMNS,
    EVENTS,
    JUST_INDEXED,
    ORIGIN,
    SQL_TYPES,
    Lookup,
    Steps,
    tree_of,
)
from detection_pack.languages.spl.spl_times import seconds


@dataclass(frozen=True)
class Statement:
    """The SQL of a search, its fields in order, and their types; and the fields of events that it reads, with
    theirs."""

    sql: str
    columns: dict[str, str]
    reads: dict[str, str]


class Pipelines(Steps):
    """Translates one parsed search."""

    #: Whether a sort has put the rows in order.
    in_order = False

    def statement(self, tree: Tree[Token]) -> Statement:
        inner = tree.children[0]
        assert isinstance(inner, Tree)
        final = self.pipeline(inner)
        fields = ", ".join([*ORIGIN, *map(column, final.columns)])
        ordered = " ORDER BY __order" if "__order" in self.steps[-1] else ""
        return Statement(
            f"WITH {', '.join(self.steps)} SELECT {fields} FROM {final.name}{ordered}",
            dict(final.columns),
            self.events.read,
        )

    def pipeline(self, tree: Tree[Token]) -> Relation:
        first, *commands = (c for c in tree.children if isinstance(c, Tree))
        if tree.data == "searching":
            found = EVENTS.format(unstated=repr(self.now - JUST_INDEXED))
            relation = self.ranged(self.step(found, dict(EVENT_COLUMNS), self.events), first)
        elif first.data == "tstats":
            relation = self.tstats(first)
        else:
            relation = self.several(first)
        for command in commands:
            run: Callable[[Relation, Tree[Token]], Relation] = getattr(self, str(command.data))
            try:
                relation = run(relation, command)
            except UnsupportedSpl as error:
                if error.line:
                    raise
                place = self.source.line_column(command.meta.start_pos)
                raise UnsupportedSpl(error.what, *place) from error
        return relation

    def several(self, tree: Tree[Token]) -> Relation:
        """`union` and `multisearch`: the rows of all branches."""
        branches = [
            self.pipeline(inner)
            for sub in tree.children
            if isinstance(sub, Tree) and sub.data == "subsearch"
            for inner in sub.children
            if isinstance(inner, Tree)
        ]
        opened = self.events if any(b.open is not None for b in branches) else None
        if tree.data == "multisearch" and not all(b.open is not None for b in branches):
            place = self.source.line_column(tree.meta.start_pos)
            raise UnsupportedSpl("multisearch takes streaming commands only", *place)
        if opened is not None and not all(b.open is not None for b in branches):
            place = self.source.line_column(tree.meta.start_pos)
            raise UnsupportedSpl("a union of events with results", *place)
        names = dict.fromkeys(name for b in branches for name in b.columns)
        types = {name: _common_type([b.reference(name) for b in branches]) for name in names}
        selects = []
        for branch in branches:
            values = [f"{_converted(branch.reference(n), t)} AS {column(n)}" for n, t in types.items()]
            kept = [*ORIGIN, *(["COLUMNS('^e:')"] if opened is not None else []), *values]
            selects.append(f"SELECT {', '.join(kept)} FROM {branch.name}")
        return self.step(" UNION ALL ".join(selects), types, opened)

    def tstats(self, tree: Tree[Token]) -> Relation:
        """Groups of a data set, and of spans of time where `_time` is one of what it groups by. A null in a
        group drops the row unless `fillnull_value` replaces it; the summaries of the model are complete here,
        so their options change nothing (Search Reference, "tstats")."""
        tokens = [c for c in tree.children if isinstance(c, Token)]
        place = self.source.line_column(tree.meta.start_pos)
        data_set, *names = (str(t) for t in tokens if t.type == "WORD")
        if data_set not in self.data_sets:
            raise UnsupportedSpl(f"the data set {data_set}", *place)
        subtrees = [c for c in tree.children if isinstance(c, Tree)]
        options = dict(_option(c) for c in subtrees if c.data == "summary_option")
        terms = next(c for c in subtrees if c.data == "search_expr")
        held = {"_time": "num"} | dict(self.data_sets[data_set])
        kept = ["_id AS __id", '_time AS "f:_time"']
        kept += [f"{quoted_name(name)} AS {column(name)}" for name in self.data_sets[data_set]]
        events = f"FROM {quoted_name(DATA_SET + data_set)}"
        if self.indexed is not None:
            first, end = self.indexed
            moment = f"coalesce(_indextime, {self.now - JUST_INDEXED!r})"
            events += f" WHERE {moment} >= {first!r} AND {moment} < {end!r}"
        step = self.step(f"SELECT {', '.join(kept)} {events}", held, None)
        found = self.ranged(step, terms)
        fill = options.get("fillnull_value")
        by = {n: as_text(found.reference(n)) for n in names}
        if fill is not None:
            by = {n: f"coalesce({text}, {quoted(fill)})" for n, text in by.items()}
        columns = dict.fromkeys(names, "str")
        for size in (seconds(str(t)) for t in tokens if t.type == "SPAN"):
            by["_time"] = f"floor({found.reference('_time').text} / {size}) * {size}"
            columns["_time"] = "num"
        made = {}
        for aggregate in (c for c in subtrees if c.data == "aggregate"):
            name, value = self.aggregate(found, aggregate)
            made[name], columns[name] = value.text, value.type
        values = [
            "list(__id ORDER BY __id) AS __ids",
            "CAST(NULL AS VARCHAR[]) AS __group",
            "CAST(NULL AS DOUBLE) AS __window",
            "CAST(NULL AS DOUBLE) AS __value",
            *(f"{text} AS {column(n)}" for n, text in (by | made).items()),
        ]
        present = " AND ".join(f"{text} IS NOT NULL" for text in by.values())
        source = f"FROM {found.name} WHERE {present} GROUP BY {', '.join(by.values())}"
        return self.step(f"SELECT {', '.join(values)} {source}", columns, None)

    # --- commands ------------------------------------------------------------------------------------

    def where(self, relation: Relation, tree: Tree[Token]) -> Relation:
        condition = Expressions(relation, self.source, self.now).compile(tree_of(tree.children[0]))
        return self.filtered(relation, as_bool(condition))

    def eval(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """Assignments are made from left to right, each seeing those before it (Search Reference, "eval")."""
        for assignment in tree.children:
            name_token, _eq, expression = tree_of(assignment).children
            value = Expressions(relation, self.source, self.now).compile(expression)
            if value.type == "bool":
                raise UnsupportedSpl("eval cannot assign a truth value")
            if (name := str(name_token).strip("'")) == "_raw":
                raise UnsupportedSpl("eval of _raw")
            relation = self.assigned(relation, name, value)
        return relation

    def bin(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """`_time` down to the start of its span. Spans of hours start at the hour (Search Reference, "bin");
        spans of days at midnight of the user's time zone, UTC here."""
        name, _eq, span = (str(t) for t in tree.children)
        if name != "_time":
            raise UnsupportedSpl(f"bin of {name}")
        size = seconds(span)
        time = relation.reference("_time")
        return self.assigned(relation, "_time", Sql(f"floor({time.text} / {size}) * {size}", "num"))

    def mvexpand(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """A row for each number of a list (Search Reference, "mvexpand")."""
        name = str(tree.children[0])
        found = relation.reference(name)
        if found.type != "nums":
            raise UnsupportedSpl(f"mvexpand of {name}, which is no list of numbers")
        made = f"unnest({found.text}) AS {column(name)}"
        sql = f"SELECT * EXCLUDE ({column(name)}), {made} FROM {relation.name}"
        return self.step(sql, {**relation.columns, name: "num"}, relation.open)

    def fields(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """These fields, and the internal ones, `_time` and `_raw` (Search Reference, "fields")."""
        names = dict.fromkeys([*map(str, tree.children), *(n for n in relation.columns if n.startswith("_"))])
        found = {n: relation.reference(n) for n in names}
        columns = {n: "str" if v.type == "null" else v.type for n, v in found.items()}
        values = [f"CAST({v.text} AS {SQL_TYPES[v.type]}) AS {column(n)}" for n, v in found.items()]
        return self.step(f"SELECT {', '.join([*ORIGIN, *values])} FROM {relation.name}", columns, None)

    def without(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """``fields - name``: the other fields. Those of events are never all known here."""
        name = str(tree.children[-1])
        if relation.open is not None or name not in relation.columns:
            raise UnsupportedSpl(f"fields - {name}, which is no field that a command made")
        columns = {n: t for n, t in relation.columns.items() if n != name}
        return self.step(f"SELECT * EXCLUDE ({column(name)}) FROM {relation.name}", columns, None)

    def fillnull(self, relation: Relation, tree: Tree[Token]) -> Relation:
        _eq, value, *names = (str(t) for t in tree.children)
        for name in names:
            filled = Sql(
                f"coalesce({as_text(relation.reference(name))}, {quoted(string_value(value))})", "str"
            )
            relation = self.assigned(relation, name, filled)
        return relation

    def stats(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """Aggregates a group; an event with a null group field is in none (Search Reference, "stats")."""
        aggregates = [c for c in tree.children if isinstance(c, Tree)]
        names = [str(c) for c in tree.children if isinstance(c, Token) and c.type == "NAME"]
        keys = {n: relation.reference(n) for n in names}
        by = {n: v.text if v.type == "num" else as_text(v) for n, v in keys.items()}
        columns = {n: "num" if v.type == "num" else "str" for n, v in keys.items()}
        made = {}
        for aggregate in aggregates:
            name, value = self.aggregate(relation, aggregate)
            made[name], columns[name] = value.text, value.type
        first = next(iter(made))
        if columns[first] != "num":
            raise UnsupportedSpl("stats counts with its first aggregate")
        group = [by[n] if columns[n] == "str" else f"spl_text({by[n]})" for n in names if n != "_time"]
        grouped = f"[{', '.join(group)}]" if group else "CAST([] AS VARCHAR[])"
        window = by.get("_time", "CAST(NULL AS DOUBLE)")
        values = [
            "CAST([] AS VARCHAR[]) AS __ids",
            f"{grouped} AS __group",
            f"{window} AS __window",
            f"CAST({made[first]} AS DOUBLE) AS __value",
            *(f"{text} AS {column(n)}" for n, text in by.items()),
            *(f"{text} AS {column(n)}" for n, text in made.items()),
        ]
        present = " AND ".join(f"{text} IS NOT NULL" for text in by.values())
        source = f"FROM {relation.name} WHERE {present} GROUP BY {', '.join(by.values())}"
        sql = f"SELECT {', '.join(values)} {source}"
        return self.step(sql, columns, None)

    def table(self, relation: Relation, tree: Tree[Token]) -> Relation:
        names = list(dict.fromkeys(str(c) for c in tree.children))
        found = {n: relation.reference(n) for n in names}
        columns = {n: "str" if v.type == "null" else v.type for n, v in found.items()}
        values = [f"CAST({v.text} AS {SQL_TYPES[v.type]}) AS {column(n)}" for n, v in found.items()]
        return self.step(f"SELECT {', '.join([*ORIGIN, *values])} FROM {relation.name}", columns, None)

    def sort(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """``sort 0 -field``: all rows, greatest first."""
        value = relation.reference(str(tree.children[-1]))
        if value.type != "num":
            raise UnsupportedSpl("sort by a field that is not a number")
        return self._sorted(relation, f"{value.text} DESC NULLS LAST")

    def sort_up(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """``sort 0 field``: all rows, smallest first."""
        value = relation.reference(str(tree.children[-1]))
        if value.type != "num":
            raise UnsupportedSpl("sort by a field that is not a number")
        return self._sorted(relation, f"{value.text} NULLS LAST")

    def _sorted(self, relation: Relation, by: str) -> Relation:
        if self.in_order:
            raise UnsupportedSpl("a second sort")
        self.in_order = True
        sql = f"SELECT *, row_number() OVER (ORDER BY {by}) AS __order FROM {relation.name}"
        return self.step(sql, dict(relation.columns), relation.open)

    def addinfo(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """The latest time of the search in each row (Search Reference, "addinfo"); of what else it adds
        nothing is modelled."""
        if self.latest is None:
            raise UnsupportedSpl("addinfo of a search over all time")
        return self.assigned(relation, "info_max_time", Sql(f"CAST({self.latest!r} AS DOUBLE)", "num"))

    def streamstats(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """The greatest value, or the sum, of a row and those before it in its group; with ``current=f`` of
        those before it alone (Search Reference, "streamstats")."""
        if not self.in_order:
            raise UnsupportedSpl("streamstats of rows that no sort has put in order")
        last = (
            "1 PRECEDING"
            if any(isinstance(c, Token) and c.type == "EQ" for c in tree.children)
            else "CURRENT ROW"
        )
        return self._over(relation, tree, f" ORDER BY __order ROWS BETWEEN UNBOUNDED PRECEDING AND {last}")

    def eventstats(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """The greatest value, or the sum, of a group in each of its rows (Search Reference, "eventstats")."""
        return self._over(relation, tree, "")

    def _over(self, relation: Relation, tree: Tree[Token], frame: str) -> Relation:
        (aggregate,) = (c for c in tree.children if isinstance(c, Tree))
        if str(aggregate.children[0]) not in ("max", "sum"):
            raise UnsupportedSpl(f"{aggregate.children[0]} over rows")
        names = [str(c) for c in tree.children if isinstance(c, Token) and c.type == "NAME"]
        keys = [relation.reference(n) for n in names]
        by = ", ".join(v.text if v.type == "num" else as_text(v) for v in keys)
        name, value = self.aggregate(relation, aggregate)
        over = f"({f'PARTITION BY {by}' if by else ''}{frame})"
        return self.assigned(relation, name, Sql(f"{value.text} OVER {over}", "num"))

    def rename(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """``rename prefix* AS *``: the fields of the prefix without it (Search Reference, "rename")."""
        pattern, _as, wanted = (str(c) for c in tree.children)
        if not pattern.endswith("*") or wanted != "*" or "*" in pattern[:-1] or relation.open is not None:
            raise UnsupportedSpl(f"rename {pattern} AS {wanted}")
        names = {n: n.removeprefix(pattern[:-1]) for n in relation.columns}
        if len(set(names.values())) != len(names):
            raise UnsupportedSpl("rename to a field that is there")
        values = [f"{column(old)} AS {column(new)}" for old, new in names.items()]
        columns = {names[n]: t for n, t in relation.columns.items()}
        return self.step(f"SELECT {', '.join([*ORIGIN, *values])} FROM {relation.name}", columns, None)

    def lookup(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """``lookup table f AS key, g OUTPUT f AS found``: the first row with which all keys agree; null where
        none does (Search Reference, "lookup"; transforms.conf, match_type). An empty cell of a CSV file is no
        value: it equals nothing and is in no network."""
        table = str(tree.children[0])
        keys, outputs = _pairs(tree, "lookup_key"), _pairs(tree, "lookup_output")
        if table not in self.lookups:
            raise UnsupportedSpl(f"the lookup {table!r} is not defined")
        known = self.lookups[table]
        rows = [row for row in known.rows if all(row.get(column) for column, _ in keys)]
        matched = [
            " AND ".join(_agrees(known, row, c, relation.reference(n)) for c, n in keys) for row in rows
        ]
        for column_name, shown in outputs:
            whens = " ".join(
                f"WHEN {condition} THEN nullif({quoted(row.get(column_name) or '')}, '')"
                for condition, row in zip(matched, rows, strict=True)
            )
            value = Sql(f"CASE {whens} END", "str") if whens else Sql("NULL", "null")
            relation = self.assigned(relation, shown, value)
        return relation


def _is_network(cell: str) -> bool:
    try:
        ip_network(cell)
    except ValueError:
        return False
    return True


def _pairs(tree: Tree[Token], kind: str) -> list[tuple[str, str]]:
    """Column and field of each ``column AS field``; of a name alone it is both."""
    found = [child for child in tree.children if isinstance(child, Tree) and child.data == kind]
    names = [[str(c) for c in one.children if isinstance(c, Token) and c.type == "NAME"] for one in found]
    return [(pair[0], pair[-1]) for pair in names]


def _agrees(known: Lookup, row: Mapping[str, str], column_name: str, value: Sql) -> str:
    """Whether a field agrees with a cell, which is not empty."""
    cell = row[column_name]
    if column_name in known.networks:
        return cidrmatch(cell, as_text(value)).text if _is_network(cell) else "FALSE"
    fold = "{}" if known.case_sensitive else "lower({})"
    return f"coalesce({fold.format(quoted(cell))} = {fold.format(as_text(value))}, FALSE)"


def _option(tree: Tree[Token]) -> tuple[str, str]:
    name, _eq, value = (str(c) for c in tree.children)
    return name, string_value(value) if value.startswith('"') else value


def _common_type(values: list[Sql]) -> str:
    types = {v.type for v in values} - {"null"}
    if len(types) <= 1:
        return types.pop() if types else "str"
    return "mv" if "mv" in types else "one" if types <= {"one", "str"} else "str"


def _converted(value: Sql, wanted: str) -> str:
    if value.type == wanted:
        return value.text
    if value.type == "null":
        return f"CAST(NULL AS {SQL_TYPES[wanted]})"
    if wanted == "mv":
        return as_list(Sql(as_text(value), "str"))
    return as_text(value)

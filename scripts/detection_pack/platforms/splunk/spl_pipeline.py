"""A pipeline of SPL commands as one SQL statement.

Every row carries where it comes from, in columns that no command drops: the id of its event, and after
`stats` its group, the start of its window (the `_time` of the group) and the first aggregate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lark import Token, Tree

from detection_pack.platforms.splunk.spl_parser import Source, UnsupportedSpl, string_value
from detection_pack.platforms.splunk.spl_search import SearchTerms, seconds
from detection_pack.platforms.splunk.spl_sql import (
    Expressions,
    Node,
    Relation,
    Sql,
    as_bool,
    as_text,
    column,
    quoted,
)

ORIGIN = ("__id", "__group", "__window", "__value")
_EVENTS = """SELECT id AS __id, CAST(NULL AS VARCHAR[]) AS __group, CAST(NULL AS DOUBLE) AS __window,
    CAST(NULL AS DOUBLE) AS __value, fields AS __fields, _time AS "f:_time", [sourcetype] AS "f:sourcetype",
    tag AS "f:tag", [_raw] AS "f:_raw" FROM splunk_events"""
_EVENT_COLUMNS = {"_time": "num", "sourcetype": "mv", "tag": "mv", "_raw": "mv"}
_SQL_TYPES = {"str": "VARCHAR", "num": "DOUBLE", "mv": "VARCHAR[]", "null": "VARCHAR"}


@dataclass(frozen=True)
class Statement:
    """The SQL of a search, its fields in order, and their types."""

    sql: str
    columns: dict[str, str]


class Pipelines:
    """Translates one parsed search; ``now`` is in seconds."""

    def __init__(self, source: Source, now: float) -> None:
        self.source, self.now = source, now
        self.steps: list[str] = []

    def statement(self, tree: Tree[Token]) -> Statement:
        inner = tree.children[0]
        assert isinstance(inner, Tree)
        final = self.pipeline(inner)
        fields = ", ".join([*ORIGIN, *map(column, final.columns)])
        ordered = " ORDER BY __order" if "__order" in self.steps[-1] else ""
        return Statement(
            f"WITH {', '.join(self.steps)} SELECT {fields} FROM {final.name}{ordered}", dict(final.columns)
        )

    def step(self, sql: str, columns: dict[str, str], is_open: bool) -> Relation:
        name = f"s{len(self.steps)}"
        self.steps.append(f"{name} AS ({sql})")
        return Relation(name, columns, is_open)

    def pipeline(self, tree: Tree[Token]) -> Relation:
        first, *commands = (c for c in tree.children if isinstance(c, Tree))
        if tree.data == "searching":
            relation = self.search(self.step(_EVENTS, dict(_EVENT_COLUMNS), True), first)
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
        is_open = any(b.open for b in branches)
        if tree.data == "multisearch" and not all(b.open for b in branches):
            place = self.source.line_column(tree.meta.start_pos)
            raise UnsupportedSpl("multisearch takes streaming commands only", *place)
        names = dict.fromkeys(name for b in branches for name in b.columns)
        types = {name: _common_type([b.reference(name) for b in branches]) for name in names}
        selects = []
        for branch in branches:
            values = [f"{_converted(branch.reference(n), t)} AS {column(n)}" for n, t in types.items()]
            fields = "__fields" if branch.open else "CAST(NULL AS MAP(VARCHAR, VARCHAR[])) AS __fields"
            kept = [*ORIGIN, *([fields] if is_open else []), *values]
            selects.append(f"SELECT {', '.join(kept)} FROM {branch.name}")
        return self.step(" UNION ALL ".join(selects), types, is_open)

    # --- commands ------------------------------------------------------------------------------------

    def search(self, relation: Relation, tree: Tree[Token]) -> Relation:
        terms = tree if tree.data == "search_expr" else _tree(tree.children[0])
        condition = SearchTerms(relation, self.source, self.now).compile(terms)
        return self._filtered(relation, condition)

    def where(self, relation: Relation, tree: Tree[Token]) -> Relation:
        condition = Expressions(relation, self.source).compile(_tree(tree.children[0]))
        return self._filtered(relation, as_bool(condition))

    def _filtered(self, relation: Relation, condition: str) -> Relation:
        sql = f"SELECT * FROM {relation.name} WHERE {condition}"
        return self.step(sql, dict(relation.columns), relation.open)

    def eval(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """Assignments are made from left to right, each seeing those before it (Search Reference, "eval")."""
        for assignment in tree.children:
            name_token, _eq, expression = _tree(assignment).children
            value = Expressions(relation, self.source).compile(expression)
            if value.type == "bool":
                raise UnsupportedSpl("eval cannot assign a truth value")
            relation = self._assigned(relation, str(name_token).strip("'"), value)
        return relation

    def _assigned(self, relation: Relation, name: str, value: Sql) -> Relation:
        sql_type = _SQL_TYPES[value.type]
        made = f"CAST({value.text} AS {sql_type}) AS {column(name)}"
        rest = f"* EXCLUDE ({column(name)})" if name in relation.columns else "*"
        columns = {n: t for n, t in relation.columns.items() if n != name} | {
            name: "str" if value.type == "null" else value.type
        }
        return self.step(f"SELECT {rest}, {made} FROM {relation.name}", columns, relation.open)

    def bin(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """`_time` down to the start of its span. Spans of hours start at the hour (Search Reference, "bin");
        spans of days at midnight of the user's time zone, UTC here."""
        name, _eq, span = (str(t) for t in tree.children)
        if name != "_time":
            raise UnsupportedSpl(f"bin of {name}")
        size = seconds(span)
        time = relation.reference("_time")
        return self._assigned(relation, "_time", Sql(f"floor({time.text} / {size}) * {size}", "num"))

    def fillnull(self, relation: Relation, tree: Tree[Token]) -> Relation:
        _eq, value, *names = (str(t) for t in tree.children)
        for name in names:
            filled = Sql(
                f"coalesce({as_text(relation.reference(name))}, {quoted(string_value(value))})", "str"
            )
            relation = self._assigned(relation, name, filled)
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
            name, value = self._aggregate(relation, aggregate)
            made[name], columns[name] = value.text, value.type
        first = next(iter(made))
        if columns[first] != "num":
            raise UnsupportedSpl("stats counts with its first aggregate")
        group = [by[n] if columns[n] == "str" else f"spl_text({by[n]})" for n in names if n != "_time"]
        grouped = f"[{', '.join(group)}]" if group else "CAST([] AS VARCHAR[])"
        window = by.get("_time", "CAST(NULL AS DOUBLE)")
        values = [
            "CAST(NULL AS VARCHAR) AS __id",
            f"{grouped} AS __group",
            f"{window} AS __window",
            f"CAST({made[first]} AS DOUBLE) AS __value",
            *(f"{text} AS {column(n)}" for n, text in by.items()),
            *(f"{text} AS {column(n)}" for n, text in made.items()),
        ]
        present = " AND ".join(f"{text} IS NOT NULL" for text in by.values())
        source = f"FROM {relation.name} WHERE {present} GROUP BY {', '.join(by.values())}"
        sql = f"SELECT {', '.join(values)} {source}"
        return self.step(sql, columns, False)

    def _aggregate(self, relation: Relation, tree: Tree[Token]) -> tuple[str, Sql]:
        function, *argument, _as, alias = (c for c in tree.children)
        value = Sql("NULL", "null")
        if argument and isinstance(argument[0], Tree):
            value = Expressions(relation, self.source).compile(argument[0].children[0])
        elif argument:
            value = relation.reference(str(argument[0]))
        match (str(function), len(argument)):
            case ("count", 0):
                made = Sql("CAST(count(*) AS DOUBLE)", "num")
            case ("dc", 1):
                made = Sql(f"CAST(count(DISTINCT {as_text(value)}) AS DOUBLE)", "num")
            case ("min" | "max" as name, 1) if value.type == "num":
                made = Sql(f"{name}({value.text})", "num")
            case ("sum" | "avg" as name, 1):
                number = value.text if value.type == "num" else f"TRY_CAST({as_text(value)} AS DOUBLE)"
                made = Sql(f"{name}({number})", "num")
            case ("values", 1):
                # Distinct, in lexicographical order (Search Reference, "Multivalue stats functions").
                each = value.text if value.type == "mv" else f"[{as_text(value)}]"
                listed = f"list_filter(flatten(list({each})), lambda v: v IS NOT NULL)"
                made = Sql(f"nullif(list_sort(list_distinct({listed})), [])", "mv")
            case (name, _):
                raise UnsupportedSpl(f"the aggregate {name}")
        return str(alias), made

    def table(self, relation: Relation, tree: Tree[Token]) -> Relation:
        names = list(dict.fromkeys(str(c) for c in tree.children))
        found = {n: relation.reference(n) for n in names}
        columns = {n: "str" if v.type == "null" else v.type for n, v in found.items()}
        values = [f"CAST({v.text} AS {_SQL_TYPES[v.type]}) AS {column(n)}" for n, v in found.items()]
        return self.step(f"SELECT {', '.join([*ORIGIN, *values])} FROM {relation.name}", columns, False)

    def sort(self, relation: Relation, tree: Tree[Token]) -> Relation:
        """``sort 0 -field``: all rows, greatest first."""
        value = relation.reference(str(tree.children[-1]))
        if value.type != "num":
            raise UnsupportedSpl("sort by a field that is not a number")
        order = f"row_number() OVER (ORDER BY {value.text} DESC NULLS LAST) AS __order"
        sql = f"SELECT *, {order} FROM {relation.name}"
        return self.step(sql, dict(relation.columns), relation.open)


def _tree(node: Node) -> Tree[Token]:
    assert isinstance(node, Tree)
    return node


def _common_type(values: list[Sql]) -> str:
    types = {v.type for v in values} - {"null"}
    if len(types) <= 1:
        return types.pop() if types else "str"
    return "mv" if "mv" in types else "str"


def _converted(value: Sql, wanted: str) -> str:
    if value.type == wanted:
        return value.text
    if value.type == "null":
        return f"CAST(NULL AS {_SQL_TYPES[wanted]})"
    if wanted == "mv":
        text = as_text(value)
        return f"(CASE WHEN {text} IS NOT NULL THEN [{text}] END)"
    return as_text(value)

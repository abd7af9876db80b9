"""The steps of an SQL statement that a pipeline of SPL commands becomes, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lark import Token, Tree

from detection_pack.languages.spl.spl_parser import Source, UnsupportedSpl
from detection_pack.languages.spl.spl_search import SearchTerms
from detection_pack.languages.spl.spl_sql import (
    EventFields,
    Expressions,
    Node,
    Relation,
    Sql,
    as_list,
    as_text,
    column,
)

ORIGIN = ("__ids", "__group", "__window", "__value")
#: The table of events, with a column of each field that the search reads, and what the table of a data set is
#: called besides its name.
EVENT_TABLE, DATA_SET = "search:events", "search:"
EVENTS = """SELECT [_id] AS __ids, CAST(NULL AS VARCHAR[]) AS __group, CAST(NULL AS DOUBLE) AS __window,
    CAST(NULL AS DOUBLE) AS __value, _time AS "f:_time", coalesce(_indextime, {unstated}) AS "f:_indextime",
    "index" AS "f:index", sourcetype AS "f:sourcetype", tag AS "f:tag", _raw AS "f:_raw", COLUMNS('^e:')
    FROM "search:events"
"""
#: How long before the search an event was indexed of which nobody says when, in seconds.
JUST_INDEXED = 600
EVENT_COLUMNS = {
    "_time": "num",
    "_indextime": "num",
    "index": "one",
    "sourcetype": "one",
    "tag": "mv",
    "_raw": "one",
}
SQL_TYPES = {
    "str": "VARCHAR",
    "num": "DOUBLE",
    "mv": "VARCHAR[]",
    "one": "VARCHAR",
    "null": "VARCHAR",
    "nums": "DOUBLE[]",
}


@dataclass(frozen=True)
class Lookup:
    """A lookup definition of transforms.conf with the rows of its file. ``networks``: the columns of which
    its match_type says CIDR."""

    rows: Sequence[Mapping[str, str]]
    case_sensitive: bool = True
    networks: Sequence[str] = ()


@dataclass(frozen=True)
class Surroundings:
    """What a search finds around it. ``now`` is in seconds; ``window`` is the time range that it is
    dispatched with, first second and end, None for all time, ``indexed`` the range of index times. ``typed``
    says whether a field of an event may have several values ("mv") or not ("one"). ``data_sets``: the data
    sets of accelerated data models, each a table of its name with ``_id``, ``_time`` and a column of each
    field, and the types of these."""

    now: float
    window: tuple[float, float] | None = None
    indexed: tuple[float, float] | None = None
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    data_sets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    typed: Callable[[str], str] = lambda _name: "mv"


class Steps:
    """Common table expressions, each reading the one before it."""

    def __init__(self, source: Source, surroundings: Surroundings) -> None:
        self.source, self.now = source, surroundings.now
        self.window, self.indexed = surroundings.window, surroundings.indexed
        self.lookups = surroundings.lookups
        self.latest: float | None = None
        self.data_sets = surroundings.data_sets
        self.steps: list[str] = []
        self.events = EventFields(surroundings.typed)

    def step(self, sql: str, columns: dict[str, str], opened: EventFields | None) -> Relation:
        name = f"s{len(self.steps)}"
        self.steps.append(f"{name} AS ({sql})")
        return Relation(name, columns, opened)

    def search(self, relation: Relation, tree: Tree[Token]) -> Relation:
        terms = tree if tree.data == "search_expr" else tree_of(tree.children[0])
        condition = SearchTerms(relation, self.source, self.now).compile(terms)
        return self.filtered(relation, condition)

    def ranged(self, relation: Relation, terms: Tree[Token]) -> Relation:
        """A search of events. Time modifiers in it override the time range that it is dispatched with
        (Search Manual, "Specify time modifiers in your search")."""
        search = SearchTerms(relation, self.source, self.now)
        named = search.times(terms)
        if self.window is not None and len(named) == 1:
            raise UnsupportedSpl("one time modifier of two", *self.source.line_column(terms.meta.start_pos))
        relation = self.filtered(relation, search.compile(terms))
        self.latest = search.latest
        if self.indexed is not None and "_indextime" in relation.columns:
            first, end = self.indexed
            between = f'"f:_indextime" >= {first!r} AND "f:_indextime" < {end!r}'
            relation = self.filtered(relation, between)
        if self.window is None or named:
            return relation
        first, end = self.window
        self.latest = end
        return self.filtered(relation, f'"f:_time" >= {first!r} AND "f:_time" < {end!r}')

    def filtered(self, relation: Relation, condition: str) -> Relation:
        sql = f"SELECT * FROM {relation.name} WHERE {condition}"
        return self.step(sql, dict(relation.columns), relation.open)

    def assigned(self, relation: Relation, name: str, value: Sql) -> Relation:
        sql_type = SQL_TYPES[value.type]
        made = f"CAST({value.text} AS {sql_type}) AS {column(name)}"
        rest = f"* EXCLUDE ({column(name)})" if name in relation.columns else "*"
        columns = {n: t for n, t in relation.columns.items() if n != name} | {
            name: "str" if value.type == "null" else value.type
        }
        return self.step(f"SELECT {rest}, {made} FROM {relation.name}", columns, relation.open)

    def aggregate(self, relation: Relation, tree: Tree[Token]) -> tuple[str, Sql]:
        function, *argument, _as, alias = (c for c in tree.children)
        value = Sql("NULL", "null")
        if argument and isinstance(argument[0], Tree):
            value = Expressions(relation, self.source, self.now).compile(argument[0].children[0])
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
                each = as_list(value) if value.type in ("mv", "one") else f"[{as_text(value)}]"
                listed = f"list_filter(flatten(list({each})), lambda v: v IS NOT NULL)"
                made = Sql(f"nullif(list_sort(list_distinct({listed})), [])", "mv")
            case (name, _):
                raise UnsupportedSpl(f"the aggregate {name}")
        return str(alias), made


def tree_of(node: Node) -> Tree[Token]:
    assert isinstance(node, Tree)
    return node
